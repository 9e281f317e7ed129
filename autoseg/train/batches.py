"""Training batches: sample i of epoch e is a function of (seed, e, i), whoever makes it.

Batches are made by light processes (no torch) ahead of the training, in order.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from autoseg.errors import AutosegError
from autoseg.imaging.patches import lower_corner
from autoseg.io.case_store import CaseStore
from autoseg.train.augment import AUGMENTATIONS, Augmentation, apply, draw_warp

BATCHES_AHEAD = 3

Part = Literal["train", "validation"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSpec:
    """All that decides the content of batches; small enough to send to a process.

    Attributes:
        folder: the case store.
        cases: names to draw from.
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
    """

    images: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int16]
    cases: tuple[str, ...]


def num_random(batch_size: int, foreground_fraction: float) -> int:
    """Number of samples of a batch that are placed at random; the others centre a structure."""
    return round(batch_size * (1 - foreground_fraction))


def make_batch(spec: BatchSpec, epoch: int, step: int) -> Batch:
    """Make one batch.

    Args:
        spec: what to draw from, and how.
        epoch: number of the epoch.
        step: number of the batch within the epoch.

    Returns:
        The same batch for the same arguments, always.
    """
    store = CaseStore(spec.folder)
    first = step * spec.batch_size
    samples = [make_sample(spec, store, epoch, first + i) for i in range(spec.batch_size)]
    images, labels, cases = zip(*samples, strict=True)
    return Batch(images=np.stack(images), labels=np.stack(labels), cases=cases)


def make_sample(
    spec: BatchSpec, store: CaseStore, epoch: int, index: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int16], str]:
    """Draw, read and vary one patch.

    Args:
        spec: what to draw from, and how.
        store: the prepared cases.
        epoch: number of the epoch.
        index: number of the sample within the epoch.

    Returns:
        Image ``(channels, *patch)``, label indices ``patch`` and the case's name.
    """
    stream = 0 if spec.part == "train" else 1
    rng = np.random.default_rng((spec.seed, stream, epoch, index))
    case = spec.cases[int(rng.integers(len(spec.cases)))]
    forced = index % spec.batch_size >= num_random(spec.batch_size, spec.foreground_fraction)
    size = _as_volume(spec.patch_size)
    centre = _draw_centre(spec, store, case, rng, forced=forced)
    corner = lower_corner(store.shape(case), size, size, rng, centre)
    augmentation = _augmentation(spec)
    warp = draw_warp(augmentation, rng)
    read = size if warp is None else _as_volume(augmentation.read_size)
    start = tuple(low - (n - m) // 2 for low, n, m in zip(corner, read, size, strict=True))
    image, labels = store.read(case, start, read)
    if len(spec.patch_size) == 2:
        image, labels = image[:, 0], labels[0]
    image, labels = apply(image, labels, warp, augmentation, rng)
    for channel in spec.masked_channels:
        image[channel][labels < 0] = 0.0
    return image, np.maximum(labels, 0), case


def _augmentation(spec: BatchSpec) -> Augmentation:
    name = spec.augmentation if spec.part == "train" else "none"
    return AUGMENTATIONS.get(name)(spec.patch_size, spec.mirror_axes)


def _as_volume(size: Sequence[int]) -> tuple[int, int, int]:
    z, y, x = size if len(size) == 3 else (1, *size)
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

    Args:
        spec: what to draw from, and how.
        num_workers: processes; 0 makes batches when they are asked for.
    """

    def __init__(self, spec: BatchSpec, num_workers: int) -> None:
        self.spec = spec
        self._ahead = max(BATCHES_AHEAD, 2 * num_workers)
        self._pool = _start_pool(num_workers) if num_workers else None

    def __call__(self, epoch: int, steps: Sequence[int]) -> Iterator[Batch]:
        """Yield the batches of some steps of an epoch.

        Args:
            epoch: number of the epoch.
            steps: numbers of the steps, in order.

        Raises:
            AutosegError: if a process making them died.
        """
        if self._pool is None:
            yield from (make_batch(self.spec, epoch, step) for step in steps)
            return
        pending: deque[Future[Batch]] = deque()
        remaining = iter(steps)
        try:
            for step in remaining:
                pending.append(self._submit(epoch, step))
                if len(pending) > self._ahead:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        except BrokenProcessPool as error:
            raise AutosegError(
                "a process that makes training batches was killed, most likely for memory",
                remedy="repeat the command with fewer --workers; it goes on where it stopped",
            ) from error
        finally:
            for future in pending:
                future.cancel()

    def _submit(self, epoch: int, step: int) -> Future[Batch]:
        """Ask for a batch; a process started for it inherits that Ctrl-C is held off."""
        assert self._pool is not None
        with _interrupts_held_off():
            return self._pool.submit(make_batch, self.spec, epoch, step)

    def close(self) -> None:
        """End the processes."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)


def _start_pool(num_workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(
        num_workers,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
    )


def _start_worker() -> None:
    """Prepare a worker: it must not outlive its parent, even one that was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


@contextmanager
def _interrupts_held_off() -> Iterator[None]:
    """Ctrl-C reaches every process of a terminal, but only the parent knows what to save."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
