"""Instance norm and the leaky ReLU after it, as one step of the backward pass.

Torch's own pair costs more on CPUs: its instance norm first copies features whose channels are
the fastest axis in memory, and it returns a view, so that autograd copies gradients to pass them
back through the activation, which works in place.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional

_EPSILON = 1e-5
_LAYOUTS = {4: torch.channels_last, 5: torch.channels_last_3d}


class InstanceNorm(nn.Module):
    """Normalize each channel of each sample, scale and shift it, and apply a leaky ReLU.

    Statistics are those of the sample at hand in training and prediction alike, and float32 (or
    float64) whatever the features are. While no gradients are wanted, the result takes the
    place of the features.

    Args:
        channels: number of channels.
        negative_slope: of the leaky ReLU; 1 for none.

    Attributes:
        weight: the scales, 1 at first; ``(channels,)``.
        bias: the shifts, 0 at first; ``(channels,)``.

    References:
        Ulyanov et al., Instance Normalization (2016), section 2.
    """

    def __init__(self, channels: int, negative_slope: float = 1.0) -> None:
        super().__init__()
        self.negative_slope = negative_slope
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def extra_repr(self) -> str:
        """What ``repr`` shows."""
        return f"{len(self.weight)}, negative_slope={self.negative_slope}"

    def forward(self, features: Tensor) -> Tensor:
        """Normalize and activate.

        Args:
            features: ``(batch, channels, *size)``, two or three axes; may be overwritten.

        Returns:
            The same shape, dtype and memory layout.

        Raises:
            ValueError: if there is one voxel only, which has no variance.
        """
        if not _computes_in_one(features, self.weight):
            return self._in_two(features)
        if features[0, 0].numel() == 1:
            raise ValueError(f"one voxel per channel cannot be normalized: {features.shape}")
        if not (features.is_contiguous() or _has_channels_last(features)):
            features = features.contiguous()
        if torch.is_grad_enabled():
            return _NormalizeActivate.apply(features, self.weight, self.bias, self.negative_slope)
        _normalize_activate(features, self.weight, self.bias, self.negative_slope, out=features)
        return features

    def _in_two(self, features: Tensor) -> Tensor:
        """By torch's own operations."""
        options = {"weight": self.weight, "bias": self.bias, "eps": _EPSILON}
        normal = functional.instance_norm(features, **options)
        if self.negative_slope == 1:
            return normal
        return functional.leaky_relu(normal, self.negative_slope, inplace=True)


def _computes_in_one(features: Tensor, weight: Tensor) -> bool:
    """Whether the kernels below are there: on CPUs, unless a compiler or exporter looks on."""
    is_traced = torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
    if is_traced or torch.compiler.is_compiling():
        return False
    return features.device.type == "cpu" and weight.dtype in (torch.float32, torch.float64)


def _has_channels_last(features: Tensor) -> bool:
    return features.is_contiguous(memory_format=_LAYOUTS[features.ndim])


class _Kept(FunctionCtx):
    """What the forward pass leaves for the backward pass."""

    saved_tensors: tuple[Tensor, Tensor | None, Tensor, Tensor, Tensor]
    negative_slope: float


class _NormalizeActivate(torch.autograd.Function):
    """The two as one; besides the features only what the next convolution keeps is kept."""

    @staticmethod
    def forward(  # type: ignore[override] - the base class takes anything
        ctx: _Kept, features: Tensor, weight: Tensor, bias: Tensor, negative_slope: float
    ) -> Tensor:
        result = torch.empty_like(features)
        statistics = _normalize_activate(features, weight, bias, negative_slope, out=result)
        kept = None if negative_slope == 1 else result
        ctx.save_for_backward(features, kept, weight, *statistics)  # type: ignore[arg-type] - takes None
        ctx.negative_slope = negative_slope
        return result

    @staticmethod
    @once_differentiable
    def backward(  # type: ignore[override] - the base class takes anything
        ctx: _Kept, gradient: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, None]:
        features, result, weight, means, factors = ctx.saved_tensors
        of_features = torch.empty_like(features)
        of_weight, of_bias = torch.zeros_like(weight), torch.zeros_like(weight)
        # A sample at a time stays in the processor's cache from one operation to the next.
        of_normal = torch.empty_like(features[:1])
        for sample, (mean, factor) in enumerate(zip(means, factors, strict=True)):
            piece = slice(sample, sample + 1)
            of_result = gradient[piece]
            if result is None:
                of_normal.copy_(of_result)
            else:
                torch.ops.aten.leaky_relu_backward(
                    of_result, result[piece], ctx.negative_slope, True, grad_input=of_normal
                )
            of_sample, scales, shifts = torch.ops.aten.native_batch_norm_backward(
                *(of_normal, features[piece], weight, None, None, mean, factor),
                *(True, _EPSILON, [True, True, True]),
            )
            of_features[piece] = of_sample
            of_weight += scales
            of_bias += shifts
        return of_features, of_weight, of_bias, None


def _normalize_activate(
    features: Tensor, weight: Tensor, bias: Tensor, negative_slope: float, out: Tensor
) -> tuple[Tensor, Tensor]:
    """Write the result to ``out``, which may be ``features``.

    Returns:
        Means and inverse standard deviations, ``(batch, channels)``.
    """
    means, factors = weight.new_empty((2, *features.shape[:2])).unbind()
    unused = weight.new_empty(2, 0)
    samples = zip(features.split(1), out.split(1), means, factors, strict=True)
    for sample, result, mean, factor in samples:
        found, variance = _statistics(sample, weight)
        torch.native_batch_norm(
            *(sample, weight, bias, found, variance, False, 0.0, _EPSILON),
            out=(result, unused[0], unused[1]),
        )
        if negative_slope != 1:
            functional.leaky_relu(result, negative_slope, inplace=True)
        mean.copy_(found)
        torch.rsqrt(variance + _EPSILON, out=factor)
    return means, factors


def _statistics(sample: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of each channel of one sample, in the dtype of ``weight``.

    Where channels come last, torch adds up millions of numbers one after another, which leaves
    three digits. So each position along the last axis counts as a channel of its own at first.
    """
    channels = len(weight)
    if not sample.is_contiguous():
        lines = sample.movedim(1, -1).flatten(-2).flatten(0, -2)
        sample = lines.t()[None, ..., None]
    # What goes in only says the dtype of what comes out.
    typed = weight.new_zeros(2, sample.shape[1])
    means, variances = torch.batch_norm_update_stats(sample, typed[0], typed[1], 0.0)
    means, variances = means.view(-1, channels), variances.view(-1, channels)
    mean = means.mean(0)
    return mean, variances.mean(0) + (means - mean).square().mean(0)
