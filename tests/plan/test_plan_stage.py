import json
import logging

import pytest
from conftest import make_toy

from autoseg.errors import AutosegError
from autoseg.io.task import load_dataset, load_fingerprint, load_splits
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


def test_edited_splits_are_kept(tmp_path):
    task = make_toy(tmp_path, num_cases=5).task
    data = json.loads(task.splits_file.read_text())
    data["folds"] = data["folds"][:1]
    data["folds"][0] = {
        "train": ["ball_00", "ball_01", "ball_02"],
        "validation": ["ball_03", "ball_04"],
    }
    task.splits_file.write_text(json.dumps(data))
    assert len(update_splits(task, load_dataset(task)).folds) == 1


def test_folds_are_frozen_once_trained_and_new_cases_are_left_out_aloud(trained, caplog):
    description = json.loads(trained.task_file.read_text())
    description["cases"].append(description["cases"][0] | {"name": "ball_99"})
    trained.task_file.write_text(json.dumps(description))
    before = load_splits(trained)
    with caplog.at_level(logging.WARNING, logger="autoseg"):
        assert update_splits(trained, load_dataset(trained)) == before
    assert "1 new ones are in no fold" in caplog.text


def test_a_case_cannot_be_trained_on_and_held_out(tmp_path):
    task = make_toy(tmp_path, num_cases=5).task
    data = json.loads(task.splits_file.read_text())
    data["folds"][1]["train"].append(data["folds"][1]["validation"][0])
    task.splits_file.write_text(json.dumps(data))
    with pytest.raises(AutosegError, match="fold 1 both trains on 'ball_0"):
        load_splits(task)
