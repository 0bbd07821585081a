"""Settings of a simulation: every bad option refused in one sentence, every default choice stated."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ufm
from ufm import schedule
from ufm.settings import SMALL, Settings

BAD = [
    ({"K": 1}, r"K \(the number of classes\) must be an integer of at least 2; got 1"),
    ({"K": 3.0}, r"K \(the number of classes\) must be an integer of at least 2; got 3.0"),
    ({"K": "3"}, "must be an integer of at least 2; got '3'"),
    ({"d": 1}, r"d \(the dimension\) must be at least 2, where a sphere is connected; got 1"),
    ({"d": 0}, r"d \(the dimension\) must be an integer of at least 1; got 0"),
    ({"n": 0}, r"n \(features per class\) must be an integer of at least 1; got 0"),
    ({"n": True}, r"n \(features per class\) must be an integer of at least 1; got True"),
    ({"n": "abc"}, "must be an integer of at least 1; got 'a'"),
    ({"n": [1, 2]}, "n must be one number or one for each of the K = 3 classes; got 2 numbers"),
    ({"n": [1, 2, 0]}, r"n \(features per class\) must be an integer of at least 1; got 0"),
    ({"temperature": 0.0}, "temperature must be a finite number above 0; got 0.0"),
    ({"temperature": -1}, "temperature must be a finite number above 0; got -1"),
    ({"temperature": math.nan}, "temperature must be a finite number above 0; got nan"),
    ({"temperature": "cold"}, "temperature must be a finite number above 0; got 'cold'"),
    ({"temperature": 1e-310}, "temperature must be at least 8.9e-308 in float64, or logits overflow; got 1e-310"),
    ({"temperature": 1e-39, "dtype": "float32"}, "must be at least 4.7e-38 in float32, or logits overflow; got 1e-39"),
    ({"anneal": 0.01}, "anneal, where the temperature begins, must be at least 0.05, where it ends; got 0.01"),
    ({"anneal": math.inf}, "anneal must be a finite number above 0; got inf"),
    ({"objective": "mse"}, "objective must be one of 'log-cross-entropy', 'cross-entropy', 'hardmax'; got 'mse'"),
    ({"optimizer": "adamw"}, "optimizer must be one of 'auto', 'lbfgs', 'adam', 'sgd'; got 'adamw'"),
    ({"optimizer": None}, "optimizer must be one of 'auto', 'lbfgs', 'adam', 'sgd'; got None"),
    ({"optimizer": "lbfgs", "objective": "hardmax"}, "lbfgs needs a smooth objective"),
    ({"optimizer": "lbfgs", "learning_rate": 0.1}, "lbfgs finds its own steps and takes no learning_rate; got 0.1"),
    ({"optimizer": "adam", "learning_rate": -0.1}, "learning_rate must be a finite number above 0; got -0.1"),
    ({"optimizer": "adam", "learning_rate": math.inf}, "learning_rate must be a finite number above 0; got inf"),
    ({"optimizer": "adam", "learning_rate": True}, "learning_rate must be a finite number above 0; got True"),
    ({"weight_decay": 0}, "weight_decay must be a finite number above 0; got 0"),
    ({"weight_decay": 0.1, "objective": "hardmax"}, "hardmax has no minimum off the sphere"),
    ({"steps": 0}, "steps must be an integer of at least 1; got 0"),
    ({"steps": 2.5}, "steps must be an integer of at least 1; got 2.5"),
    ({"record_every": 0}, "record_every must be an integer of at least 1; got 0"),
    ({"tolerance": 1}, "tolerance .* must be a number from 0 to below 1; got 1"),
    ({"tolerance": -0.1}, "tolerance .* must be a number from 0 to below 1; got -0.1"),
    ({"tolerance": None}, "tolerance .* must be a number from 0 to below 1; got None"),
    ({"seed": -1}, "seed must be an integer of at least 0; got -1"),
    ({"seed": 2**64}, "seed must be an integer of at most 18446744073709551615; got 18446744073709551616"),
    ({"dtype": "float16"}, "dtype must be one of 'auto', 'float64', 'float32'; got 'float16'"),
    ({"device": "cuda:99"}, "device 'cuda:99' is not there"),
    ({"device": "mps"}, 'device must be "cpu", "cuda" or "cuda:<number>"; got \'mps\''),
    ({"device": "quantum"}, "device must be"),
    ({"checkpoint_every": 0}, "checkpoint_every must be an integer of at least 1; got 0"),
    ({"checkpoint_every": 5, "checkpoint": None}, "checkpoint_every needs a checkpoint file to write"),
]


@pytest.mark.parametrize(("options", "message"), BAD, ids=[str(options) for options, _ in BAD])
def test_bad_options_are_refused_in_one_sentence_and_nothing_is_written(options, message, tmp_path):
    options = {"K": 3, "d": 2, "n": 1, "checkpoint": tmp_path / "run.pt", **options}
    with pytest.raises(ValueError, match=message) as refused:
        ufm.simulate(**options)
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("run.txt", "cannot write .*run.txt: the suffix must be one of .pt"),
        ("nowhere/run.pt", "cannot write .*: the folder .*nowhere does not exist"),
        ("folder.pt", "cannot write .*folder.pt: it is a folder"),
    ],
)
def test_checkpoints_that_cannot_be_written(name, message, tmp_path):
    (tmp_path / "folder.pt").mkdir()
    with pytest.raises(ValueError, match=message):
        ufm.simulate(3, 2, 1, checkpoint=tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["folder.pt"]


@pytest.mark.parametrize(
    ("temperatures", "seeds", "message"),
    [
        ([], [0], r"temperatures must be a list of at least one; got \[\]"),
        ([0.1], [], r"seeds must be a list of at least one; got \[\]"),
        (0.1, [0], "temperatures must be a list of at least one; got 0.1"),
        ([0.1], 3, "seeds must be a list of at least one; got 3"),
        ([0.1, -1], [0], "temperature must be a finite number above 0; got -1"),
    ],
)
def test_lists_of_a_batch(temperatures, seeds, message):
    with pytest.raises(ValueError, match=message):
        ufm.simulate_batch(3, 2, 1, temperatures, seeds)


def test_what_is_chosen_for_us():
    small = Settings(100, 10, 1)
    large = Settings(SMALL // 2, 10, 3)
    assert (small.optimizer, small.dtype, small.record_every) == ("lbfgs", "float64", 100)
    assert (large.optimizer, large.dtype, large.record_every) == ("adam", "float32", 1000)
    assert Settings(SMALL // 2, 10, 3, 1e-4).dtype == "float64"
    assert Settings(5, 2, objective="hardmax").optimizer == "adam"
    free = Settings(5, 2, weight_decay=1e-3)
    assert free.objective == "cross-entropy" and not free.spherical and small.spherical
    assert Settings(5, 2, steps=7).record_every == 1 and Settings(5, 2, steps=51).record_every == 2


@given(st.lists(st.integers(1, 9), min_size=2, max_size=12))
def test_counts_of_features(counts):
    settings = Settings(len(counts), 3, np.array(counts))
    assert settings.counts == tuple(counts) and settings.samples == sum(counts)
    assert settings.imbalance == pytest.approx(np.mean(counts) / min(counts), rel=1e-15)
    assert isinstance(settings.n, int) == (len(set(counts)) == 1)
    assert Settings.from_dict(settings.to_dict()) == settings


def test_numpy_numbers_are_numbers():
    plain = Settings(5, 2, 3, 0.25, optimizer="adam", learning_rate=0.5, tolerance=0, seed=4)
    numpy = Settings(
        np.int64(5),
        np.int32(2),
        np.array(3),
        np.float32(0.25),
        optimizer="adam",
        learning_rate=np.float32(0.5),
        tolerance=np.int64(0),
        seed=np.uint8(4),
    )
    assert plain == numpy


@given(st.floats(1e-6, 1.0), st.floats(1.0, 1e5), st.integers(1, 500))
def test_temperatures_fall_by_equal_factors_over_the_first_half(temperature, factor, steps):
    settings = Settings(5, 2, 1, temperature, anneal=temperature * factor, steps=steps)
    taus = np.array([schedule.temperature(settings, step) for step in range(steps)])
    assert taus[0] == (settings.anneal if steps > 1 else temperature)  # the last step has the last temperature
    assert np.all(np.diff(taus) <= 0) and np.all(taus >= temperature) and np.all(taus <= settings.anneal)
    assert np.all(taus[(steps + 1) // 2 :] == temperature)
    levels = np.unique(taus)
    ratios = levels[1:] / levels[:-1]
    if len(levels) <= steps // 4:  # no level is skipped
        assert np.all(ratios <= schedule.FACTOR * (1 + 1e-9))
        np.testing.assert_allclose(ratios, ratios[0] if len(ratios) else 1, rtol=1e-9)


@given(st.sampled_from(["adam", "sgd"]), st.floats(1e-4, 1), st.integers(2, 300))
def test_learning_rates_fall_to_0(optimizer, rate, steps):
    settings = Settings(5, 2, optimizer=optimizer, learning_rate=rate, steps=steps)
    rates = [schedule.learning_rate(settings, step) for step in range(steps)]
    assert rates[0] == pytest.approx(rate)
    assert np.all(np.diff(rates) < 0) and rates[-1] > 0
    assert schedule.learning_rate(settings, steps) == pytest.approx(0, abs=1e-15)
