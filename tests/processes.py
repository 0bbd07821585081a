"""Shared by tests of processes: a wait for an event, and the ranks of one machine as ``torchrun`` starts them."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch.distributed import TCPStore

#: Seconds after which a wait counts as hanging: no working program takes as long on any machine.
HANG = 600.0


def wait_for(event: Callable[[], Any], process: subprocess.Popen[Any] | None = None) -> Any:
    """Wait until ``event()`` is true and return it; fail if the process that should cause it ends before."""
    deadline = time.monotonic() + HANG
    while True:
        ended = process is not None and process.poll() is not None
        if found := event():
            return found
        assert not ended, f"the process ended with {process and process.returncode} before what was waited for"
        assert time.monotonic() < deadline, f"nothing happened in {HANG:g} s"
        time.sleep(0.02)


def environment(rank: int, ranks: int, port: int) -> dict[str, str]:
    """The environment that ``torchrun`` gives to each of its processes."""
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(ranks),
        "LOCAL_WORLD_SIZE": str(ranks),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
        # the store runs already, so no process has to find a port that was free a moment ago
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RESTART_COUNT": "0",
    }


def run_ranks(command: Sequence[str], ranks: int, cwd: Path) -> list[int]:
    """Run a command on every rank and return the exit codes; this process runs the store where the ranks meet."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    processes = [
        subprocess.Popen(command, cwd=cwd, env=os.environ | environment(rank, ranks, store.port))
        for rank in range(ranks)
    ]
    try:
        return [process.wait(HANG) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
