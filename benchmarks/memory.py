"""The most memory that this process has used, of the machine and of a GPU."""

from __future__ import annotations

import resource
import sys
from pathlib import Path


def resident_peak() -> int:
    """Peak memory in bytes; on Linux not from getrusage, whose value a child process inherits from its parent."""
    status = Path("/proc/self/status")
    if status.exists():
        kilobytes = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM")).split()[1]
        return 1024 * int(kilobytes)
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else 1024 * largest


def gpu_peak() -> int:
    """Peak memory in bytes that PyTorch has used on a GPU; 0 where nothing ran on one."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return 0
    return int(torch.cuda.max_memory_allocated())
