r"""Proved decimal digits: a polished code continued in ball arithmetic, and the Newton–Kantorovich proof.

A code is pinned down by its contacts. With the vectors that take part in them and the common level m as unknowns,

.. math:: g_e(X) = m, \qquad \langle x_i, x_i\rangle = 1, \qquad \sum_i \langle S x_i^0, x_i\rangle = 0,

where g_e are the values of a `ContactSystem`, x^0 is the stored code and S runs over the infinitesimal rotations, is
a quadratic system. Where it has full rank a square part of it is refined by Newton's method with the inverse Y of
the float64 Jacobian, which is also the preconditioner of the proof (docs/theory.md, "Newton–Kantorovich"). Vectors
without contacts are held at their stored direction. Everything that the proof rests on is either a ball
(python-flint) or a float64 product with its a-priori rounding error (docs/theory.md, "A-priori rounding bound").
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, Any

import flint
import msgspec
import numpy as np
from flint import arb, arb_mat
from scipy import linalg, optimize

from softmaxcode.checks.arguments import check_integer, check_pair
from softmaxcode.contacts.system import ContactSystem, hardmax_system, rotations, tammes_system, tangent_basis
from softmaxcode.sphere import check_rows

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from softmaxcode.types import Rows

#: The most digits that are proved, and that are read from a file.
MAX_DIGITS = 1000
#: Above this many unknowns the dense Jacobian and its inverse are not formed.
MAX_UNKNOWNS = 4000
#: The proved code must be this near to the stored one, in every coordinate.
NEIGHBOURHOOD = 1e-6
#: Singular directions of the contact equations: pivots below this multiple of the largest count as zero.
RANK_TOLERANCE = 1e-7
#: Bits beyond those of the digits asked for, and what Newton's method may leave of them to rounding.
_GUARD_BITS = 64
_ROUNDING_BITS = 24
#: Steps longer than this are followed by a new Jacobian.
_LONG_STEP = 1e-9
#: Pairs whose float64 value is within this of the level are evaluated in ball arithmetic; rounding is far smaller.
_SCREEN = 1e-6
#: Contacts of `prove_margin` where none are given: values within this of the smallest.
_WINDOW = 1e-9
#: Classes whose distance is bounded from above in ball arithmetic, and the weights that count there.
_CLASSES_TRIED = 12
_LEAST_WEIGHT = 1e-9
#: Unit roundoff of float64.
_U = 2.0**-53
#: A bound in a statement; on another machine it may be another one, but hardly ten times smaller.
_BOUND = re.compile(r"\d\.\de[+-]\d{2,4}")
_BOUND_NOISE = 10
_ELSEWHERE = f"the contact equations have no solution within {NEIGHBOURHOOD:g} of the stored code"


class NotRegular(ValueError):
    """The contact equations do not determine the code to the digits asked for; the message says why."""


@dataclass(frozen=True)
class ProvedValue:
    """A number with a proved radius.

    Attributes
    ----------
    quantity : str
        "max_cosine" or "margin".
    value : str
        Decimal with the digits asked for.
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
        """Significant digits of the value; where it is 0, those behind the point."""
        figures = self.value.lstrip("-").replace(".", "")
        return len(figures.lstrip("0") or figures[1:])


def claims_more(claimed: ProvedValue, ours: ProvedValue) -> list[str]:
    """Where a claim goes beyond what was proved here to the same digits, one sentence each.

    Quantity, value and statement must be ours, and the radius not smaller. Bounds within a statement, which rounding
    decides, must not be smaller by a factor of ten.

    Examples
    --------
    >>> from dataclasses import replace
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
        f"the proved {name} is {getattr(ours, name)}, the file says {getattr(claimed, name)}"
        for name, same in pairs
        if not same
    ]


@dataclass(frozen=True, eq=False)
class _ProvedCode:
    """Balls for a true code: a 1 x d row for each vector, the level m, and what was imposed on it."""

    rows: list[arb_mat]
    level: arb
    moved: arb
    imposed: int
    held: int


def check_digits(digits: Any) -> int:
    """The digits to prove, an integer from 1 to `MAX_DIGITS`.

    Raises
    ------
    ValueError
        For anything else.
    """
    digits = check_integer("digits", digits, 1)
    if digits > MAX_DIGITS:
        raise ValueError(f"digits must be at most {MAX_DIGITS}; got {digits}")
    return digits


# --- decimal strings ------------------------------------------------------------------------------------------


def _fraction(x: arb) -> Fraction:
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


def _round_up(x: Fraction) -> str:
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
    """N 10^place in positional notation, for place <= 0 in all its digits."""
    if place >= 0:
        return str(n * 10**place)
    body = str(abs(n)).rjust(1 - place, "0")
    return f"{'-' if n < 0 else ''}{body[:place]}.{body[place:]}"


def _as_decimal(low: Fraction, high: Fraction, digits: int) -> tuple[str, str]:
    """Value and radius strings of a number known to lie in [low, high].

    Raises
    ------
    NotRegular
        If the interval is wider than the last digit allows.
    """
    n, place = _decimal_parts(low, high, digits)
    if high - low > Fraction(10) ** place / 4:
        raise NotRegular(
            f"the value is enclosed to a width of {_round_up(high - low)} only, not to {digits} digits: "
            "pairs or classes other than the contacts named may decide it"
        )
    value = n * Fraction(10) ** place
    return _decimal_string(n, place), _round_up(max(high - value, value - low))


# --- the equations --------------------------------------------------------------------------------------------


def _plural(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _gauge(X: Rows, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Coordinate planes (p, q) whose ``count`` rotations move X independently."""
    p, q = np.triu_indices(X.shape[1], 1)
    if count < len(p):
        _, _, order = linalg.qr(_gauge_rows(X, p, q).T, mode="economic", pivoting=True)
        p, q = p[order[:count]], q[order[:count]]
    return p, q


def _gauge_rows(X: Rows, p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """The motions of X by rotations in the planes (p, q), one a row, shape (len(p), N d)."""
    N, d = X.shape
    motion = np.zeros((len(p), N, d))
    r = np.arange(len(p))
    motion[r, :, p] = X[:, q].T
    motion[r, :, q] = -X[:, p].T
    return motion.reshape(len(p), N * d)


def _square_part(system: ContactSystem, X: Rows) -> tuple[ContactSystem, tuple[np.ndarray, np.ndarray]]:
    """As many independent contacts as there are unknowns, by pivoted QR, and the gauge that goes with them.

    Raises
    ------
    NotRegular
        If the rank is short.
    """
    N, d = X.shape
    basis = tangent_basis(X)
    turning = rotations(X, basis).shape[1]
    wanted = N * (d - 1) + 1 - turning
    J = np.hstack([system.jacobian(X, basis).toarray(), -np.ones((len(system), 1))])
    R, order = linalg.qr(J.T, mode="r", pivoting=True, check_finite=False)
    pivots = np.abs(np.diagonal(R))
    rank = int(np.count_nonzero(pivots > RANK_TOLERANCE * pivots[0]))
    if rank < wanted:
        raise NotRegular(
            f"the contact equations leave {_plural(wanted - rank, 'direction')} free: "
            f"{_plural(len(system), 'contact')} of rank {rank} on {wanted} unknowns up to rotation"
        )
    return system.subset(np.sort(order[:wanted])), _gauge(X, turning)


class _Equations:
    """The square system F = 0 in N d coordinates and the level: unit norms, gauge rows, contacts, in this order."""

    def __init__(self, system: ContactSystem, start: Rows, planes: tuple[np.ndarray, np.ndarray]) -> None:
        self.system = system
        self.N, self.d = start.shape
        self.start = arb_mat(start.tolist())
        self.planes = planes
        self.gauge = _gauge_rows(start, *planes)
        self.two = system.a != system.c
        #: Lipschitz constant of the Jacobian in the maximum norm: absolute sum of a row's Hessian.
        self.lipschitz = (4 if self.two.any() else 2) * self.d

    def jacobian(self, X: Rows) -> tuple[np.ndarray, np.ndarray]:
        """DF at float rows, and row sums of the absolute values of the coordinates each entry is made of."""
        N, d, system = self.N, self.d, self.system
        gauges = len(self.gauge)
        size = N * d + 1
        DF = np.zeros((size, size))
        coordinates = np.arange(d)
        row = np.arange(N)[:, None]
        DF[row, row * d + coordinates] = 2 * X
        DF[N : N + gauges, : N * d] = self.gauge
        row = N + gauges + np.arange(len(system))[:, None]
        own = np.where(self.two[:, None], X[system.c], 0.0)
        DF[row, system.a[:, None] * d + coordinates] = own - X[system.b]
        DF[row, system.b[:, None] * d + coordinates] = -X[system.a]
        two = self.two
        DF[row[two], system.c[two, None] * d + coordinates] = X[system.a[two]]
        DF[N + gauges :, -1] = -1.0
        norms = np.abs(X).sum(axis=1)
        contacts = norms[system.b] + norms[system.a] + 1 + two * (norms[system.c] + norms[system.a])
        return DF, np.concatenate([2 * norms, np.abs(self.gauge).sum(axis=1), contacts])

    def residual(self, X: arb_mat, level: arb) -> list[arb]:
        """F in ball arithmetic."""
        rows = _split(X)
        columns = [row.transpose() for row in rows]
        out = [(rows[i] * columns[i])[0, 0] - 1 for i in range(self.N)]
        turn = X.transpose() * self.start
        out += [turn[p, q] - turn[q, p] for p, q in zip(*(a.tolist() for a in self.planes), strict=True)]
        return out + [g - level for g in _values(self.system, rows, columns)]


def _split(X: arb_mat) -> list[arb_mat]:
    """The rows of a matrix as 1 x d matrices."""
    d = X.ncols()
    entries = X.entries()
    return [arb_mat(1, d, entries[i : i + d]) for i in range(0, len(entries), d)]


def _values(system: ContactSystem, rows: list[arb_mat], columns: list[arb_mat]) -> list[arb]:
    """g_e for every inequality, in ball arithmetic: 1 - <x_a, x_b> for pairs, <x_a, x_c - x_b> else."""
    one = arb(1)
    return [
        (one if a == c else (rows[a] * columns[c])[0, 0]) - (rows[a] * columns[b])[0, 0]
        for a, b, c in zip(system.a.tolist(), system.b.tolist(), system.c.tolist(), strict=True)
    ]


def _exponent(values: list[arb]) -> int | None:
    """The least e with all |values| < 2^e, None where they are all exactly zero."""
    best: int | None = None
    for value in values:
        man, exp = value.abs_upper().man_exp()
        if man != 0:
            e = int(man).bit_length() + int(exp)
            best = e if best is None else max(best, e)
    return best


def _scaled(values: list[arb], exponent: int) -> tuple[np.ndarray, np.ndarray]:
    """The values times 2^-exponent as floats, and bounds on what is lost."""
    factor = arb(2) ** -exponent
    near = np.empty(len(values))
    lost = np.empty(len(values))
    for i, value in enumerate(values):
        scaled = value * factor
        near[i] = float(scaled.mid())
        lost[i] = float((scaled - arb(near[i])).abs_upper())
    return near, np.nextafter(lost * (1 + 1e-9), np.inf)


# --- Newton's method and the proof ----------------------------------------------------------------------------


def _inverse(equations: _Equations, X: Rows) -> np.ndarray:
    DF, _ = equations.jacobian(X)
    try:
        Y = np.linalg.inv(DF)
    except np.linalg.LinAlgError:
        raise NotRegular("the contact equations are singular at the stored code") from None
    if not np.isfinite(Y).all():
        raise NotRegular("the contact equations are singular at the stored code")
    return Y


def _rounded(X: arb_mat) -> Rows:
    """Midpoints as float64."""
    return np.array([float(x) for x in X.entries()]).reshape(X.nrows(), X.ncols())


def _newton(equations: _Equations, X: Rows, bits: int) -> tuple[arb_mat, arb, np.ndarray]:
    """Refine the float rows X to about ``bits`` bits; returns midpoints, the level and the inverse Jacobian used.

    Raises
    ------
    NotRegular
        If the steps leave the neighbourhood of X or stop shrinking before they reach the precision.
    """
    x = arb_mat(X.tolist())
    level = arb(float(equations.system.values(X).mean()))
    Y = _inverse(equations, X)
    before: int | None = None
    target = _ROUNDING_BITS - bits
    while True:
        F = equations.residual(x, level)
        exponent = _exponent(F)
        if exponent is None:
            return x, level, Y
        near, _ = _scaled(F, exponent)
        step = Y @ near
        length = float(np.abs(step).max())
        if exponent > -900 and length * 2.0**exponent > NEIGHBOURHOOD:
            raise NotRegular(_ELSEWHERE)
        if before is not None and exponent >= before - 1:
            if exponent <= target:
                return x, level, Y
            raise NotRegular("the contact equations are too close to singular: Newton's method stopped gaining digits")
        before = exponent
        factor = arb(2) ** exponent
        x = (x - arb_mat(equations.N, equations.d, step[:-1].tolist()) * factor).mid()
        level = (level - arb(float(step[-1])) * factor).mid()
        if exponent > -900 and length * 2.0**exponent > _LONG_STEP:
            Y = _inverse(equations, _rounded(x))


def _kantorovich_radius(equations: _Equations, x: arb_mat, level: arb, Y: np.ndarray, bits: int) -> arb:
    """An r so that F has exactly one zero within r of (x, level), in the maximum norm, and is regular there.

    Raises
    ------
    NotRegular
        If the conditions of the theorem cannot be verified.
    """
    n = len(Y)
    gamma = 2 * (n + 4) * _U  # above gamma_{n+2} + 2u, of docs/theory.md
    absolute = np.abs(Y)
    inflate = 1 + 8 * (n + 8) * _U  # all sums of non-negative floats below are exact up to this factor
    tiny = 1e-290  # above all underflow

    F = equations.residual(x, level)
    exponent = _exponent(F)
    if exponent is None:
        eta = arb(0)
    else:
        near, lost = _scaled(F, exponent)
        bound = np.abs(Y @ near) + gamma * (absolute @ np.abs(near)) + absolute @ lost
        eta = arb(float(bound.max()) * inflate + tiny) * arb(2) ** exponent

    DF, sizes = equations.jacobian(_rounded(x))
    defect = np.abs(np.eye(n) - Y @ DF).sum(axis=1)
    # the product's rounding, and up to 4u in the entries of DF from rounding x and from differences
    Z0 = float((defect + (gamma + 8 * _U) * (absolute @ sizes)).max()) * inflate + tiny
    norm = float(absolute.sum(axis=1).max()) * inflate
    if not Z0 < 0.5:
        raise NotRegular(f"the contact equations are too close to singular: |I - Y DF| is bounded by {Z0:.2g} only")
    z0 = arb(Z0)
    z2 = arb(norm) * equations.lipschitz
    D = (1 - z0) ** 2 - 2 * eta * z2
    if not D > 0:
        raise NotRegular("the contact equations are too close to singular for the residual reached")
    r = ((2 * eta / (1 - z0 + D.sqrt())) * (1 + arb(2) ** -10) + arb(2) ** (-2 * bits)).upper()
    if not (z2 * r * r / 2 + (z0 - 1) * r + eta <= 0 and z0 + z2 * r < 1):
        raise NotRegular("the Newton–Kantorovich conditions do not hold at the refined code")
    return r


def _prove_code(X: Rows, contacts: ContactSystem, digits: int, bits: int) -> _ProvedCode:
    """Balls for the true code with these contacts near X. Works at the current precision, of ``bits`` bits."""
    N, d = X.shape
    if d < 2:
        raise NotRegular("on the line there is nothing to solve: the optimum has a closed form")
    if not len(contacts):
        raise NotRegular("there are no contacts")
    member = contacts.members(N)
    unknowns = int(member.sum()) * d + 1
    if unknowns > MAX_UNKNOWNS:
        raise NotRegular(f"{unknowns} unknowns are more than the {MAX_UNKNOWNS} that a dense proof is tried for")
    local = np.cumsum(member) - 1
    system = ContactSystem(local[contacts.a], local[contacts.b], local[contacts.c])
    start = np.ascontiguousarray(X[member])
    chosen, planes = _square_part(system, start)
    equations = _Equations(chosen, start, planes)
    x, level, Y = _newton(equations, start, bits)
    r = _kantorovich_radius(equations, x, level, Y, bits)
    level = arb(level, r)

    solved = iter(_split(x))
    rows: list[arb_mat] = []
    moved = arb(0)
    for i in range(N):
        stored = arb_mat(1, d, X[i].tolist())
        if member[i]:
            row = arb_mat(1, d, [arb(c, r) for c in next(solved).entries()])
        else:
            row = stored * (1 / (stored * stored.transpose())[0, 0].sqrt())
        rows.append(row)
        for difference in (row - stored).entries():
            moved = moved.max(difference.abs_upper())
    # a cosine moves by at most moved (|x|_1 + |y|_1) + d moved^2: half the screen, so no pair outside it matters
    if not moved <= min(NEIGHBOURHOOD, _SCREEN) / (4 * d**0.5 + 2):
        raise NotRegular(_ELSEWHERE)
    proved = _ProvedCode(rows, level, moved.upper(), len(chosen), int((~member).sum()))
    _check_contacts(proved, contacts, digits)
    return proved


def _check_contacts(proved: _ProvedCode, contacts: ContactSystem, digits: int) -> None:
    """Refuse contacts that do not hold in the proved code: those left out of the square part were not imposed."""
    if len(contacts) == proved.imposed:
        return
    tolerance = arb(10) ** -(digits + 1)
    columns = [row.transpose() for row in proved.rows]
    gaps = [g - proved.level for g in _values(contacts, proved.rows, columns)]
    failing = sum(not abs(gap) < tolerance for gap in gaps)
    if failing:
        worst = max(float(gap.abs_upper()) for gap in gaps)
        raise NotRegular(
            f"the contacts do not hold together: where a full-rank part of them holds, {failing} of "
            f"{len(contacts)} are off, by up to {worst:.2g}"
        )


# --- largest cosine -------------------------------------------------------------------------------------------


def _bits(digits: int) -> int:
    return int(digits * 3.3219281) + 1 + _GUARD_BITS


def _midpoints(rows: list[arb_mat]) -> Rows:
    """Float64 rows nearest to the centres of the balls."""
    return np.array([[float(x) for x in row.entries()] for row in rows])


def _highest_cosine(proved: _ProvedCode, K: int) -> arb:
    """An upper bound on the largest cosine of the first K vectors of the proved code."""
    rows = proved.rows[:K]
    W = _midpoints(rows)
    level = 1 - proved.level
    # W is the true code up to rounding and the radius, so pairs below the screen are below the level
    i, j = np.nonzero(np.triu(W @ W.T >= float(level) - _SCREEN, 1))
    columns = [row.transpose() for row in rows]
    best = level.upper()
    for a, b in zip(i.tolist(), j.tolist(), strict=True):
        best = best.max((rows[a] * columns[b])[0, 0].upper())
    return best


def _what_is_solved(proved: _ProvedCode, contacts: int) -> str:
    """What the proof says of the code, for a statement."""
    left = contacts - proved.imposed
    return (
        f"a code within {_round_up(_fraction(proved.moved))} of the stored coordinates satisfies "
        f"{_plural(proved.imposed, 'contact equation')} exactly"
        + (f" and {left} more to within the digits given" if left else "")
        + ", is locally unique up to rotation"
        + (f" ({_plural(proved.held, 'vector')} without contacts held)" if proved.held else "")
    )


def prove_tammes(W: ArrayLike, contacts: ContactSystem, digits: int) -> ProvedValue:
    """The largest cosine of the code that a polished packing stands for, with a proved radius.

    Parameters
    ----------
    W : array_like, shape (K, d)
        Unit rows, polished: within 1e-6 of a code in which all ``contacts`` are equal.
    contacts : ContactSystem
        Pairs that attain the largest cosine, as in `softmaxcode.contacts.system.tammes_system`.
    digits : int
        Significant digits, at least 1.

    Returns
    -------
    ProvedValue
        The statement is about a code near ``W``; it does not say that no other code is better.

    Raises
    ------
    NotRegular
        If the contacts leave the code a freedom other than rotation, contradict each other, or do not decide the
        largest cosine.

    References
    ----------
    docs/theory.md, "Newton–Kantorovich".

    Examples
    --------
    >>> import numpy as np
    >>> from softmaxcode.contacts.system import tammes_system
    >>> from softmaxcode.certificates.proof import prove_tammes
    >>> t = 2 * np.pi * np.arange(5) / 5
    >>> pentagon = np.column_stack([np.cos(t), np.sin(t)])
    >>> proved = prove_tammes(pentagon, tammes_system(pentagon, 1e-9), 40)
    >>> proved.value, proved.radius  # (sqrt(5) - 1) / 4
    ('0.3090169943749474241022934171828190588602', '4.6e-41')
    """
    rows = check_rows(W)
    digits = check_digits(digits)
    bits = _bits(digits)
    with flint.ctx.workprec(bits):
        proved = _prove_code(rows, contacts, digits, bits)
        low = _fraction((1 - proved.level).lower())
        high = _fraction(_highest_cosine(proved, len(rows)))
        value, radius = _as_decimal(low, high, digits)
    return ProvedValue(
        "max_cosine",
        value,
        radius,
        f"Proved: {_what_is_solved(proved, len(contacts))}, and has this largest cosine to within the radius; "
        "that no other code is better is not part of this proof.",
    )


# --- margin ---------------------------------------------------------------------------------------------------


def _hull_distance(rows: list[arb_mat], k: int, others: list[int]) -> arb | None:
    """An upper bound on the distance from x_k to the hull of the others named: their affine hull's nearest point.

    Weights are those of the nearest point of the affine hull, with negative ones set to zero: any convex weights
    give an upper bound (docs/theory.md, T1a). None where the others are not affinely independent.
    """
    d = rows[k].ncols()
    edges = arb_mat(len(others), d, [e for j in others for e in (rows[k] - rows[j]).entries()])
    middle = edges.mid()
    try:
        weights = (middle * middle.transpose()).solve(arb_mat(len(others), 1, [1] * len(others)))
    except ZeroDivisionError:
        return None
    kept = [max(w.mid(), arb(0)) for w in weights.entries()]
    total = sum(kept, arb(0))
    if not total > 0:
        return None
    # exact weights over their sum: convex, whatever was rounded before
    point = arb_mat(1, len(others), kept) * edges
    return ((point * point.transpose())[0, 0].sqrt() / total).upper()


def _lowest_distance(proved: _ProvedCode, contacts: ContactSystem, K: int) -> arb:
    """The least upper bound on the distance of a class from the rest.

    Float64 picks the classes whose contacts attain the level m best, with h_k = w_k where the contacts are pairs:
    non-negative least squares for sum_j alpha_j (w_k - w_j) = m h_k, sum_j alpha_j = 1 (docs/theory.md, T2b and T5).
    """
    X = _midpoints(proved.rows)
    W, H = X[:K], X[-K:]
    level = float(proved.level)
    pair = contacts.a == contacts.c
    k = np.concatenate([contacts.c, contacts.b[pair]])
    j = np.concatenate([contacts.b, contacts.a[pair]])
    order = np.argsort(k, kind="stable")
    classes, starts = np.unique(k[order], return_index=True)
    found: list[tuple[float, int, list[int]]] = []
    for i, others in zip(classes.tolist(), np.split(j[order], starts[1:]), strict=True):
        A = np.vstack([(W[i] - W[others]).T, np.ones(len(others))])
        try:
            weights, residual = optimize.nnls(A, np.append(level * H[i], 1.0))
        except RuntimeError:  # its iteration limit
            continue
        used = np.flatnonzero(weights > _LEAST_WEIGHT)
        used = used[np.argsort(-weights[used], kind="stable")][: W.shape[1]]
        found.append((float(residual), i, others[used].tolist()))
    best: arb | None = None
    for _, i, carrying in sorted(found)[:_CLASSES_TRIED]:
        distance = _hull_distance(proved.rows, i, carrying) if carrying else None
        if distance is not None and (best is None or distance < best):
            best = distance
    if best is None:
        raise NotRegular("no class has convex weights on its contacts that could attain the value")
    return best


def _lowest_product(proved: _ProvedCode, K: int) -> arb:
    """A lower bound on min_{k, j != k} <h_k, w_k - w_j> for the proved code W, H."""
    X = _midpoints(proved.rows)
    C = X[K:] @ X[:K].T
    values = np.diagonal(C)[:, None] - C
    np.fill_diagonal(values, np.inf)
    k, j = np.nonzero(values <= float(proved.level) + _SCREEN)
    columns = [row.transpose() for row in proved.rows[:K]]
    best = proved.level.lower()
    for a, b in zip(k.tolist(), j.tolist(), strict=True):
        best = best.min((proved.rows[K + a] * (columns[a] - columns[b]))[0, 0].lower())
    return best


def _margin_from_packing(W: Rows, contacts: ContactSystem, digits: int) -> ProvedValue:
    """The margin of a packing with a balanced class: 1 - mu <= rho <= rho_k (docs/theory.md, T2)."""
    bits = _bits(digits)
    with flint.ctx.workprec(bits):
        proved = _prove_code(W, contacts, digits, bits)
        low = _fraction((1 - _highest_cosine(proved, len(W))).lower())
        high = _fraction(_lowest_distance(proved, contacts, len(W)))
        value, radius = _as_decimal(low, high, digits)
    return ProvedValue(
        "margin",
        value,
        radius,
        f"Proved: {_what_is_solved(proved, len(contacts))}, and has this margin to within the radius, which lies "
        "between 1 minus the largest cosine and the distance of a class from the hull of its contacts; that no other "
        "code is better is not part of this proof.",
    )


def _margin_from_features(W: Rows, H: Rows, contacts: ContactSystem, digits: int) -> ProvedValue:
    """The margin of a code W with features H that are not W, from the contacts of HardMax (docs/theory.md, T1, T5)."""
    bits = _bits(digits)
    K = len(W)
    with flint.ctx.workprec(bits):
        proved = _prove_code(np.vstack([W, H]), contacts, digits, bits)
        low = _fraction(_lowest_product(proved, K))
        high = _fraction(_lowest_distance(proved, contacts, len(W)))
        value, radius = _as_decimal(low, high, digits)
    return ProvedValue(
        "margin",
        value,
        radius,
        f"Proved: {_what_is_solved(proved, len(contacts))}, features included, and has this margin to within the "
        "radius, which lies between the smallest <h_k, w_k - w_j> and the distance of a class from the hull of others; "
        "that no other code is better is not part of this proof.",
    )


def prove_margin(
    W: ArrayLike,
    H: ArrayLike,
    contacts_tammes: ContactSystem | None,
    digits: int,
    *,
    contacts_hardmax: ContactSystem | None = None,
) -> ProvedValue:
    """The margin of the code that a polished W (and H) stands for, with a proved radius.

    With the contacts of the packing the margin is enclosed between 1 - mu and the distance of a balanced class; where
    they are not regular or leave a gap, HardMax's contacts determine W and H together.

    Parameters
    ----------
    W, H : array_like, shape (K, d)
        Unit rows: a polished code and the directions at which its classes attain their distance, as in
        `softmaxcode.margins.exact.margin`.
    contacts_tammes : ContactSystem or None
        Pairs that attain the largest cosine of W; None takes those within 1e-9 of it.
    digits : int
        Significant digits, at least 1.
    contacts_hardmax : ContactSystem, optional
        Pairs that attain the smallest <h_k, w_k - w_j>, on W stacked over H, as in
        `softmaxcode.contacts.system.hardmax_system`; not given, those within 1e-9 of it.

    Returns
    -------
    ProvedValue
        The statement is about a code near ``W``; it does not say that no other code is better.

    Raises
    ------
    NotRegular
        If neither set of contacts determines the margin to these digits; the message gives both reasons.

    References
    ----------
    docs/theory.md, T1, T2, T5 and "Newton–Kantorovich".
    """
    rows = check_rows(W)
    features = check_rows(H, name="H")
    if features.shape != rows.shape:
        raise ValueError(f"W and H must have the same shape; got {rows.shape} and {features.shape}")
    digits = check_digits(digits)
    if contacts_tammes is None:
        contacts_tammes = tammes_system(rows, _WINDOW)
    if contacts_hardmax is None:
        contacts_hardmax = hardmax_system(rows, features, _WINDOW)
    try:
        return _margin_from_packing(rows, contacts_tammes, digits)
    except NotRegular as error:
        reason = f"as a packing, {error}"
    try:
        return _margin_from_features(rows, features, contacts_hardmax, digits)
    except NotRegular as error:
        raise NotRegular(f"{reason}; with features, {error}") from None


# --- closed forms ---------------------------------------------------------------------------------------------


def closed_form_decimal(K: int, d: int, quantity: str, digits: int) -> ProvedValue:
    """The optimum itself where it is known in closed form (docs/theory.md, T3): d <= 2 or K <= 2d.

    Parameters
    ----------
    K, d : int
        Classes and dimension.
    quantity : str
        "max_cosine" or "margin".
    digits : int
        Significant digits, at least 1.

    Returns
    -------
    ProvedValue
        Here the statement is about the optimum itself.

    Raises
    ------
    ValueError
        If no closed form is known for (K, d).

    Examples
    --------
    >>> from softmaxcode.certificates.proof import closed_form_decimal
    >>> closed_form_decimal(4, 7, "margin", 12).value
    '1.33333333333'
    """
    if quantity not in ("max_cosine", "margin"):
        raise ValueError(f'quantity must be "max_cosine" or "margin"; got {quantity!r}')
    K, d = check_pair(K, d)
    digits = check_digits(digits)
    with flint.ctx.workprec(_bits(digits)):
        if d == 1:
            cosine, name = (arb(-1), "two opposite points") if K == 2 else (arb(1), "two rows coincide")
            low = high = _fraction(cosine)
        elif K <= d + 1:
            low = high = Fraction(-1, K - 1)
            name = "the regular simplex"
        elif d == 2:
            cosine = arb.cos_pi_fmpq(flint.fmpq(2, K))
            low, high = _fraction(cosine.lower()), _fraction(cosine.upper())
            name = "the regular polygon"
        elif K <= 2 * d:
            low = high = Fraction(0)
            name = "vertices of the cross-polytope"
        else:
            raise ValueError(f"no closed form is known for K = {K} classes in dimension d = {d}")
    if quantity == "margin":
        low, high = 1 - high, 1 - low
    value, radius = _as_decimal(low, high, digits)
    word = "smallest possible largest cosine" if quantity == "max_cosine" else "largest possible margin"
    return ProvedValue(
        quantity,
        value,
        radius,
        f"Proved: the {word} of {K} classes in dimension {d} is the value ({name}; theorem T3).",
    )
