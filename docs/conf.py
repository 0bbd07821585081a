"""Configuration of the documentation site; ``make docs`` builds it with warnings as errors."""

from __future__ import annotations

import importlib.metadata
import io
from pathlib import Path
from typing import Any

from cyclopts import App
from matplotlib.figure import Figure
from rich.console import Console
from sphinx_gallery.scrapers import figure_rst

HERE = Path(__file__).parent

project = "softmaxcode"
author = "The softmaxcode authors"
release = version = importlib.metadata.version("softmaxcode")
extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["README.md"]
suppress_warnings = ["config.cache"]  # the scraper of figures is a function

html_theme = "pydata_sphinx_theme"
html_title = "softmaxcode"
html_show_sourcelink = False
html_theme_options = {"navbar_align": "left", "show_prev_next": False, "secondary_sidebar_items": ["page-toc"]}

myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3
myst_dmath_double_inline = True

autodoc_member_order = "bysource"
autodoc_typehints = "none"
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

copybutton_prompt_text = r">>> |\.\.\. "
copybutton_prompt_is_regexp = True

#: External links are checked by ``make docs-links``, which needs a network.
linkcheck_ignore = [r"https://doi\.org/.*"]


def figures(block: Any, variables: dict[str, Any], settings: dict[str, Any]) -> str:
    """Save the figures that a block of an example has made, which do not use pyplot."""
    drawn = variables["example_globals"].setdefault("_drawn", set())
    paths = []
    for value in list(variables["example_globals"].values()):
        if isinstance(value, Figure) and id(value) not in drawn:
            drawn.add(id(value))
            path = next(variables["image_path_iterator"])
            value.savefig(path, dpi=110, facecolor="white")
            paths.append(path)
    return str(figure_rst(paths, settings["src_dir"]))


sphinx_gallery_conf = {
    "examples_dirs": str(HERE.parent / "examples"),
    "gallery_dirs": "gallery",
    "filename_pattern": r"/plot_",
    "image_scrapers": (figures,),
    "reset_modules": (),
    "download_all_examples": False,
    "show_memory": False,
    "show_signature": False,
    "abort_on_example_error": True,
}


def commands(app: App, *chain: str) -> list[str]:
    """The help of a command and of its subcommands, as Markdown."""
    shown = io.StringIO()
    app.help_print(chain, console=Console(file=shown, width=72))
    lines = [f"{'#' * (len(chain) + 2)} {' '.join([*app.name, *chain])}", "", "```text"]
    lines += [*(line.rstrip() for line in shown.getvalue().rstrip().split("\n")), "```", ""]
    for name in app.parse_commands(chain)[1][-1]:
        if not name.startswith("-"):
            lines += commands(app, *chain, name)
    return lines


def write_commands(_: Any) -> None:
    """Write the reference of the commands from their own help."""
    from experiments.cli import app as experiments
    from softmaxcode.cli import options
    from softmaxcode.cli.command import app as softmaxcode
    from ufm.cli import app as ufm

    written = " ".join((options.__doc__ or "").split("\n\n", 1)[1].split())
    lines = ["# Commands", "", f"Every command refuses bad input in one sentence and exits with 2. {written}", ""]
    for app in (softmaxcode, ufm, experiments()):
        lines += commands(app)
    text = "\n".join(lines)
    target = HERE / "reference" / "commands.md"
    if not target.exists() or target.read_text(encoding="utf-8") != text:
        target.write_text(text, encoding="utf-8")


def setup(app: Any) -> None:
    """Register the generation of pages before the site is read."""
    app.connect("builder-inited", write_commands)
