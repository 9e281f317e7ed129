"""Network outputs back on the raw grid, while they come in.

Outputs arrive as slabs of the network's grid, cut along one axis. Of these only what later
results need is kept, so that the outputs exist as a whole on neither grid.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise, product

import numpy as np
import numpy.typing as npt

from autoseg.core.geometry import Shape
from autoseg.core.labels import LabelSpace
from autoseg.imaging.boxes import crop
from autoseg.imaging.decide import decide_within
from autoseg.imaging.half import read
from autoseg.imaging.operators import AnyFloats, Floats, axis_operator
from autoseg.imaging.prepare import Trace
from autoseg.imaging.resample import axis_orders, coarse_axis
from autoseg.imaging.resizer import Band, Resizer

Labels = npt.NDArray[np.signedinteger]

# Results per axis of a block: with the outputs it needs it stays in a processor's cache, and it
# is small enough to lie within one structure more often than not.
_BLOCK = 32


def restore_labels(
    slabs: Iterable[AnyFloats], trace: Trace, labels: LabelSpace, axis: int = 0
) -> Labels:
    """The label index of every raw voxel.

    Args:
        slabs: consecutive parts of the network's outputs, float16 or float32
            ``(outputs, rows, *others)``: rows along ``axis`` of the network's grid, then its
            other axes in their order; together all of the grid.
        trace: of the image they were predicted from.
        labels: what the outputs mean.
        axis: of the network's grid.

    Returns:
        int16 ``trace.shape``; see ``decide``. 0 outside the non-zero region's bounding box.

    Raises:
        ValueError: if the slabs are of another grid.
    """
    restored = np.zeros(trace.shape, dtype=np.int16)
    inside = crop(restored.transpose(trace.transpose), trace.box)
    _decide_on(_Grid.back(trace, axis), slabs, labels, np.moveaxis(inside, axis, 0))
    return restored


def hand_on_labels(
    slabs: Iterable[AnyFloats], source: Trace, target: Trace, labels: LabelSpace, axis: int = 0
) -> Labels:
    """What a network predicts, on the prepared grid of another: what a cascade hands on.

    Both stages of a cascade see the same box of the image, at their own spacing. Logits are
    resampled from one grid to the other, linearly and along a coarse axis to the nearest, and
    then decided upon.

    Args:
        slabs: as ``restore_labels`` takes them.
        source: how the image was prepared for this network.
        target: how the same image is prepared for the other.
        labels: what the outputs mean.
        axis: of the network's grid.

    Returns:
        int16 ``target.prepared_shape``, label indices.

    Raises:
        ValueError: if the slabs are of another grid, or the traces are not of one image.
    """
    boxes = [(trace.shape, trace.transpose, trace.box) for trace in (source, target)]
    if boxes[0] != boxes[1]:
        raise ValueError(f"both grids must be of one image's box, got {boxes[0]} and {boxes[1]}")
    indices = np.empty(target.prepared_shape, dtype=np.int16)
    _decide_on(_Grid.onto(source, target, axis), slabs, labels, np.moveaxis(indices, axis, 0))
    return indices


def restore_slabs(
    slabs: Iterable[AnyFloats], trace: Trace, axis: int = 0, rows: int = 32
) -> Iterator[tuple[slice, Floats]]:
    """The outputs themselves, slab by slab of the raw grid inside the non-zero region's box.

    Args:
        slabs: as ``restore_labels`` takes them.
        trace: of the image they were predicted from.
        axis: of the network's grid.
        rows: thickness of a slab of the result.

    Yields:
        Rows of the box along ``axis``, and float32 ``(outputs, rows, *others)``.

    Raises:
        ValueError: if the slabs are of another grid.
    """
    grid = _Grid.back(trace, axis)
    resizer = Resizer(grid.shape, grid.new_shape, grid.orders, rows)
    parts = _Parts(slabs, grid.shape, _thickest(resizer.slabs))
    for slab in resizer.slabs:
        window = parts.take(slab.window)
        thickness = slab.rows.stop - slab.rows.start
        restored = np.empty((len(window), thickness, *grid.new_shape[1:]), dtype=np.float32)
        for output, values in enumerate(window):
            resizer.slab(slab, values, restored[output])
        yield slab.rows, restored
        # Kept by nobody but who took it: slabs are large, here and below.
        del restored


def restore_probability_slabs(
    slabs: Iterable[AnyFloats], trace: Trace, labels: LabelSpace, axis: int = 0, rows: int = 32
) -> Iterator[tuple[slice, Floats]]:
    """The probability of every output, slab by slab of the whole raw grid.

    Args:
        slabs: as ``restore_labels`` takes them.
        trace: of the image they were predicted from.
        labels: what the outputs mean.
        axis: of the network's grid; slabs of the raw one are cut along ``trace.transpose[axis]``.
        rows: thickness of a slab at most.

    Yields:
        Consecutive rows along that raw axis, and float32 ``(outputs, rows, *others)``, the other
        raw axes in their order. Of classes that exclude each other they sum to 1, and outside the
        non-zero region's bounding box class 0 has it all; of regions each is by itself, and 0
        there. Where the cuts are depends on the image's box and ``rows`` alone.

    Raises:
        ValueError: if the slabs are of another grid, or not one for each output.
    """
    first, second = (one for one in range(3) if one != axis)
    is_turned = trace.transpose[first] > trace.transpose[second]
    low, high = trace.box.lower[axis], trace.box.upper[axis]
    cuts = raw_cuts(trace, trace.transpose[axis], rows)
    inside = tuple(trace.box.slices[one] for one in (first, second))
    across = tuple(trace.shape[trace.transpose[one]] for one in (first, second))
    activate = _sigmoid if labels.has_regions else _softmax

    def background(thickness: int) -> Floats:
        """Nothing, the other axes as the network has them."""
        slab = np.zeros((labels.num_outputs, thickness, *across), dtype=np.float32)
        if not labels.has_regions:
            slab[0] = 1.0
        return slab

    def turned(slab: Floats) -> Floats:
        return slab.swapaxes(2, 3) if is_turned else slab

    for part in (cut for cut in cuts if cut.stop <= low):
        yield part, turned(background(part.stop - part.start))
    for part, outputs in restore_slabs(slabs, trace, axis, rows):
        _check_count(len(outputs), labels)
        slab = activate(outputs)
        if slab.shape[2:] != across:
            slab = background(part.stop - part.start)
            slab[(slice(None), slice(None), *inside)] = outputs
        del outputs
        yield slice(low + part.start, low + part.stop), turned(slab)
        del slab
    for part in (cut for cut in cuts if cut.start >= high):
        yield part, turned(background(part.stop - part.start))


def restore_probabilities(
    slabs: Iterable[AnyFloats], trace: Trace, labels: LabelSpace, axis: int = 0
) -> Floats:
    """The probability of every output in every raw voxel.

    Args:
        slabs: as ``restore_labels`` takes them.
        trace: of the image they were predicted from.
        labels: what the outputs mean.
        axis: of the network's grid.

    Returns:
        float32 ``(outputs, *trace.shape)``; see ``restore_probability_slabs``.

    Raises:
        ValueError: if the slabs are of another grid, or not one for each output.
    """
    probabilities = np.empty((labels.num_outputs, *trace.shape), dtype=np.float32)
    along = np.moveaxis(probabilities, trace.transpose[axis] + 1, 1)
    for rows, slab in restore_probability_slabs(slabs, trace, labels, axis):
        along[:, rows] = slab
    return probabilities


def raw_cuts(trace: Trace, axis: int, rows: int) -> list[slice]:
    """Where ``restore_probability_slabs`` cuts: at the box's ends, and every so many rows.

    Args:
        trace: of the image.
        axis: of the raw grid.
        rows: thickness of a slab at most.
    """
    own = trace.transpose.index(axis)
    ends = (0, trace.box.lower[own], trace.box.upper[own], trace.shape[axis])
    return [
        slice(one, min(one + rows, stop))
        for start, stop in pairwise(ends)
        for one in range(start, stop, rows)
    ]


def _check_count(outputs: int, labels: LabelSpace) -> None:
    if outputs != labels.num_outputs:
        raise ValueError(f"{outputs} outputs, but the labels have {labels.num_outputs}")


def _softmax(logits: Floats) -> Floats:
    """Softmax over the first axis, in place."""
    logits -= logits.max(axis=0)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=0)
    return logits


def _sigmoid(logits: Floats) -> Floats:
    """Of each logit, in place; by the hyperbolic tangent, which never overflows."""
    logits *= 0.5
    np.tanh(logits, out=logits)
    logits += 1
    logits *= 0.5
    return logits


@dataclass(frozen=True, slots=True, kw_only=True)
class _Grid:
    """Sizes before and after, one axis moved to the front."""

    shape: Shape
    new_shape: Shape
    orders: tuple[int, int, int]

    @classmethod
    def back(cls, trace: Trace, axis: int) -> _Grid:
        """From a network's grid to the raw one, inside the box."""
        orders = axis_orders(1, coarse_axis(trace.target_spacing, trace.cropped_spacing))
        return cls._of(axis, trace.prepared_shape, trace.cropped_shape, orders)

    @classmethod
    def onto(cls, source: Trace, target: Trace, axis: int) -> _Grid:
        """From one network's grid to another's."""
        orders = axis_orders(1, coarse_axis(source.target_spacing, target.target_spacing))
        return cls._of(axis, source.prepared_shape, target.prepared_shape, orders)

    @classmethod
    def _of(cls, axis: int, *sizes: tuple[int, int, int]) -> _Grid:
        first, second, third = (axis, *(other for other in range(3) if other != axis))
        shape, new_shape, orders = ((one[first], one[second], one[third]) for one in sizes)
        return cls(shape=shape, new_shape=new_shape, orders=orders)

    def axes(self) -> Iterator[tuple[int, int, int]]:
        """Size before, size after and order of each axis."""
        return zip(self.shape, self.new_shape, self.orders, strict=True)


def _decide_on(grid: _Grid, slabs: Iterable[AnyFloats], labels: LabelSpace, out: Labels) -> None:
    """Write label indices to ``out``, whose first axis is the one that slabs are cut along.

    An interpolated output lies between the least and the largest that it is made of. Where the
    largest of one class is below the least of another all over a block, that class cannot win
    there and is not interpolated; most blocks have one class left.
    """
    along, *across = (list(_pieces(*sizes)) for sizes in grid.axes())
    parts = _Parts(slabs, grid.shape, _thickest(along))
    for rows in along:
        window = parts.take(rows.window)
        _check_count(len(window), labels)
        least, largest = window.min(axis=1), window.max(axis=1)
        for others in product(*across):
            block = (rows, *others)
            columns = (slice(None), *(piece.window for piece in others))
            out[tuple(piece.rows for piece in block)] = decide_within(
                partial(_output, window, block),
                least[columns].min(axis=(1, 2)),
                largest[columns].max(axis=(1, 2)),
                labels,
            )


class _Parts:
    """A volume that arrives in parts and is taken window by window, each further on.

    Args:
        parts: float16 or float32 ``(outputs, rows, *others)``.
        shape: of the volume, without outputs.
        most: rows of the largest window.
    """

    def __init__(self, parts: Iterable[AnyFloats], shape: Sequence[int], most: int) -> None:
        self._parts = iter(parts)
        self._shape = tuple(shape)
        self._most = most
        self._rows: Floats | None = None  # those of the last window, which began at start
        self._start = self._stop = 0
        self._part: AnyFloats | None = None  # the part that goes on after stop

    def take(self, window: slice) -> Floats:
        """Rows of the volume, float32 ``(outputs, rows, *others)``, until the next are taken."""
        if self._rows is not None:
            kept = self._rows[:, window.start - self._start : self._stop - self._start]
            self._rows[:, : kept.shape[1]] = kept
        self._start = window.start
        while self._stop < window.stop:
            part = self._rest()
            count = min(part.shape[1], window.stop - self._stop)
            skipped = min(max(window.start - self._stop, 0), count)
            if self._rows is None:
                rows = (len(part), self._most, *self._shape[1:])
                self._rows = np.empty(rows, dtype=np.float32)
            first = self._stop + skipped - window.start
            place = self._rows[:, first : first + count - skipped]
            for source, target in zip(part[:, skipped:count], place, strict=True):
                read(source, target)
            self._part = part[:, count:]
            self._stop += count
        assert self._rows is not None
        return self._rows[:, : window.stop - window.start]

    def _rest(self) -> AnyFloats:
        """What is there of the volume beyond the last row taken."""
        if self._part is not None and self._part.shape[1]:
            return self._part
        part = next(self._parts, None)
        if part is None:
            raise ValueError(f"outputs end after {self._stop} of {self._shape[0]} rows")
        if part.shape[2:] != self._shape[1:] or self._stop + part.shape[1] > self._shape[0]:
            raise ValueError(
                f"outputs are {part.shape[1:]} from row {self._stop}, not {self._shape}"
            )
        return part


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Piece:
    """Neighbouring results along one axis.

    Args:
        rows: the results.
        window: the sources they depend on.
        picked: the source of each, counted from the window's start; None to use ``matrix``.
        matrix: float32 ``(rows, window)``; None where sources are results as they are.
    """

    rows: slice
    window: slice
    picked: npt.NDArray[np.int32] | None = None
    matrix: Floats | None = None


def _pieces(size: int, new_size: int, order: int) -> Iterator[_Piece]:
    """Cut the results of an axis into blocks."""
    for start in range(0, new_size, _BLOCK):
        rows = slice(start, min(start + _BLOCK, new_size))
        if size == new_size:
            yield _Piece(rows=rows, window=rows)
            continue
        window, operator = axis_operator(size, new_size, order).part(rows.start, rows.stop)
        if operator.picks:
            yield _Piece(rows=rows, window=window, picked=operator.first)
        else:
            yield _Piece(rows=rows, window=window, matrix=operator.dense())


def _thickest(bands: Iterable[Band | _Piece]) -> int:
    return max(band.window.stop - band.window.start for band in bands)


def _output(window: Floats, block: Sequence[_Piece], number: int) -> Floats:
    """One output, resized to a block."""
    rows, *others = block
    values = window[(number, slice(None), *(piece.window for piece in others))]
    if rows.picked is not None:
        values = values[rows.picked]
    elif rows.matrix is not None:
        flat = values.reshape(len(values), -1)
        values = (rows.matrix @ flat).reshape(-1, *values.shape[1:])
    for axis, piece in enumerate(others, start=1):
        if piece.picked is not None:
            values = values.take(piece.picked, axis=axis)
        elif piece.matrix is not None and axis == 1:
            values = np.matmul(piece.matrix, values)
        elif piece.matrix is not None:
            values = np.matmul(values, piece.matrix.T)
    return values
