"""The U-Net with residual blocks in its encoder."""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise

import torch
from torch import Tensor, nn

from autoseg.core.plan import Axes, NetworkSpec
from autoseg.networks.build import NEGATIVE_SLOPE
from autoseg.networks.norm import InstanceNorm
from autoseg.networks.unet import CONVOLUTION, ConvBlock, UNet

_POOL = {2: nn.AvgPool2d, 3: nn.AvgPool3d}


class ResidualUNet(UNet):
    """A ``UNet`` whose encoder is a stem followed by residual blocks; the decoder is plain.

    The first block of a stage halves (or keeps, per axis) the resolution. Blocks start as the
    identity: the last norm of each is zero at first.

    Args:
        spec: number of stages, features, kernels, strides and residual blocks.
        channels: number of input channels.
        classes: number of output channels.
        deep_supervision: as in ``UNet``.

    References:
        He et al., Deep Residual Learning (2015); Isensee et al., nnU-Net Revisited (2024),
        whose shapes, parameter order and initialisation these are.
    """

    def __init__(
        self, spec: NetworkSpec, channels: int, classes: int, deep_supervision: bool
    ) -> None:
        super().__init__(spec, channels, classes, deep_supervision)
        for module in self.modules():
            if isinstance(module, ResidualBlock):
                module.start_as_shortcut()

    @staticmethod
    def encoder_stages(spec: NetworkSpec, channels: int) -> list[nn.Sequential]:
        """The stages, full resolution first; the first one begins with the stem."""
        features = spec.features_per_stage
        stages = [
            _residual_blocks(inputs, outputs, kernel, stride, blocks)
            for (inputs, outputs), kernel, stride, blocks in zip(
                pairwise((features[0], *features)),
                spec.kernel_sizes,
                spec.strides,
                spec.blocks_per_stage,
                strict=True,
            )
        ]
        no_stride = (1,) * spec.dimensions
        stem = ConvBlock(channels, features[0], spec.kernel_sizes[0], no_stride)
        stages[0] = nn.Sequential(OrderedDict(stem=stem, blocks=stages[0]))
        return stages


class ResidualBlock(nn.Module):
    """Two convolutions around which the input passes on.

    The input's side path is pooled where the block has a stride, and projected by a 1x1
    convolution where the number of channels changes.

    Args:
        inputs: number of input channels.
        outputs: number of output channels.
        kernel: odd size per axis.
        stride: step per axis of the first convolution.
    """

    def __init__(self, inputs: int, outputs: int, kernel: Axes, stride: Axes) -> None:
        super().__init__()
        dimensions = len(kernel)
        padding = tuple(size // 2 for size in kernel)
        self.conv1 = ConvBlock(inputs, outputs, kernel, stride)
        self.conv2 = nn.Sequential(
            OrderedDict(
                conv=CONVOLUTION[dimensions](outputs, outputs, kernel, 1, padding),
                norm=InstanceNorm(outputs),
            )
        )
        self.shortcut = _shortcut(inputs, outputs, stride)
        self.activation = nn.LeakyReLU(NEGATIVE_SLOPE, inplace=True)

    def start_as_shortcut(self) -> None:
        """Clear the last norm, so that nothing is added to the side path."""
        for parameter in self.conv2[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, features: Tensor) -> Tensor:
        """Compute the block.

        Args:
            features: ``(batch, inputs, *size)``.

        Returns:
            ``(batch, outputs, *size / stride)``.
        """
        changed = self.conv2(self.conv1(features))
        return self.activation(torch.add(changed, self.shortcut(features)))


def _residual_blocks(
    inputs: int, outputs: int, kernel: Axes, stride: Axes, blocks: int
) -> nn.Sequential:
    no_stride = (1,) * len(stride)
    rest = [ResidualBlock(outputs, outputs, kernel, no_stride) for _ in range(blocks - 1)]
    return nn.Sequential(ResidualBlock(inputs, outputs, kernel, stride), *rest)


def _shortcut(inputs: int, outputs: int, stride: Axes) -> nn.Sequential:
    dimensions = len(stride)
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    if max(stride) > 1:
        parts["pool"] = _POOL[dimensions](stride, stride)
    if inputs != outputs:
        kernel = (1,) * dimensions
        parts["conv"] = CONVOLUTION[dimensions](inputs, outputs, kernel, bias=False)
        parts["norm"] = InstanceNorm(outputs)
    return nn.Sequential(parts)
