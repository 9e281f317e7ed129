import pytest
from test_planner import plan

from autoseg.core.plan import Configuration, NetworkSpec, TrainingSpec
from autoseg.plan.comparison import Row, compare_plans


@pytest.fixture(scope="module")
def abdomen():
    """Plain plan of the abdominal CTs: all four configurations."""
    return plan("902", compatible=True)


def section(sections, name):
    (found,) = [section for section in sections if section.configuration == name]
    return found


def with_configuration(made, name, **changes):
    configuration = made.configurations[name].model_copy(update=changes)
    return made.model_copy(update={"configurations": made.configurations | {name: configuration}})


def test_a_plan_equals_itself(abdomen):
    assert compare_plans(abdomen, plan("902", compatible=True)) == ()


def test_names_and_reasons_do_not_count(abdomen):
    decisions = tuple(d.model_copy(update={"reason": "because"}) for d in abdomen.decisions)

    other = abdomen.model_copy(update={"name": "mine", "decisions": decisions})

    assert compare_plans(abdomen, other) == ()


def test_values_are_those_people_read(abdomen):
    network = abdomen.configurations["3d_fullres"].network
    other = with_configuration(
        abdomen,
        "3d_fullres",
        spacing=(2.5, 1.0, 0.78125),
        patch_size=(56, 192, 160),
        batch_size=3,
        median_shape=(124.5, 400.0, 512.0),
        batch_dice=False,
        normalization=("zscore",),
        use_mask_for_norm=(True,),
        previous="3d_lowres",
        network=network.model_copy(
            update={
                "strides": ((1, 1, 1), *[(2, 2, 2)] * 5),
                "kernel_sizes": ((3, 3, 3),) * 6,
                "features_per_stage": (24, 48, 96, 192, 240, 240),
                "blocks_per_stage": (1, 3, 4, 6, 6, 6),
            }
        ),
        training=TrainingSpec(mirror_axes=(1,), max_time_s=1200.0, deep_supervision=False),
    )

    (found,) = compare_plans(abdomen, other)

    assert found.configuration == "3d_fullres"
    assert [(row.what, row.first, row.second) for row in found.rows] == [
        ("spacing", "3 x 0.78 x 0.78 mm", "2.5 x 1 x 0.7812 mm"),
        ("patch size", "40x224x224", "56x192x160"),
        ("batch size", "2", "3"),
        ("median shape", "104x512x512", "124.5x400x512"),
        ("batch Dice", "on", "off"),
        ("normalization", "ct", "zscore"),
        ("normalization mask", "off", "on"),
        ("previous", "none", "3d_lowres"),
        ("features per stage", "32, 64, 128, 256, 320, 320", "24, 48, 96, 192, 240, 240"),
        (
            "strides",
            "1x1x1, 1x2x2, 2x2x2, 2x2x2, 2x2x2, 1x2x2",
            "1x1x1, 2x2x2, 2x2x2, 2x2x2, 2x2x2, 2x2x2",
        ),
        (
            "kernel sizes",
            "1x3x3, 3x3x3, 3x3x3, 3x3x3, 3x3x3, 3x3x3",
            "3x3x3, 3x3x3, 3x3x3, 3x3x3, 3x3x3, 3x3x3",
        ),
        ("blocks per stage", "2, 2, 2, 2, 2, 2", "1, 3, 4, 6, 6, 6"),
        ("longest training time", "none", "1200"),
        ("mirror axes", "z, y, x", "y"),
        ("deep supervision", "on", "off"),
    ]


def changed(value):
    """Another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, str):
        return f"{value}s"
    if isinstance(value, tuple):
        return value[1:] if value else (1,)
    return 77.0


@pytest.mark.parametrize("field", Configuration.model_fields.keys() - {"network", "training"})
def test_no_field_of_a_configuration_is_overlooked(abdomen, field):
    value = getattr(abdomen.configurations["2d"], field)
    if field in ("patch_size", "spacing", "median_shape"):
        other = with_configuration(abdomen, "2d", **{field: (value[0] + 1, *value[1:])})
    else:
        other = with_configuration(abdomen, "2d", **{field: changed(value)})

    assert len(section(compare_plans(abdomen, other), "2d").rows) == 1


@pytest.mark.parametrize("field", NetworkSpec.model_fields)
def test_no_field_of_a_network_is_overlooked(abdomen, field):
    network = abdomen.configurations["2d"].network
    other = network.model_copy(update={field: changed(getattr(network, field))})

    sections = compare_plans(abdomen, with_configuration(abdomen, "2d", network=other))

    assert len(section(sections, "2d").rows) == 1


@pytest.mark.parametrize("field", TrainingSpec.model_fields)
def test_no_field_of_the_recipe_is_overlooked(abdomen, field):
    training = abdomen.configurations["2d"].training
    other = training.model_copy(update={field: changed(getattr(training, field))})

    sections = compare_plans(abdomen, with_configuration(abdomen, "2d", training=other))

    assert len(section(sections, "2d").rows) == 1


def test_what_all_configurations_share_comes_first(abdomen):
    stats = abdomen.intensities[0].model_copy(update={"mean": 99.5})
    other = abdomen.model_copy(
        update={
            "preset": "resenc-m",
            "budget_bytes": 24 * 2**30,
            "transpose": (2, 0, 1),
            "channels": ("PET",),
            "label_values": (0, 1, 4),
            "intensities": (stats,),
        }
    )

    shared = compare_plans(abdomen, other)[0]

    rest = "std 50, median 100, min -10, max 300"
    assert shared.configuration is None
    assert shared.rows == (
        Row(what="preset", first="default", second="resenc-m"),
        Row(what="GPU memory", first="8 GB", second="25.77 GB"),
        Row(what="axis order", first="z, y, x", second="x, z, y"),
        Row(what="channels", first="CT", second="PET"),
        Row(what="label values", first="0, 1, 2", second="0, 1, 4"),
        Row(
            what="intensities of channel 0",
            first=f"-58 .. 302, mean 101, {rest}",
            second=f"-58 .. 302, mean 99.5, {rest}",
        ),
    )


def test_a_channel_only_one_plan_has_is_a_dash_in_the_other():
    one, two = plan("901"), plan("903")

    row = compare_plans(one, two)[0].rows[-1]

    assert (row.what, row.first) == ("intensities of channel 1", "-")
    assert row.second.startswith("-58 .. 302, mean 101")


def test_numbers_that_four_digits_make_equal_are_told_in_full(abdomen):
    lowres = abdomen.configurations["3d_lowres"].spacing
    other = with_configuration(abdomen, "3d_lowres", spacing=(3.0, lowres[1], 1.49455))

    (found,) = compare_plans(abdomen, other)

    assert found.rows == (
        Row(
            what="spacing",
            first="3 x 1.4945606589114102 x 1.4945606589114102 mm",
            second="3 x 1.4945606589114102 x 1.49455 mm",
        ),
    )


def test_mirror_axes_are_those_of_the_images_whatever_comes_first(abdomen):
    sagittal = abdomen.model_copy(update={"transpose": (2, 0, 1)})
    first = with_configuration(abdomen, "3d_fullres", training=TrainingSpec(mirror_axes=(0, 1)))
    second = with_configuration(sagittal, "3d_fullres", training=TrainingSpec(mirror_axes=(1, 2)))

    sections = compare_plans(first, second)

    assert [s.configuration for s in sections] == [None, "2d"]
    assert section(sections, "2d").rows == (Row(what="mirror axes", first="y, x", second="z, y"),)


def test_configurations_that_only_one_plan_has_are_named(abdomen):
    large = plan("902", preset="resenc-l", compatible=True)

    sections = compare_plans(large, abdomen)
    reverse = compare_plans(abdomen, large)

    assert [(s.configuration, s.only_in) for s in sections] == [
        (None, None),
        ("2d", None),
        ("3d_fullres", None),
        ("3d_lowres", "second"),
        ("3d_cascade_fullres", "second"),
    ]
    assert [s.only_in for s in reverse][-2:] == ["first", "first"]
    assert section(sections, "3d_lowres").rows == ()


def test_another_budget_shows_in_patch_batch_and_memory(abdomen):
    sections = compare_plans(abdomen, plan("902", budget_bytes=12 * 10**9, compatible=True))

    rows = {row.what: (row.first, row.second) for row in section(sections, "2d").rows}
    assert rows["batch size"] == ("12", "18")
    assert rows["memory of a training step"][0].endswith(" GB")
    assert len(set(rows["memory of a training step"])) == 2
