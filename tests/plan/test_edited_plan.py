"""Plans edited by hand: what is kept when planning again, and what is refused."""

import json
import shutil

import pytest
from test_planner import DATA_SETS, decision, labels, measured

from autoseg.core.plan import Plan
from autoseg.errors import ArtifactError, AutosegError
from autoseg.io import artifacts
from autoseg.io.task import load_dataset, load_fingerprint, load_plan
from autoseg.io.workspace import TaskFolder
from autoseg.plan.edits import NO_EDITS, find_edits
from autoseg.plan.planner import PlanRequest, make_plan
from autoseg.plan.stage import plan_task


def plan(data_set, edits=NO_EDITS, **request):
    spacings, shape, relative_size, channels, num_entries = DATA_SETS[data_set]
    fingerprint = measured(spacings, [shape] * len(spacings), relative_size, len(channels))
    return make_plan(fingerprint, channels, labels(num_entries), PlanRequest(**request), edits)


def edited(made, **changes):
    """A plan as its file reads after edits at places such as ``3d_fullres__patch_size``."""
    data = json.loads(made.model_dump_json())
    for place, value in changes.items():
        *parents, key = place.lstrip("_").split("__")
        inner = data["configurations"]
        for parent in parents:
            inner = inner[parent]
        inner[key] = value
    return Plan.model_validate_json(json.dumps(data))


def plan_again(data_set, edits, **request):
    """Plan, edit, and plan again."""
    before = edited(plan(data_set), **edits)
    return plan(data_set, find_edits(before, "plans/default.json"), **request)


def kept(made):
    found = [d for d in made.decisions if d.what == "edits kept"]
    return found[0].value if found else None


def test_a_plan_as_it_was_made_has_no_edits():
    assert find_edits(plan("902"), "").changed == {}
    again = plan_again("902", {})
    assert again == plan("902")
    assert kept(again) is None


def test_a_field_that_earlier_versions_lack_is_no_edit():
    made = plan("902")
    data = json.loads(made.model_dump_json())
    for configuration in data["configurations"].values():
        del configuration["training"]["warmup"]
    assert made.made_as is not None
    # As version 0.1 noted the default recipe.
    assert made.made_as["2d"]["training"] == "65e040ac"
    assert find_edits(Plan.model_validate_json(json.dumps(data)), "").changed == {}


def test_warm_up_is_an_edit():
    made = edited(plan("902"), _2d__training__warmup=0.1)
    assert set(find_edits(made, "").changed) == {"2d"}


def test_a_plan_that_does_not_tell_what_it_was_made_as_has_no_edits():
    unknown = plan("902").model_copy(update={"made_as": None})
    assert find_edits(unknown, "") == NO_EDITS


def test_an_edited_batch_is_kept_and_its_patch_planned_around_it():
    again = plan_again("902", {"3d_fullres__batch_size": 4})
    assert again.configurations["3d_fullres"].batch_size == 4
    assert again.configurations["3d_fullres"].patch_size < (40, 224, 224)
    assert again.configurations["3d_lowres"].batch_size == 2
    found = decision(again, "edits kept")
    assert found.value == "3d_fullres.batch_size"
    assert found.reason == (
        "edited by hand in plans/default.json; flags overrule edits, deleting the file drops them"
    )


def test_a_cascade_follows_the_edits_of_full_resolution_unless_it_has_its_own():
    again = plan_again("902", {"3d_fullres__patch_size": [32, 128, 160]}).configurations
    assert again["3d_cascade_fullres"].patch_size == again["3d_fullres"].patch_size
    again = plan_again(
        "902",
        {
            "3d_fullres__patch_size": [32, 128, 160],
            "3d_cascade_fullres__patch_size": [24, 128, 128],
        },
    )
    assert again.configurations["3d_cascade_fullres"].patch_size == (24, 128, 128)
    assert kept(again) == "3d_fullres.patch_size, 3d_cascade_fullres.patch_size"


def test_an_edited_patch_gets_a_network_and_a_batch_of_its_own():
    again = plan_again("905", {"3d_fullres__patch_size": [64, 96, 64]})
    full, usual = again.configurations["3d_fullres"], plan("905").configurations["3d_fullres"]
    assert full.patch_size == (64, 96, 64)
    assert full.network.num_stages == 5 < usual.network.num_stages
    assert full.batch_size > usual.batch_size
    assert again.configurations["2d"] == plan("905").configurations["2d"]


def test_an_edited_patch_the_network_rule_cannot_divide_is_refused_with_its_place():
    # The five halvings of the network in the file divide it, but the rule halves two axes of 9
    # voxels once more.
    with pytest.raises(AutosegError) as error:
        plan_again("905", {"3d_fullres__patch_size": [288, 288, 128]})
    assert str(error.value) == (
        "plans/default.json: configurations.3d_fullres.patch_size 288,288,128: not divisible by "
        "64,64,32; nearest: 256,256,128"
    )


def test_edited_spacings_are_kept_and_median_shapes_follow():
    again = plan_again(
        "902", {"3d_fullres__spacing": [6.0, 1.56, 1.56], "2d__spacing": [1.56, 1.56]}
    ).configurations
    assert again["3d_fullres"].spacing == (6.0, 1.56, 1.56)
    assert again["3d_fullres"].median_shape == (52, 256, 256)
    assert again["2d"].spacing == (1.56, 1.56)
    assert again["2d"].median_shape == (256, 256)


def test_an_edited_low_resolution_is_planned_at_its_spacing():
    again = plan_again("902", {"3d_lowres__spacing": [3.0, 2.0, 2.0]})
    low = again.configurations["3d_lowres"]
    assert low.spacing == (3.0, 2.0, 2.0)
    assert low.median_shape == (104, 200, 200)
    assert decision(again, "3d_lowres").reason == "edited by hand"


def test_edited_first_features_double_from_stage_to_stage():
    usual = plan("902").configurations["2d"].network.features_per_stage
    halved = [min(512, 16 * 2**stage) for stage in range(len(usual))]
    again = plan_again("902", {"2d__network__features_per_stage": halved})
    assert list(again.configurations["2d"].network.features_per_stage) == halved
    assert again.configurations["3d_fullres"].network.features_per_stage[0] == 32
    assert kept(again) == "2d.base_features"


def test_another_network_is_kept_as_it_is_with_its_patch():
    blocks = [3, 3, 3, 3, 3, 3, 3, 3]
    again = plan_again("902", {"2d__network__blocks_per_stage": blocks})
    made = again.configurations["2d"]
    assert list(made.network.blocks_per_stage) == blocks
    assert made.patch_size == (512, 512)
    assert made.batch_size < plan("902").configurations["2d"].batch_size
    assert kept(again) == "2d.network"


def test_what_nothing_follows_from_is_kept_as_it_is():
    again = plan_again(
        "902",
        {
            "2d__batch_dice": False,
            "2d__normalization": ["zscore"],
            "2d__training__epochs": 77,
            "3d_fullres__training__mirror_axes": [1],
        },
    )
    flat, full = again.configurations["2d"], again.configurations["3d_fullres"]
    assert (flat.batch_dice, flat.normalization, flat.training.epochs) == (False, ("zscore",), 77)
    assert flat.training.mirror_axes == (0, 1)
    assert (full.training.mirror_axes, full.training.epochs) == ((1,), 1000)
    assert decision(again, "batch Dice", "2d").reason == "edited by hand"
    assert decision(again, "mirror axes", "3d_fullres").value == "y"
    assert "edited by hand" in decision(again, "mirror axes", "3d_fullres").reason
    assert kept(again) == ("2d.batch_dice, 2d.normalization, 2d.training, 3d_fullres.mirror_axes")


def test_edits_stay_edits_however_often_is_planned():
    again = plan_again("902", {"2d__batch_size": 5})
    third = plan("902", find_edits(again, "plans/default.json"))
    assert third == again
    assert third.configurations["2d"].batch_size == 5


def test_an_edit_taken_back_is_none():
    again = plan_again("902", {"2d__batch_size": 5})
    back = edited(again, **{"2d__batch_size": 12})
    assert find_edits(back, "").changed == {}


@pytest.mark.parametrize(
    ("edit", "request_", "field"),
    [
        ({"3d_fullres__batch_size": 4}, {"batch_size": 3}, "batch_size"),
        ({"3d_fullres__patch_size": [32, 128, 160]}, {"patch_size": (32, 160, 160)}, "patch_size"),
        ({"3d_fullres__spacing": [6.0, 2.0, 2.0]}, {"spacing": (4.0, 1.0, 1.0)}, "spacing"),
    ],
)
def test_flags_overrule_edits(edit, request_, field):
    again = plan_again("902", edit, **request_)
    assert getattr(again.configurations["3d_fullres"], field) == request_[field]
    assert kept(again) is None
    assert find_edits(again, "").changed == {}


def test_a_flag_for_2d_overrules_no_edit_of_3d():
    again = plan_again("902", {"3d_fullres__patch_size": [32, 128, 160]}, patch_size=(256, 256))
    assert again.configurations["2d"].patch_size == (256, 256)
    assert again.configurations["3d_fullres"].patch_size == (32, 128, 160)


def test_flags_about_features_and_mirroring_overrule_edits():
    features = [16, 32, 64, 128, 256, 320]
    edit = {
        "3d_fullres__network__features_per_stage": features,
        "3d_fullres__training__mirror_axes": [],
    }
    full = plan_again("902", edit, base_features=8, mirror_axes=(0, 1)).configurations["3d_fullres"]
    assert full.network.features_per_stage[0] == 8
    assert full.training.mirror_axes == (0, 1)


def test_a_configuration_of_the_users_own_is_kept():
    made = plan("902")
    own = made.configurations["3d_lowres"].model_copy(update={"batch_size": 9})
    before = made.model_copy(update={"configurations": made.configurations | {"mine": own}})
    again = plan("902", find_edits(before, "plans/default.json"))
    assert again.configurations["mine"] == own
    assert kept(again) == "mine"
    assert plan("902", find_edits(again, "plans/default.json")) == again


def test_a_configuration_that_needs_one_no_longer_planned_is_refused():
    made = plan("902")
    before = made.model_copy(
        update={
            "configurations": made.configurations
            | {"mine": made.configurations["3d_cascade_fullres"]}
        }
    )
    with pytest.raises(AutosegError) as error:
        plan("902", find_edits(before, "p.json"), spacing=(9.0, 4.0, 4.0))
    assert "p.json: configurations.mine.previous: '3d_lowres' is not planned any more" in str(
        error.value
    )


def test_edits_for_another_axis_order_are_refused():
    before = edited(plan("911"), **{"3d_fullres__batch_size": 3})
    with pytest.raises(AutosegError) as error:
        plan("911", find_edits(before, "p.json"), spacing=(3.0, 1.0, 1.0))
    assert str(error.value) == (
        "p.json: edited by hand for other axis order: [2, 0, 1], where the data now ask for "
        "[0, 1, 2]; plan under another name (--plan NAME), or delete the file"
    )


def test_edits_of_a_configuration_no_longer_planned_are_told_to_be_lost():
    again = plan_again("902", {"3d_lowres__batch_size": 3}, spacing=(9.0, 4.0, 4.0))
    found = decision(again, "edits kept")
    assert found.value == "none"
    assert "those of 3d_lowres are lost, which is not planned any more" in found.reason


# In the workspace


@pytest.fixture
def task(toy, tmp_path):
    shutil.copytree(toy.workspace.root, tmp_path / "autoseg_workspace")
    return TaskFolder(tmp_path / "autoseg_workspace" / toy.task.name)


def rewrite(task, change):
    file = task.plan_file("default")
    data = json.loads(file.read_text())
    change(data)
    file.write_text(json.dumps(data))


def replan(task, **request):
    return plan_task(task, load_dataset(task), load_fingerprint(task), PlanRequest(**request))


def test_planning_again_keeps_the_edits_of_the_file(task, caplog):
    def edit(data):
        data["configurations"]["3d_fullres"]["training"]["epochs"] = 12

    rewrite(task, edit)
    replan(task)
    assert load_plan(task, "default").configurations["3d_fullres"].training.epochs == 12
    assert caplog.messages == []


def test_an_unedited_plan_is_replaced(task, caplog):
    replan(task, base_features=8)
    assert caplog.messages == ["plan 'default' was another one; it is replaced"]


def test_an_edited_plan_with_models_is_not_changed_by_planning_again(task):
    def edit(data):
        data["configurations"]["3d_fullres"]["training"]["epochs"] = 12

    rewrite(task, edit)
    task.fold_folder("default", "3d_fullres", "default", "fold0").root.mkdir(parents=True)
    replan(task)
    with pytest.raises(AutosegError, match="1 folds were trained with it"):
        replan(task, batch_size=1)


# Plans edited into nonsense


def configuration(**changes):
    def change(data):
        data["configurations"]["3d_fullres"].update(changes)

    return change


def network(**changes):
    def change(data):
        data["configurations"]["3d_fullres"]["network"].update(changes)

    return change


def training(**changes):
    def change(data):
        data["configurations"]["3d_fullres"]["training"].update(changes)

    return change


FULL = "configurations.3d_fullres"
NONSENSE = {
    "patch": (
        configuration(patch_size=[30, 33, 31]),
        FULL + ": 'patch_size' [30, 33, 31] is not divisible by {d}, the product of the network's "
        "strides; nearest: ",
    ),
    "batch": (configuration(batch_size=0), FULL + ".batch_size: "),
    "batch of words": (configuration(batch_size="many"), FULL + ".batch_size: "),
    "half a patch": (configuration(batch_size=2.5), FULL + ".batch_size: "),
    "spacing": (configuration(spacing=[1.0, -1.0, 1.0]), "must be positive"),
    "not a number": (configuration(spacing=[1.0, float("nan"), 1.0]), FULL + ".spacing.1: "),
    "infinite": (training(learning_rate=float("inf")), FULL + ".training.learning_rate: "),
    "axes": (configuration(spacing=[1.0, 1.0]), "need 3 entries"),
    "median shape": (configuration(median_shape=[9.0]), "'median_shape' needs 3 entries"),
    "key": (
        configuration(batch_sise=3),
        FULL + ": unknown key 'batch_sise' (did you mean 'batch_size'?)",
    ),
    "kernel": (network(kernel_sizes=[[2, 2, 2]]), FULL + ".network: "),
    "mirror axis": (training(mirror_axes=[3]), "'mirror_axes' must be below 3"),
    "previous": (configuration(previous="3d_low"), "no configuration '3d_low'"),
    "newer": (
        lambda data: data.update(format=2),
        "written by a newer autoseg (format 2; this version reads up to 1); update autoseg",
    ),
    "made as": (lambda data: data.update(made_as=3), "made_as: "),
}


@pytest.mark.parametrize("case", NONSENSE)
def test_a_plan_edited_into_nonsense_is_refused_by_reading_and_by_planning(case, task):
    change, finding = NONSENSE[case]
    made = load_plan(task, "default").configurations["3d_fullres"]
    rewrite(task, change)
    for command in (lambda: load_plan(task, "default"), lambda: replan(task)):
        with pytest.raises(ArtifactError) as error:
            command()
        message = str(error.value)
        assert message.count("default.json: ") == 1
        assert "\n" not in message
        assert finding.replace("{d}", str(list(made.network.downsampling))) in message


def test_the_nearest_patch_of_a_network_is_named(tmp_path):
    made = plan("905")
    file = tmp_path / "p.json"
    data = json.loads(made.model_dump_json())
    data["configurations"]["3d_fullres"]["patch_size"] = [100, 120, 10]
    file.write_text(json.dumps(data))
    with pytest.raises(ArtifactError) as error:
        artifacts.load(file, Plan)
    assert str(error.value).endswith(
        "'patch_size' [100, 120, 10] is not divisible by [32, 32, 32], the product of the "
        "network's strides; nearest: [96, 128, 32]"
    )
