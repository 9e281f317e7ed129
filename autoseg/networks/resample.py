"""The resampling operators of ``imaging`` applied to tensors, on any device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from autoseg.imaging.operators import AxisOperator, axis_operator

# Up to this many taps, reading them one by one is less work than a dense matrix product.
_MAX_GATHERED_TAPS = 2


def resize(tensor: Tensor, shape: Sequence[int], order: int) -> Tensor:
    """Resize the spatial axes; equal to ``imaging.resample.resize`` up to rounding.

    Values are not clipped: order 3 may overshoot the input's range.

    Args:
        tensor: float32 ``(k, *spatial)``.
        shape: new size of each spatial axis.
        order: of the spline: 0, 1 or 3.

    Returns:
        float32 ``(k, *shape)`` on the same device; the input itself if no size changes.

    Raises:
        ValueError: if ``shape`` has another number of axes than ``tensor``.
    """
    if len(shape) != tensor.ndim - 1:
        raise ValueError(f"cannot resize {tuple(tensor.shape)} to {tuple(shape)}")
    growth = {axis: new / tensor.shape[axis] for axis, new in enumerate(shape, start=1)}
    # Shrinking axes go first, which keeps what lies between two axes small.
    for axis in sorted(growth, key=lambda axis: growth[axis]):
        if tensor.shape[axis] != shape[axis - 1]:
            operator = axis_operator(tensor.shape[axis], shape[axis - 1], order)
            tensor = _apply(operator, tensor, axis)
    return tensor


def _apply(operator: AxisOperator, tensor: Tensor, axis: int) -> Tensor:
    if operator.weights.shape[1] <= _MAX_GATHERED_TAPS:
        return _gather(operator, tensor, axis)
    matrix = torch.tensor(operator.dense(), device=tensor.device)
    return _multiply(matrix, tensor, axis)


def _multiply(matrix: Tensor, tensor: Tensor, axis: int) -> Tensor:
    """Replace an axis by the product of ``(out, in)`` with it, without transposing a volume."""
    before, after = tensor.shape[:axis], tensor.shape[axis + 1 :]
    if not after:
        return tensor @ matrix.T
    columns = tensor.reshape(before.numel(), -1, after.numel())
    product = torch.bmm(matrix.expand(len(columns), -1, -1), columns)
    return product.view(*before, -1, *after)


def _gather(operator: AxisOperator, tensor: Tensor, axis: int) -> Tensor:
    first = torch.tensor(operator.first, device=tensor.device)
    weights = torch.tensor(operator.weights, device=tensor.device)
    along = [-1 if index == axis else 1 for index in range(tensor.ndim)]
    total = tensor.index_select(axis, first).mul_(weights[:, 0].view(along))
    for tap in range(1, weights.shape[1]):
        total.addcmul_(tensor.index_select(axis, first + tap), weights[:, tap].view(along))
    return total
