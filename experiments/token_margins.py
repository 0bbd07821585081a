"""Margins of a language model's tokens by frequency."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

import numpy as np
import pandas as pd
from scipy.stats import rankdata

import softmaxcode as sc
from softmaxcode.sphere import check_rows

if TYPE_CHECKING:
    from experiments.data import Data
    from experiments.runs import TrainedRun

#: Number of groups of tokens by frequency; their sizes differ by at most one.
GROUPS = 5


def token_margins(run: TrainedRun) -> pd.DataFrame:
    r"""Frequency and margin of every token that is a next token in the training text.

    The margin of token k is its one-vs-rest distance, from its unit vector to the convex hull of the others':

    .. math:: dist_k = \min_{\alpha \ge 0, \sum_j \alpha_j = 1} \Bigl\| w_k - \sum_{j \ne k} \alpha_j w_j \Bigr\| .

    Parameters
    ----------
    run : TrainedRun
        A run on text; only the directions of its rows count. The result is computed once and stored with the run.

    Returns
    -------
    DataFrame
        One row per token, in the order of the classes: ``token``; ``count`` in the training text; ``margin``;
        ``quintile`` of frequency. Quintiles go from 1, the rarest fifth, to 5; ties are in the order of the classes.

    Notes
    -----
    Tokens that are never a next token have no features, so only repulsion among vectors moves theirs. They are omitted,
    and no distance refers to them.
    """
    return pd.DataFrame(run.evaluation("token_margins", Tokens, _measured))


class Tokens(TypedDict):
    """The values stored per token, in the order of the classes."""

    token: list[str]
    count: list[int]
    margin: list[float]
    quintile: list[int]


class Unigram(TypedDict):
    """What `unigram` returns."""

    loss: float
    accuracy: float


def _measured(run: TrainedRun) -> Tokens:
    data = run.data()
    seen = data.counts.numpy() > 0
    W = check_rows(run.W[seen], normalize=True)
    tokens, counts = np.array(data.class_names, dtype=object)[seen], data.counts.numpy()[seen]
    ranks = rankdata(counts, method="ordinal")
    return {
        "token": tokens.tolist(),
        "count": counts.tolist(),
        "margin": sc.margin(W).margins.tolist(),
        "quintile": (1 + (ranks - 1) * GROUPS // len(ranks)).tolist(),
    }


def unigram(data: Data) -> Unigram:
    r"""The loss and accuracy without context: every position is predicted from the training counts alone.

    .. math:: L = -\frac1N \sum_i \log \frac{1 + n_{y_i}}{K + \sum_k n_k}

    Parameters
    ----------
    data : Data
        Its test labels are predicted.

    Returns
    -------
    dict
        ``loss``, in nats per token, and ``accuracy``, the fraction of the token that is the most frequent in training.

    Examples
    --------
    >>> from experiments.data import load
    >>> found = unigram(load("digits"))  # nearly balanced
    >>> print(f"{found['loss']:.2f} {found['accuracy']:.1f}")
    2.30 0.1
    """
    counts, labels = data.counts.double(), data.test.labels
    log_share = (1 + counts).log() - (data.K + counts.sum()).log()
    return {
        "loss": -float(log_share[labels].mean()),
        "accuracy": float((labels == counts.argmax()).double().mean()),
    }
