"""Decimal digits of exact numbers, rounded to the safe side."""

from __future__ import annotations

from fractions import Fraction

from flint import arb

from softmaxcode.certificates.proof.value import NotRegular

#: Bits beyond those of the requested digits, and the part of them that Newton's method may lose to rounding.
_GUARD_BITS = 64


# --- decimal strings ------------------------------------------------------------------------------------------


def exact_fraction(x: arb) -> Fraction:
    """The exact value of a ball of radius zero."""
    man, exp = x.man_exp()
    return Fraction(int(man)) * Fraction(2) ** int(exp)


def _leading_place(x: Fraction) -> int:
    """The e with 10^e <= |x| < 10^(e+1), for x other than 0."""
    x = abs(x)
    e = len(str(x.numerator)) - len(str(x.denominator))
    return e if x >= Fraction(10) ** e else e - 1


def _decimal_parts(low: Fraction, high: Fraction, digits: int) -> tuple[int, int]:
    """Integer n and place p so that n 10^p is the middle of [low, high] to ``digits`` significant digits."""
    middle = (low + high) / 2
    if low <= 0 <= high or middle == 0:
        return 0, -digits
    place = _leading_place(middle) - digits + 1
    return round(middle / Fraction(10) ** place), place


def round_up(x: Fraction) -> str:
    """A decimal with two significant digits that is not below x >= 0."""
    if x == 0:
        return "0"
    place = _leading_place(x) - 1
    scaled = x / Fraction(10) ** place
    n = -(-scaled.numerator // scaled.denominator)
    if n == 100:
        n, place = 10, place + 1
    return f"{n // 10}.{n % 10}e{place + 1:+03d}"


def _decimal_string(n: int, place: int) -> str:
    """n 10^place, place <= 0, in positional notation with all digits."""
    if place >= 0:
        return str(n * 10**place)
    body = str(abs(n)).rjust(1 - place, "0")
    return f"{'-' if n < 0 else ''}{body[:place]}.{body[place:]}"


def as_decimal(low: Fraction, high: Fraction, digits: int) -> tuple[str, str]:
    """Value and radius strings of a number that lies in [low, high].

    Raises
    ------
    NotRegular
        If the interval is wider than the last digit allows.
    """
    n, place = _decimal_parts(low, high, digits)
    if high - low > Fraction(10) ** place / 4:
        raise NotRegular(
            f"the value is enclosed to a width of {round_up(high - low)} only, not to {digits} digits: "
            "pairs or classes other than the contacts named may decide it"
        )
    value = n * Fraction(10) ** place
    return _decimal_string(n, place), round_up(max(high - value, value - low))


# --- largest cosine -------------------------------------------------------------------------------------------


def working_bits(digits: int) -> int:
    """Bits of ball arithmetic for so many decimal digits, with guard bits."""
    return int(digits * 3.3219281) + 1 + _GUARD_BITS
