"""How long the epochs of a run take, and what they wait for."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

_EPOCHS_COUNTED = 5


@dataclass(slots=True, kw_only=True)
class _Epoch:
    steps: int
    steps_s: float
    rest_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochMeasures:
    """What an epoch took.

    Attributes:
        epoch_s: seconds, validation included.
        left_s: seconds until the training's end at the pace of the last epochs.
        waiting: share of the time of its steps that was spent waiting for batches, 0..1.
        gpu_peak_bytes: most memory that was taken from the GPU; None without CUDA.
    """

    epoch_s: float
    left_s: float
    waiting: float
    gpu_peak_bytes: int | None


class Pace:
    """Measures epoch after epoch: ``start_epoch``, ``end_steps``, ``end_epoch``, and so on.

    Only epochs of this process count, because earlier ones may have run on another machine, and
    the first only as long as there is no other, because it warms up. What happens between two
    epochs, such as saving, counts as well.

    Args:
        steps_per_epoch: of the recipe.
        device: where the network lives.
        waited_s: how long the training has waited for batches so far.
    """

    def __init__(
        self, steps_per_epoch: int, device: torch.device, waited_s: Callable[[], float]
    ) -> None:
        self._steps_per_epoch = steps_per_epoch
        self._device = device
        self._waited_s = waited_s
        self._epochs: list[_Epoch] = []
        self._start_s = self._steps_end_s = self._end_s = time.monotonic()
        self._waited_before_s = 0.0
        self._first_step = 0

    def start_epoch(self, step: int) -> None:
        """An epoch begins.

        Args:
            step: steps that an earlier process made of it.
        """
        self._start_s = time.monotonic()
        if self._epochs:
            self._epochs[-1].rest_s += self._start_s - self._end_s
        self._first_step = step
        self._waited_before_s = self._waited_s()
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)

    def end_steps(self) -> None:
        """The steps are made; validation begins."""
        self._steps_end_s = time.monotonic()

    def end_epoch(
        self, step: int, epochs_to_go: int, time_to_go_s: float | None = None
    ) -> EpochMeasures:
        """The epoch is over.

        Args:
            step: steps of the epoch.
            epochs_to_go: epochs that are still to be trained.
            time_to_go_s: training time until the limit; None if there is none.
        """
        self._end_s = time.monotonic()
        steps_s = self._steps_end_s - self._start_s
        made = step - self._first_step
        rest_s = self._end_s - self._steps_end_s
        self._epochs.append(_Epoch(steps=made, steps_s=steps_s, rest_s=rest_s))
        waited_s = self._waited_s() - self._waited_before_s
        return EpochMeasures(
            epoch_s=self._end_s - self._start_s,
            left_s=self._left_s(epochs_to_go, time_to_go_s),
            waiting=min(1.0, waited_s / steps_s) if steps_s > 0 else 0.0,
            gpu_peak_bytes=_gpu_peak_bytes(self._device),
        )

    def _left_s(self, epochs_to_go: int, time_to_go_s: float | None) -> float:
        """By the epochs to go or by the time limit, whichever ends first."""
        counted = self._epochs[1:][-_EPOCHS_COUNTED:] or self._epochs
        steps = sum(epoch.steps for epoch in counted)
        step_s = sum(epoch.steps_s for epoch in counted) / max(steps, 1)
        rest_s = sum(epoch.rest_s for epoch in counted) / len(counted)
        left_s = epochs_to_go * (self._steps_per_epoch * step_s + rest_s)
        return max(0.0, left_s if time_to_go_s is None else min(left_s, time_to_go_s))


def _gpu_peak_bytes(device: torch.device) -> int | None:
    return torch.cuda.max_memory_reserved(device) if device.type == "cuda" else None
