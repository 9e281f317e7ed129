"""All models that predict together, applied to an image: values in, values out, no files."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from autoseg.core.geometry import Geometry, Shape
from autoseg.core.image import Image, LabelMap
from autoseg.core.labels import LabelSpace
from autoseg.core.progress import Progress, silent
from autoseg.core.selection import CleanUp
from autoseg.core.words import size_in_words
from autoseg.imaging.components import clean_up
from autoseg.imaging.decide import Labels, indices_from
from autoseg.imaging.operators import Floats
from autoseg.imaging.prepare import Trace
from autoseg.imaging.restore import raw_cuts, restore_labels, restore_probability_slabs
from autoseg.predict.memory import LABELS_ONLY, Wanted, refuse_too_large, slab_rows
from autoseg.predict.predictor import Predictor, Ready
from autoseg.predict.record import combined_hash
from autoseg.predict.unlike import Seen

logger = logging.getLogger(__name__)

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
        geometry: of the image, which need not be kept.
        inputs: what each predictor reads.
    """

    geometry: Geometry
    inputs: tuple[Ready, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Begun:
    """An image that networks work on: their part of it, and what is left to do.

    What is left takes the parts as they come, and may be done by another thread.

    Attributes:
        parts: the networks' part, piece by piece, to be taken once: rows and values.
        size: rows of all parts together.
        labels: what the outputs mean.
        shape: of the raw grid.
        axis: of the raw grid, along which probabilities are cut.
    """

    parts: Slabs
    size: int
    labels: LabelSpace
    shape: Shape
    axis: int

    def is_last(self, part: tuple[slice, Floats]) -> bool:
        """Whether there is none after this part."""
        return part[0].stop == self.size

    def indices(self, parts: Slabs) -> Labels:
        """What is segmented, not cleaned up.

        Args:
            parts: those of this image, in order.

        Returns:
            int16 ``(z, y, x)`` label indices.
        """
        return indices_of(self.probabilities(parts), self.shape, self.labels)

    def probabilities(self, parts: Slabs) -> ProbabilitySlabs:
        """The probabilities themselves, while parts are taken.

        Args:
            parts: those of this image, in order.
        """
        return ProbabilitySlabs(axis=self.axis, slabs=parts)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _BegunAlone(Begun):
    """One predictor: the parts are logits of its own grid.

    Attributes:
        trace: how the image was prepared.
        own: axis of the prepared grid.
        rows: of a slab of probabilities.
    """

    trace: Trace
    own: int
    rows: int

    def indices(self, parts: Slabs) -> Labels:
        logits = (values for _, values in parts)
        return restore_labels(logits, self.trace, self.labels, self.own)

    def probabilities(self, parts: Slabs) -> ProbabilitySlabs:
        logits = (values for _, values in parts)
        slabs = restore_probability_slabs(logits, self.trace, self.labels, self.own, self.rows)
        return ProbabilitySlabs(axis=self.axis, slabs=slabs)


def _numbered(slabs: Iterator[Floats]) -> Slabs:
    """Slabs with the rows they are."""
    start = 0
    for slab in slabs:
        stop = start + slab.shape[1]
        yield slice(start, stop), slab
        start = stop


def indices_of(slabs: ProbabilitySlabs, shape: Shape, labels: LabelSpace) -> Labels:
    """What probabilities decide.

    Args:
        slabs: of the whole raw grid.
        shape: of the raw grid.
        labels: what the outputs mean.

    Returns:
        int16 ``(z, y, x)`` label indices.
    """
    indices = np.empty(shape, dtype=np.int16)
    along = np.moveaxis(indices, slabs.axis, 0)
    for rows, slab in slabs:
        along[rows] = indices_from(slab, labels)
        del slab  # before the next is made
    return indices


@dataclass(frozen=True, slots=True, kw_only=True)
class Segmenter:
    """What predicts together, and what is cleaned up afterwards.

    Attributes:
        predictors: one per configuration and run, all of the same labels and channels; of
            several, probabilities are averaged on the raw grid.
        clean_up: what is removed of the structures.
        max_memory_bytes: main memory that a prediction may take; None for any.
    """

    predictors: tuple[Predictor, ...]
    clean_up: tuple[CleanUp, ...] = ()
    max_memory_bytes: int | None = None

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

    @property
    def seen(self) -> Seen | None:
        """What images were like in training, if that is known."""
        seen = [one.seen for one in self.predictors if one.seen is not None]
        in_volumes = [one for one in seen if one.across is None]
        return next(iter(in_volumes or seen), None)

    def check(self, image: Image) -> None:
        """See that an image has the model's channels.

        Raises:
            DataError: if it has not.
        """
        self.predictors[0].check(image)

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
        begun = self.begin(self.ready(image), progress)
        return self.label_map(image, begun.indices(begun.parts))

    def probability_slabs(self, image: Image, progress: Progress = silent) -> ProbabilitySlabs:
        """The probability of every output, slab by slab of the raw grid.

        Args:
            image: raw intensities, the channels in the order of training.
            progress: called after each tile.

        Raises:
            DataError: if the image does not have the model's channels.
        """
        return self.probabilities_of(self.ready(image), progress)

    def refuse_too_large(self, geometry: Geometry, wanted: Wanted = LABELS_ONLY) -> None:
        """Refuse an image that would take more memory than it may; its header is enough.

        Args:
            geometry: of the raw image.
            wanted: besides its label map.

        Raises:
            DataError: if it would take more.
        """
        refuse_too_large(self.predictors, geometry, self.max_memory_bytes, wanted)

    def ready(self, image: Image) -> ReadyImage:
        """Prepare an image for all predictors; those that see it the same way share it.

        Args:
            image: raw intensities, the channels in the order of training.

        Raises:
            DataError: if the image does not have the model's channels, or would take more
                memory than it may.
        """
        self.refuse_too_large(image.geometry)
        known: list[tuple[Predictor, Ready]] = []
        for predictor in self.predictors:
            alike = (ready for one, ready in known if predictor.reads_as(one))
            known.append((predictor, next(alike, None) or predictor.ready(image)))
        return ReadyImage(geometry=image.geometry, inputs=tuple(ready for _, ready in known))

    def probabilities_of(self, ready: ReadyImage, progress: Progress = silent) -> ProbabilitySlabs:
        """The same of an image that is prepared.

        All members advance together, along an axis of the raw grid that as many of them as
        possible can be worked off along: 2D networks only along the one they see slices of. The
        probabilities of a member that cannot are held as a whole, in half precision.

        Args:
            ready: the image.
            progress: called after each tile.
        """
        axis, streams = self.member_slabs(ready, progress)
        return ProbabilitySlabs(axis=axis, slabs=_averaged(streams))

    def member_slabs(
        self, ready: ReadyImage, progress: Progress = silent, axis: int | None = None
    ) -> tuple[int, list[Slabs]]:
        """The probabilities of each predictor by itself, all cut alike.

        Args:
            ready: the image.
            progress: called after each tile.
            axis: of the raw grid, to cut along; None for the best.

        Returns:
            The raw axis they are cut along, and the slabs of each predictor: to be taken in turn.
        """
        members = list(zip(self.predictors, ready.inputs, strict=True))
        axis = _common_axis(members) if axis is None else axis
        shape = ready.geometry.shape
        rows = slab_rows(self.labels.num_outputs, shape, axis)
        shared = _SharedProgress(progress, len(members))
        streams: list[Slabs] = []
        for number, (predictor, one) in enumerate(members):
            part = shared.of(number)
            if axis in predictor.axes():
                streams.append(predictor.probabilities(one, axis, rows, part))
            else:
                streams.append(_held(predictor, one, axis, rows, part))
        return axis, streams

    def begin(
        self, ready: ReadyImage, progress: Progress = silent, axis: int | None = None
    ) -> Begun:
        """Let the networks work on an image; nothing happens before their parts are taken.

        Args:
            ready: the image.
            progress: called after each tile.
            axis: of the raw grid, along which probabilities are best cut; None for any. Where a
                member cannot be worked off along it they are cut along another.
        """
        predictor, one = self.predictors[0], ready.inputs[0]
        trace, shape = one.prepared.trace, ready.geometry.shape
        if any(axis not in member.axes() for member in self.predictors):
            axis = None
        if len(self.predictors) > 1:
            axis, streams = self.member_slabs(ready, progress, axis)
            mean = _averaged(streams)
            return Begun(parts=mean, size=shape[axis], labels=self.labels, shape=shape, axis=axis)
        own = predictor.best_axis(one) if axis is None else trace.transpose.index(axis)
        axis = trace.transpose[own]
        return _BegunAlone(
            parts=_numbered(predictor.logits(one, own, progress)),
            size=trace.prepared_shape[own],
            labels=self.labels,
            shape=shape,
            axis=axis,
            trace=trace,
            own=own,
            rows=slab_rows(self.labels.num_outputs, shape, axis),
        )

    def label_map(self, image: Image | ReadyImage, indices: Labels) -> LabelMap:
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
    """The mean of slabs that are cut alike; besides it there is one slab at a time."""
    first, *others = streams
    for rows, mean in first:
        for stream in others:
            other, slab = next(stream)
            assert other == rows
            np.add(mean, slab, out=mean)
            del slab
        if others:
            np.divide(mean, len(streams), out=mean)
        yield rows, mean
        del mean
    ended = [next(stream, None) for stream in others]
    assert all(more is None for more in ended)


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
