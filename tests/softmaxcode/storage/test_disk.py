"""Files on disk: checks before work, files of killed writers, and declared sizes."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import zipfile

import pytest

from softmaxcode.storage.disk import check_archive, check_input, check_output, one_writer, read_text, written_whole

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX files")


def test_a_file_that_exists_is_replaced_only_if_that_is_allowed(tmp_path):
    path = tmp_path / "c.npz"
    path.write_text("old")
    assert check_output(path, (".npz",)) == path
    with pytest.raises(ValueError, match=r"c\.npz: it exists already; pass --force"):
        check_output(path, (".npz",), replace=False)
    assert [p.name for p in tmp_path.iterdir()] == ["c.npz"]


@posix
def test_a_folder_in_which_nothing_can_be_made_is_refused_before_any_work():
    with pytest.raises(ValueError, match=r"cannot write /proc/x\.npz: no file can be made in /proc"):
        check_output("/proc/x.npz", (".npz",))


@posix
def test_a_device_is_no_output(tmp_path):
    os.mkfifo(tmp_path / "pipe.npz")
    with pytest.raises(ValueError, match="not a regular file"):
        check_output(tmp_path / "pipe.npz", (".npz",))


@posix
def test_an_error_names_the_file_and_never_the_temporary_one(tmp_path):
    with pytest.raises(OSError) as caught, written_whole(tmp_path / "none" / "c.txt"):  # noqa: PT011
        raise AssertionError
    assert caught.value.filename == str(tmp_path / "none" / "c.txt")
    with pytest.raises(OSError) as caught, written_whole(tmp_path / "c.txt") as temporary:  # noqa: PT011
        raise OSError(28, "No space left on device", str(temporary))
    assert caught.value.filename == str(tmp_path / "c.txt")


@posix
def test_a_symbolic_link_stays_one(tmp_path):
    (tmp_path / "real.txt").write_text("old")
    (tmp_path / "link.txt").symlink_to("real.txt")
    with written_whole(tmp_path / "link.txt") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "real.txt").read_text() == "new"


@posix
def test_a_link_to_nothing_is_not_replaced(tmp_path):
    (tmp_path / "link.npz").symlink_to("nothing.npz")
    with pytest.raises(ValueError, match=r"link\.npz: it exists already"):
        check_output(tmp_path / "link.npz", (".npz",), replace=False)


@posix
def test_a_limit_of_the_process_is_its_memory():
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (10**9, 10**9))\n"
        "from softmaxcode.checks.arguments import machine_memory; print(machine_memory())"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "1000000000\n"


def test_the_content_is_on_disk_before_the_name_changes(tmp_path, monkeypatch):
    steps = []
    sync, replace = os.fsync, os.replace

    def synced(handle: int) -> None:
        steps.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        sync(handle)

    def replaced(*names: object) -> None:
        steps.append("name")
        replace(*names)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    with written_whole(tmp_path / "c.txt") as temporary:
        temporary.write_text("new")
    assert steps[:2] == ["file", "name"]


KILLED = """
import os, pathlib, signal, sys
from softmaxcode.storage.disk import written_whole
with written_whole(pathlib.Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@posix
@pytest.mark.processes
def test_what_a_killed_writer_left_is_removed_by_the_next_and_nothing_else(tmp_path):
    path = tmp_path / "c.txt"
    ran = subprocess.run([sys.executable, "-c", KILLED, path], check=False)
    assert ran.returncode == -9
    [left] = tmp_path.iterdir()
    other = tmp_path / left.name.replace(".c.", ".other.", 1)
    other.write_text("of another file")
    mine = tmp_path / ".c.backup.txt"
    mine.write_text("the user's own")
    with written_whole(path) as temporary:
        temporary.write_text("whole")
        with written_whole(path) as second:  # a temporary file of a process that lives is left alone
            second.write_text("also whole")
        assert temporary.exists()
    assert {p.name for p in tmp_path.iterdir()} == {"c.txt", other.name, mine.name}


@posix
def test_pipes_devices_and_large_files_are_refused_without_being_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, why in ((tmp_path / "pipe", "regular"), ("/dev/zero", "regular"), (tmp_path / "none", "no such file")):
        with pytest.raises(ValueError, match=why):
            check_input(path)
    (tmp_path / "large").write_bytes(bytes(100))
    with pytest.raises(ValueError, match="100 bytes, more than the limit of 99"):
        check_input(tmp_path / "large", 99)
    with pytest.raises(ValueError, match="without null characters"):
        check_input("a\0b")


def test_text_that_is_not_utf8_is_read_all_the_same(tmp_path):
    (tmp_path / "t").write_bytes(b"a\xffb")
    assert read_text(tmp_path / "t") == "a\ufffdb"


def test_an_archive_declares_its_size(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(10**6))
    assert path.stat().st_size < 2000
    assert [member.file_size for member in check_archive(path, 10**6)] == [10**6]
    with pytest.raises(ValueError, match=r"it declares 1,000,000 bytes, more than the limit of 999,999"):
        check_archive(path, 999_999)
    with pytest.raises(ValueError, match="compressed members"):
        check_archive(path, 10**6, stored=True)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="truncated, or not a file of its kind"):
        check_archive(path, 10**6)


@posix
def test_one_process_at_a_time_writes_an_output(tmp_path):
    path = tmp_path / "t.csv"
    with one_writer(path):
        refusal = pytest.raises(ValueError, match=r"cannot write .*t\.csv: another process is writing it; wait")
        with refusal, one_writer(path):
            pass
        with one_writer(tmp_path / "u.csv"), one_writer(None):
            pass
    with one_writer(path):  # as after a process that was killed: its file is there, its lock is not
        pass
    (tmp_path / ".t.csv.lock").touch()
    with one_writer(path):
        pass
    assert not list(tmp_path.iterdir())


@posix
def test_a_lock_whose_file_its_last_writer_removed_meanwhile_is_taken_again(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")
    path, lock = tmp_path / "t.csv", tmp_path / ".t.csv.lock"
    flock, taken = fcntl.flock, []

    def removed_before_the_first(handle: int, how: int) -> None:
        if not taken:
            lock.unlink()
        taken.append(handle)
        flock(handle, how)

    monkeypatch.setattr(fcntl, "flock", removed_before_the_first)
    with one_writer(path):
        assert len(taken) == 2 and lock.exists()
