from itertools import pairwise

import pytest

from autoseg.core.layers import feature_map_elements, list_layers, num_parameters, stage_sizes
from autoseg.core.plan import NetworkSpec
from autoseg.errors import UnknownNameError

SMALL_STRIDES = ((1, 1, 1), (1, 2, 2), (2, 2, 2))
SMALL_KERNELS = ((1, 3, 3), (3, 3, 3), (3, 3, 3))


def small(**changes):
    values = {
        "architecture": "unet",
        "features_per_stage": (4, 8, 16),
        "strides": SMALL_STRIDES,
        "kernel_sizes": SMALL_KERNELS,
        "blocks_per_stage": (2, 2, 2),
        "decoder_blocks_per_stage": (2, 2),
    }
    return NetworkSpec(**values | changes)


def full(architecture, dimensions):
    stages, maximum = (8, 512) if dimensions == 2 else (6, 320)
    residual = architecture == "residual_unet"
    return NetworkSpec(
        architecture=architecture,
        features_per_stage=tuple(min(maximum, 32 * 2**stage) for stage in range(stages)),
        strides=((1,) * dimensions, *((2,) * dimensions,) * (stages - 1)),
        kernel_sizes=((3,) * dimensions,) * stages,
        blocks_per_stage=(1, 3, 4, *(6,) * (stages - 3)) if residual else (2,) * stages,
        decoder_blocks_per_stage=(1 if residual else 2,) * (stages - 1),
    )


SMALL_RESIDUAL_3D = small(
    architecture="residual_unet",
    features_per_stage=(4, 8, 8),
    blocks_per_stage=(1, 3, 4),
    decoder_blocks_per_stage=(1, 1),
)
SMALL_RESIDUAL_2D = NetworkSpec(
    architecture="residual_unet",
    features_per_stage=(4, 8, 16),
    strides=((1, 1), (2, 2), (2, 2)),
    kernel_sizes=((3, 3),) * 3,
    blocks_per_stage=(1, 3, 4),
    decoder_blocks_per_stage=(1, 1),
)


@pytest.mark.parametrize(
    ("spec", "patch", "elements"),
    [
        (full("unet", 3), (128, 128, 128), 450_699_264),
        (full("residual_unet", 3), (128, 128, 128), 555_323_392),
        (full("unet", 2), (512, 512), 82_624_512),
        (full("residual_unet", 2), (512, 512), 129_441_792),
        (small(), (8, 16, 16), 67_584),
        (SMALL_RESIDUAL_3D, (8, 16, 16), 86_528),
        (SMALL_RESIDUAL_2D, (16, 16), 12_544),
    ],
)
def test_elements_are_those_the_reference_counts(spec, patch, elements):
    assert feature_map_elements(spec, patch, 2) == elements


@pytest.mark.parametrize(
    ("spec", "num_channels", "parameters"),
    [
        (full("unet", 3), 1, 31_195_594),
        (full("residual_unet", 3), 1, 102_349_770),
        (full("unet", 2), 1, 46_324_558),
        (full("residual_unet", 2), 1, 140_017_038),
        (small(), 1, 20_188),
        (SMALL_RESIDUAL_3D, 1, 28_532),
        (SMALL_RESIDUAL_2D, 3, 23_772),
    ],
)
def test_parameters_are_those_of_the_reference_networks(spec, num_channels, parameters):
    assert num_parameters(spec, num_channels=num_channels, num_outputs=2) == parameters


def test_every_label_entry_costs_one_map_at_full_resolution():
    more = feature_map_elements(small(), (8, 16, 12), 5)
    assert more - feature_map_elements(small(), (8, 16, 12), 2) == 3 * 8 * 16 * 12


def test_stages_shrink_axis_by_axis():
    assert stage_sizes(small(), (8, 16, 12)) == ((8, 16, 12), (8, 8, 6), (4, 4, 3))


def test_deep_supervision_adds_the_coarser_heads():
    listed = [
        layer.size
        for layer in list_layers(
            small(), (8, 16, 12), num_channels=1, num_outputs=3, deep_supervision=True
        )
        if layer.kind == "head"
    ]
    assert listed == [(8, 8, 6), (8, 16, 12)]


def test_each_convolution_of_the_encoder_reads_what_the_one_before_wrote():
    layers = list_layers(
        small(), (8, 16, 12), num_channels=3, num_outputs=2, deep_supervision=False
    )
    convolutions = [layer for layer in layers if layer.kind == "convolution"][:6]
    assert convolutions[0].channels_in == 3
    assert all(a.channels_out == b.channels_in for a, b in pairwise(convolutions))


def test_an_architecture_without_a_layer_list_is_named():
    with pytest.raises(UnknownNameError, match="unett"):
        feature_map_elements(small(architecture="unett"), (8, 16, 16), 2)
