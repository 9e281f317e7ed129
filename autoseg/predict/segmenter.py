"""All models that predict together, applied to an image: values in, values out, no files."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from autoseg.core.geometry import Shape
from autoseg.core.image import Image, LabelMap
from autoseg.core.labels import LabelSpace
from autoseg.core.progress import Progress, silent
from autoseg.core.selection import CleanUp
from autoseg.core.words import size_in_words
from autoseg.imaging.components import clean_up
from autoseg.imaging.decide import Labels, indices_from
from autoseg.imaging.operators import Floats
from autoseg.imaging.restore import raw_cuts
from autoseg.predict.predictor import Predictor, Ready
from autoseg.predict.record import combined_hash

logger = logging.getLogger(__name__)

_SLAB_VALUES = 1 << 25
_MOST_ROWS = 32

Slabs = Iterator[tuple[slice, Floats]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ProbabilitySlabs:
    """The probabilities of an image while they come in; to be iterated over once.

    Attributes:
        axis: of the raw grid, along which they are cut.
        slabs: consecutive rows along it, and float32 ``(outputs, rows, *others)``, the other raw
            axes in their order; together the whole raw grid. See ``restore_probability_slabs``.
    """

    axis: int
    slabs: Slabs

    def __iter__(self) -> Slabs:
        """The slabs, in order."""
        return self.slabs


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReadyImage:
    """An image prepared for all predictors.

    Attributes:
        image: as it came.
        inputs: what each predictor reads.
    """

    image: Image
    inputs: tuple[Ready, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Segmenter:
    """What predicts together, and what is cleaned up afterwards.

    Attributes:
        predictors: one per configuration and run, all of the same labels and channels; of
            several, probabilities are averaged on the raw grid.
        clean_up: what is removed of the structures.
    """

    predictors: tuple[Predictor, ...]
    clean_up: tuple[CleanUp, ...] = ()

    @property
    def identity(self) -> str:
        """A hash of the weights and of how they are used."""
        if len(self.predictors) == 1 and not self.clean_up:
            return self.predictors[0].identity
        rules = [rule.model_dump_json() for rule in self.clean_up]
        return combined_hash([*(one.identity for one in self.predictors), *rules])

    @property
    def labels(self) -> LabelSpace:
        """What is segmented."""
        return self.predictors[0].labels

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of an image's channels, in order."""
        return tuple(self.predictors[0].recipe.channels)

    @property
    def value_range(self) -> tuple[int, int]:
        """Smallest and largest value a label map may hold."""
        return self.predictors[0].value_range

    def segment(self, image: Image, progress: Progress = silent) -> LabelMap:
        """Segment an image.

        Args:
            image: raw intensities, the channels in the order of training.
            progress: called after each tile.

        Returns:
            File values on the image's grid, cleaned up.

        Raises:
            DataError: if the image does not have the model's channels.
        """
        return self.label_map(image, self._indices(self.ready(image), progress))

    def probability_slabs(self, image: Image, progress: Progress = silent) -> ProbabilitySlabs:
        """The probability of every output, slab by slab of the raw grid.

        Args:
            image: raw intensities, the channels in the order of training.
            progress: called after each tile.

        Raises:
            DataError: if the image does not have the model's channels.
        """
        return self.probabilities_of(self.ready(image), progress)

    def ready(self, image: Image) -> ReadyImage:
        """Prepare an image for all predictors; those that see it the same way share it.

        Args:
            image: raw intensities, the channels in the order of training.

        Raises:
            DataError: if the image does not have the model's channels.
        """
        known: list[tuple[Predictor, Ready]] = []
        for predictor in self.predictors:
            alike = (ready for one, ready in known if predictor.reads_as(one))
            known.append((predictor, next(alike, None) or predictor.ready(image)))
        return ReadyImage(image=image, inputs=tuple(ready for _, ready in known))

    def probabilities_of(self, ready: ReadyImage, progress: Progress = silent) -> ProbabilitySlabs:
        """The same of an image that is prepared.

        All members advance together, along an axis of the raw grid that as many of them as
        possible can be worked off along: 2D networks only along the one they see slices of. The
        probabilities of a member that cannot are held as a whole, in half precision.

        Args:
            ready: the image.
            progress: called after each tile.
        """
        members = list(zip(self.predictors, ready.inputs, strict=True))
        axis = _common_axis(members)
        shape = ready.image.geometry.shape
        rows = _rows(self.labels.num_outputs, shape, axis)
        shared = _SharedProgress(progress, len(members))
        streams: list[Slabs] = []
        for number, (predictor, one) in enumerate(members):
            part = shared.of(number)
            if axis in predictor.axes():
                streams.append(predictor.probabilities(one, axis, rows, part))
            else:
                streams.append(_held(predictor, one, axis, rows, part))
        return ProbabilitySlabs(axis=axis, slabs=_averaged(streams))

    def _indices(self, ready: ReadyImage, progress: Progress) -> Labels:
        """Label indices of a prepared image, as the networks see it: not cleaned up."""
        if len(self.predictors) == 1:
            return self.predictors[0].indices(ready.inputs[0], progress)
        slabs = self.probabilities_of(ready, progress)
        indices = np.empty(ready.image.geometry.shape, dtype=np.int16)
        along = np.moveaxis(indices, slabs.axis, 0)
        for rows, slab in slabs:
            along[rows] = indices_from(slab, self.labels)
        return indices

    def label_map(self, image: Image, indices: Labels) -> LabelMap:
        """What is handed to the user of label indices.

        Args:
            image: what was segmented.
            indices: ``(z, y, x)``, as the networks see it.

        Returns:
            File values on the image's grid, cleaned up.
        """
        if self.clean_up:
            indices = clean_up(indices, self.clean_up, self.labels, image.geometry.spacing)
        return LabelMap(array=self.labels.to_values(indices), geometry=image.geometry)


Members = Sequence[tuple[Predictor, Ready]]


def _common_axis(members: Members) -> int:
    """The raw axis that most members can be worked off along; of these, with least in work."""

    def cost(axis: int) -> tuple[int, int]:
        able = [(predictor, one) for predictor, one in members if axis in predictor.axes()]
        in_work = sum(predictor.in_work(one, axis) for predictor, one in able)
        return len(members) - len(able), in_work

    return min(range(3), key=cost)


def _rows(num_outputs: int, shape: Shape, axis: int) -> int:
    """Rows of a slab, so that it stays small whatever the number of outputs."""
    return max(1, min(_MOST_ROWS, _SLAB_VALUES // (num_outputs * prod(shape) // shape[axis])))


def _held(predictor: Predictor, one: Ready, axis: int, rows: int, progress: Progress) -> Slabs:
    """Slabs along an axis that a predictor cannot be worked off along."""
    own = predictor.axes()[0]
    shape, outputs = one.prepared.trace.shape, predictor.labels.num_outputs
    logger.info(
        "a %dd model is worked off along another axis than the rest: its probabilities are held "
        "in main memory (%s)",
        predictor.configuration.dimensions,
        size_in_words(2 * outputs * prod(shape)),
    )
    held = np.empty((outputs, *shape), dtype=np.float16)
    along = np.moveaxis(held, own + 1, 1)
    for part, slab in predictor.probabilities(one, own, rows, progress):
        along[:, part] = slab
    for part in raw_cuts(one.prepared.trace, axis, rows):
        yield part, np.moveaxis(held, axis + 1, 1)[:, part].astype(np.float32)


def _averaged(streams: Sequence[Slabs]) -> Slabs:
    """The mean of slabs that are cut alike."""
    for slabs in zip(*streams, strict=True):
        rows, mean = slabs[0]
        for other, slab in slabs[1:]:
            assert other == rows
            mean += slab
        if len(slabs) > 1:
            mean /= len(slabs)
        yield rows, mean


class _SharedProgress:
    """What several members have done, told as one."""

    def __init__(self, progress: Progress, count: int) -> None:
        self._progress = progress
        self._done, self._total = [0] * count, [0] * count

    def of(self, number: int) -> Progress:
        """The progress of one member."""

        def told(done: int, total: int, note: str = "", *, share: float | None = None) -> None:
            del share  # of one member it says nothing about all
            self._done[number], self._total[number] = done, total
            self._progress(sum(self._done), sum(self._total), note)

        return told
