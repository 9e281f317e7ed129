"""Where samples are varied, by processes or where the network is: measured, not believed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Literal

import torch

from autoseg.core.plan import Configuration
from autoseg.errors import AutosegError
from autoseg.train.augmentation.augment import AUGMENTATIONS
from autoseg.train.augmentation.on_device import finish, foreign_transform
from autoseg.train.batches import Batch, BatchSource, BatchSpec
from autoseg.train.loop import Session, measure_step_s

Place = Literal["cpu", "device"]
"""``cpu``: by the processes that read them; ``device``: where the network is computed."""

# It takes the GPU's time and memory: what gains little is not worth it.
_WORTHWHILE_SPEEDUP = 1.1
_PROBE_S = 2.0
_FEWEST_BATCHES = 3
_KEPT_BATCHES = 8
_TRIES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """What was measured, in seconds per batch.

    Attributes:
        making_s: between two batches that the processes read and vary.
        step_s: of the network, forward and backward.
        reading_s: between two batches that the processes read only.
        varying_s: of the device, for a batch that was read only.
        num_workers: the processes; 0 if the training makes batches itself.
    """

    making_s: float
    step_s: float
    reading_s: float = 0.0
    varying_s: float = 0.0
    num_workers: int

    @property
    def keeps_up(self) -> bool:
        """Whether the network never waits for the processes."""
        return self.num_workers > 0 and self.making_s <= self.step_s

    @property
    def on_cpu_s(self) -> float:
        """A step with batches that the processes vary."""
        return self._together(self.making_s, self.step_s)

    @property
    def on_device_s(self) -> float:
        """A step with batches that the device varies."""
        return self._together(self.reading_s, self.step_s + self.varying_s)

    @property
    def choice(self) -> Place:
        """The device only if it is needed there and clearly faster."""
        pays = self.on_device_s * _WORTHWHILE_SPEEDUP < self.on_cpu_s
        return "device" if pays and not self.keeps_up else "cpu"

    def __str__(self) -> str:
        who = f"{self.num_workers} processes" if self.num_workers else "the training's own process"
        place = "on the GPU" if self.choice == "device" else "on the CPU"
        measured = f"{who} {_ms(self.making_s)} a batch, the network {_ms(self.step_s)} a step"
        if not self.keeps_up:
            measured += (
                f"; read only {_ms(self.reading_s)}, varied on the GPU {_ms(self.varying_s)}: "
                f"together {_ms(self.on_device_s)} instead of {_ms(self.on_cpu_s)}"
            )
        return f"samples are augmented {place}: {measured}"

    def _together(self, loading_s: float, computing_s: float) -> float:
        if self.num_workers:
            return max(loading_s, computing_s)
        return loading_s + computing_s


def refusal(device: torch.device, configuration: Configuration, augmentation: str) -> str | None:
    """Why samples can only be varied by the processes; None if they can be elsewhere, too.

    Args:
        device: where the network is computed.
        configuration: what is trained.
        augmentation: a name in ``AUGMENTATIONS``.
    """
    if device.type == "mps":  # it has no double precision
        return "with mps samples are augmented on the CPU only"
    if configuration.previous is not None:
        return "the cascade's samples are augmented on the CPU only"
    make = AUGMENTATIONS.get(augmentation)
    foreign = foreign_transform(make(configuration.patch_size, ()))
    if foreign is not None:
        return f"{foreign} of the augmentation '{augmentation}' works on the CPU only"
    return None


def asked_for(
    requested: str, device: torch.device, configuration: Configuration, augmentation: str
) -> Place | None:
    """The place a user wants; None for the one that suits.

    Args:
        requested: ``auto``, ``cpu`` or ``device``.
        device: where the network is computed.
        configuration: what is trained.
        augmentation: a name in ``AUGMENTATIONS``.

    Raises:
        AutosegError: if ``requested`` is none of them, or the device is and cannot do it.
    """
    if requested == "auto":
        return None
    if requested == "cpu":
        return "cpu"
    if requested != "device":
        raise AutosegError(
            f"samples cannot be augmented on '{requested}'",
            place="--augment-on",
            remedy="choose auto, cpu, or device for where the network is computed",
        )
    found = refusal(device, configuration, augmentation)
    if found is not None:
        raise AutosegError(found, place="--augment-on device", remedy="leave --augment-on out")
    return "device"


def choose_place(
    session: Session,
    spec: BatchSpec,
    configuration: Configuration,
    num_workers: int,
    shape: tuple[int, ...],
) -> tuple[Place, str]:
    """Measure which place is faster: on CUDA only, elsewhere it is the processes.

    Args:
        session: not changed.
        spec: how batches for training are drawn.
        configuration: what is trained.
        num_workers: processes that make batches.
        shape: of the images of a batch, ``(batch, channels, *patch)``.

    Returns:
        The place, and the reason for it in a sentence without a full stop; empty where there
        was nothing to choose.
    """
    if session.device.type != "cuda":
        return "cpu", ""
    found = refusal(session.device, configuration, spec.augmentation)
    if found is not None:
        return "cpu", found
    timings = measure(session, spec, num_workers, shape)
    return timings.choice, str(timings)


def measure(session: Session, spec: BatchSpec, num_workers: int, shape: tuple[int, ...]) -> Timings:
    """Time processes, network and device, each alone; the latter only if it is needed.

    Args:
        session: not changed.
        spec: how batches for training are drawn.
        num_workers: processes that make batches.
        shape: of the images of a batch, ``(batch, channels, *patch)``.
    """
    making_s, _ = _measure_source(spec, num_workers)
    step_s = measure_step_s(session, shape, _TRIES)
    timings = Timings(making_s=making_s, step_s=step_s, num_workers=num_workers)
    if timings.keeps_up:
        return timings
    reading_s, batches = _measure_source(replace(spec, finished_later=True), num_workers)
    return replace(timings, reading_s=reading_s, varying_s=_measure_varying_s(session, batches))


def _measure_source(spec: BatchSpec, num_workers: int) -> tuple[float, list[Batch]]:
    """Seconds from batch to batch while nobody is slower than who makes them; the last of them."""
    made: list[Batch] = []
    with closing(BatchSource(spec, num_workers)) as source:
        batches = source(0, range(1 << 30))
        for _ in range(1 + 2 * num_workers):  # processes start, and files are opened
            next(batches)
        start_s, count, elapsed_s = time.perf_counter(), 0, 0.0
        while count < _FEWEST_BATCHES or elapsed_s < _PROBE_S:
            made = [*made[1 - _KEPT_BATCHES :], next(batches)]
            count, elapsed_s = count + 1, time.perf_counter() - start_s
    return elapsed_s / count, made


def _measure_varying_s(session: Session, batches: Sequence[Batch]) -> float:
    """Seconds a batch takes from memory to images and labels, in the faster of two rounds."""
    rounds = [_vary_s(batches, session.device) for _ in range(2)]
    return min(rounds) / len(batches)


def _vary_s(batches: Sequence[Batch], device: torch.device) -> float:
    start_s = time.perf_counter()
    for batch in batches:
        if batch.unfinished is not None:
            images, labels = torch.from_numpy(batch.images), torch.from_numpy(batch.labels)
            finish(images.to(device), labels.to(device), batch.unfinished)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start_s


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms"
