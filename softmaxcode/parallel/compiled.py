"""Numba with the settings of every kernel here: machine code that is cached on disk, and no interpreter lock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numba

if TYPE_CHECKING:
    from collections.abc import Callable


def compiled(fastmath: bool | set[str] = False) -> Callable[[Callable[..., Any]], Any]:
    """A decorator that compiles a kernel; if no folder for Numba's cache is writable, each process compiles again.

    Numba writes the cache beside the source or in the user's cache folder. A package installed read-only and used
    without a home folder has neither. ``NUMBA_CACHE_DIR`` can then name a folder.

    Parameters
    ----------
    fastmath : bool or set of str
        The relaxations of floating-point arithmetic that the kernel allows.
    """

    def compile_kernel(kernel: Callable[..., Any]) -> Any:
        try:
            return numba.njit(cache=True, nogil=True, fastmath=fastmath)(kernel)
        except RuntimeError:  # "no locator available"
            return numba.njit(nogil=True, fastmath=fastmath)(kernel)

    return compile_kernel
