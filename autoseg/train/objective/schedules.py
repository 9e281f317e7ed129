"""How the learning rate changes over a training run.

A schedule is a function of progress, 0 at the start and 1 at the end, so it stretches with
whatever decides the end: the number of epochs or the time.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from autoseg.core.plan import TrainingSpec
from autoseg.registry import Registry

SCHEDULES: Registry[Callable[[float], float]] = Registry("schedule")

DEFAULT_WARMUP: dict[str, float] = {"poly": 0.0, "cosine": 0.05}
"""Share of the run a schedule spends on warm-up if a user names it and no share."""

_WARMUP_START = 0.01


def poly(progress: float) -> float:
    """Share of the initial learning rate left after a share of the training.

    Args:
        progress: 0 at the start, 1 at the end.

    Returns:
        ``(1 - progress) ** 0.9``; 0 from the end on.

    References:
        Chen et al. 2017, DeepLab, section 4.1.2.
    """
    return max(0.0, 1.0 - progress) ** 0.9


def cosine(progress: float) -> float:
    """Share of the initial learning rate left: half a period of a cosine, from 1 to 0.

    Args:
        progress: 0 at the start, 1 at the end.

    Returns:
        ``(1 + cos(pi * progress)) / 2``; 0 from the end on.

    References:
        Loshchilov and Hutter 2017, SGDR, section 3, without restarts.
    """
    return 0.5 + 0.5 * math.cos(math.pi * min(progress, 1.0))


SCHEDULES.add("poly", poly)
SCHEDULES.add("cosine", cosine)


def learning_rate(spec: TrainingSpec, progress: float) -> float:
    """The learning rate of a step.

    During warm-up it rises linearly from a hundredth of the spec's rate; the schedule begins
    where warm-up ends and has the rest of the run.

    Args:
        spec: rate, schedule and warm-up.
        progress: share of the training done before the step, 0..1.

    Returns:
        A rate of at least 0.

    Raises:
        UnknownNameError: if there is no such schedule.

    References:
        Goyal et al. 2017, Accurate, large minibatch SGD, section 2.2 (gradual warm-up).
    """
    if progress < spec.warmup:
        return spec.learning_rate * (_WARMUP_START + (1 - _WARMUP_START) * progress / spec.warmup)
    schedule = SCHEDULES.get(spec.schedule)
    return spec.learning_rate * schedule((progress - spec.warmup) / (1 - spec.warmup))
