"""From the outputs of a network to label indices."""

from __future__ import annotations

from collections.abc import Iterator

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
    ascending = labels.foreground_values
    return _written_over(outputs, [ascending.index(value) + 1 for value in labels.output_values])


def _argmax(classes: Iterator[Floats]) -> Labels:
    largest = next(classes).copy()
    winner = np.zeros(largest.shape, dtype=np.int16)
    for index, values in enumerate(classes, start=1):
        winner[values > largest] = index
        np.maximum(largest, values, out=largest)
    return winner


def _written_over(regions: Iterator[Floats], indices: list[int]) -> Labels:
    written: Labels | None = None
    for index, values in zip(indices, regions, strict=True):
        if written is None:
            written = np.zeros(values.shape, dtype=np.int16)
        written[values > 0] = index
    assert written is not None
    return written
