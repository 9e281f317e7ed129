"""The changes of ``intensity`` and ``local_intensity``, made of many channels at once by torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from autoseg.imaging.operators import axis_operator
from autoseg.train.augmentation.intensity import (
    BlurChange,
    BrightnessChange,
    Change,
    ContrastChange,
    GammaChange,
    LowResolutionChange,
    NoiseChange,
    coarse_size,
    gaussian_kernel,
)
from autoseg.train.augmentation.local_intensity import (
    BlankRectanglesChange,
    BrightnessGradientChange,
    LocalGammaChange,
    OffsetChange,
    SharpenChange,
)


def make_changes(rows: Tensor, changes: Sequence[Change]) -> Tensor:
    """Make the changes that samples drew of one transform.

    Args:
        rows: float32 ``(n, *patch)``, the channels that are changed; may be written over.
        changes: of one kind, one for each.

    Returns:
        float32 ``(n, *patch)``.
    """
    return _MAKERS[type(changes[0])](rows, changes)


def _add_noise(rows: Tensor, changes: Sequence[NoiseChange]) -> Tensor:
    for row, change in zip(rows, changes, strict=True):
        row.add_(torch.from_numpy(change.values).to(rows.device, non_blocking=True))
    return rows


def _blur(rows: Tensor, changes: Sequence[BlurChange]) -> Tensor:
    for axis in range(rows.ndim - 1):
        kernels = [gaussian_kernel(change.sigmas[axis]) for change in changes]
        rows = _correlate(rows, kernels, axis + 1)
    return rows


def _correlate(rows: Tensor, kernels: Sequence[npt.NDArray[np.float64]], axis: int) -> Tensor:
    """Correlate every row with a kernel of its own along one axis, mirrored at the borders."""
    reach, length = max(len(kernel) for kernel in kernels) // 2, rows.shape[axis]
    padded = [np.pad(kernel, reach - len(kernel) // 2) for kernel in kernels]
    weights = torch.tensor(np.stack(padded), dtype=torch.float32, device=rows.device)
    period = max(1, 2 * (length - 1))
    places = np.abs(np.arange(-reach, length + reach)) % period
    mirrored = torch.tensor(np.minimum(places, period - places), device=rows.device)
    source = rows.index_select(axis, mirrored if length > 1 else torch.zeros_like(mirrored))
    result = torch.zeros_like(rows)
    for tap in range(2 * reach + 1):
        result.addcmul_(source.narrow(axis, tap, length), _per_row(weights[:, tap], rows))
    return result


def _brighten(rows: Tensor, changes: Sequence[BrightnessChange]) -> Tensor:
    return rows.mul_(_column([change.factor for change in changes], rows))


def _change_contrast(rows: Tensor, changes: Sequence[ContrastChange]) -> Tensor:
    mean, low, high = _mean(rows), rows.amin(_inner(rows), True), rows.amax(_inner(rows), True)
    factors = [change.factor for change in changes]
    shift = mean * _column([1 - factor for factor in factors], rows)
    changed = rows * _column(factors, rows) + shift
    is_held = _column([change.clip for change in changes], rows) > 0
    return torch.where(is_held, changed.clamp(low, high), changed)


def _lower_resolution(rows: Tensor, changes: Sequence[LowResolutionChange]) -> Tensor:
    shape = rows.shape[1:]
    sizes = [coarse_size(shape, one.factor, in_plane=one.in_plane) for one in changes]
    for axis, length in enumerate(shape):
        rows = _coarsen(rows, [size[axis] for size in sizes], length, axis + 1)
    return rows


def _coarsen(rows: Tensor, sizes: Sequence[int], length: int, axis: int) -> Tensor:
    """Shrink an axis by the nearest voxel and enlarge it linearly: both together have two taps."""
    if all(size == length for size in sizes):
        return rows
    taps = [_taps(size, length) for size in sizes]
    first, second, share = (np.stack(part) for part in zip(*taps, strict=True))
    along = [1] * rows.ndim
    along[0], along[axis] = len(sizes), length
    before = rows.gather(axis, torch.tensor(first, device=rows.device).view(along).expand_as(rows))
    after = rows.gather(axis, torch.tensor(second, device=rows.device).view(along).expand_as(rows))
    return before.lerp_(after, torch.tensor(share, device=rows.device).view(along))


def _taps(
    size: int, length: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Which two voxels each voxel becomes a mixture of, and the share of the second."""
    if size == length:
        same = np.arange(length)
        return same, same, np.zeros(length, dtype=np.float32)
    shrunk = axis_operator(length, size, 0).first.astype(np.int64)
    enlarged = axis_operator(size, length, 1)
    second = np.minimum(enlarged.first + 1, size - 1)
    share = enlarged.weights[:, 1] if enlarged.taps > 1 else np.zeros(length, dtype=np.float32)
    return shrunk[enlarged.first], shrunk[second], share


def _change_gamma(rows: Tensor, changes: Sequence[GammaChange]) -> Tensor:
    low, high = rows.amin(_inner(rows), True), rows.amax(_inner(rows), True)
    mean, deviation = _moments(rows)
    is_inverted = _column([change.inverted for change in changes], rows) > 0
    start = torch.where(is_inverted, high, low)
    slope = torch.where(is_inverted, low - high, high - low)
    bent = ((rows - start) / slope).pow_(_column([change.exponent for change in changes], rows))
    bent_mean, bent_deviation = _moments(bent)
    scale = torch.where(is_inverted, -deviation, deviation) / bent_deviation
    return torch.where(low < high, (bent - bent_mean) * scale + mean, rows)


def _shift(rows: Tensor, changes: Sequence[OffsetChange]) -> Tensor:
    return rows.add_(_column([change.constant for change in changes], rows))


def _blank_rectangles(rows: Tensor, changes: Sequence[BlankRectanglesChange]) -> Tensor:
    for row, change in zip(rows, changes, strict=True):
        for box in change.boxes:
            part = row[tuple(slice(*limits) for limits in box)]
            part.copy_(part.mean())
    return rows


def _tilt(rows: Tensor, changes: Sequence[BrightnessGradientChange]) -> Tensor:
    hills = _hills([change.profiles for change in changes], rows)
    return rows.add_(hills.mul_(_column([change.height for change in changes], rows)))


def _change_local_gamma(rows: Tensor, changes: Sequence[LocalGammaChange]) -> Tensor:
    low, high = rows.amin(_inner(rows), True), rows.amax(_inner(rows), True)
    shares = (rows - low) / (high - low)
    added = shares.pow(_column([change.exponent for change in changes], rows)).sub_(shares)
    added.mul_(_hills([change.profiles for change in changes], rows)).mul_(high - low)
    return torch.where(low < high, rows + added, rows)


def _sharpen(rows: Tensor, changes: Sequence[SharpenChange]) -> Tensor:
    differences = torch.zeros_like(rows)
    for axis in range(1 + int(changes[0].in_plane), rows.ndim):
        step, length = rows.diff(dim=axis), rows.shape[axis] - 1
        differences.narrow(axis, 0, length).sub_(step)
        differences.narrow(axis, 1, length).add_(step)
    return rows.addcmul_(differences, _column([change.strength for change in changes], rows))


def _hills(profiles: Sequence[Sequence[npt.NDArray[np.float32]]], rows: Tensor) -> Tensor:
    """One hill per row, between 0 and 1."""
    result = torch.ones([len(rows)] + [1] * (rows.ndim - 1), device=rows.device)
    for axis, along in enumerate(zip(*profiles, strict=True), start=1):
        shape = [len(rows) if number == 0 else 1 for number in range(rows.ndim)]
        shape[axis] = rows.shape[axis]
        result = result * torch.tensor(np.stack(along), device=rows.device).view(shape)
    result = result - result.amin(_inner(rows), True)
    highest = result.amax(_inner(rows), True)
    return torch.where(highest > 0, result / highest, result)


def _moments(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of every row, ``(n, 1, ...)``."""
    mean = _mean(rows)
    squares = (rows - mean).square_().sum(_inner(rows), True, dtype=torch.float64)
    return mean, (squares / (rows[0].numel() - 1)).sqrt().to(rows.dtype)


def _mean(rows: Tensor) -> Tensor:
    return rows.mean(_inner(rows), True, dtype=torch.float64).to(rows.dtype)


def _inner(rows: Tensor) -> tuple[int, ...]:
    return tuple(range(1, rows.ndim))


def _column(values: Sequence[float], rows: Tensor) -> Tensor:
    """One float32 number per row, ``(n, 1, ...)``."""
    return _per_row(torch.tensor(values, dtype=torch.float32, device=rows.device), rows)


def _per_row(values: Tensor, rows: Tensor) -> Tensor:
    return values.view(-1, *[1] * (rows.ndim - 1))


_MAKERS: Mapping[type[Change], Callable[[Tensor, Sequence[Any]], Tensor]] = {
    NoiseChange: _add_noise,
    BlurChange: _blur,
    BrightnessChange: _brighten,
    ContrastChange: _change_contrast,
    LowResolutionChange: _lower_resolution,
    GammaChange: _change_gamma,
    OffsetChange: _shift,
    BlankRectanglesChange: _blank_rectangles,
    BrightnessGradientChange: _tilt,
    LocalGammaChange: _change_local_gamma,
    SharpenChange: _sharpen,
}
