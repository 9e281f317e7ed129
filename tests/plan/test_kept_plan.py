"""Plans kept from a model: what stays, what the data change, what is warned of and refused."""

import json
from dataclasses import replace

import pytest
from test_planner import STATS, decision, measured

from autoseg.core.fingerprint import StructureMeasure
from autoseg.core.labels import LabelSpace, Structure
from autoseg.core.model import Member, Model
from autoseg.core.plan import Plan, TrainingSpec
from autoseg.errors import AutosegError, DataError
from autoseg.plan.edits import NO_EDITS, find_edits
from autoseg.plan.kept import make_or_keep_plan
from autoseg.plan.planner import PlanRequest, make_plan

ABDOMEN = measured([(3.0, 0.78, 0.78)] * 210, [(104, 512, 512)] * 210)
OTHER_STATS = STATS.model_copy(update={"mean": 55, "percentile_99_5": 187})
"""Intensities of the data that are planned, as against those of the model's."""


def organs(*names):
    structures = (Structure(name=name, values=(i,)) for i, name in enumerate(names, start=1))
    return LabelSpace(structures=tuple(structures))


def model_of(plan, labels, configuration="3d_fullres"):
    return Model(
        task="Task_A",
        run="default",
        channels=plan.channels,
        labels=labels,
        plan=plan,
        training=TrainingSpec(),
        held_out=(),
        members=(Member(configuration=configuration, fold="fold0", weights="w.safetensors"),),
        min_spacing=(3.0, 0.78, 0.78),
        max_spacing=(3.0, 0.78, 0.78),
        versions={},
    )


def abdomen(configuration="3d_fullres", channels=("CT",), **request):
    """A model of an abdomen CT, or of several channels."""
    fingerprint = ABDOMEN.model_copy(update={"intensities": (STATS,) * len(channels)})
    plan = make_plan(fingerprint, channels, organs("liver"), PlanRequest(**request))
    return model_of(plan, organs("liver"), configuration)


def data(spacing=(4.0, 1.0, 1.0), shape=(80, 320, 320), num_channels=1, num_cases=12):
    made = measured([spacing] * num_cases, [shape] * num_cases, num_channels=num_channels)
    return made.model_copy(update={"intensities": (OTHER_STATS,) * num_channels})


def kept(source=None, fingerprint=None, channels=("CT",), labels=None, edits=NO_EDITS, **request):
    wanted = PlanRequest(source=source or abdomen(), **request)
    return make_or_keep_plan(
        fingerprint or data(), channels, labels or organs("liver", "spleen"), wanted, edits
    )


def warnings(plan):
    return [decision.value for decision in plan.decisions if decision.what == "warning"]


# What stays


def test_all_that_shapes_weights_and_images_is_the_models():
    source = abdomen()
    plan, old = kept(source), source.plan
    assert (plan.transpose, plan.preset, plan.budget_bytes) == (
        old.transpose,
        old.preset,
        old.budget_bytes,
    )
    assert list(plan.configurations) == list(old.configurations)
    changed = {"median_shape"}
    for name, configuration in plan.configurations.items():
        known = old.configurations[name].model_dump(exclude=changed)
        assert configuration.model_dump(exclude=changed) == known
    assert warnings(plan) == []


def test_labels_channels_and_the_median_case_are_those_of_the_data():
    plan = kept()
    assert plan.label_values == (0, 1, 2)
    assert plan.configurations["3d_fullres"].median_shape == (107, 410, 410)
    assert plan.configurations["2d"].median_shape == (410, 410)


def test_intensities_are_those_the_model_was_trained_with():
    plan = kept()
    assert plan.intensities == (STATS,)
    assert plan.recipe("3d_fullres").intensities == (STATS,)
    told = decision(plan, "normalization of CT")
    assert told.reason == (
        "kept from the model, with its intensities: clipped to -58 .. 302 (0.5 and 99.5 "
        "percentiles inside the structures), minus 101, divided by 50, the same for all cases"
    )


def test_the_first_decision_says_where_the_plan_is_from():
    first = kept().decisions[0]
    assert (first.what, first.value) == ("plan", "kept from Task_A 3d_fullres fold0")


def test_memory_is_estimated_for_the_structures_of_the_data():
    few = decision(kept(), "memory of a training step", "3d_fullres")
    many = organs(*(f"organ {number}" for number in range(100)))
    more = decision(kept(labels=many), "memory of a training step", "3d_fullres")
    assert few.value != more.value
    assert "3d_fullres beyond 8 GB" in warnings(kept(labels=many))


def test_without_a_model_the_plan_is_derived():
    fingerprint, labels = data(), organs("liver")
    plan = make_or_keep_plan(fingerprint, ("CT",), labels, PlanRequest())
    assert plan == make_plan(fingerprint, ("CT",), labels, PlanRequest())


def test_a_warning_is_said_and_not_only_noted(caplog):
    kept(fingerprint=data(spacing=(4.0, 2.0, 2.0)))
    assert "another spacing: the data have 4 x 2 x 2 mm, the model sees them at" in caplog.text


# Channels


def test_channels_are_found_by_name_and_new_ones_planned_by_theirs():
    source = abdomen(channels=("CT", "T1"))
    plan = kept(source, data(num_channels=3), channels=("PET", "ct", "T1"))
    assert plan.intensities == (OTHER_STATS, STATS, STATS)
    assert plan.configurations["2d"].normalization == ("zscore", "ct", "zscore")
    assert decision(plan, "normalization of PET").reason.startswith("the model does not know it; ")
    assert warnings(plan) == []


def test_a_channel_that_the_data_lack_is_warned_of():
    plan = kept(abdomen(channels=("CT", "T1")), channels=("CT",))
    assert warnings(plan) == ["channels missing"]
    assert len(plan.configurations["3d_fullres"].normalization) == 1


def test_an_only_channel_of_another_name_is_warned_of():
    assert warnings(kept(abdomen(channels=("MRI",)), channels=("T1",))) == ["another channel"]


@pytest.mark.parametrize(
    ("known", "channels"), [(("CT",), ("MRI",)), (("T1", "T2"), ("PET", "CT"))]
)
def test_channels_that_mean_nothing_to_the_model_are_refused(known, channels):
    with pytest.raises(AutosegError) as error:
        kept(abdomen(channels=known), data(num_channels=len(channels)), channels)
    assert str(error.value).startswith(
        f"Task_A 3d_fullres fold0: the model knows the channels {', '.join(known)}, not "
        f"{', '.join(channels)}"
    )
    assert "name them alike in dataset.json" in str(error.value)


def test_a_new_channel_is_masked_where_the_data_are_cropped():
    source = abdomen(channels=("T1",))
    cropped = measured([(3.0, 0.8, 0.8)] * 9, [(90, 400, 400)] * 9, 0.5, 2)
    plan = kept(source, cropped, ("T1", "T2"))
    assert plan.configurations["2d"].use_mask_for_norm == (False, True)


# Wishes


def test_patch_batch_and_mirroring_do_not_touch_the_weights_and_may_be_given():
    source = abdomen()
    patch = (32, 192, 192)
    assert source.plan.configurations["3d_fullres"].patch_size == (40, 224, 224)
    plan = kept(source, patch_size=patch, batch_size=3, mirror_axes=(2,), name="other")
    planned = plan.configurations["3d_fullres"]
    assert (planned.patch_size, planned.batch_size) == (patch, 3)
    assert planned.training.mirror_axes == (2,)
    assert plan.name == "other"
    assert decision(plan, "patch size", "3d_fullres").reason.startswith("given by the user")
    assert decision(plan, "batch size", "3d_fullres").reason == "given by the user"
    assert decision(plan, "mirror axes", "3d_fullres").reason == "given by the user"


def test_a_patch_the_network_cannot_divide_is_refused_with_the_nearest():
    with pytest.raises(AutosegError) as error:
        kept(patch_size=(40, 200, 230))
    assert str(error.value) == (
        "--patch-size 40,200,230: not divisible by 8,32,32, as the model's network needs it; "
        "nearest: 40,192,224"
    )


def test_a_patch_is_rounded_up_for_what_is_not_the_models_configuration():
    source = abdomen()
    low = source.plan.configurations["3d_lowres"].network.downsampling
    assert low == (16, 32, 32)
    plan = kept(source, patch_size=(40, 192, 192))
    assert plan.configurations["3d_lowres"].patch_size == (48, 192, 192)


def test_a_named_memory_makes_batches_smaller_and_says_so():
    source = abdomen(budget_bytes=24 * 10**9)
    old = source.plan.configurations["2d"].batch_size
    plan = kept(source, budget_bytes=10 * 10**9)
    assert plan.budget_bytes == 10 * 10**9
    assert 2 <= plan.configurations["2d"].batch_size < old
    told = decision(plan, "batch size", "2d")
    assert told.reason == f"the model's {old} would not fit 10 GB"


@pytest.mark.parametrize(
    ("flag", "wish"),
    [
        ("--spacing", {"spacing": (1.0, 1.0, 1.0)}),
        ("--preset", {"preset": "resenc"}),
        ("--base-features", {"base_features": 8}),
        ("--compatible", {"compatible": True}),
    ],
)
def test_what_the_model_decides_cannot_be_wished(flag, wish):
    with pytest.raises(AutosegError, match=f"{flag} means nothing with --from-model"):
        PlanRequest(source=abdomen(), **wish)


# Data


@pytest.mark.parametrize(
    ("spacing", "is_far"),
    [((3.0, 0.78, 0.78), False), ((5.0, 1.5, 1.5), False), ((3.0, 0.3, 0.3), True)],
)
def test_a_spacing_far_from_the_models_is_warned_of(spacing, is_far):
    assert warnings(kept(fingerprint=data(spacing))) == (["another spacing"] if is_far else [])


def test_a_low_resolution_is_not_taken_for_what_the_model_sees():
    assert warnings(kept(abdomen("3d_lowres"), fingerprint=data((3.0, 0.6, 0.6)))) == []


def test_axes_that_the_data_forbid_are_not_mirrored():
    apart = [
        StructureMeasure(centroid=(0.0, 0.0, side * 60.0), means=(50.0,), stds=(10.0,))
        for side in (-1, 1)
    ]
    fingerprint = data()
    cases = tuple(
        case.model_copy(update={"structures": tuple(apart), "label_voxels": (9000, 9000)})
        for case in fingerprint.cases
    )
    fingerprint = fingerprint.model_copy(update={"cases": cases, "label_values": (0, 1, 2)})
    plan = kept(fingerprint=fingerprint, labels=organs("kidney_right", "kidney_left"))
    full = plan.configurations["3d_fullres"]
    assert full.training.mirror_axes == (0, 1)
    told = decision(plan, "mirror axes", "3d_fullres")
    assert (told.value, told.reason) == (
        "z, y",
        "kept from the model, but for x, which the data forbid",
    )


def test_single_slices_keep_the_2d_configuration_of_a_2d_model_only():
    flat = data((999.0, 1.0, 1.0), (1, 320, 320))
    assert list(kept(abdomen("2d"), flat).configurations) == ["2d"]
    with pytest.raises(DataError, match="a single slice, but Task_A 3d_fullres fold0 is a 3D"):
        kept(abdomen(), flat)


def test_a_patch_for_no_configuration_is_refused():
    flat = data((999.0, 1.0, 1.0), (1, 320, 320))
    with pytest.raises(AutosegError, match="--patch-size 32,64,64: no 3D configuration is kept"):
        kept(abdomen("2d"), flat, patch_size=(32, 64, 64))


def test_a_data_set_without_cases_is_refused():
    empty = data().model_copy(update={"cases": ()})
    with pytest.raises(DataError, match="there is no training case"):
        kept(fingerprint=empty)


# Edits


def edited(plan, **changes):
    loaded = json.loads(plan.model_dump_json())
    loaded["configurations"]["3d_fullres"] |= changes
    return Plan.model_validate_json(json.dumps(loaded))


def test_edits_of_a_kept_plan_are_kept_when_it_is_kept_again():
    before = edited(kept(), batch_size=4, batch_dice=False)
    again = kept(edits=find_edits(before, "plans/default.json"))
    assert again.configurations["3d_fullres"].batch_size == 4
    assert again.configurations["3d_fullres"].batch_dice is False
    assert decision(again, "edits kept").value == "3d_fullres.batch_size, 3d_fullres.batch_dice"
    assert decision(again, "batch size", "3d_fullres").reason == "edited by hand"
    twice = kept(edits=find_edits(again, "plans/default.json"))
    assert twice.configurations == again.configurations


def test_an_edited_patch_and_network_are_kept_together():
    full = kept().configurations["3d_fullres"]
    network = full.network.model_dump() | {"blocks_per_stage": [3] * full.network.num_stages}
    before = edited(kept(), network=network, patch_size=[40, 192, 192])
    again = kept(edits=find_edits(before, "plans/default.json")).configurations["3d_fullres"]
    assert again.network.blocks_per_stage == (3,) * full.network.num_stages
    assert again.patch_size == (40, 192, 192)


def test_a_flag_overrules_an_edit():
    before = edited(kept(), batch_size=4)
    wanted = find_edits(before, "plans/default.json")
    assert kept(edits=wanted, batch_size=5).configurations["3d_fullres"].batch_size == 5


def test_a_plan_that_is_kept_has_no_edits():
    assert find_edits(kept(), "").changed == {}
    assert replace(find_edits(kept(), ""), before=None) == NO_EDITS
