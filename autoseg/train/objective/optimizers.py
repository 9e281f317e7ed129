"""Optimisers."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch.nn import Parameter
from torch.optim import Optimizer

from autoseg.core.plan import TrainingSpec
from autoseg.registry import Registry

OPTIMIZERS: Registry[Callable[[Iterable[Parameter], TrainingSpec], Optimizer]] = Registry(
    "optimizer"
)

DEFAULT_RATES: dict[str, float] = {"sgd": 1e-2, "adam": 3e-4, "adamw": 3e-4}
"""Initial learning rate of an optimiser if a user names it and no rate."""


def sgd(parameters: Iterable[Parameter], spec: TrainingSpec) -> Optimizer:
    """Stochastic gradient descent with Nesterov momentum (none if the momentum is 0).

    References:
        Sutskever et al. 2013, On the importance of initialization and momentum, section 2.
    """
    given = list(parameters)
    return torch.optim.SGD(
        given,
        lr=spec.learning_rate,
        momentum=spec.momentum,
        nesterov=spec.momentum > 0,
        weight_decay=spec.weight_decay,
        fused=_can_fuse(given),
    )


def adam(parameters: Iterable[Parameter], spec: TrainingSpec) -> Optimizer:
    """Adam; weight decay is part of the gradient.

    References:
        Kingma and Ba 2015, Adam, algorithm 1.
    """
    return _adaptive(torch.optim.Adam, parameters, spec)


def adamw(parameters: Iterable[Parameter], spec: TrainingSpec) -> Optimizer:
    """Adam with weight decay beside the gradient, not in it.

    References:
        Loshchilov and Hutter 2019, Decoupled weight decay regularization, algorithm 2.
    """
    return _adaptive(torch.optim.AdamW, parameters, spec)


OPTIMIZERS.add("sgd", sgd)
OPTIMIZERS.add("adam", adam)
OPTIMIZERS.add("adamw", adamw)


def _adaptive(
    kind: type[torch.optim.Adam] | type[torch.optim.AdamW],
    parameters: Iterable[Parameter],
    spec: TrainingSpec,
) -> Optimizer:
    given = list(parameters)
    return kind(
        given, lr=spec.learning_rate, weight_decay=spec.weight_decay, fused=_can_fuse(given)
    )


def _can_fuse(parameters: Iterable[Parameter]) -> bool:
    """Whether one pass can update everything: on CPU and CUDA, several times as fast."""
    return all(parameter.device.type in ("cpu", "cuda") for parameter in parameters)


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Give every parameter group the same learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate
