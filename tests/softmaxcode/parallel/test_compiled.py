"""Kernels compile wherever the package is installed."""

from __future__ import annotations

from types import SimpleNamespace

import numba
import pytest

from softmaxcode.parallel import compiled as module
from softmaxcode.parallel.compiled import compiled


@pytest.mark.parametrize("cached", [True, False])
def test_a_kernel_compiles_with_or_without_a_folder_for_its_cache(monkeypatch, cached):
    """A package installed read-only and used without a home folder has no cache: Numba then raises a RuntimeError."""
    asked = []

    def without_folder(*, cache: bool = False, **options: object) -> object:
        asked.append(cache)
        if cache and not cached:
            raise RuntimeError("cannot cache function: no locator available")
        return numba.njit(**options)

    monkeypatch.setattr(module, "numba", SimpleNamespace(njit=without_folder))
    double = compiled()(lambda x: 2 * x)
    assert double(3) == 6 and double.signatures
    assert asked == ([True] if cached else [True, False])
