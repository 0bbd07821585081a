"""Cross-entropy and margin (docs/theory.md, T6): margins certified by a loss, and attained by global minimisers."""

from __future__ import annotations

import math

from softmaxcode.checks.arguments import check_integer, check_number, check_temperature


def certified_margin(log_loss: float, samples: int, temperature: float) -> float:
    r"""A lower bound on the margin of a classifier from its mean cross-entropy over a whole data set.

    .. math:: \rho(W) \ge m \ge -\tau \log\bigl(e^{N L} - 1\bigr), \qquad
              m = \min_{i,\, j \ne y_i} \langle w_{y_i} - w_j, h_i\rangle

    Parameters
    ----------
    log_loss : float
        log L, the natural logarithm of the mean of
        :math:`\log(1 + \sum_{j \ne y_i} e^{\langle w_j - w_{y_i}, h_i\rangle/\tau})` over the samples. The argument is
        the logarithm because L itself underflows at small temperatures.
    samples : int
        Number of samples N, at least 1.
    temperature : float
        The temperature tau, above 0.

    Returns
    -------
    float
        The certified margin, clipped to [-2, 2], the range of the product of a unit vector with a difference of two.

    Raises
    ------
    ValueError
        If ``log_loss`` is NaN or minus infinity (a loss of 0 has underflowed). Also if ``samples`` is not an integer of
        at least 1, or ``temperature`` is not a finite number above 0.

    Notes
    -----
    It holds for features and classifier rows of unit norm and one classifier for all samples. The loss must be without
    dropout, augmentation or label smoothing (evaluation mode). The samples must cover every class: without samples of
    class k nothing is proved of its distance. Rounding is not part of the certificate. It affects the loss and this
    function, here by a few times 1.1e-16 tau (abs(log L) + log N + 1) max(1, N L).

    Let :math:`l = \log(N L)` and :math:`y = e^l`. For small y, :math:`\log(e^y - 1)` is
    :math:`l + \log((e^y - 1)/y)`, where the second term is y/2 + .... For large y it is
    :math:`y + \log(1 - e^{-y})`.

    References
    ----------
    docs/theory.md, T6 (b).

    Examples
    --------
    >>> certified_margin(-1000.0, 1, 0.001)
    1.0
    >>> import math
    >>> round(certified_margin(math.log(0.1), 2, 0.5), 6)
    0.753886
    """
    log_loss = check_number("log_loss", log_loss, -math.inf, math.inf)
    if log_loss == -math.inf:
        raise ValueError(
            "log_loss must be a number above minus infinity; got -inf: no loss is 0, so this one underflowed; compute "
            "its logarithm directly"
        )
    samples = check_integer("samples", samples, 1)
    temperature = check_temperature(temperature)
    return min(2.0, max(-2.0, -temperature * _log_expm1(log_loss + math.log(samples))))


def minimizer_margin(K: int, margin: float, temperature: float, *, imbalance: float = 1.0) -> float:
    r"""A lower bound on the margin of every global minimiser of the cross-entropy at a temperature.

    .. math:: \rho(W_\tau) \ge -\tau \log\Bigl(\bigl(1 + (K - 1) e^{-\rho^\star/\tau}\bigr)^{\nu K} - 1\Bigr)

    Parameters
    ----------
    K : int
        Number of classes, at least 2.
    margin : float
        The largest margin :math:`\rho^\star` of K unit vectors; a smaller attained one gives a smaller bound.
    temperature : float
        The temperature tau, above 0.
    imbalance : float
        :math:`\nu`, the mean over the smallest number of features per class: 1 where all classes have equally many.

    Returns
    -------
    float
        The bound, at most ``margin``. At large temperatures it is below 0 and proves nothing.

    Raises
    ------
    ValueError
        If K is not an integer of at least 2, or the margin is not a number from 0 to 2. Also if the temperature is not
        a finite number above 0, or the imbalance is not a finite number of at least 1.

    Notes
    -----
    It holds for the unconstrained feature model: unit features and classifier are both free, with any number of
    features per class. A local minimiser, or a network that cannot produce every feature, need not reach it.

    References
    ----------
    docs/theory.md, T6 (c).

    Examples
    --------
    >>> round(minimizer_margin(100, 0.669, 1e-4), 6)
    0.66808
    """
    K = check_integer("K (the number of classes)", K, 2)
    margin = check_number("margin", margin, 0, 2)
    temperature = check_temperature(temperature)
    imbalance = check_number("imbalance", imbalance, 1, math.inf, "[)")
    # nu K log(1 + x) with x = (K - 1) exp(-margin / tau), which underflows where its logarithm does not
    log_x = math.log(K - 1) - margin / temperature
    x = math.exp(log_x)
    log_y = math.log(imbalance * K) + log_x + (math.log(math.log1p(x) / x) if x > 0 else 0.0)
    return min(margin, -temperature * _log_expm1(log_y))  # the quotient above may have overflowed


def _log_expm1(log_y: float) -> float:
    """log(e^y - 1) for y > 0 given by its logarithm, also where y is outside the float range."""
    y = math.exp(log_y) if log_y < 700 else math.inf
    if y > math.log(2):
        return y + math.log1p(-math.exp(-y))
    return log_y + (math.log(math.expm1(y) / y) if y > 0 else 0.0)
