"""Training batches: sample i of epoch e is a function of (seed, e, i), whoever makes it.

Batches are made by light processes (no torch) ahead of the training, in order.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from autoseg.errors import AutosegError
from autoseg.imaging.patches import lower_corner
from autoseg.io.case_store import CaseStore
from autoseg.train.augmentation.augment import (
    AUGMENTATIONS,
    Augmentation,
    apply,
    box_to_read,
    draw_warp,
)
from autoseg.train.batch_pool import BatchPool, MakerDiedError

logger = logging.getLogger(__name__)

BATCHES_AHEAD = 3

Part = Literal["train", "validation"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSpec:
    """All that decides the content of batches; small enough to send to a process.

    Attributes:
        folder: the case store.
        cases: names to draw from.
        known: which outputs of the network each of them is annotated for; None where all are for
            all.
        batch_size: samples per batch.
        patch_size: ``(z, y, x)``, or ``(y, x)`` for slices.
        centre_on_annotated: whether the other samples are centred on an annotated voxel, where
            part of the voxels is not; its positions come after those of the structures.
        foreground_fraction: share of the samples, the last of each batch, centred on a structure.
        augmentation: a name in ``AUGMENTATIONS``.
        mirror_axes: axes of the patch that may be mirrored.
        masked_channels: channels that are 0 outside the non-zero mask.
        seed: of the run.
        part: which stream of samples; validation samples are not varied.
    """

    folder: Path
    cases: tuple[str, ...]
    known: tuple[tuple[bool, ...], ...] | None = None
    batch_size: int
    patch_size: tuple[int, ...]
    centre_on_annotated: bool
    foreground_fraction: float
    augmentation: str
    mirror_axes: tuple[int, ...]
    masked_channels: tuple[int, ...]
    seed: int
    part: Part


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What one step sees.

    Attributes:
        images: float32 ``(batch, channels, *patch)``.
        labels: int16 ``(batch, *patch)`` indices.
        cases: name of each sample's case.
        known: ``(batch, outputs of the network)``, whether the class or region was annotated in
            the sample's case, the background always being; None if all were. Where a class was
            not, background means background or any such class.
    """

    images: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int16]
    cases: tuple[str, ...]
    known: npt.NDArray[np.bool_] | None = None


def num_random(batch_size: int, foreground_fraction: float) -> int:
    """Number of samples of a batch that are placed at random; the others centre a structure."""
    return round(batch_size * (1 - foreground_fraction))


def make_batch(
    spec: BatchSpec, epoch: int, step: int, note: Callable[[int], None] | None = None
) -> Batch:
    """Make one batch.

    Args:
        spec: what to draw from, and how.
        epoch: number of the epoch.
        step: number of the batch within the epoch.
        note: told the number of each sample, within the epoch, before it is made.

    Returns:
        The same batch for the same arguments, always.
    """
    store = CaseStore(spec.folder)
    samples: list[tuple[npt.NDArray[np.float32], npt.NDArray[np.int16], str]] = []
    for index in range(step * spec.batch_size, (step + 1) * spec.batch_size):
        if note is not None:
            note(index)
        samples.append(make_sample(spec, store, epoch, index))
    images, labels, cases = zip(*samples, strict=True)
    known = known_outputs_of(spec, cases)
    return Batch(images=np.stack(images), labels=np.stack(labels), cases=cases, known=known)


def make_sample(
    spec: BatchSpec, store: CaseStore, epoch: int, index: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int16], str]:
    """Draw, read and vary one patch.

    Args:
        spec: what to draw from, and how.
        store: the prepared cases.
        epoch: number of the epoch; validation samples are the same in each.
        index: number of the sample within the epoch.

    Returns:
        Image ``(channels, *patch)``, label indices ``patch`` and the case's name.
    """
    case, rng = _draw_case(spec, epoch, index)
    forced = index % spec.batch_size >= num_random(spec.batch_size, spec.foreground_fraction)
    size = _as_volume(spec.patch_size)
    centre = _draw_centre(spec, store, case, rng, forced=forced)
    corner = lower_corner(store.shape(case), size, size, rng, centre)
    augmentation = _augmentation(spec)
    warp = draw_warp(augmentation, rng)
    box = box_to_read(augmentation, warp)
    start = tuple(a + b for a, b in zip(corner, _as_volume(box.lower, 0), strict=True))
    image, labels = store.read(case, start, _as_volume(box.size))
    if len(spec.patch_size) == 2:
        image, labels = image[:, 0], labels[0]
    image, labels = apply(image, labels, warp, augmentation, rng)
    for channel in spec.masked_channels:
        image[channel][labels < 0] = 0.0
    return image, np.maximum(labels, 0), case


def case_of(spec: BatchSpec, epoch: int, index: int) -> str:
    """Name of the case that a sample is drawn from."""
    return _draw_case(spec, epoch, index)[0]


def known_outputs_of(spec: BatchSpec, cases: Sequence[str]) -> npt.NDArray[np.bool_] | None:
    """What ``Batch.known`` is for samples of some cases."""
    if spec.known is None:
        return None
    return np.array([spec.known[spec.cases.index(case)] for case in cases], dtype=np.bool_)


def _draw_case(spec: BatchSpec, epoch: int, index: int) -> tuple[str, np.random.Generator]:
    """A sample's case, and its generator after that draw."""
    stream = (0, epoch) if spec.part == "train" else (1, 0)
    rng = np.random.default_rng((spec.seed, *stream, index))
    return spec.cases[int(rng.integers(len(spec.cases)))], rng


def _augmentation(spec: BatchSpec) -> Augmentation:
    name = spec.augmentation if spec.part == "train" else "none"
    return _make_augmentation(name, spec.patch_size, spec.mirror_axes)


@lru_cache(maxsize=16)
def _make_augmentation(
    name: str, patch_size: tuple[int, ...], mirror_axes: tuple[int, ...]
) -> Augmentation:
    return AUGMENTATIONS.get(name)(patch_size, mirror_axes)


def _as_volume(size: Sequence[int], first: int = 1) -> tuple[int, int, int]:
    z, y, x = size if len(size) == 3 else (first, *size)
    return z, y, x


def _draw_centre(
    spec: BatchSpec, store: CaseStore, case: str, rng: np.random.Generator, *, forced: bool
) -> tuple[int, ...] | None:
    """A voxel to centre on: of a structure the case has, or an annotated one; None for any."""
    counts = store.info(case).position_counts
    structures = range(len(counts) - spec.centre_on_annotated)
    lists = list(structures) if forced else []
    present = [number for number in lists if counts[number]]
    if not present and spec.centre_on_annotated and counts[-1]:
        present = [len(counts) - 1]
    if not present:
        return None
    positions = store.positions(case, present[int(rng.integers(len(present)))])
    flat = int(positions[int(rng.integers(len(positions)))])
    return tuple(int(i) for i in np.unravel_index(flat, store.shape(case)))


class BatchSource:
    """Batches in order, made ahead by processes of their own.

    A process that is killed does not end the run: the others, half as many, make its batch
    again, which is the same whoever makes it.

    Args:
        spec: what to draw from, and how.
        num_workers: processes; 0 makes batches when they are asked for.

    Attributes:
        spec: what to draw from, and how.
        waited_s: how long callers have waited for batches, over all calls.
    """

    def __init__(self, spec: BatchSpec, num_workers: int) -> None:
        self.spec = spec
        self.waited_s = 0.0
        self._pool = BatchPool(make_batch, spec, num_workers) if num_workers else None
        self._made_since_death = True

    def __call__(self, epoch: int, steps: Sequence[int]) -> Iterator[Batch]:
        """Yield the batches of some steps of an epoch.

        Args:
            epoch: number of the epoch.
            steps: numbers of the steps, in order, each once.

        Raises:
            AutosegError: if a process making them died again although it was alone.
        """
        futures: dict[int, Future[Batch]] = {}
        try:
            for position in range(len(steps)):
                started_s = time.monotonic()
                batch = self._next(epoch, steps[position:], futures)
                self.waited_s += time.monotonic() - started_s
                yield batch
        finally:
            for future in futures.values():
                future.cancel()

    def _next(self, epoch: int, steps: Sequence[int], futures: dict[int, Future[Batch]]) -> Batch:
        """The first of some batches, having asked for those after it."""
        while self._pool is not None:
            try:
                for step in steps[: 1 + max(BATCHES_AHEAD, 2 * self._pool.size)]:
                    if step not in futures:
                        futures[step] = self._pool.submit(epoch, step)
                batch = futures[steps[0]].result()
            except MakerDiedError:
                self._pool = self._smaller_pool(self._pool)
                lost = [step for step, future in futures.items() if not _is_made(future)]
                for step in lost:
                    del futures[step]
            else:
                del futures[steps[0]]
                self._made_since_death = True
                return batch
        return make_batch(self.spec, epoch, steps[0])

    def _smaller_pool(self, dead: BatchPool) -> BatchPool:
        """What goes on after a process died: half as many, one at least, and that once."""
        dead.close()
        cases = sorted({case_of(self.spec, *sample) for sample in dead.in_the_making()})
        names = ", ".join(cases) or "none"
        if dead.size == 1 and not self._made_since_death:
            raise AutosegError(
                f"the process that makes training batches {dead.cause_of_death()}, twice in a row "
                "and with no other beside it",
                place=f"case {names}",
                remedy="make room in memory or look at the case; the same command goes on where "
                "it stopped",
            )
        size = max(1, dead.size // 2)
        logger.warning(
            "a process that makes training batches %s; cases in the making: %s; going on with "
            "--workers %d",
            *(dead.cause_of_death(), names, size),
        )
        self._made_since_death = False
        return BatchPool(make_batch, self.spec, size)

    def close(self) -> None:
        """End the processes."""
        if self._pool is not None:
            self._pool.close()


def _is_made(future: Future[Batch]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None
