"""The measurements of a run at a step: loss, certificates and generalised neural collapse, all in float64."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from softmaxcode.certificates.loss import certified_margin
from softmaxcode.checks.tensors import unit_rows
from softmaxcode.margins.exact import smallest_margin
from softmaxcode.margins.on_device import smallest_margin_on_device
from softmaxcode.margins.sampled import sampled_margin
from softmaxcode.metrics import GNC1, GNC2, GNC3
from softmaxcode.nn.functional import log_softplus
from softmaxcode.nn.tiles import best_wrong_class, log_odds_against
from softmaxcode.sphere import check_rows
from softmaxcode.storage.provenance import Evidence
from ufm.settings import CHEAP

if TYPE_CHECKING:
    from ufm.settings import Settings

#: For more classes than this the margin is that of a sample of classes.
MAX_EXACT = 200_000
#: Number of sampled classes, and the confidence of the result.
SAMPLED, CONFIDENCE = 1000, 0.95
#: Rows of features processed at once where a copy of all would be large.
ROWS = 2**16
#: The columns of the history, in order; runs of more than ``MAX_EXACT`` classes also have "unsure_fraction".
COLUMNS = (
    "step",
    "temperature",
    "loss",
    "log_loss",
    "GNC1",
    "GNC2",
    "GNC3",
    "GNC3_centred",
    "feature_margin",
    "certified_margin",
    "gap",
    "seconds",
)


@functools.lru_cache(maxsize=64)
def best_known_margin(K: int, d: int) -> float:
    """The best known margin of K unit vectors in dimension d, without a search; NaN where no code is stored."""
    limit = GNC2(K, d, search=False).limit
    return math.nan if limit is None else limit


@functools.lru_cache(maxsize=64)
def best_known_label(K: int, d: int) -> str:
    """What the margin of `best_known_margin` may be called: that of a construction may be far from the best.

    Examples
    --------
    >>> best_known_label(10, 3), best_known_label(230, 9)
    ('best known margin', 'margin of a construction that was never searched')
    """
    searched = GNC2(K, d, search=False).evidence != Evidence.CONSTRUCTION
    return "best known margin" if searched else "margin of a construction that was never searched"


def measured(K: int) -> list[str]:
    """The names of the values that `measure` returns."""
    names = [name for name in COLUMNS if name not in ("step", "seconds")]
    return [*names, "unsure_fraction"] if K > MAX_EXACT else names


def measure(settings: Settings, W: Tensor, H: Tensor, labels: Tensor, temperature: float) -> dict[str, float]:
    """One row of a history, without step and seconds.

    Parameters
    ----------
    settings : Settings
        The run.
    W : Tensor, shape (K, d)
        Its classifier, all rows.
    H : Tensor, shape (N, d)
        Its features.
    labels : Tensor of int64, shape (N,)
        Their classes.
    temperature : float
        The present temperature.

    Returns
    -------
    dict
        * loss, log_loss: mean cross-entropy of the run's own logits, and its logarithm.
        * GNC1, GNC2, GNC3, GNC3_centred: of unit rows; GNC2 is the margin.
        * feature_margin: min over i and j != y_i of <w_{y_i} - w_j, h_i> of unit rows, m of docs/theory.md, T6.
        * certified_margin: the margin that the loss certifies, NaN off the sphere. It is at most the feature margin,
          which is at most GNC2.
        * gap: one minus the certified fraction of the best known margin.
        * unsure_fraction: only for more than ``MAX_EXACT`` classes, the fraction of classes that may be nearer to the
          rest than GNC2 shows, at confidence ``CONFIDENCE``.
    """
    K, d, N = settings.K, settings.d, settings.samples
    log_loss = None if settings.spherical else _log_loss(W.detach().double(), H.detach().double(), labels, temperature)
    W, H = unit_rows(W.detach().double()), unit_rows(H.detach().double())  # the largest arrays beside W and H
    if log_loss is None:
        log_loss = _log_loss(W, H, labels, temperature)
    feature_margin = _feature_margin(W, H, labels)
    certified = certified_margin(log_loss, N, temperature) if settings.spherical else math.nan
    known = best_known_margin(K, d)
    row = {
        "temperature": temperature,
        "loss": math.exp(min(log_loss, 700.0)),
        "log_loss": log_loss,
        **_collapse(K, d, W.cpu(), H.cpu(), labels.cpu()),
        "feature_margin": feature_margin,
        "certified_margin": certified,
        "gap": 1 - certified / known,
    }
    del H
    return row | _margin(W)


def _log_loss(W: Tensor, H: Tensor, labels: Tensor, temperature: float) -> float:
    """Logarithm of the mean cross-entropy."""
    s = log_odds_against(H / temperature, W, labels, False)
    return float(log_softplus(s).logsumexp(0)) - math.log(len(labels))


def _feature_margin(W: Tensor, H: Tensor, labels: Tensor) -> float:
    """The smallest logit margin of a feature."""
    best = best_wrong_class(H, W, labels, False)
    parts = zip(H.split(ROWS), labels.split(ROWS), best.split(ROWS), strict=True)
    return min(float((h * (W[y] - W[j])).sum(1).amin()) for h, y, j in parts)


def _collapse(K: int, d: int, W: Tensor, H: Tensor, labels: Tensor) -> dict[str, float]:
    """GNC1, GNC3 and GNC3 centred, from one pass over the features."""
    alone = {"sync_on_compute": False}  # only the first process computes this, and it has all features
    first, third, centred = GNC1(K, d, **alone), GNC3(K, d, **alone), GNC3(K, d, centred=True, **alone)
    first.update(H, labels)
    for metric in (third, centred):
        metric.set_classifier(W)
        metric.merge_state({"moments": first.moments})
    return {"GNC1": float(first.compute()), "GNC3": float(third.compute()), "GNC3_centred": float(centred.compute())}


def _margin(W: Tensor) -> dict[str, float]:
    """The exact margin, on a GPU to 1e-6; for many classes the smallest of a sample, with the fraction not covered."""
    if len(W) > MAX_EXACT:
        sampled = sampled_margin(W.cpu().numpy(), SAMPLED, confidence=CONFIDENCE)
        return {"GNC2": sampled.margin, "unsure_fraction": sampled.fraction}
    if W.is_cuda and len(W) > CHEAP:
        return {"GNC2": smallest_margin_on_device(W).margin}
    return {"GNC2": smallest_margin(check_rows(np.asarray(W.cpu()), normalize=True)).margin}


def violation(row: dict[str, Any]) -> float:
    """The violation of certified margin <= feature margin <= margin in a row; at most 0, up to rounding, if none."""
    broken = row["feature_margin"] - row["GNC2"]
    certified = row["certified_margin"]
    return float(broken if math.isnan(certified) else max(broken, certified - row["feature_margin"]))
