"""Files on disk: paths are checked before any work, replaced atomically, and read up to a size limit."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import stat
import tempfile
import zipfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from softmaxcode.checks.arguments import check_path

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The most bytes of a text file, such as a table or a journal, that is read into memory.
MAX_TEXT_BYTES = 2**28
#: The most members of a ZIP file; large networks have some thousands of tensors.
MAX_MEMBERS = 10**5


def check_output(path: str | Path, suffixes: tuple[str, ...], *, replace: bool = True) -> Path:
    """Validate an output path: a known suffix, in a folder that exists and in which files can be created.

    Parameters
    ----------
    path : path
        The file to write.
    suffixes : tuple of str
        The allowed suffixes, in lower case, each with its dot.
    replace : bool
        Whether an existing file may be replaced; commands pass False unless ``--force`` is given.

    Raises
    ------
    ValueError
        If the path cannot be written; the message gives the reason.
    """
    path = check_path(path)
    if path.is_dir():
        raise ValueError(f"cannot write {path}: it is a folder; name a file in it")
    if path.suffix.lower() not in suffixes:
        raise ValueError(f"cannot write {path}: the suffix must be one of {', '.join(suffixes)}")
    check_writable(path)
    if not replace and os.path.lexists(path):  # a broken link counts as an existing file
        raise ValueError(
            f"cannot write {path}: it exists already; pass --force (in Python replace=True), or name another file"
        )
    return path


def check_writable(path: Path) -> None:
    """Raise a ValueError unless a regular file can be created at ``path``, whose folder must exist."""
    try:
        if not path.parent.is_dir():
            if path.parent.is_file():
                raise ValueError(f"cannot write {path}: {path.parent} is a file, not a folder")
            raise ValueError(f"cannot write {path}: the folder {path.parent} does not exist")
        if path.is_dir():
            raise ValueError(f"cannot write {path}: it is a folder")
        if path.exists() and not path.is_file():
            raise ValueError(f"cannot write {path}: it is not a regular file")
    except OSError as error:  # a name that is too long, or a folder without access
        raise ValueError(f"cannot write {path}: {error.strerror or error}") from None
    target = _target(path)
    folder = target.parent
    try:  # under the name of a temporary file, which is longer
        with tempfile.NamedTemporaryFile(prefix=_prefix(target), suffix=target.suffix, dir=folder):
            pass
    except OSError as error:
        raise ValueError(f"cannot write {path}: no file can be made in {folder} ({error.strerror or error})") from None


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A temporary name beside ``path`` that replaces it when the block ends without an error.

    Files that a killed process left there are removed first. The content is on disk before the name changes. An OSError
    names ``path``, never the temporary file.
    """
    target = _target(Path(path))
    temporary: Path | None = None
    try:
        remove_leftovers(target.parent, re.escape(target.stem), target.suffix)
        handle, name = tempfile.mkstemp(prefix=_prefix(target), suffix=target.suffix, dir=target.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        _sync(temporary)
        os.replace(temporary, target)
        with contextlib.suppress(OSError):  # some file systems do not sync folders
            _sync(target.parent)
    except OSError as error:
        if (error.errno is not None and error.filename in (None, str(temporary))) or temporary is None:
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


@contextmanager
def one_writer(path: Path | None) -> Iterator[None]:
    """Restrict an output that is written several times to one process, by a lock beside it; None locks nothing.

    The system releases the lock when the process ends, however it ends. On a file system without locks there is none.

    Raises
    ------
    ValueError
        If another process writes the output.
    """
    if path is None or fcntl is None:
        yield
        return
    lock = path.with_name(f".{path.name}.lock")
    while True:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise ValueError(
                f"cannot write {path}: another process is writing it; wait for that one, or name another file"
            ) from None
        except OSError:
            break  # the file system has no locks
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), lock.stat()):
                break
        os.close(handle)  # the previous writer has just removed the file
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        os.close(handle)


def _target(path: Path) -> Path:
    """The file that a path names, through symbolic links."""
    return Path(os.path.realpath(path))


def _sync(path: Path) -> None:
    """Wait until a file or folder is on disk."""
    if path.is_dir() and os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _host() -> str:
    """The name of this machine, in characters that file names allow."""
    return re.sub(r"[^A-Za-z0-9]", "-", socket.gethostname())[:32]


def _prefix(target: Path) -> str:
    """The prefix of this process's temporary files for ``target``."""
    return f".{target.stem}.{_host()}.{os.getpid()}."


def remove_leftovers(folder: Path, stem: str, suffix: str) -> None:
    """Remove temporary files of `written_whole` whose process, on this machine, has ended.

    Parameters
    ----------
    folder : Path
        The folder with the files.
    stem : str
        A regular expression for the stems of the files that were written.
    suffix : str
        Their suffix.
    """
    if os.name != "posix":
        return
    ours = re.compile(rf"\.{stem}\.{re.escape(_host())}\.(?P<process>\d+)\.[a-z0-9_]{{8}}{re.escape(suffix)}")
    for name in os.listdir(folder):
        found = ours.fullmatch(name)
        if found and not _is_alive(int(found["process"])):
            with contextlib.suppress(OSError):
                (folder / name).unlink()


def _is_alive(pid: int) -> bool:
    """Whether a process of this number exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's process, or an impossible number
        return True
    return True


def check_input(path: str | Path, most: int | None = None) -> Path:
    """Validate an input path: a regular file of at most ``most`` bytes, since a pipe or a device would block.

    Raises
    ------
    ValueError
        If the path cannot be read; the message gives the reason.
    """
    path = check_path(path)
    try:
        found = path.stat()
    except OSError as error:
        missing = isinstance(error, FileNotFoundError | NotADirectoryError)
        why = "there is no such file" if missing else error.strerror or str(error)
        raise ValueError(f"cannot read {path}: {why}") from None
    if not stat.S_ISREG(found.st_mode):
        what = "it is a folder" if stat.S_ISDIR(found.st_mode) else "it is not a regular file"
        raise ValueError(f"cannot read {path}: {what}")
    if most is not None and found.st_size > most:
        raise ValueError(f"cannot read {path}: it has {found.st_size:,} bytes, more than the limit of {most:,}")
    return path


def read_text(path: str | Path, most: int = MAX_TEXT_BYTES, *, strict: bool = False) -> str:
    """The text of a regular file of at most ``most`` bytes.

    Bytes that are not UTF-8 become replacement characters; with ``strict`` they are refused.

    Raises
    ------
    ValueError
        If the file is missing, is not a regular file, is larger, or cannot be read.
    """
    path = check_input(path, most)
    try:
        return path.read_text(encoding="utf-8", errors="strict" if strict else "replace")
    except UnicodeDecodeError:
        raise ValueError(f"cannot read {path}: it must be text in UTF-8") from None
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror or error}") from None


def check_archive(path: str | Path, most: int, *, stored: bool = False) -> list[zipfile.ZipInfo]:
    """The members of a ZIP file (.npz, or one from `torch.save`) that declares at most ``most`` bytes in total.

    The sizes are checked before any member is read. Python's reader never inflates a member past its declared size.

    Parameters
    ----------
    path : path
        The file.
    most : int
        The largest sum of declared sizes.
    stored : bool
        Whether members must be stored without compression, as `torch.save` writes them.

    Raises
    ------
    ValueError
        If the file is missing, is not a ZIP file, or declares more.
    """
    path = check_input(path)
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except Exception as error:  # damaged directories raise errors of many kinds
        raise ValueError(f"cannot read {path}: truncated, or not a file of its kind ({_reason(error)})") from None
    if len(members) > MAX_MEMBERS:
        raise ValueError(f"cannot read {path}: it has {len(members):,} members, more than the limit of {MAX_MEMBERS:,}")
    declared = sum(member.file_size for member in members)
    if declared > most:
        raise ValueError(f"cannot read {path}: it declares {declared:,} bytes, more than the limit of {most:,}")
    if stored and any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise ValueError(f"cannot read {path}: it has compressed members, which files of its kind never have")
    return members


def _reason(error: BaseException) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
