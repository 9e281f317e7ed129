"""Our window and restoration as nnU-Net does them: sums, weights and resized logits in float16.

The same code with float32 says what exact sums give.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, combinations, product

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from autoseg.core.labels import LabelSpace
from autoseg.imaging.patches import tile_starts
from autoseg.imaging.prepare import Trace
from autoseg.imaging.resample import resample_logits
from autoseg.predict.predictor import Predictor

UNIT = 2.0**-11
"""Largest relative error of rounding to float16."""


@torch.inference_mode()
def mean_logits(predictor: Predictor, image: Tensor, dtype: torch.dtype) -> Tensor:
    """The mean logits of a predictor's networks.

    Args:
        predictor: the networks and their patch.
        image: as the networks see it, ``(channels, z, y, x)``.
        dtype: of weights and sums.

    Returns:
        ``(outputs, z, y, x)``.
    """
    total = None
    for network in predictor.networks:
        network.eval()
        logits = _window(network, image, predictor, dtype)
        total = logits if total is None else total.add_(logits)
    assert total is not None
    return total.div_(len(predictor.networks))


def _window(network: nn.Module, image: Tensor, predictor: Predictor, dtype: torch.dtype) -> Tensor:
    patch = predictor.configuration.patch_size
    padded, inside = _padded(image, patch)
    weight = torch.from_numpy(peer_weights(patch)).to(dtype)
    sums = torch.zeros(predictor.labels.num_outputs, *padded.shape[1:], dtype=dtype)
    weights = torch.zeros(padded.shape[1:], dtype=dtype)
    for tile in _tiles(padded.shape[1:], patch):
        part = padded[(slice(None), *tile)]
        flat = len(patch) == 2
        output = _mirrored(network, part[:, 0] if flat else part, predictor.mirror_axes)
        output = output * weight
        sums[(slice(None), *tile)] += output[:, None] if flat else output
        weights[tile] += weight[None] if flat else weight
    return (sums / weights)[inside].clone()


def peer_weights(patch: Sequence[int]) -> np.ndarray:
    """The weights of nnU-Net's window, rounded to float16."""
    impulse = np.zeros(patch)
    impulse[tuple(size // 2 for size in patch)] = 1
    weights = gaussian_filter(impulse, [size / 8 for size in patch], 0, mode="constant", cval=0)
    rounded = (weights / weights.max() * 10).astype(np.float16)
    rounded[rounded == 0] = rounded[rounded > 0].min()
    return rounded


def _padded(image: Tensor, patch: Sequence[int]) -> tuple[Tensor, tuple[slice, ...]]:
    least = (0,) * (3 - len(patch)) + tuple(patch)
    short = [max(p - size, 0) for size, p in zip(image.shape[1:], least, strict=True)]
    sides = [(gap // 2, gap - gap // 2) for gap in reversed(short)]
    inside = [
        slice(gap // 2, gap // 2 + size) for gap, size in zip(short, image.shape[1:], strict=True)
    ]
    padded = nn.functional.pad(image, list(chain.from_iterable(sides)))
    return padded, (slice(None), *inside)


def _tiles(shape: Sequence[int], patch: Sequence[int]) -> Iterator[tuple[slice, ...]]:
    if len(patch) == 2:
        starts = [list(range(shape[0]))]
        sizes = (1, *patch)
    else:
        starts, sizes = [], tuple(patch)
    behind = shape[len(starts) :]
    starts += [tile_starts(size, p) for size, p in zip(behind, patch, strict=True)]
    for corner in product(*starts):
        yield tuple(slice(s, s + size) for s, size in zip(corner, sizes, strict=True))


def _mirrored(network: nn.Module, part: Tensor, axes: Sequence[int]) -> Tensor:
    batch, total = part[None], network(part[None])
    shifted = [axis + 2 for axis in axes]
    flips = [c for n in range(1, len(axes) + 1) for c in combinations(shifted, n)]
    for flip in flips:
        total = total + network(batch.flip(flip)).flip(flip)
    return (total / (len(flips) + 1))[0]


def num_roundings(shape: Sequence[int], patch: Sequence[int]) -> int:
    """Most tiles over a voxel, and the roundings before and after their sum."""
    most = 1
    for size, p in zip(shape[3 - len(patch) :], patch, strict=True):
        starts = np.array(tile_starts(max(size, p), p))
        covered = (starts[:, None] <= starts) & (starts < starts[:, None] + p)
        most *= int(covered.sum(axis=0).max())
    return 2 * most + 4


def on_raw_grid(logits: Tensor, trace: Trace) -> np.ndarray:
    """Logits resized to the grid of the non-zero region, float32, in transposed axes."""
    array = logits.float().numpy()
    return resample_logits(array, trace.cropped_shape, trace.target_spacing, trace.cropped_spacing)


def decide(logits: np.ndarray, labels: LabelSpace, trace: Trace) -> np.ndarray:
    """Label values on the raw grid."""
    if labels.regions is None:
        values = np.array((labels.background, *labels.foreground_values))
        chosen = values[logits.argmax(0)]
    else:
        chosen = np.full(logits.shape[1:], labels.background)
        for region, value in zip(logits, labels.output_values or (), strict=True):
            chosen[region > 0] = value
    return _pasted(chosen, labels.background, trace)


def margins(logits: np.ndarray, labels: LabelSpace, trace: Trace, roundings: int) -> np.ndarray:
    """How far a voxel is from another label, in errors of half precision; raw grid.

    Returns:
        float, at most 1 where rounding may decide; infinite outside the non-zero region.
    """
    if labels.regions is None:
        best = np.partition(logits, len(logits) - 2, axis=0)[-2:]
        apart = best[1] - best[0]
    else:
        apart = np.abs(logits).min(0)
    error = roundings * UNIT * np.abs(logits).max(0)
    return _pasted(apart / np.maximum(error, np.finfo(np.float32).tiny), np.inf, trace)


def _pasted(values: np.ndarray, outside: float, trace: Trace) -> np.ndarray:
    """Values of the non-zero region on the raw grid, axes as in the file."""
    whole = np.full([trace.shape[axis] for axis in trace.transpose], outside, dtype=values.dtype)
    whole[trace.box.slices] = values
    return whole.transpose(np.argsort(trace.transpose))
