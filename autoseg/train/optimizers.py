"""Optimisers, and the schedules their learning rate follows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import torch
from torch.nn import Parameter
from torch.optim import Optimizer

from autoseg.core.plan import TrainingSpec
from autoseg.registry import Registry

OPTIMIZERS: Registry[Callable[[Iterable[Parameter], TrainingSpec], Optimizer]] = Registry(
    "optimizer"
)
SCHEDULES: Registry[Callable[[float], float]] = Registry("schedule")


def sgd(parameters: Iterable[Parameter], spec: TrainingSpec) -> Optimizer:
    """Stochastic gradient descent with Nesterov momentum."""
    return torch.optim.SGD(
        parameters,
        lr=spec.learning_rate,
        momentum=spec.momentum,
        nesterov=spec.momentum > 0,
        weight_decay=spec.weight_decay,
    )


def _adaptive(
    kind: type[Optimizer], parameters: Iterable[Parameter], spec: TrainingSpec
) -> Optimizer:
    return kind(parameters, lr=spec.learning_rate, weight_decay=spec.weight_decay)  # type: ignore[call-arg]


OPTIMIZERS.add("sgd", sgd)
OPTIMIZERS.add("adam", partial(_adaptive, torch.optim.Adam))
OPTIMIZERS.add("adamw", partial(_adaptive, torch.optim.AdamW))


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


SCHEDULES.add("poly", poly)


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Give every parameter group the same learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate
