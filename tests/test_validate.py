"""Held-out cases go the way of a future patient: from their raw files, through the same code."""

import json

import pytest
from candidates import FIRST, FLAT, FULL, finish, task_of

from autoseg.core.selection import CleanUp, Group, Selection
from autoseg.errors import AutosegError, WorkspaceError
from autoseg.io import artifacts
from autoseg.io.task import load_dataset
from autoseg.networks import precision
from autoseg.pipeline import cascade
from autoseg.pipeline.training import validate
from autoseg.predict.loading import PredictOptions
from autoseg.predict.stage import ModelChoice, predict_folder
from autoseg.train.inputs import TrainRequest

OPTIONS = PredictOptions(device="cpu", precision="float32")


@pytest.fixture
def task(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "_seconds", lambda step: 1.0)
    found = task_of(toy, tmp_path)
    finish(found, FULL, "fold0", FIRST)
    return found


def request(configuration=FULL):
    return TrainRequest(
        configuration=configuration, fold="fold0", device="cpu", precision="float32", workers=0
    )


def test_a_held_out_case_gets_the_label_map_a_new_patient_would_get(task, tmp_path):
    dataset = load_dataset(task)
    validate(task, request())
    held = task.predictions("default", FULL, "default", "fold0")
    for name in FIRST:
        (image,) = dataset.image_paths(dataset.case(name))
        choice = ModelChoice(configuration=FULL, folds=("fold0",))
        predict_folder(task, image, tmp_path / "new", choice, OPTIONS)
        assert (held / f"{name}.nii.gz").read_bytes() == (
            tmp_path / "new" / f"{name}.nii.gz"
        ).read_bytes()


def test_what_was_selected_has_no_say_in_validation(task):
    before = validate(task, request())
    group = Group(plan="default", configuration=FULL, run="default", folds=("fold0",))
    everything = [CleanUp(structure=s, smallest_ml=1e6) for s in ("shell", "core")]
    artifacts.save(task.selection, Selection(groups=(group,), clean_up=tuple(everything)))
    assert validate(task, request(), again=True) == before


def test_scores_are_told_even_where_nothing_can_be_left_for_a_cascade(task, monkeypatch):
    def fail(*_):
        raise AutosegError("1 case could not be predicted for 3d_cascade_fullres: ball_01: broken")

    monkeypatch.setattr(cascade, "leave_for_cascades", fail)
    told = []
    with pytest.raises(AutosegError, match="could not be predicted for 3d_cascade_fullres"):
        validate(task, request(), scored=told.append)
    assert [case.name for report in told for case in report.cases] == list(FIRST)


def test_splits_are_not_asked_what_a_fold_held_out_that_does_not_tell(task):
    finish(task, FLAT, "fold0", ())
    with pytest.raises(WorkspaceError) as caught:
        validate(task, request(FLAT))
    assert str(caught.value) == (
        f"{task.name} 2d fold0: it is not known which cases it held out; train it again; or score "
        "it on images it has not seen: autoseg predict, then autoseg evaluate"
    )
    assert not task.predictions("default", FLAT, "default", "fold0").exists()


def test_every_fold_can_be_validated_by_itself(task):
    finish(task, FLAT, "fold0", FIRST, seed=4)
    reports = {name: validate(task, request(name)) for name in (FLAT, FULL)}
    files = {name: task.report_file("default", name, "default", "fold0") for name in reports}
    assert all(json.loads(file.read_text())["cases"] for file in files.values())
    assert reports[FLAT] != reports[FULL]
