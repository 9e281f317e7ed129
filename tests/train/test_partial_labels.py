"""Cases that are annotated for some of the structures, from the table of cases to the scores."""

import json
import logging
import shutil

import pytest
from partial_dataset import ANNOTATED, case_names, write_partial_dataset, write_table_of
from training_runs import InterruptAfter, request

from autoseg.core.dataset import Dataset
from autoseg.core.metrics import Report
from autoseg.errors import AutosegError, InterruptedRunError
from autoseg.io import artifacts
from autoseg.io.changes import warn_of_changes
from autoseg.io.task import load_dataset, load_plan, load_splits
from autoseg.io.workspace import TaskFolder, Workspace
from autoseg.pipeline.data import plan_folder
from autoseg.pipeline.training import train_and_validate, validate
from autoseg.plan.planner import PlanRequest
from autoseg.preprocess.stage import preprocess_task
from autoseg.train import checkpoint
from autoseg.train.batches import make_batch
from autoseg.train.inputs import load_inputs
from autoseg.train.monitoring.pictures import Pictures
from autoseg.train.objective.losses import LOSSES
from autoseg.train.stage import train_fold

SMALL = PlanRequest(base_features=4)
SHORT = {"epochs": 1, "steps_per_epoch": 3, "validation_steps": 1}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Raw data and task, planned and prepared; to be read."""
    folder = tmp_path_factory.mktemp("partial")
    raw = write_partial_dataset(folder / "Task_Joined")
    task = plan_folder(Workspace(folder / "workspace"), raw, SMALL, workers=0).task
    assert preprocess_task(task, ["2d"], workers=0) == []
    return raw, task


@pytest.fixture
def own(prepared, tmp_path):
    """Raw data and task of one's own."""
    raw, task = prepared
    shutil.copytree(raw, tmp_path / raw.name)
    shutil.copytree(task.root.parent, tmp_path / "workspace")
    own = TaskFolder(tmp_path / "workspace" / task.name)
    data = json.loads(own.task_file.read_text())
    own.task_file.write_text(json.dumps(data | {"root": str(tmp_path / raw.name)}))
    return tmp_path / raw.name, own


def annotate(raw, task, **cells):
    """Change what cases are annotated for, as a user would: in the table, and plan again."""
    changed = dict(zip(case_names(), ANNOTATED, strict=True)) | cells
    write_table_of(raw, tuple(changed.values()))
    plan_folder(Workspace(task.root.parent), raw, SMALL, workers=0)


def held_out(task, fold="fold0"):
    splits = load_splits(task)
    return splits.folds[splits.names.index(fold)].validation


def test_the_plan_tells_of_partial_labels(prepared):
    _, task = prepared
    (decision,) = [d for d in load_plan(task, "default").decisions if d.what == "partial labels"]
    assert decision.value == "core in 6 of 9 cases, shell in 6"


def test_every_fold_trains_and_holds_out_annotations_of_every_structure(prepared):
    _, task = prepared
    cells = dict(zip(case_names(), ANNOTATED, strict=True))
    for fold in load_splits(task).folds:
        for part in (fold.train, fold.validation):
            for structure in ("shell", "core"):
                assert any(not cells[name] or structure in cells[name] for name in part)


def test_a_batch_knows_what_its_cases_are_annotated_for(prepared):
    _, task = prepared
    spec = load_inputs(task, request()).batches("train")
    known = {"": [True] * 3, "shell": [True, True, False], "core": [True, False, True]}
    cells = dict(zip(case_names(), ANNOTATED, strict=True)) | {"ball_06": ""}
    seen = set()
    for step in range(6):
        batch = make_batch(spec, 0, step)
        assert batch.known is not None
        assert batch.known.dtype == bool
        assert batch.known.tolist() == [known[cells[case]] for case in batch.cases]
        seen |= {cells[case] for case in batch.cases}
    assert seen == set(known)


def test_what_is_not_annotated_is_trained_and_left_out_of_the_scores(own, caplog):
    raw, task = own
    with caplog.at_level(logging.INFO, logger="autoseg"):
        report = train_and_validate(task, request(**SHORT))
    assert "partial labels: " in caplog.text
    assert report is not None
    cells = dict(zip(case_names(), ANNOTATED, strict=True))
    left_out = {"": (), "shell": ("core",), "core": ("shell",), "shell|core": ()}
    assert [case.name for case in report.cases] == list(held_out(task))
    for case in report.cases:
        assert case.not_annotated == left_out[cells[case.name]]
        assert set(case.structures) == {"shell", "core"} - set(case.not_annotated)
    assert any(case.not_annotated for case in report.cases)
    for structure in ("shell", "core"):
        dice = [c.structures[structure].dice for c in report.cases if structure in c.structures]
        assert None not in dice
        assert report.num_annotated(structure) == len(dice)
        assert report.mean_dice(structure) == pytest.approx(sum(dice) / len(dice))
    # A report is made again where other structures are annotated now; nothing is predicted again.
    partial = next(case.name for case in report.cases if case.not_annotated)
    predictions = list(task.predictions("default", "2d", "default", "fold0").glob("*.nii.gz"))
    before = {path: path.stat().st_mtime_ns for path in predictions}
    annotate(raw, task, **{partial: ""})
    again = validate(task, request(**SHORT))
    assert [c.not_annotated for c in again.cases if c.name == partial] == [()]
    assert {path: path.stat().st_mtime_ns for path in predictions} == before
    assert artifacts.load(task.report_file("default", "2d", "default", "fold0"), Report) == again


def test_a_run_goes_on_with_the_annotations_it_was_begun_with_only(own):
    raw, task = own
    with pytest.raises(InterruptedRunError):
        train_and_validate(task, request(**SHORT), InterruptAfter(1))
    case = next(n for n, cell in zip(case_names(), ANNOTATED, strict=True) if cell == "shell")
    annotate(raw, task, **{case: ""})
    with pytest.raises(AutosegError) as refused:
        train_fold(task, request(**SHORT))
    assert str(refused.value) == (
        "2d fold0 (plan default, run default): what 1 case of this fold is annotated for has "
        f"changed since the run was started ({case}: shell -> all); put it back in cases.csv and "
        "repeat autoseg plan, or start over with --restart"
    )
    annotate(raw, task)
    assert train_fold(task, request(**SHORT))


def test_a_run_begun_before_annotations_were_noted_goes_on(own):
    raw, task = own
    annotate(raw, task, **dict.fromkeys(case_names(), ""))
    with pytest.raises(InterruptedRunError):
        train_and_validate(task, request(**SHORT), InterruptAfter(1))
    state = task.fold_folder("default", "2d", "default", "fold0").resume / checkpoint.STATE_FILE
    data = json.loads(state.read_text())
    assert data.pop("annotated") == {}
    state.write_text(json.dumps(data))
    assert train_fold(task, request(**SHORT))


def test_prepared_cases_stay_good_when_annotations_change(own):
    raw, task = own
    annotate(raw, task, ball_01="")
    assert load_dataset(task).case("ball_01").annotated is None
    assert load_inputs(task, request()).store.names()


def test_annotations_that_changed_since_the_plan_are_told(own, caplog):
    raw, task = own
    write_table_of(raw, ("core", *ANNOTATED[1:]))
    warn_of_changes(task)
    assert caplog.messages == [
        (
            "1 case is annotated for other structures (the first is 'ball_00') since the plan was "
            "made: repeat autoseg plan Task_Joined"
        )
    ]


def test_fully_annotated_cases_leave_no_trace_in_batches(toy):
    inputs = load_inputs(toy.task, request())
    assert artifacts.load(toy.task.task_file, Dataset).cases[0].annotated is None
    assert inputs.annotated == {}
    for part in ("train", "validation"):
        assert inputs.batches(part).known is None
        assert make_batch(inputs.batches(part), 0, 0).known is None


def test_training_without_an_annotation_of_a_structure_warns(own, caplog):
    _, task = own
    splits = json.loads(task.splits_file.read_text())
    shell = [n for n, cell in zip(case_names(), ANNOTATED, strict=True) if cell == "shell"]
    rest = [name for name in case_names() if name not in shell]
    splits["folds"][0] = {"train": shell, "validation": rest}
    task.splits_file.write_text(json.dumps(splits))
    with caplog.at_level(logging.INFO, logger="autoseg"):
        train_fold(task, request(**SHORT))
    assert "partial labels: core in 0 of 3 training cases; elsewhere they count neither way" in (
        caplog.messages
    )
    assert (
        "no training case is annotated for core: nothing tells the network what that is, and what "
        "it says of it means nothing; deal other folds in splits.json, or annotate it in more cases"
    ) in caplog.messages


def test_a_preview_gives_no_dice_to_what_its_case_is_not_annotated_for(own, monkeypatch):
    _, task = own
    splits = json.loads(task.splits_file.read_text())
    splits["folds"][0] = {
        "train": [name for name in case_names() if name != "ball_01"],
        "validation": ["ball_01"],
    }
    task.splits_file.write_text(json.dumps(splits))
    drawn = []
    monkeypatch.setattr(Pictures, "ask", lambda _, *what: drawn.append(what))
    assert train_fold(task, request(**SHORT, preview_every=1))
    ((_, _, _, rows, _),) = [what for what in drawn if what[0] == "previews"]
    assert rows[0].title.startswith("ball_01, slice")
    assert "shell" in rows[0].title
    assert "core" not in rows[0].title


def test_a_loss_that_cannot_leave_anything_out_is_refused_before_the_first_step(own, monkeypatch):
    _, task = own

    def mean_logit(options):
        return lambda logits, labels: logits.mean()

    monkeypatch.setattr(LOSSES, "get", lambda name: mean_logit)
    with pytest.raises(AutosegError, match=r"^the loss 'mine' cannot train on cases in which only"):
        train_fold(task, request(**SHORT, loss="mine"))
