"""From the outputs of a network to label indices."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from autoseg.core.labels import LabelSpace
from autoseg.imaging.operators import Floats

Labels = npt.NDArray[np.signedinteger]


def decide(outputs: Iterator[Floats], labels: LabelSpace) -> Labels:
    """The label index of every voxel; only one output is looked at at a time.

    Of classes that exclude each other the one with the largest logit, of equal ones the first.
    With regions, those with a logit above 0 (more likely than not) are written one after the
    other, each as the index of its ``output_values`` entry, over what was written before.

    Args:
        outputs: logits of each output of the network in order, all of one shape.
        labels: what the outputs mean.

    Returns:
        int16 indices of that shape.
    """
    if labels.output_values is None or not labels.has_regions:
        return _argmax(outputs)
    return _written_over(outputs, _written_as(labels))


def indices_from(probabilities: Floats, labels: LabelSpace) -> Labels:
    """The label index of every voxel, by the probabilities of all outputs.

    What ``decide`` finds for logits this finds for what they become: of classes that exclude each
    other the most likely, of equal ones the first; with regions those above one half, one over
    the other.

    Args:
        probabilities: float32 ``(outputs, ...)``.
        labels: what the outputs mean.

    Returns:
        int16 indices of the shape without outputs.
    """
    if not labels.has_regions:
        return _argmax(iter(probabilities))
    return _written_over(iter(probabilities), _written_as(labels), above=0.5)


def _written_as(labels: LabelSpace) -> list[int]:
    """The index that each region is written as."""
    ascending = labels.foreground_values
    return [ascending.index(value) + 1 for value in labels.output_values or ()]


def _argmax(classes: Iterator[Floats]) -> Labels:
    largest = next(classes).copy()
    winner = np.zeros(largest.shape, dtype=np.int16)
    for index, values in enumerate(classes, start=1):
        winner[values > largest] = index
        np.maximum(largest, values, out=largest)
    return winner


def _written_over(regions: Iterator[Floats], indices: list[int], above: float = 0.0) -> Labels:
    written: Labels | None = None
    for index, values in zip(indices, regions, strict=True):
        if written is None:
            written = np.zeros(values.shape, dtype=np.int16)
        written[values > above] = index
    assert written is not None
    return written


def decide_within(
    output: Callable[[int], Floats], least: Floats, largest: Floats, labels: LabelSpace
) -> Labels | int:
    """The same where the range of each output is known: only those that matter are asked for.

    Args:
        output: the logits of an output, by its number; all of one shape.
        least: ``(outputs,)``, no logit of an output is below it.
        largest: ``(outputs,)``, no logit of an output is above it.
        labels: what the outputs mean.

    Returns:
        int16 indices, or the one index that all voxels have.
    """
    if labels.output_values is not None and labels.has_regions:
        return _written_where_needed(output, least, largest, labels)
    rivals = np.flatnonzero(largest >= least.max())
    if len(rivals) == 1:
        return int(rivals[0])
    winner = _argmax(output(int(rival)) for rival in rivals)
    return rivals.astype(np.int16)[winner]


def _written_where_needed(
    output: Callable[[int], Floats], least: Floats, largest: Floats, labels: LabelSpace
) -> Labels | int:
    everywhere = np.flatnonzero(least > 0)
    first = int(everywhere[-1]) if len(everywhere) else 0
    indices = _written_as(labels)
    below = indices[first] if len(everywhere) else 0
    some = [n for n in range(first, len(indices)) if largest[n] > 0 >= least[n]]
    if not some:
        return below
    written = np.where(output(some[0]) > 0, np.int16(indices[some[0]]), np.int16(below))
    for number in some[1:]:
        written[output(number) > 0] = indices[number]
    return written
