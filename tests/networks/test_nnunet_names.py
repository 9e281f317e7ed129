"""Names as the reference lists them for its two example networks."""

import pytest
import torch

from autoseg.core.plan import NetworkSpec
from autoseg.networks.build import build_network
from autoseg.networks.nnunet_names import nnunet_name, nnunet_names, without_second_names


def spec(architecture, strides, kernels, blocks, decoder, features=(4, 8, 16)):
    return NetworkSpec(
        architecture=architecture,
        features_per_stage=features,
        strides=strides,
        kernel_sizes=kernels,
        blocks_per_stage=blocks,
        decoder_blocks_per_stage=decoder,
    )


PLAIN = spec(
    "unet",
    ((1, 1, 1), (1, 2, 2), (2, 2, 2)),
    ((1, 3, 3), (3, 3, 3), (3, 3, 3)),
    (2, 2, 2),
    (2, 2),
)
RESIDUAL = spec(
    "residual_unet", ((1, 1), (2, 2), (2, 2)), ((3, 3), (3, 3), (3, 3)), (1, 3, 4), (1, 1)
)


def by_their_names(network, inputs):
    with torch.device("meta"):
        tensors = build_network(network, inputs, 2, deep_supervision=True).state_dict()
    names = nnunet_names(tensors, network)
    return {names[name]: tuple(tensor.shape) for name, tensor in tensors.items()}


def test_the_plain_network_has_the_names_and_shapes_of_the_reference():
    known = by_their_names(PLAIN, 1)

    assert len(known) == 48
    expected = {
        "encoder.stages.0.0.convs.0.conv.weight": (4, 1, 1, 3, 3),
        "encoder.stages.0.0.convs.1.conv.weight": (4, 4, 1, 3, 3),
        "encoder.stages.1.0.convs.0.conv.weight": (8, 4, 3, 3, 3),
        "encoder.stages.2.0.convs.1.conv.weight": (16, 16, 3, 3, 3),
        "encoder.stages.2.0.convs.1.norm.bias": (16,),
        "decoder.stages.0.convs.0.conv.weight": (8, 16, 3, 3, 3),
        "decoder.stages.1.convs.0.conv.weight": (4, 8, 1, 3, 3),
        "decoder.transpconvs.0.weight": (16, 8, 2, 2, 2),
        "decoder.transpconvs.1.weight": (8, 4, 1, 2, 2),
        "decoder.transpconvs.1.bias": (4,),
        "decoder.seg_layers.0.weight": (2, 8, 1, 1, 1),
        "decoder.seg_layers.1.weight": (2, 4, 1, 1, 1),
    }
    assert expected.items() <= known.items()


def test_the_residual_network_has_the_names_and_shapes_of_the_reference():
    known = by_their_names(RESIDUAL, 3)

    assert len(known) == 90
    expected = {
        "encoder.stem.convs.0.conv.weight": (4, 3, 3, 3),
        "encoder.stem.convs.0.norm.weight": (4,),
        "encoder.stages.0.blocks.0.conv1.conv.weight": (4, 4, 3, 3),
        "encoder.stages.1.blocks.2.conv2.norm.bias": (8,),
        "encoder.stages.1.blocks.0.skip.1.conv.weight": (8, 4, 1, 1),
        "encoder.stages.1.blocks.0.skip.1.norm.weight": (8,),
        "encoder.stages.2.blocks.0.skip.1.conv.weight": (16, 8, 1, 1),
        "decoder.stages.1.convs.0.conv.weight": (4, 8, 3, 3),
    }
    assert expected.items() <= known.items()


def test_a_projection_without_a_stride_is_the_first_part_of_its_shortcut():
    wider = spec(
        "residual_unet",
        ((1, 1), (2, 2), (1, 1)),
        ((3, 3), (3, 3), (3, 3)),
        (1, 1, 1),
        (1, 1),
    )

    known = by_their_names(wider, 1)

    assert "encoder.stages.2.blocks.0.skip.0.conv.weight" in known
    assert "encoder.stages.1.blocks.0.skip.1.conv.weight" in known


def test_a_name_of_no_network_is_a_callers_mistake():
    with pytest.raises(ValueError, match=r"nnU-Net has a tensor 'middle\.weight'"):
        nnunet_name("middle.weight", PLAIN)


def test_second_names_and_wrappers_are_seen_through():
    names = [
        "encoder.stages.0.0.convs.0.conv.weight",
        "encoder.stages.0.0.convs.0.all_modules.0.weight",
        "decoder.encoder.stages.0.0.convs.0.conv.weight",
        "module._orig_mod.decoder.seg_layers.0.bias",
    ]

    assert without_second_names(names) == {
        names[0]: names[0],
        "decoder.seg_layers.0.bias": names[3],
    }
