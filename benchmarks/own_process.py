"""One measurement in a process of its own, so that its peak memory is that of this measurement alone.

``python -m benchmarks.own_process '{"kind": "random", "K": 34, "d": 3, "seed": 0}'`` prints one line of JSON. Compiled
code is loaded before the time is taken.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import softmaxcode as sc
from benchmarks.memory import gpu_peak, resident_peak
from softmaxcode.sphere import largest_cosines, random_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).parents[1]


def measured(job: dict[str, Any]) -> dict[str, Any]:
    """Make one measurement in this process.

    Parameters
    ----------
    job : dict
        ``kind`` ("solve", "random", or a loss of `benchmarks.adam`), ``K``, ``d``, ``seed``, and ``options`` of
        `softmaxcode.solve` or the ``seconds`` of Adam.

    Returns
    -------
    dict
        ``value`` (1 - mu), ``seconds`` of the call without measuring its code, ``bytes`` (peak memory of the process
        until the call returned), and ``how`` (provenance, or steps). Also ``gpu_bytes``, where a GPU was used.
    """
    import numpy as np

    K, d, seed, options = job["K"], job["d"], job["seed"], job.get("options", {})
    if job["kind"] == "solve":
        sc.solve(7, 3, starts=1, catalog=False, exact=False, progress=False)
        begin = time.perf_counter()
        code = sc.solve(K, d, objective="tammes", seed=seed, progress=False, **options)
        W, how = code.W, code.provenance.method
    elif job["kind"] == "random":
        begin = time.perf_counter()
        W, how = random_rows(K, d, np.random.default_rng(seed)), "random"
    else:
        from benchmarks.adam import adam

        adam(8, 3, job["kind"], 0.01, 0)  # the first step of an optimiser imports a part of PyTorch, for a second
        begin = time.perf_counter()
        W, steps = adam(K, d, job["kind"], options["seconds"], seed)
        how = f"{steps} steps"
    seconds, peak, gpu = time.perf_counter() - begin, resident_peak(), gpu_peak()
    largest = code.max_cosine if job["kind"] == "solve" else float(largest_cosines(W).max())
    found = {"value": 1 - largest, "seconds": seconds, "bytes": peak, "how": how}
    return found | ({"gpu_bytes": gpu} if gpu else {})


def in_own_process(job: dict[str, Any], timeout: float) -> dict[str, Any]:
    """`measured` in a process of its own; ``how`` states what went wrong where it returned no measurement."""
    command = [sys.executable, "-m", "benchmarks.own_process", json.dumps(job)]
    try:
        ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        return {"how": f"ended after {timeout:.0f} s"}
    if ran.returncode:
        return {"how": (ran.stderr.strip().splitlines() or [f"exit code {ran.returncode}"])[-1]}
    return json.loads(ran.stdout.splitlines()[-1])


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the measurement of the job that the command line describes."""
    (job,) = sys.argv[1:] if arguments is None else arguments
    print(json.dumps(measured(json.loads(job))))


if __name__ == "__main__":
    main()
