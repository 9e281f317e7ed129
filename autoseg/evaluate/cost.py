"""How much there is to compute for a prediction, roughly: to tell cheap models from dear ones."""

from __future__ import annotations

from math import prod

from autoseg.core.layers import list_layers
from autoseg.core.plan import Configuration
from autoseg.errors import UnknownNameError

_MULTIPLY = ("convolution", "transposed_convolution", "shortcut", "head")
_WITH_NEIGHBOURS = "convolution"
_TILES_OVERLAP = 2
"""Along each axis tiles overlap by half."""


def operations(
    configuration: Configuration, num_inputs: int, num_outputs: int, num_slices: float
) -> float | None:
    """Multiplications for a case of median size with one network, mirrored images included.

    Args:
        configuration: patch, median shape, network, mirror axes.
        num_inputs: channels the network reads.
        num_outputs: channels it gives.
        num_slices: slices of a median case, which a 2D network sees one by one.

    Returns:
        None for a network whose layers are not known here.
    """
    patch = configuration.patch_size
    try:
        layers = list_layers(
            configuration.network,
            patch,
            num_channels=num_inputs,
            num_outputs=num_outputs,
            deep_supervision=False,
        )
    except UnknownNameError:
        return None
    per_patch = sum(
        layer.num_elements
        * layer.channels_in
        * (prod(layer.kernel) if layer.kind == _WITH_NEIGHBOURS else 1)
        for layer in layers
        if layer.kind in _MULTIPLY
    )
    tiles = 1.0
    for size, median in zip(patch, configuration.median_shape, strict=True):
        tiles *= max(1.0, _TILES_OVERLAP * median / size - 1)
    slices = num_slices if len(patch) == 2 else 1.0
    return per_patch * tiles * slices * 2 ** len(configuration.training.mirror_axes)
