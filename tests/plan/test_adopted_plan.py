"""Plans of nnU-Net adopted for data of ours."""

import json
import logging

import pytest
from peer_models import STATS as PEER_STATS
from peer_models import configuration, plans
from test_planner import decision, measured

from autoseg.core.fingerprint import IntensityStats
from autoseg.core.labels import LabelSpace, Structure
from autoseg.errors import AutosegError, DataError
from autoseg.io.nnunet_plans import read_plans
from autoseg.plan.edits import NO_EDITS, find_edits
from autoseg.plan.kept import make_or_keep_plan
from autoseg.plan.planner import PlanRequest

LABELS = LabelSpace(
    structures=(Structure(name="shell", values=(1,)), Structure(name="core", values=(2,)))
)
CONFIGURATIONS = {
    "2d": configuration(),
    "3d_fullres": configuration(3),
    "3d_lowres": configuration(3, spacing=[4.0, 2.0, 2.0]),
    "3d_cascade_fullres": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
    "mine": {"inherits_from": "3d_fullres", "batch_size": 5},
}


@pytest.fixture
def adopt(tmp_path):
    def adopt(content=None, channels=("MRI",), shape=(10, 24, 20), edits=NO_EDITS, **request):
        file = tmp_path / "nnUNetPlans.json"
        file.write_text(json.dumps(content or plans(CONFIGURATIONS)))
        wanted = PlanRequest(peer=read_plans(file), **request)
        data = measured([(2.5, 1.25, 1.0)] * 6, [shape] * 6, num_channels=len(channels))
        return make_or_keep_plan(data, channels, LABELS, wanted, edits)

    return adopt


def test_every_configuration_is_adopted_also_those_that_users_added(adopt):
    plan = adopt(plans(CONFIGURATIONS, transpose_forward=[1, 0, 2]))

    assert list(plan.configurations) == list(CONFIGURATIONS)
    assert (plan.name, plan.transpose, plan.channels) == ("default", (1, 0, 2), ("MRI",))
    assert plan.intensities == (IntensityStats(**PEER_STATS),)
    mine, cascade = plan.configurations["mine"], plan.configurations["3d_cascade_fullres"]
    assert (mine.batch_size, mine.patch_size, mine.spacing) == (5, (8, 16, 12), (2.5, 1.25, 1.0))
    assert (cascade.previous, cascade.batch_dice) == ("3d_lowres", False)
    assert plan.label_values == (0, 1, 2)


def test_each_decision_says_where_it_comes_from(adopt):
    plan = adopt()

    assert plan.decisions[0].value == "adopted from nnU-Net's nnUNetPlans"
    told = decision(plan, "normalization of MRI")
    assert told.reason == (
        "adopted from nnU-Net's nnUNetPlans: every image by its own mean and standard deviation"
    )
    assert decision(plan, "patch size", "3d_fullres").value == "8x16x12"
    assert decision(plan, "previous stage", "3d_cascade_fullres").value == "3d_lowres"


def test_what_is_left_out_is_told_and_warned_of(adopt, caplog):
    odd = CONFIGURATIONS | {"odd": configuration(resampling_fn_seg="mine")}

    with caplog.at_level(logging.WARNING):
        plan = adopt(plans(odd))

    assert "odd" not in plan.configurations
    reason = "resampling_fn_seg: 'mine' is none that autoseg has (resample_data_or_seg_to_shape)"
    assert (decision(plan, "left out").value, decision(plan, "left out").reason) == ("odd", reason)
    (message,) = caplog.messages
    assert message.endswith(f"nnUNetPlans.json: configurations.odd: left out: {reason}")


def test_mirrored_are_the_axes_the_user_names_or_with_compatible_all(adopt):
    turned = plans(CONFIGURATIONS, transpose_forward=[2, 0, 1])

    named = adopt(turned, mirror_axes=(2, 1))
    assert named.configurations["3d_fullres"].training.mirror_axes == (0, 2)
    assert named.configurations["2d"].training.mirror_axes == (1,)
    every = adopt(turned, compatible=True)
    assert every.configurations["3d_fullres"].training.mirror_axes == (0, 1, 2)
    assert decision(every, "mirror axes", "2d").reason == "all, as nnU-Net does (--compatible)"


def test_a_wished_batch_counts_and_a_memory_that_is_too_small_is_warned_of(adopt):
    plan = adopt(batch_size=3, budget_bytes=10**8)

    assert {planned.batch_size for planned in plan.configurations.values()} == {3}
    warnings = [one.value for one in plan.decisions if one.what == "warning"]
    assert warnings == [f"{name} beyond 0.1 GB" for name in CONFIGURATIONS]


def test_of_single_slices_only_the_2d_configuration_is_adopted(adopt):
    plan = adopt(shape=(1, 24, 20))

    assert list(plan.configurations) == ["2d"]
    left_out = [one.value for one in plan.decisions if one.what == "left out"]
    assert left_out == [name for name in CONFIGURATIONS if name != "2d"]


def test_a_3d_plan_of_single_slices_is_refused(adopt):
    with pytest.raises(DataError, match="single slice, but the plan has no 2D configuration"):
        adopt(plans({"3d": configuration(3)}), shape=(1, 24, 20))


def test_a_plan_for_other_channels_is_refused(adopt):
    with pytest.raises(AutosegError, match=r"planned for 1 channel, but the data have 2: T1, T2; "):
        adopt(channels=("T1", "T2"))


@pytest.mark.parametrize(
    ("wish", "flag"),
    [
        ({"spacing": (1.0, 1.0, 1.0)}, "--spacing"),
        ({"preset": "resenc-m"}, "--preset"),
        ({"base_features": 8}, "--base-features"),
        ({"patch_size": (8, 8, 8)}, "--patch-size"),
    ],
)
def test_flags_that_shape_networks_mean_nothing(adopt, wish, flag):
    with pytest.raises(AutosegError, match=f"^{flag} means nothing with --from-nnunet, which"):
        adopt(**wish)


def test_edits_are_kept_when_it_is_adopted_again(adopt):
    first = adopt()
    edited = dict(first.configurations)
    edited["2d"] = edited["2d"].model_copy(update={"batch_size": 11})
    edits = find_edits(first.model_copy(update={"configurations": edited}), "plans/default.json")

    again = adopt(edits=edits)

    assert again.configurations["2d"].batch_size == 11
    assert decision(again, "edits kept").value == "2d.batch_size"
