"""The lower bound on the margin of global minimisers of the cross-entropy, against its formula in many digits."""

from __future__ import annotations

import math

import flint
import pytest
from hypothesis import given
from hypothesis import strategies as st

from softmaxcode.certificates.loss import certified_margin, minimizer_margin


def formula(K: int, margin: float, temperature: float, imbalance: float = 1.0) -> float:
    """The bound in 3000 bits."""
    with flint.ctx.workprec(3000):
        tau = flint.arb(temperature)
        inner = (1 + (K - 1) * (-flint.arb(margin) / tau).exp()) ** (K * flint.arb(imbalance)) - 1
        return float(-tau * inner.log())


@given(
    K=st.integers(2, 10**6),
    margin=st.floats(0, 2),
    log_temperature=st.floats(math.log(2e-3), math.log(10)),
    imbalance=st.floats(1, 1e6),
)
def test_the_bound_is_its_formula(K, margin, log_temperature, imbalance):
    temperature = math.exp(log_temperature)
    for nu in (1.0, imbalance):
        found = minimizer_margin(K, margin, temperature, imbalance=nu)
        assert found == pytest.approx(formula(K, margin, temperature, nu), rel=1e-12, abs=1e-13)
        assert found <= margin
    assert found <= minimizer_margin(K, margin, temperature) + 1e-12


def test_the_bound_tends_to_the_margin_as_the_temperature_falls():
    for temperature in (1e-2, 1e-4, 1e-8, 1e-300, 1e-309):
        loss = temperature * math.log((math.e - 1) * 100 * 99)
        assert 0.669 - loss <= minimizer_margin(100, 0.669, temperature) <= 0.669


def test_imbalance_costs_its_logarithm():
    # the simple form of docs/theory.md, T6 (c), where nu K (K - 1) e^(-margin / tau) is at most 1
    for imbalance in (1.0, 4.0, 1e6):
        loss = 0.01 * math.log((math.e - 1) * imbalance * 100 * 99)
        assert 0.669 - loss <= minimizer_margin(100, 0.669, 0.01, imbalance=imbalance) <= 0.669


@given(
    counts=st.lists(st.integers(1, 9), min_size=2, max_size=9),
    margin=st.floats(0.05, 1.0),
    log_temperature=st.floats(math.log(0.01), math.log(2)),
)
def test_no_loss_that_is_low_enough_has_a_smaller_margin(counts, margin, log_temperature):
    # the proof, backwards: a class whose features all have the bound as their smallest logit margin, and no other loss
    K, temperature = len(counts), math.exp(log_temperature)
    imbalance = sum(counts) / K / min(counts)
    bound = minimizer_margin(K, margin, temperature, imbalance=imbalance)
    least = min(counts) / sum(counts) * math.log1p(math.exp(-bound / temperature))
    optimum = math.log1p((K - 1) * math.exp(-margin / temperature))
    assert least <= optimum * (1 + 1e-9)  # equal, but where the bound is cut at the margin
    if bound < margin:
        assert least == pytest.approx(optimum, rel=1e-9)


def test_two_classes_with_opposite_vectors_attain_their_certificate():
    # all samples alike: L = log(1 + e^(-2 / tau)), and (1 + x)^2 - 1 is the certificate of both samples together
    loss = math.log1p(math.exp(-2 / 0.3))
    assert minimizer_margin(2, 2.0, 0.3) == pytest.approx(certified_margin(math.log(loss), 2, 0.3), abs=1e-14)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1, 1.0, 0.1), "K .* at least 2; got 1"),
        ((3, 2.5, 0.1), "margin must be a number from 0 to 2; got 2.5"),
        ((3, math.nan, 0.1), "margin must be"),
        ((3, 1.0, 0.0), "temperature must be a finite number above 0; got 0.0"),
    ],
)
def test_what_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        minimizer_margin(*arguments)


@pytest.mark.parametrize("imbalance", [0.5, math.nan, math.inf, -1])
def test_imbalances_that_are_refused(imbalance):
    with pytest.raises(ValueError, match="imbalance must be a finite number of at least 1; got"):
        minimizer_margin(3, 1.0, 0.1, imbalance=imbalance)


@given(log_loss=st.floats(-1000, 5), samples=st.integers(1, 10**12), temperature=st.floats(1e-12, 10))
def test_rounding_is_what_is_said_of_it(log_loss, samples, temperature):
    with flint.ctx.workprec(2000):
        total = flint.arb(log_loss).exp() * samples
        exact = -flint.arb(temperature) * (total.exp() - 1).log() if total < 1e6 else -flint.arb(temperature) * total
        exact = float(exact.max(flint.arb(-2)).min(flint.arb(2)))
        total = float(total)
    unit = 2.0**-53 * temperature * (abs(log_loss) + math.log(samples) + 1) * max(1.0, total)
    assert abs(certified_margin(log_loss, samples, temperature) - exact) <= 4 * unit + 2.0**-51
