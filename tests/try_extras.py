"""Install a built wheel with each of its extras in turn, and import what the extra brings; not collected by pytest.

``python tests/try_extras.py dist/softmaxcode-*.whl`` makes an environment with the wheel alone, and one for each extra
that adds to it.
"""

import subprocess
import sys
import tempfile
import venv
from email.parser import HeaderParser
from pathlib import Path
from zipfile import ZipFile

#: Run in the environment of an extra: everything that it requires is installed, fits together and can be imported.
CHECK = """
import importlib, importlib.metadata, re, sys
extra = sys.argv[1]
names = importlib.metadata.packages_distributions()
modules = {}
for module, distributions in names.items():
    for distribution in distributions:
        modules.setdefault(re.sub(r"[-_.]+", "-", distribution).lower(), []).append(module)
required = [text for text in importlib.metadata.requires("softmaxcode") if f'extra == "{extra}"' in text]
assert required, f"the extra {extra} requires nothing"
for text in required:
    name = re.sub(r"[-_.]+", "-", re.match(r"[\\w.-]+", text).group()).lower()
    importlib.metadata.version(name)
    for module in modules.get(name, []):
        if module.isidentifier() and not module.startswith("_"):
            importlib.import_module(module)
print(f"{extra}: {len(required)} requirements")
"""
#: What the package itself does with an extra.
USES = {
    "dask": "import distributed; from softmaxcode.sweep import sweep; sweep",
    "lightning": "from softmaxcode.metrics.callback import GNCCallback; GNCCallback",
    "parquet": "import tempfile, softmaxcode as sc; sc.table([(4, 3)], path=tempfile.mkdtemp() + '/t.parquet')",
}


def environment(folder: Path, beside: Path | None = None) -> Path:
    """A new environment, that also sees what another one has; returns its interpreter."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    if beside is not None:
        (own,) = folder.glob("lib/python*/site-packages")
        (other,) = beside.glob("lib/python*/site-packages")
        (own / "beside.pth").write_text(f"{other}\n")
    return python


def main(wheel: Path) -> None:
    """Try the wheel alone, and then with each extra."""
    with ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        extras = HeaderParser().parsestr(archive.read(name).decode()).get_all("Provides-Extra")
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder, "base")
        subprocess.run([environment(base), "-m", "pip", "install", "--quiet", wheel], check=True)
        for extra in extras:
            python = environment(Path(folder, extra), beside=base)
            subprocess.run([python, "-m", "pip", "install", "--quiet", f"{wheel}[{extra}]"], check=True)
            subprocess.run([python, "-m", "pip", "check"], check=True, stdout=subprocess.DEVNULL)
            subprocess.run([python, "-I", "-c", CHECK, extra], check=True, cwd=folder)
            if extra in USES:
                subprocess.run([python, "-I", "-c", USES[extra]], check=True, cwd=folder)
    print(f"{len(extras)} extras can be installed and imported")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
