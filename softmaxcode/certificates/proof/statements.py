"""Proofs of a code's value, each with a one-sentence statement."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import flint
import numpy as np
from flint import arb, arb_mat
from scipy import optimize

from softmaxcode.certificates.proof.decimals import as_decimal, exact_fraction, round_up, working_bits
from softmaxcode.certificates.proof.newton_kantorovich import SCREEN, midpoints, prove_code
from softmaxcode.certificates.proof.value import NotRegular, ProvedValue, check_digits, plural
from softmaxcode.checks.arguments import check_pair
from softmaxcode.contacts.system import ContactSystem, hardmax_system, tammes_system
from softmaxcode.sphere import check_rows

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from softmaxcode.certificates.proof.newton_kantorovich import ProvedCode
    from softmaxcode.types import Rows


#: Default contacts of `prove_margin`: values within this of the smallest.
_WINDOW = 1e-9
#: Number of classes whose distance is bounded from above in ball arithmetic, and the smallest weight that counts.
_CLASSES_TRIED = 12
_LEAST_WEIGHT = 1e-9


def _highest_cosine(proved: ProvedCode, K: int) -> arb:
    """An upper bound on the largest cosine of the first K vectors of the proved code."""
    rows = proved.rows[:K]
    W = midpoints(rows)
    level = 1 - proved.level
    # W is the true code up to rounding and the radius, so pairs below the screen are below the level
    i, j = np.nonzero(np.triu(W @ W.T >= float(level) - SCREEN, 1))
    columns = [row.transpose() for row in rows]
    best = level.upper()
    for a, b in zip(i.tolist(), j.tolist(), strict=True):
        best = best.max((rows[a] * columns[b])[0, 0].upper())
    return best


def _what_is_solved(proved: ProvedCode, contacts: int) -> str:
    """What is proved of the code, as part of a statement."""
    left = contacts - proved.imposed
    return (
        f"a code within {round_up(exact_fraction(proved.moved))} of the stored coordinates satisfies "
        f"{plural(proved.imposed, 'contact equation')} exactly"
        + (f" and {left} more to within the digits given" if left else "")
        + ", is locally unique up to rotation"
        + (f" ({plural(proved.without_contacts, 'vector')} without contacts fixed)" if proved.without_contacts else "")
    )


def prove_tammes(W: ArrayLike, contacts: ContactSystem, digits: int) -> ProvedValue:
    """The largest cosine of the true code near a polished packing, with a proved radius.

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
        The statement is about a code near ``W``; it does not exclude a better code.

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
    bits = working_bits(digits)
    with flint.ctx.workprec(bits):
        proved = prove_code(rows, contacts, digits, bits)
        low = exact_fraction((1 - proved.level).lower())
        high = exact_fraction(_highest_cosine(proved, len(rows)))
        value, radius = as_decimal(low, high, digits)
    return ProvedValue(
        "max_cosine",
        value,
        radius,
        f"Proved: {_what_is_solved(proved, len(contacts))}, and has this largest cosine to within the radius; "
        "that no other code is better is not part of this proof.",
    )


# --- margin ---------------------------------------------------------------------------------------------------


def _hull_distance(rows: list[arb_mat], k: int, others: list[int]) -> arb | None:
    """An upper bound on the distance from x_k to the hull of the given others, at their affine hull's nearest point.

    The weights are those of that point, with negative ones set to zero. Any convex weights give an upper bound
    (docs/theory.md, T1a). None where the others are not affinely independent.
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
    # exact weights over their sum are convex, whatever the earlier rounding
    point = arb_mat(1, len(others), kept) * edges
    return ((point * point.transpose())[0, 0].sqrt() / total).upper()


def _lowest_distance(proved: ProvedCode, contacts: ContactSystem, K: int) -> arb:
    """The least upper bound on the distance of a class from the rest.

    Float64 selects the classes whose contacts attain the level m best, with h_k = w_k where the contacts are pairs. It
    solves the non-negative least squares problem sum_j alpha_j (w_k - w_j) = m h_k, sum_j alpha_j = 1
    (docs/theory.md, T2b and T5).
    """
    X = midpoints(proved.rows)
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


def _lowest_product(proved: ProvedCode, K: int) -> arb:
    """A lower bound on min_{k, j != k} <h_k, w_k - w_j> for the proved code W, H."""
    X = midpoints(proved.rows)
    C = X[K:] @ X[:K].T
    values = np.diagonal(C)[:, None] - C
    np.fill_diagonal(values, np.inf)
    k, j = np.nonzero(values <= float(proved.level) + SCREEN)
    columns = [row.transpose() for row in proved.rows[:K]]
    best = proved.level.lower()
    for a, b in zip(k.tolist(), j.tolist(), strict=True):
        best = best.min((proved.rows[K + a] * (columns[a] - columns[b]))[0, 0].lower())
    return best


def _margin_from_packing(W: Rows, contacts: ContactSystem, digits: int) -> ProvedValue:
    """The margin of a packing with a balanced class: 1 - mu <= rho <= rho_k (docs/theory.md, T2)."""
    bits = working_bits(digits)
    with flint.ctx.workprec(bits):
        proved = prove_code(W, contacts, digits, bits)
        low = exact_fraction((1 - _highest_cosine(proved, len(W))).lower())
        high = exact_fraction(_lowest_distance(proved, contacts, len(W)))
        value, radius = as_decimal(low, high, digits)
    return ProvedValue(
        "margin",
        value,
        radius,
        f"Proved: {_what_is_solved(proved, len(contacts))}, and has this margin to within the radius, which lies "
        "between 1 minus the largest cosine and the distance of a class from the hull of its contacts; that no other "
        "code is better is not part of this proof.",
    )


def _margin_from_features(W: Rows, H: Rows, contacts: ContactSystem, digits: int) -> ProvedValue:
    """The margin of a code W with features H other than W, from the contacts of HardMax (docs/theory.md, T1, T5)."""
    bits = working_bits(digits)
    K = len(W)
    with flint.ctx.workprec(bits):
        proved = prove_code(np.vstack([W, H]), contacts, digits, bits)
        low = exact_fraction(_lowest_product(proved, K))
        high = exact_fraction(_lowest_distance(proved, contacts, len(W)))
        value, radius = as_decimal(low, high, digits)
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
    """The margin of the true code near a polished W (and H), with a proved radius.

    With the contacts of the packing, the margin lies between 1 - mu and the distance of a balanced class. If these
    contacts are not regular or leave a gap, HardMax's contacts determine W and H together.

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
        `softmaxcode.contacts.system.hardmax_system`. By default those within 1e-9 of it.

    Returns
    -------
    ProvedValue
        The statement is about a code near ``W``; it does not exclude a better code.

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
        Its statement is about the optimum itself.

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
    with flint.ctx.workprec(working_bits(digits)):
        if d == 1:
            cosine, name = (arb(-1), "two opposite points") if K == 2 else (arb(1), "two rows coincide")
            low = high = exact_fraction(cosine)
        elif K <= d + 1:
            low = high = Fraction(-1, K - 1)
            name = "the regular simplex"
        elif d == 2:
            cosine = arb.cos_pi_fmpq(flint.fmpq(2, K))
            low, high = exact_fraction(cosine.lower()), exact_fraction(cosine.upper())
            name = "the regular polygon"
        elif K <= 2 * d:
            low = high = Fraction(0)
            name = "vertices of the cross-polytope"
        else:
            raise ValueError(f"no closed form is known for K = {K} classes in dimension d = {d}")
    if quantity == "margin":
        low, high = 1 - high, 1 - low
    value, radius = as_decimal(low, high, digits)
    named = "smallest possible largest cosine" if quantity == "max_cosine" else "largest possible margin"
    return ProvedValue(
        quantity,
        value,
        radius,
        f"Proved: the {named} of {K} classes in dimension {d} is the value ({name}; theorem T3).",
    )
