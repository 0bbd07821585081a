"""Killed and terminated commands leave no process and no semaphore."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from tests.processes import HANG, wait_for

pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="no /proc to find processes in"),
]
ROOT = Path(__file__).parent.parent
MARK = "SOFTMAXCODE_TEST_RUN"
#: The folder of semaphore files.
SHARED = Path("/dev/shm")
CATALOG = ("softmaxcode.cli", "catalog")
STUDY = ("experiments", "gnc", "--data", "digits", "--d", "3", "--epochs", "1000000", "--measure-every", "1")
STUDY += ("--accelerator", "cpu", "--no-progress", "--seeds", "2", "--heads", "learned", "--results", "results")
#: Commands that run until they are ended, with two worker processes each.
COMMANDS = {
    "improve": (*CATALOG, "improve", "--pairs", "300,60 301,60", "--budget", "86400", "--catalog", "mine.sqlite"),
    "verify": (*CATALOG, "verify", str(ROOT / "softmaxcode" / "data" / "catalog.sqlite")),
    "study": STUDY,
}


class Command:
    """A command in its own session, as a terminal starts it, and all its processes."""

    def __init__(self, *arguments: str, cwd: Path, **more: str) -> None:
        self.mark = uuid.uuid4().hex
        self.shared_before = set(SHARED.glob("*"))  # a process id comes again, and with it the names of what was left
        environment = os.environ | {MARK: self.mark, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | more
        self.process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=cwd,
            env=environment,
            start_new_session=True,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def processes(self) -> dict[int, str]:
        """The command lines of all remaining processes, by their ids."""
        found = {}
        for path in Path("/proc").glob("[0-9]*"):
            try:
                if f"{MARK}={self.mark}" in (path / "environ").read_text(errors="replace"):
                    found[int(path.name)] = (path / "cmdline").read_text(errors="replace").replace("\0", " ")
            except OSError:  # of somebody else, or just ended
                continue
        return found

    def workers(self) -> list[int]:
        return [number for number, line in self.processes().items() if "popen_loky" in line]

    def leaves_nothing(self, numbers: set[int]) -> None:
        """Wait until all processes have ended; ``numbers`` are their ids."""
        try:
            wait_for(lambda: not self.processes())
        finally:
            for number in self.processes():
                os.kill(number, signal.SIGKILL)
        left = [path.name for path in set(SHARED.glob("*")) - self.shared_before]
        assert [name for name in left if any(f"-{n}-" in name or f"_{n}_" in name for n in numbers)] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_nothing_outlives_a_command_that_is_killed(tmp_path, name):
    command = Command(*COMMANDS[name], "--jobs", "2", cwd=tmp_path)
    wait_for(lambda: len(command.workers()) == 2, command.process)
    before = {*command.processes()}
    command.process.kill()
    command.process.communicate(timeout=HANG)
    command.leaves_nothing(before)


def test_nothing_outlives_the_first_of_several_processes_of_a_run(tmp_path):
    command = Command(*STUDY, "--devices", "2", cwd=tmp_path)
    wait_for(lambda: sum(STUDY[0] in line for line in command.processes().values()) == 2, command.process)
    before = {*command.processes()}
    command.process.kill()
    command.process.communicate(timeout=HANG)
    command.leaves_nothing(before)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_terminal_that_is_closed_ends_a_command_as_ctrl_c_does(tmp_path, hangup_heard, name):
    command = Command(*COMMANDS[name], "--jobs", "2", cwd=tmp_path)
    wait_for(lambda: len(command.workers()) == 2, command.process)
    before = {*command.processes()}
    os.killpg(command.process.pid, signal.SIGHUP)  # to the workers too
    _, said = command.process.communicate(timeout=HANG)
    assert command.process.returncode == 130
    assert said.count("\n") == 1 and "interrupted" in said
    command.leaves_nothing(before)


def test_an_ignored_hangup_stays_ignored():
    """As under nohup."""
    code = (
        "import signal; from softmaxcode.cli.arguments import install_sigterm_handler;"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN); install_sigterm_handler();"
        "signal.raise_signal(signal.SIGHUP); print('here')"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=HANG, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "here\n", "")


def test_an_interrupt_has_its_exit_code_whatever_it_passed_through(tmp_path):
    """Python remembers a signal that passed through ``exec`` of a string, and would end ``python -m`` by SIGINT."""
    (tmp_path / "command.py").write_text(
        "import sys\n"
        "from softmaxcode.cli.arguments import run_command\n"
        "def action():\n"
        "    print('so far')\n"
        "    exec('raise KeyboardInterrupt')\n"
        "sys.exit(run_command('command', action, program=True))\n"
    )
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    ran = subprocess.run(
        [sys.executable, "-m", "command"],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=HANG,
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (130, "so far\n", "command: interrupted\n")


@pytest.mark.parametrize("module", ["softmaxcode.cli.command", "ufm.cli", "experiments.cli"])
def test_semaphores_are_removed_before_a_failed_command_is_ended(module):
    """Exit handlers run from the last to the first, and that of the commands ends the process."""
    code = f"""
import atexit
names, register = [], atexit.register
def noted(function, *given, **named):
    names.append(function.__name__)
    return register(function, *given, **named)
atexit.register = noted
import {module}, multiprocessing.util
assert names.index("_leave") < names.index("_exit_function"), names
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=HANG, cwd=ROOT)
