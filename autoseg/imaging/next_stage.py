"""From the grid of one network to that of the next: what a cascade hands on."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from autoseg.core.labels import LabelSpace
from autoseg.imaging.decide import Labels, decide
from autoseg.imaging.operators import Floats
from autoseg.imaging.prepare import Trace
from autoseg.imaging.resample import axis_orders, coarse_axis
from autoseg.imaging.resizer import Resizer


def indices_on_grid(logits: Floats, source: Trace, target: Trace, labels: LabelSpace) -> Labels:
    """What a network predicts, on the prepared grid of another.

    Both stages of a cascade see the same box of the image, at their own spacing. Logits are
    resampled from one grid to the other, linearly and along a coarse axis to the nearest, and
    then decided upon. Works slab by slab and output by output.

    Args:
        logits: float32 ``(outputs, *source.prepared_shape)``.
        source: how the image was prepared for this network.
        target: how the same image is prepared for the other.
        labels: what the outputs mean.

    Returns:
        int16 ``target.prepared_shape``, label indices.

    Raises:
        ValueError: if the logits are on another grid, or the traces are not of one image.
    """
    _check(logits, source, target)
    coarse = coarse_axis(source.target_spacing, target.target_spacing)
    orders = axis_orders(1, coarse)
    resizer = Resizer(source.prepared_shape, target.prepared_shape, orders)
    indices = np.empty(target.prepared_shape, dtype=np.int16)
    for slab in resizer.slabs:
        window = logits[:, slab.window]
        outputs: Iterator[Floats] = (resizer.slab(slab, values) for values in window)
        indices[slab.rows] = decide(outputs, labels)
    return indices


def _check(logits: Floats, source: Trace, target: Trace) -> None:
    if logits.shape[1:] != source.prepared_shape:
        raise ValueError(f"logits are {logits.shape[1:]}, the image was {source.prepared_shape}")
    boxes = [(trace.shape, trace.transpose, trace.box) for trace in (source, target)]
    if boxes[0] != boxes[1]:
        raise ValueError(f"both grids must be of one image's box, got {boxes[0]} and {boxes[1]}")
