"""Convolutions, computed in float32 where a library's bfloat16 goes wrong."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Convolution2d(nn.Conv2d):
    """``nn.Conv2d``, but for the cases that ``has_wrong_gradients`` tells."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the base class calls it so
        """As the base class does; float32 where bfloat16 cannot be trusted."""
        if not has_wrong_gradients(input, self.kernel_size):
            return super().forward(input)
        with torch.autocast("cpu", enabled=False):
            return super().forward(input.float())


class Convolution3d(nn.Conv3d):
    """``nn.Conv3d``, but for the cases that ``has_wrong_gradients`` tells."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the base class calls it so
        """As the base class does; float32 where bfloat16 cannot be trusted."""
        if not has_wrong_gradients(input, self.kernel_size):
            return super().forward(input)
        with torch.autocast("cpu", enabled=False):
            return super().forward(input.float())


def has_wrong_gradients(features: Tensor, kernel: tuple[int, ...]) -> bool:
    """Whether the gradient of a convolution's weights would be made of unset memory.

    On CPUs oneDNN 3.12 (torch 2.13) reads beyond bfloat16 features that are thinner than the
    kernel: two planes with a kernel of three, or one row with a stride of two. Weights then
    become NaN, infinite, or wrong without a sign of it. Such features are tiny: float32 costs
    nothing.

    Args:
        features: ``(batch, channels, *size)``.
        kernel: per axis.
    """
    if features.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
        return False
    return any(size < width for size, width in zip(features.shape[2:], kernel, strict=True))
