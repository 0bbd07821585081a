"""A value with a proved radius, and its statement."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Any

import msgspec

from softmaxcode.checks.arguments import check_integer

#: The most digits that `prove` accepts and that are read from a file.
MAX_DIGITS = 1000
#: A bound in a statement; on another machine it may differ, but by hardly as much as a factor of ten.
_BOUND = re.compile(r"\d\.\de[+-]\d{2,4}")
_BOUND_NOISE = 10


class NotRegular(ValueError):
    """The contact equations do not determine the code to the requested digits; the message gives the reason."""


@dataclass(frozen=True)
class ProvedValue:
    """A number with a proved radius.

    Attributes
    ----------
    quantity : str
        "max_cosine" or "margin".
    value : str
        Decimal with the requested digits.
    radius : str
        Decimal upper bound on ``|value - true|``, the rounding of ``value`` included; "0" where it is exact.
    statement : str
        What is proved, in a sentence.
    """

    quantity: Annotated[str, msgspec.Meta(pattern="^(max_cosine|margin)$")]
    value: Annotated[str, msgspec.Meta(pattern=r"^-?\d+(\.\d+)?$", max_length=MAX_DIGITS + 100)]
    radius: Annotated[str, msgspec.Meta(pattern=r"^(0|\d\.\de[+-]\d{2,4})$")]
    statement: Annotated[str, msgspec.Meta(max_length=1000)]

    @property
    def digits(self) -> int:
        """Significant digits of the value; where it is 0, its decimal places."""
        figures = self.value.lstrip("-").replace(".", "")
        return len(figures.lstrip("0") or figures[1:])


def claims_more(claimed: ProvedValue, ours: ProvedValue) -> list[str]:
    """How a claim exceeds what was proved here to the same digits, one sentence per excess.

    Quantity, value and statement must be equal, and the claimed radius not smaller. Bounds within a statement depend
    on rounding; they must not be smaller by a factor of ten.

    Examples
    --------
    >>> from dataclasses import replace
    >>> from softmaxcode.certificates.proof import closed_form_decimal
    >>> ours = closed_form_decimal(5, 2, "max_cosine", 4)
    >>> claims_more(ours, ours), len(claims_more(replace(ours, radius="1.0e-09"), ours))
    ([], 1)
    """
    pairs = [("quantity", claimed.quantity == ours.quantity)]
    off = abs(Fraction(claimed.value) - Fraction(ours.value))
    pairs.append(("value", off <= 2 * Fraction(ours.radius)))
    pairs.append(("radius", Fraction(claimed.radius) >= Fraction(ours.radius)))
    bounds = [[Fraction(found) for found in _BOUND.findall(each.statement)] for each in (claimed, ours)]
    pairs.append(
        (
            "statement",
            _BOUND.sub("\0", claimed.statement) == _BOUND.sub("\0", ours.statement)  # which no statement contains
            and all(theirs * _BOUND_NOISE >= mine for theirs, mine in zip(*bounds, strict=True)),
        )
    )
    return [
        f"the proved {name} is {getattr(ours, name)}, the file claims {getattr(claimed, name)}"
        for name, same in pairs
        if not same
    ]


def check_digits(digits: Any) -> int:
    """The digits to prove, an integer from 1 to `MAX_DIGITS`.

    Raises
    ------
    ValueError
        If ``digits`` is anything else.
    """
    digits = check_integer("digits", digits, 1)
    if digits > MAX_DIGITS:
        raise ValueError(f"digits must be at most {MAX_DIGITS}; got {digits}")
    return digits


# --- the equations --------------------------------------------------------------------------------------------


def plural(n: int, noun: str) -> str:
    """A number with its noun, such as "1 class" or "2 bars"."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
