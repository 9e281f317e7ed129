"""The layers of a planned network: what counts, parameters and bytes follow from.

Nothing is instantiated here, so a planner can weigh hundreds of candidate networks in
milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Literal

from autoseg.core.plan import Axes, NetworkSpec
from autoseg.errors import unknown_name

LayerKind = Literal[
    "convolution",
    "norm",
    "activation",
    "transposed_convolution",
    "concatenation",
    "shortcut",
    "head",
]

_COUNTED: frozenset[LayerKind] = frozenset(
    {"convolution", "transposed_convolution", "shortcut", "head"}
)


@dataclass(frozen=True, slots=True)
class Layer:
    """One operation of a network, on one sample.

    Attributes:
        kind: what it does. A ``"shortcut"`` is the side path of a residual block that
            changes resolution or channels: pooling, then a 1x1 projection if channels change.
        channels_in: channels it reads.
        channels_out: channels it writes.
        kernel: voxels per axis; of a transposed convolution also its stride; ones for what is
            done voxel by voxel.
        size: voxels per axis of its output.
    """

    kind: LayerKind
    channels_in: int
    channels_out: int
    kernel: Axes
    size: Axes

    @property
    def num_elements(self) -> int:
        """Numbers in the output of one sample: channels times voxels."""
        return self.channels_out * prod(self.size)

    @property
    def num_parameters(self) -> int:
        """Weights and biases."""
        if self.kind == "norm":
            return 2 * self.channels_out
        if self.kind == "shortcut":
            projects = self.channels_in != self.channels_out
            return self.channels_in * self.channels_out if projects else 0
        if self.kind in ("activation", "concatenation"):
            return 0
        return (self.channels_in * prod(self.kernel) + 1) * self.channels_out


def list_layers(
    spec: NetworkSpec,
    patch_size: Axes,
    *,
    num_channels: int,
    num_outputs: int,
    deep_supervision: bool,
) -> tuple[Layer, ...]:
    """List the layers of a U-Net in the order data flow through them.

    Args:
        spec: the network's shape; its architecture is ``"unet"`` or ``"residual_unet"``.
        patch_size: voxels per axis of the input, divisible by the strides.
        num_channels: channels of the input.
        num_outputs: channels of each output.
        deep_supervision: whether the outputs at coarser resolutions are computed too.

    Returns:
        Encoder from full resolution down, then decoder from the bottleneck up.

    Raises:
        UnknownNameError: if the layers of the architecture are not known here.
    """
    sizes = stage_sizes(spec, patch_size)
    if spec.architecture == "unet":
        encoder = _plain_encoder(spec, sizes, num_channels)
    elif spec.architecture == "residual_unet":
        encoder = _residual_encoder(spec, sizes, num_channels)
    else:
        raise unknown_name("layer list", spec.architecture, ("unet", "residual_unet"))
    return (*encoder, *_decoder(spec, sizes, num_outputs, deep_supervision))


def stage_sizes(spec: NetworkSpec, patch_size: Axes) -> tuple[Axes, ...]:
    """Voxels per axis of each encoder stage, full resolution first."""
    sizes: list[Axes] = []
    current = patch_size
    for stride in spec.strides:
        current = tuple(size // by for size, by in zip(current, stride, strict=True))
        sizes.append(current)
    return tuple(sizes)


def feature_map_elements(spec: NetworkSpec, patch_size: Axes, num_entries: int) -> int:
    """Count what the convolutions of a network write for one sample, as the reference does.

    Norms, activations, concatenations and the input do not count, heads at full resolution
    only. A shortcut counts even where it merely pools.

    Args:
        spec: the network's shape.
        patch_size: voxels per axis of the input, divisible by the strides.
        num_entries: entries of the label table: background, structures and ignore label.

    Returns:
        Number of elements, channels times voxels.

    References:
        nnU-Net (Isensee et al., Nature Methods 2021): its planner holds this number below a
        reference value that stands for the memory of a GPU.
    """
    layers = list_layers(
        spec, patch_size, num_channels=1, num_outputs=num_entries, deep_supervision=False
    )
    return sum(layer.num_elements for layer in layers if layer.kind in _COUNTED)


def num_parameters(spec: NetworkSpec, *, num_channels: int, num_outputs: int) -> int:
    """Count the weights of a network, the heads of every decoder stage included.

    Args:
        spec: the network's shape.
        num_channels: channels of the input.
        num_outputs: channels of each output.

    Returns:
        Number of trainable parameters.
    """
    layers = list_layers(
        spec,
        spec.downsampling,
        num_channels=num_channels,
        num_outputs=num_outputs,
        deep_supervision=True,
    )
    return sum(layer.num_parameters for layer in layers)


def _pointwise(kind: LayerKind, channels_in: int, channels_out: int, size: Axes) -> Layer:
    return Layer(kind, channels_in, channels_out, (1,) * len(size), size)


def _block(channels_in: int, channels_out: int, kernel: Axes, size: Axes) -> Iterator[Layer]:
    """Convolution, norm and activation."""
    yield Layer("convolution", channels_in, channels_out, kernel, size)
    yield _pointwise("norm", channels_out, channels_out, size)
    yield _pointwise("activation", channels_out, channels_out, size)


def _plain_encoder(
    spec: NetworkSpec, sizes: tuple[Axes, ...], num_channels: int
) -> Iterator[Layer]:
    channels = num_channels
    for stage, features in enumerate(spec.features_per_stage):
        for _ in range(spec.blocks_per_stage[stage]):
            yield from _block(channels, features, spec.kernel_sizes[stage], sizes[stage])
            channels = features


def _residual_encoder(
    spec: NetworkSpec, sizes: tuple[Axes, ...], num_channels: int
) -> Iterator[Layer]:
    channels = spec.features_per_stage[0]
    yield from _block(num_channels, channels, spec.kernel_sizes[0], sizes[0])
    for stage, features in enumerate(spec.features_per_stage):
        for block in range(spec.blocks_per_stage[stage]):
            pools = block == 0 and max(spec.strides[stage]) > 1
            kernel, size = spec.kernel_sizes[stage], sizes[stage]
            yield from _residual_block(channels, features, kernel, size, pools)
            channels = features


def _residual_block(
    channels_in: int, channels_out: int, kernel: Axes, size: Axes, pools: bool
) -> Iterator[Layer]:
    yield from _block(channels_in, channels_out, kernel, size)
    yield Layer("convolution", channels_out, channels_out, kernel, size)
    yield _pointwise("norm", channels_out, channels_out, size)
    if pools or channels_in != channels_out:
        yield _pointwise("shortcut", channels_in, channels_out, size)
    if channels_in != channels_out:
        yield _pointwise("norm", channels_out, channels_out, size)
    yield _pointwise("activation", channels_out, channels_out, size)


def _decoder(
    spec: NetworkSpec, sizes: tuple[Axes, ...], num_outputs: int, deep_supervision: bool
) -> Iterator[Layer]:
    for stage in reversed(range(spec.num_stages - 1)):
        features, size = spec.features_per_stage[stage], sizes[stage]
        below, upsampling = spec.features_per_stage[stage + 1], spec.strides[stage + 1]
        yield Layer("transposed_convolution", below, features, upsampling, size)
        yield _pointwise("concatenation", features, 2 * features, size)
        channels = 2 * features
        for _ in range(spec.decoder_blocks_per_stage[stage]):
            yield from _block(channels, features, spec.kernel_sizes[stage], size)
            channels = features
        if stage == 0 or deep_supervision:
            yield _pointwise("head", channels, num_outputs, size)
