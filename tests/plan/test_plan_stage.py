import json
import logging
import shutil

import pytest
from conftest import make_toy

from autoseg.core.dataset import Split
from autoseg.errors import AutosegError
from autoseg.io.task import load_dataset, load_fingerprint, load_splits
from autoseg.io.workspace import TaskFolder
from autoseg.plan.planner import PlanRequest
from autoseg.plan.stage import plan_task, update_splits


def plan_again(task, request):
    return plan_task(task, load_dataset(task), load_fingerprint(task), request)


@pytest.fixture
def trained(tmp_path):
    """A toy with a plan that a fold was begun with."""
    toy = make_toy(tmp_path, num_cases=5)
    folder = toy.task.fold_folder("default", "3d_fullres", "default", "fold0")
    folder.root.mkdir(parents=True)
    return toy.task


def test_a_plan_with_models_is_not_replaced_by_another(trained):
    before = trained.plan_file("default").read_text()
    with pytest.raises(AutosegError, match=r"1 folds were trained with it.*--plan NAME"):
        plan_again(trained, PlanRequest(spacing=(4.0, 2.0, 2.0)))
    assert trained.plan_file("default").read_text() == before


def test_the_same_plan_may_be_made_again(trained):
    before = trained.plan_file("default").read_text()
    plan_again(trained, PlanRequest())
    assert trained.plan_file("default").read_text() == before


def test_a_plan_of_another_name_is_a_second_file(trained):
    plan_again(trained, PlanRequest(name="coarse", spacing=(4.0, 2.0, 2.0)))
    assert trained.plan_names() == ["coarse", "default"]


# Folds


@pytest.fixture
def planned(toy, tmp_path):
    """The toy task, planned and not trained, in a workspace of its own."""
    shutil.copytree(toy.workspace.root, tmp_path / "autoseg_workspace")
    return TaskFolder(tmp_path / "autoseg_workspace" / toy.task.name)


def train(task, fold):
    task.fold_folder("default", "3d_fullres", "default", fold).root.mkdir(parents=True)


def edit(task, change):
    data = json.loads(task.splits_file.read_text())
    change(data["folds"])
    task.splits_file.write_text(json.dumps(data))


def update(task, *names, **changes):
    """Folds of a task whose cases now have these names."""
    dataset, fingerprint = load_dataset(task), load_fingerprint(task)
    dataset = dataset.model_copy(
        update={
            "cases": tuple(dataset.cases[0].model_copy(update={"name": n}) for n in names),
            **changes,
        }
    )
    cases = tuple(fingerprint.cases[0].model_copy(update={"name": name}) for name in names)
    return update_splits(task, dataset, fingerprint.model_copy(update={"cases": cases}))


OLD = [f"ball_{number:02d}" for number in range(6)]


def test_dealt_folds_are_not_edited_ones(planned):
    assert not load_splits(planned).is_edited


def test_folds_follow_the_cases_while_none_is_trained(planned, caplog):
    with caplog.at_level(logging.INFO, logger="autoseg"):
        splits = update(planned, *OLD[1:], "ball_99")
    assert splits.case_names == {*OLD[1:], "ball_99"}
    assert load_splits(planned) == splits
    assert caplog.messages == ["the cases or their folds changed: they are divided anew"]


def test_folds_of_the_same_cases_stay_without_a_word(planned, caplog):
    before = planned.splits_file.read_bytes()
    with caplog.at_level(logging.INFO, logger="autoseg"):
        update(planned, *OLD)
    assert planned.splits_file.read_bytes() == before
    assert caplog.messages == []


def test_edited_folds_are_kept_and_cases_in_no_fold_are_told(planned, caplog):
    def keep_one_fold(folds):
        folds[:] = [{"train": OLD[:3], "validation": OLD[3:5]}]

    edit(planned, keep_one_fold)
    with caplog.at_level(logging.WARNING, logger="autoseg"):
        splits = update(planned, *OLD)
    assert splits.is_edited
    assert [len(fold.train) for fold in splits.folds] == [3]
    (message,) = caplog.messages
    assert message == (
        "1 case is in no fold (the first is 'ball_05'): the folds stay as they are, because they "
        "were edited by hand"
    )


def test_folds_written_by_hand_are_kept(planned):
    folds = [{"train": OLD[:3], "validation": OLD[3:]}]
    planned.splits_file.write_text(json.dumps({"format": 1, "folds": folds, "reason": "mine"}))
    assert update(planned, *OLD).reason == "mine"


def test_folds_are_frozen_once_trained_and_new_and_vanished_cases_are_told(planned, caplog):
    train(planned, "fold0")
    before = load_splits(planned)
    with caplog.at_level(logging.WARNING, logger="autoseg"):
        assert update(planned, *OLD[1:], "ball_98", "ball_99") == before
    (message,) = caplog.messages
    assert message == (
        "2 cases are in no fold (the first is 'ball_98') and 1 case of the folds is gone (the "
        "first is 'ball_00'): the folds stay as they are, because models were trained on them"
    )


def test_a_model_of_everything_freezes_no_folds(planned):
    train(planned, "everything")
    assert update(planned, *OLD, "ball_99").case_names == {*OLD, "ball_99"}


def test_folds_the_data_come_with_replace_dealt_ones_but_no_trained_ones(planned, caplog):
    folds = (Split(train=tuple(OLD[:4]), validation=tuple(OLD[4:])),)
    assert update(planned, *OLD, folds=folds, layout="nnunet").folds == folds
    assert load_splits(planned).reason == "taken over from splits_final.json"
    train(planned, "fold0")
    with caplog.at_level(logging.WARNING, logger="autoseg"):
        assert update(planned, *OLD, folds=(*folds, *folds)).folds == folds
    assert caplog.messages == [
        "the folds the data come with are not used, because models were trained on them"
    ]


def test_groups_of_the_data_are_not_divided(planned):
    dataset = load_dataset(planned)
    cases = tuple(
        case.model_copy(update={"group": "twins" if case.name in OLD[:2] else None})
        for case in dataset.cases
    )
    dataset = dataset.model_copy(update={"cases": cases})
    splits = update_splits(planned, dataset, load_fingerprint(planned))
    assert all(len({*OLD[:2]} & {*fold.validation}) in (0, 2) for fold in splits.folds)
    assert "6 cases in 5 groups" in splits.reason


def test_a_single_case_can_be_planned(tmp_path):
    task = make_toy(tmp_path, num_cases=1).task
    assert load_splits(task).folds == ()
    assert task.plan_names() == ["default"]


def test_a_case_cannot_be_trained_on_and_held_out(tmp_path):
    task = make_toy(tmp_path, num_cases=5).task
    data = json.loads(task.splits_file.read_text())
    data["folds"][1]["train"].append(data["folds"][1]["validation"][0])
    task.splits_file.write_text(json.dumps(data))
    with pytest.raises(AutosegError, match="fold 1 both trains on 'ball_0"):
        load_splits(task)


def test_a_case_cannot_be_listed_twice(planned):
    edit(planned, lambda folds: folds[2]["train"].append(folds[2]["train"][1]))
    with pytest.raises(AutosegError, match=r"splits\.json: fold 2 lists 'ball_02' 2 times"):
        load_splits(planned)


def test_a_fold_needs_both_parts(planned):
    edit(planned, lambda folds: folds[1]["train"].clear())
    with pytest.raises(AutosegError, match="fold 1 needs cases to train on and cases to hold out"):
        load_splits(planned)
