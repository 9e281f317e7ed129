import pytest
from pydantic import ValidationError

from autoseg.core.fingerprint import IntensityStats
from autoseg.core.labels import LabelSpace, Structure
from autoseg.core.plan import Configuration, NetworkSpec, Plan, TrainingSpec

STATS = IntensityStats(mean=1, median=1, std=1, min=0, max=2, percentile_00_5=0, percentile_99_5=2)
NETWORK = {
    "architecture": "unet",
    "features_per_stage": (8, 16, 32),
    "strides": ((1, 1, 1), (1, 2, 2), (2, 2, 2)),
    "kernel_sizes": ((1, 3, 3), (3, 3, 3), (3, 3, 3)),
    "blocks_per_stage": (2, 2, 2),
    "decoder_blocks_per_stage": (2, 2),
}


def configuration(**changes) -> Configuration:
    values = {
        "spacing": (2.0, 1.0, 1.0),
        "patch_size": (8, 16, 12),
        "batch_size": 2,
        "median_shape": (9, 18.5, 13),
        "batch_dice": False,
        "normalization": ("ct",),
        "use_mask_for_norm": (False,),
        "network": NetworkSpec(**NETWORK),
        "training": TrainingSpec(mirror_axes=(0, 1, 2)),
    }
    return Configuration(**(values | changes))


def plan(**configurations) -> Plan:
    return Plan(
        name="default",
        preset="default",
        transpose=(0, 1, 2),
        budget_bytes=8 * 10**9,
        channels=("CT",),
        label_values=(0, 1, 2),
        intensities=(STATS,),
        configurations=configurations,
        decisions=(),
    )


def test_downsampling_is_the_product_of_the_strides():
    assert NetworkSpec(**NETWORK).downsampling == (2, 4, 4)


def test_a_cascade_sees_one_more_channel_per_foreground_label():
    names = ("organ", "vessel", "cyst")
    labels = LabelSpace(
        structures=tuple(Structure(name=n, values=(i,)) for i, n in enumerate(names, start=1)),
        ignore=9,
    )
    assert labels.num_outputs == 4
    assert configuration().num_inputs(("CT", "PET"), labels) == 2
    assert configuration(previous="3d_lowres").num_inputs(("CT", "PET"), labels) == 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features_per_stage": (8,)}, "at least two stages"),
        ({"strides": ((1, 1, 1), (2, 2, 2))}, "'strides' needs 3 entries"),
        ({"kernel_sizes": ((2, 3, 3), (3, 3, 3), (3, 3, 3))}, "must be odd"),
        ({"decoder_blocks_per_stage": (2,)}, "needs 2 entries"),
        ({"strides": ((1, 1), (2, 2), (2, 2))}, "agree in the number of axes"),
        ({"blocks_per_stage": (2, 0, 2)}, "must be positive"),
    ],
)
def test_a_network_that_cannot_be_built_is_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        NetworkSpec(**(NETWORK | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch_size": (8, 16, 13)}, r"\[8, 16, 13\] is not divisible by \[2, 4, 4\]"),
        ({"batch_size": 0}, "greater than or equal to 1"),
        ({"spacing": (1.0, 1.0)}, "need 3 entries"),
        ({"use_mask_for_norm": ()}, "one entry per channel"),
        ({"training": TrainingSpec(mirror_axes=(3,))}, "must be below 3"),
    ],
)
def test_a_configuration_that_cannot_be_trained_is_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        configuration(**changes)


def test_a_cascade_needs_its_previous_configuration():
    with pytest.raises(ValidationError, match="no configuration '3d_lowres'"):
        plan(**{"3d_cascade_fullres": configuration(previous="3d_lowres")})


def test_patch_and_batch_are_not_in_the_recipe_but_spacing_is():
    made = plan(
        a=configuration(),
        b=configuration(patch_size=(8, 8, 8), batch_size=4),
        c=configuration(spacing=(2.0, 1.0, 1.1)),
    )
    assert made.recipe("a").key == made.recipe("b").key != made.recipe("c").key
    assert [made.prepared_as(name) for name in "abc"] == ["a", "a", "c"]


def test_data_set_intensities_are_in_the_recipe_only_where_they_are_used():
    made = plan(ct=configuration(), mr=configuration(normalization=("zscore",)))
    assert made.recipe("ct").intensities == (STATS,)
    assert made.recipe("mr").intensities == (None,)
