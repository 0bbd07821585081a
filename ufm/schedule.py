"""Temperature and learning rate over a run: functions of the step alone, so that a run can resume."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ufm.settings import Settings

#: Fraction of the steps during which an annealed temperature falls.
FALLING = 0.5
#: The largest quotient of two successive temperatures.
FACTOR = 1.5


def temperature(settings: Settings, step: int) -> float:
    """The temperature of a step: fixed, or falling from ``anneal`` by equal factors over the first half of the run.

    Examples
    --------
    >>> from ufm.settings import Settings
    >>> settings = Settings(10, 3, temperature=0.01, anneal=0.1, steps=100)
    >>> [round(temperature(settings, step), 4) for step in (0, 20, 40, 49, 50, 99)]
    [0.1, 0.0464, 0.0215, 0.0147, 0.01, 0.01]
    """
    if settings.anneal is None or settings.anneal == settings.temperature:
        return settings.temperature
    levels = max(1, math.ceil(math.log(settings.anneal / settings.temperature) / math.log(FACTOR)))
    reached = int(levels * step / max(1.0, FALLING * settings.steps))
    level = levels if step == settings.steps - 1 else min(levels, reached)
    return (
        settings.temperature
        if level == levels
        else settings.anneal * (settings.temperature / settings.anneal) ** (level / levels)
    )


def learning_rate(settings: Settings, step: int) -> float:
    """The learning rate of a step of Adam or SGD: ``learning_rate`` or a default, times a cosine that ends at 0.

    Adam moves a row by about its rate. So the rate decreases with the temperature, the length on which the loss
    changes. A step of SGD is proportional to the inverse curvature, about K tau for tau log L and K tau^2 for L. The
    subgradient of HardMax takes steps of 0.1 that fall linearly.
    """
    tau = temperature(settings, step)
    left = 1 - step / settings.steps
    if settings.objective == "hardmax":
        return (settings.learning_rate or 0.1) * left
    base = settings.learning_rate
    if base is None:
        if settings.optimizer == "adam":
            base = min(0.1, 10 * tau)
        else:
            base = settings.K * (tau if settings.objective == "log-cross-entropy" else min(1.0, tau * tau))
    return base * 0.5 * (1 - math.cos(math.pi * left))
