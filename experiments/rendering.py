"""The templates of sentences, with the filters that write numbers.

A template of sentences, ``templates/<name>.txt.j2``, begins each sentence of the findings with ``- `` at the start of a
line; a sentence may run over several lines.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2

from softmaxcode.checks.arguments import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from experiments.statistics import Interval, Slope


def statements(name: str, /, **results: Any) -> list[str]:
    """The sentences of a template.

    Parameters
    ----------
    name : str
        Of the template, such as ``gnc``.
    **results
        What it takes. Control characters of strings show as escapes.

    Returns
    -------
    list of str

    Examples
    --------
    >>> statements("nothing", what="", diverged=[("learned, τ = 0.1", [0, 2])], missing=[])
    ['No run is finished but those that diverged.', 'Diverged and left out: learned, τ = 0.1, seed 0, 2.']
    """
    text = _ENVIRONMENT.get_template(f"{name}.txt.j2").render(results)
    return [re.sub(r" *\n *", " ", part.strip()) for part in re.split(r"^- ", text, flags=re.MULTILINE)[1:]]


def fixed(x: float, decimals: int) -> str:
    """A number with so many decimals.

    Examples
    --------
    >>> fixed(0.5, 4)
    '0.5000'
    """
    return f"{x:.{decimals}f}"


def digits(x: float, count: int = 3) -> str:
    """A number to so many digits.

    Examples
    --------
    >>> digits(1 / 7), digits(1.0)
    ('0.143', '1')
    """
    return f"{x:.{count}g}"


def percent(fraction: float, count: int = 3) -> str:
    """A fraction in per cent, to so many digits.

    Examples
    --------
    >>> percent(0.95)
    '95 %'
    """
    return f"{100 * fraction:.{count}g} %"


def degrees(angle: float) -> str:
    """An angle that is given in degrees.

    Examples
    --------
    >>> degrees(12.34)
    '12.3 degrees'
    """
    return f"{angle:.1f} degrees"


def ratio(x: float) -> str:
    """A number of at most 1 as a fraction with numerator 1.

    Examples
    --------
    >>> ratio(1 / 7), ratio(1.0)
    ('1/7', '1')
    """
    return "1" if x == 1 else f"1/{1 / x:.0f}"


def listed(items: Iterable[Any]) -> str:
    """Items with commas, and "and" before the last.

    Examples
    --------
    >>> listed(["a", "b", "c"]), listed([1, 2]), listed(["a"])
    ('a, b and c', '1 and 2', 'a')
    """
    *others, last = map(str, items)
    return f"{', '.join(others)} and {last}" if others else last


def quoted(text: str) -> str:
    """Text in quotes, in which spaces at its ends show.

    Examples
    --------
    >>> quoted(" the")
    "' the'"
    """
    return repr(text)


def side(interval: Interval | Slope, above: str, below: str, neither: str) -> str:
    """The text for an interval that is above 0, below it, or neither.

    Examples
    --------
    >>> from experiments.statistics import mean_interval
    >>> side(mean_interval([0.1, 0.2, 0.15]), "better", "worse", "neither")
    'better'
    """
    return {1: above, -1: below, 0: neither}[interval.sign]


_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    finalize=lambda value: printable(value) if type(value) is str else value,  # names of files and classes
)
_ENVIRONMENT.filters |= {one.__name__: one for one in (fixed, digits, percent, degrees, ratio, listed, quoted, side)}
_ENVIRONMENT.tests["nan"] = math.isnan
