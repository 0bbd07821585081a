"""The ``softmaxcode`` command."""

from softmaxcode.cli.command import (
    main,
)

__all__ = [
    "main",
]
