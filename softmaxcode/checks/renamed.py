"""Old names of arguments and of module attributes: they still work, with a DeprecationWarning."""

from __future__ import annotations

import functools
import importlib
import warnings
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable

Function = TypeVar("Function", bound="Callable[..., Any]")


def renamed_argument(old: str, new: str) -> Callable[[Function], Function]:
    """Make a function accept the keyword ``old`` as ``new``; both together raise a ValueError.

    Examples
    --------
    >>> import warnings
    >>> @renamed_argument("patience", "timeout")
    ... def wait(timeout=1):
    ...     return timeout
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     wait(patience=3), str(caught[0].message)
    (3, 'the argument patience of wait is now timeout')
    """

    def decorate(function: Function) -> Function:
        @functools.wraps(function)
        def wrapped(*args: Any, **options: Any) -> Any:
            if old in options:
                if new in options:
                    raise ValueError(f"{old} is the old name of {new}: pass one of them")
                warnings.warn(
                    f"the argument {old} of {function.__name__} is now {new}", DeprecationWarning, stacklevel=2
                )
                options[new] = options.pop(old)
            return function(*args, **options)

        return cast("Function", wrapped)

    return decorate


def renamed_names(module: str, names: dict[str, str]) -> Callable[[str], Any]:
    """A module's ``__getattr__`` that finds attributes by their old names, ``{old: new}``."""

    def find(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        warnings.warn(f"{module}.{name} is now {module}.{names[name]}", DeprecationWarning, stacklevel=2)
        return getattr(importlib.import_module(module), names[name])

    return find
