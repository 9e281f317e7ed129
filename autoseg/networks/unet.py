"""The plain U-Net."""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise

import torch
from torch import Tensor, nn

from autoseg.core.plan import Axes, NetworkSpec
from autoseg.networks.build import NEGATIVE_SLOPE, initialize
from autoseg.networks.convolution import Convolution2d, Convolution3d
from autoseg.networks.norm import InstanceNorm

CONVOLUTION = {2: Convolution2d, 3: Convolution3d}
_TRANSPOSED = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


class ConvBlock(nn.Sequential):
    """Convolution, instance norm, leaky ReLU.

    Args:
        inputs: number of input channels.
        outputs: number of output channels.
        kernel: odd size per axis; the border is padded so that stride 1 keeps the size.
        stride: step per axis.
    """

    def __init__(self, inputs: int, outputs: int, kernel: Axes, stride: Axes) -> None:
        dimensions = len(kernel)
        padding = tuple(size // 2 for size in kernel)
        super().__init__(
            OrderedDict(
                conv=CONVOLUTION[dimensions](inputs, outputs, kernel, stride, padding),
                norm=InstanceNorm(outputs, NEGATIVE_SLOPE),
            )
        )


class UNet(nn.Module):
    """Encoder, decoder with skip connections, and one output head per decoder stage.

    Encoder stages halve (or keep, per axis) the resolution with the stride of their first
    convolution. Decoder stages run from the coarsest to full resolution: transposed convolution,
    the encoder's features of that resolution appended, convolutions. Heads exist whether or not
    deep supervision is on, so that weights fit either way.

    Args:
        spec: number of stages, features, kernels and strides.
        channels: number of input channels.
        classes: number of output channels.
        deep_supervision: the attribute's first value.

    Attributes:
        deep_supervision: whether ``forward`` returns the outputs of all heads; may be switched.

    References:
        Ronneberger et al., U-Net (2015); Isensee et al., nnU-Net (2021), whose shapes,
        parameter order and initialisation these are.
    """

    deep_supervision: bool

    def __init__(
        self, spec: NetworkSpec, channels: int, classes: int, deep_supervision: bool
    ) -> None:
        super().__init__()
        self.deep_supervision = deep_supervision
        levels = range(spec.num_stages - 2, -1, -1)
        self.encoder = nn.ModuleList(self.encoder_stages(spec, channels))
        self.decoder = nn.ModuleList(_decoder_stage(spec, level) for level in levels)
        self.upsample = nn.ModuleList(_upsample(spec, level) for level in levels)
        self.heads = nn.ModuleList(_head(spec, level, classes) for level in levels)
        initialize(self)

    @staticmethod
    def encoder_stages(spec: NetworkSpec, channels: int) -> list[nn.Sequential]:
        """The stages, full resolution first."""
        widths = pairwise((channels, *spec.features_per_stage))
        return [
            _conv_blocks(inputs, outputs, kernel, stride, blocks)
            for (inputs, outputs), kernel, stride, blocks in zip(
                widths, spec.kernel_sizes, spec.strides, spec.blocks_per_stage, strict=True
            )
        ]

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        """Compute logits.

        Args:
            image: float ``(batch, channels, *patch)``; the patch is divisible by the spec's
                ``downsampling``.

        Returns:
            ``(batch, classes, *patch)``, or with deep supervision a list of one tensor per
            decoder stage, full resolution first.
        """
        features = image
        skips: list[Tensor] = []
        for stage in self.encoder:
            features = stage(features)
            skips.append(features)
        skips.pop()
        outputs: list[Tensor] = []
        for upsample, stage, head in zip(self.upsample, self.decoder, self.heads, strict=True):
            features = stage(torch.cat((upsample(features), skips.pop()), dim=1))
            if self.deep_supervision or not skips:
                outputs.append(head(features))
        return outputs[::-1] if self.deep_supervision else outputs[0]


def _decoder_stage(spec: NetworkSpec, level: int) -> nn.Sequential:
    features = spec.features_per_stage[level]
    no_stride = (1,) * spec.dimensions
    blocks = spec.decoder_blocks_per_stage[level]
    return _conv_blocks(2 * features, features, spec.kernel_sizes[level], no_stride, blocks)


def _conv_blocks(
    inputs: int, outputs: int, kernel: Axes, stride: Axes, blocks: int
) -> nn.Sequential:
    no_stride = (1,) * len(stride)
    rest = [ConvBlock(outputs, outputs, kernel, no_stride) for _ in range(blocks - 1)]
    return nn.Sequential(ConvBlock(inputs, outputs, kernel, stride), *rest)


def _upsample(spec: NetworkSpec, level: int) -> nn.Module:
    stride = spec.strides[level + 1]
    inputs, outputs = spec.features_per_stage[level + 1], spec.features_per_stage[level]
    return _TRANSPOSED[spec.dimensions](inputs, outputs, stride, stride)


def _head(spec: NetworkSpec, level: int, classes: int) -> nn.Module:
    kernel = (1,) * spec.dimensions
    return CONVOLUTION[spec.dimensions](spec.features_per_stage[level], classes, kernel)
