import pytest

from autoseg.core.plan import Configuration, NetworkSpec, TrainingSpec
from autoseg.evaluate.cost import operations

FLAT = NetworkSpec(
    architecture="unet",
    features_per_stage=(2, 4),
    strides=((1, 1), (2, 2)),
    kernel_sizes=((3, 3), (3, 3)),
    blocks_per_stage=(1, 1),
    decoder_blocks_per_stage=(1,),
)


def configuration(**changes) -> Configuration:
    fields = {
        "spacing": (1.0, 1.0),
        "patch_size": (4, 8),
        "batch_size": 2,
        "median_shape": (4.0, 12.0),
        "batch_dice": False,
        "normalization": ("zscore",),
        "use_mask_for_norm": (False,),
        "network": FLAT,
        "training": TrainingSpec(mirror_axes=(0,)),
    }
    return Configuration(**(fields | changes))


def test_multiplications_are_those_of_all_tiles_slices_and_mirrors():
    # 1 -> 2 and 4 -> 2 channels on 32 pixels, 2 -> 4 on 8, all with 9 neighbours; up from 4 to 2
    # channels and a head of 2 -> 3 on 32 pixels.
    patch = 32 * 9 * (1 * 2 + 4 * 2) + 8 * 9 * 2 * 4 + 32 * (4 * 2 + 2 * 3)
    tiles, mirrors, slices = 1 * 2, 2, 10
    assert operations(configuration(), 1, 3, slices) == pytest.approx(
        patch * tiles * mirrors * slices
    )


def test_a_network_of_unknown_layers_costs_nobody_knows_what():
    strange = FLAT.model_copy(update={"architecture": "transformer"})
    assert operations(configuration(network=strange), 1, 3, 1) is None
