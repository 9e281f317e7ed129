import json
import logging
import os
import shutil
from dataclasses import replace

import pytest
from conftest import write_toy_dataset
from pictures_dataset import write_as_nnunet

from autoseg.core.dataset import Dataset
from autoseg.core.metrics import Report
from autoseg.demo import stage as demo_stage
from autoseg.errors import AutosegError, DataError, InterruptedRunError, WorkspaceError
from autoseg.io import artifacts
from autoseg.io.workspace import TaskFolder, Workspace
from autoseg.pipeline import demo as pipeline_demo
from autoseg.pipeline.data import plan_folder
from autoseg.pipeline.demo import run_demo
from autoseg.pipeline.training import parse_folds, run_task, train_and_validate, validate
from autoseg.plan.planner import PlanRequest
from autoseg.train.inputs import TrainingChanges, TrainRequest
from autoseg.train.stage import train_fold

SHORT = {"epochs": 1, "steps_per_epoch": 2, "validation_steps": 1}
REQUEST = TrainRequest(
    configuration="2d",
    fold="fold0",
    changes=TrainingChanges(**SHORT),
    device="cpu",
    precision="float32",
    workers=0,
)
SMALL = PlanRequest(base_features=4)


@pytest.fixture
def task(toy, tmp_path):
    """The toy task in a workspace of its own, with a small network."""
    shutil.copytree(toy.workspace.root, tmp_path / "workspace")
    task = TaskFolder(tmp_path / "workspace" / toy.task.name)
    plan = json.loads(task.plan_file("default").read_text())
    plan["configurations"]["2d"]["network"]["features_per_stage"] = [4, 8, 16]
    task.plan_file("default").write_text(json.dumps(plan))
    return task


@pytest.mark.parametrize(
    ("text", "folds"),
    [
        ("0", ["fold0"]),
        ("fold4", ["fold4"]),
        ("all", ["fold0", "fold1", "fold2", "fold3", "fold4"]),
        ("everything", ["everything"]),
    ],
)
def test_folds_are_written_as_numbers_or_names(toy, text, folds):
    assert parse_folds(toy.task, text) == folds


@pytest.mark.parametrize("text", ["5", "fold5", "banana", "-1", "00", "foldfold0", "ALL", ""])
def test_a_fold_there_is_not_names_those_there_are(toy, text):
    with pytest.raises(AutosegError, match=r"no fold '.*': the folds are 0 to 4; choose .*'all'"):
        parse_folds(toy.task, text)


def test_a_planned_folder_becomes_the_current_task(toy):
    assert toy.workspace.current() == "Task01_Ball"
    dataset = artifacts.load(toy.task.task_file, Dataset)
    assert dataset.root == toy.raw
    assert [case.name for case in dataset.cases] == [f"ball_{n:02d}" for n in range(6)]


def test_raw_data_that_moved_are_planned_from_their_new_place(toy, tmp_path, task, caplog):
    moved = tmp_path / "elsewhere" / toy.raw.name
    shutil.copytree(toy.raw, moved)
    with caplog.at_level(logging.INFO, logger="autoseg"):
        plan_folder(Workspace(task.root.parent), moved, PlanRequest(), workers=0)
    assert f"the raw data of Task01_Ball are now taken from {moved}" in caplog.text
    assert artifacts.load(task.task_file, Dataset).root == moved


def test_a_folder_that_cannot_be_planned_does_not_become_the_current_task(toy, tmp_path, task):
    raw = write_toy_dataset(tmp_path / "Task02_Broken", num_cases=2)
    image = raw / "imagesTr" / "ball_01.nii.gz"
    image.write_bytes(image.read_bytes()[:100])
    workspace = Workspace(task.root.parent)
    with pytest.raises(DataError, match="ball_01"):
        plan_folder(workspace, raw, PlanRequest(), workers=0)
    assert workspace.current() == "Task01_Ball"


def test_validating_an_untrained_fold_names_the_command(task):
    with pytest.raises(WorkspaceError, match="run: autoseg train 2d fold0"):
        validate(task, REQUEST)


@pytest.mark.slow
def test_a_report_newer_than_the_weights_is_kept(task):
    report = train_and_validate(task, REQUEST)
    assert [case.name for case in report.cases] == ["ball_03", "ball_05"]
    where = ("default", "2d", "default", "fold0")
    file = task.report_file(*where)
    artifacts.save(file, report.model_copy(update={"predictions": "marked"}))
    assert validate(task, REQUEST).predictions == "marked"
    weights = task.fold_folder(*where).weights
    os.utime(file, ns=(weights.stat().st_mtime_ns - 1,) * 2)
    assert validate(task, REQUEST) == report
    artifacts.save(file, report.model_copy(update={"predictions": "marked"}))
    assert validate(task, REQUEST, again=True) == report


@pytest.mark.slow
def test_a_model_of_everything_has_no_scores(task):
    request = replace(REQUEST, fold="everything")
    assert train_and_validate(task, request) is None
    assert task.fold_folder("default", "2d", "default", "everything").is_finished


@pytest.mark.slow
def test_held_out_images_that_went_missing_are_named(task, toy, tmp_path):
    raw = tmp_path / toy.raw.name
    shutil.copytree(toy.raw, raw)
    plan_folder(Workspace(task.root.parent), raw, PlanRequest(), workers=0)
    (raw / "imagesTr" / "ball_03.nii.gz").unlink()
    with pytest.raises(AutosegError, match=r"1 cases failed: ball_03: .*ball_03\.nii\.gz"):
        train_and_validate(task, REQUEST)


@pytest.mark.slow
def test_held_out_cases_that_left_the_data_set_are_named_with_the_remedy(task):
    assert train_fold(task, REQUEST)
    dataset = artifacts.load(task.task_file, Dataset)
    kept = tuple(case for case in dataset.cases if case.name != "ball_05")
    artifacts.save(task.task_file, dataset.model_copy(update={"cases": kept}))
    with pytest.raises(AutosegError, match=r"1 held-out cases .* 'ball_05'; put them back and run"):
        validate(task, REQUEST)


def test_an_interrupted_training_says_that_all_is_saved(task, monkeypatch):
    monkeypatch.setattr("autoseg.train.stage.train_fold", lambda *_: False)
    with pytest.raises(InterruptedRunError, match="all is saved; repeat the command to go on"):
        train_and_validate(task, REQUEST)
    with pytest.raises(InterruptedRunError, match="repeat the command without --restart to go on"):
        train_and_validate(task, replace(REQUEST, restart=True))


@pytest.mark.slow
def test_the_whole_path_scores_every_fold(toy, tmp_path):
    raw = write_toy_dataset(tmp_path / "Task03_Pair", num_cases=2)
    reports = run_task(Workspace(tmp_path / "workspace"), raw, SMALL, REQUEST)
    held_out = {fold: [case.name for case in r.cases] for fold, r in reports.items()}
    assert held_out == {"fold0": ["ball_01"], "fold1": ["ball_00"]}


@pytest.mark.slow
def test_a_single_case_can_be_trained_on(tmp_path):
    raw = write_toy_dataset(tmp_path / "Task04_One", num_cases=1)
    workspace = Workspace(tmp_path / "workspace")
    assert run_task(workspace, raw, SMALL, REQUEST, "everything") == {"everything": None}


@pytest.mark.parametrize(("configuration", "fold"), [("3d_fulres", "0"), ("2d", "9")])
def test_the_whole_path_prepares_nothing_for_what_cannot_be_trained(
    toy, tmp_path, configuration, fold
):
    workspace = Workspace(tmp_path / "workspace")
    request = replace(REQUEST, configuration=configuration)
    with pytest.raises(AutosegError, match=r"3d_fulres|no fold '9'"):
        run_task(workspace, toy.raw, PlanRequest(), request, fold)
    assert not (workspace.task("Task01_Ball").root / "prepared").exists()


@pytest.mark.parametrize("kind", ["volumes", "pictures"])
def test_the_whole_path_trains_what_suits_the_data(toy, tmp_path, kind):
    workspace, raw = Workspace(tmp_path / "workspace"), toy.raw
    if kind == "pictures":
        raw = tmp_path / "Dataset001_Pictures"
        write_as_nnunet(raw, 3)
    request = replace(REQUEST, configuration="")
    with pytest.raises(AutosegError, match="no fold '9'"):
        run_task(workspace, raw, SMALL, request, "9")
    run_task(workspace, raw, SMALL, request, "everything")
    trained = [path.name for path in workspace.task(raw.name).root.glob("models/default/*")]
    assert trained == [{"volumes": "3d_fullres", "pictures": "2d"}[kind]]


@pytest.mark.parametrize(
    ("wish", "features"), [(PlanRequest(), 4), (PlanRequest(base_features=6), 6)]
)
def test_the_whole_path_keeps_an_edited_plan_unless_another_is_wished_for(
    toy, task, wish, features
):
    workspace = Workspace(task.root.parent)
    with pytest.raises(AutosegError, match="no fold '9'"):
        run_task(workspace, toy.raw, wish, REQUEST, "9")
    plan = json.loads(task.plan_file("default").read_text())
    assert plan["configurations"]["2d"]["network"]["features_per_stage"][0] == features


@pytest.mark.slow
def test_the_demonstration_ends_with_scores_of_unseen_cases_and_a_picture(tmp_path, monkeypatch):
    short = pipeline_demo.DEMO_TRAINING | SHORT
    monkeypatch.setattr(pipeline_demo, "DEMO_TRAINING", short)
    monkeypatch.setattr(pipeline_demo, "DEMO_FEATURES", 4)
    monkeypatch.setattr(demo_stage, "NUM_TRAINING", 3)
    monkeypatch.setattr(demo_stage, "NUM_TEST", 2)
    result = run_demo(tmp_path / "kept", workers=0)
    assert [case.name for case in result.report.cases] == ["kidneys_03", "kidneys_04"]
    assert result.picture == tmp_path / "kept" / "demo.png"
    assert result.picture.read_bytes().startswith(b"\x89PNG")
    folder = tmp_path / "kept" / "predictions"
    assert artifacts.load(folder / "report.json", Report) == result.report
    # The last case is the one without a tumour: undefined, or wrong where one was seen.
    tumour = result.report.cases[1].structures["tumour"]
    assert tumour.dice in (None, 0.0)
    assert (tumour.dice is None) == (tumour.false_positives == 0)
    assert "NaN" not in (folder / "report.json").read_text()
    names = json.loads((folder.parent / "Task00_Kidneys" / "dataset.json").read_text())["training"]
    assert not any("kidneys_03" in entry["image"] for entry in names)
