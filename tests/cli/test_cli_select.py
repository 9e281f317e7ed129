"""``select`` from the words of a user to what is printed."""

import shutil

import pytest
from candidates import FLAT, FULL, finish_all, task_of
from commands import ON_CPU, assert_done, assert_refused, call

from autoseg.cli.selection import print_selection
from autoseg.core.metrics import CaseScores, Report
from autoseg.core.selection import FoldSpread, Group, Selection, Standing
from autoseg.errors import AutosegError
from autoseg.evaluate.overlap import score_voxels
from autoseg.io.selected import load_selection
from autoseg.io.workspace import TaskFolder
from autoseg.networks import precision
from autoseg.pipeline import cascade
from autoseg.pipeline import training as pipeline_training

HERE = ("--workers", 0, *ON_CPU)


@pytest.fixture(scope="module")
def selected(toy, tmp_path_factory):
    """What the command printed, and the task it was called on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(precision, "_seconds", lambda step: 1.0)
        task = task_of(toy, tmp_path_factory.mktemp("cli_select"))
        finish_all(task)
        return task, call("select", "-w", task.root.parent, *HERE)


@pytest.mark.slow
def test_select_prints_folds_alternatives_and_the_decision(selected):
    task, called = selected
    assert_done(called)
    selection = load_selection(task)
    lines = called.out.splitlines()
    assert next(line.split() for line in lines if line.startswith((FLAT, FULL))) == [
        *(FLAT, "shell", "core", "mean", "Dice")
    ]
    assert sum(line.startswith("(standard deviation of the folds 0.") for line in lines) == 2
    assert sum(line.startswith("all 4 cases ") for line in lines) == 2
    assert "model" in called.out
    assert "(on 4 cases of 4 patients; behind: the highest Dice less this one's)" in lines
    assert selection.summary in lines
    assert lines[-1] == f"selection: {task.selection}"
    for standing in selection.standings:
        assert any(
            line.startswith(standing.name) and line.endswith(standing.reason) for line in lines
        )


@pytest.mark.slow
def test_select_says_little_if_asked_to(selected, tmp_path):
    task, _ = selected
    shutil.copytree(task.root.parent, tmp_path / "workspace")
    called = call("select", "-q", "-w", tmp_path / "workspace", *HERE)
    assert_done(called)
    assert "selection:" not in called.out
    assert load_selection(TaskFolder(tmp_path / "workspace" / task.name)).summary in called.out


@pytest.mark.slow
def test_names_that_nothing_was_trained_with_are_refused(selected):
    task, _ = selected
    there = ("-w", task.root.parent, *HERE)
    assert_refused(call("select", "--run", "odd", *there), "no run named 'odd'", "default")
    assert_refused(call("select", "--plan", "odd", *there), "no plan with a trained model named")


@pytest.mark.slow
def test_validate_prints_scores_before_it_fails_to_leave_a_case_for_a_cascade(
    selected, tmp_path, monkeypatch
):
    def fail(*_):
        raise AutosegError("1 case could not be predicted for a cascade: ball_01: broken")

    task, _ = selected
    shutil.copytree(task.root.parent, tmp_path / "workspace")
    monkeypatch.setattr(precision, "_seconds", lambda step: 1.0)
    monkeypatch.setattr(cascade, "leave_for_cascades", fail)
    called = call("validate", FLAT, "0", "-w", tmp_path / "workspace", *HERE)
    assert called.code == 2
    assert "mean Dice 0." in called.out
    assert called.err.splitlines()[-1] == (
        "error: 1 case could not be predicted for a cascade: ball_01: broken"
    )


@pytest.mark.slow
def test_run_ends_with_a_selection(selected, toy, tmp_path, monkeypatch):
    task, _ = selected
    shutil.copytree(task.root.parent, tmp_path / "workspace")
    copy = TaskFolder(tmp_path / "workspace" / task.name)
    copy.selection.unlink()
    scores = CaseScores(name="x", structures={"shell": score_voxels(3, 1, 1)})
    report = Report(predictions="a", references="b", structures=("shell",), cases=(scores,))
    reports = [{"fold0": report}, {"everything": None}]
    monkeypatch.setattr(pipeline_training, "run_task", lambda *_: reports.pop(0))
    words = ("run", toy.raw, "-w", tmp_path / "workspace", *HERE)
    called = call(*words)
    assert_done(called)
    assert load_selection(copy).summary in called.out
    copy.selection.unlink()
    assert_done(call(*words))  # a model of everything holds out nothing to select by
    assert not copy.selection.exists()


def test_nothing_trained_is_one_line(toy):
    assert_refused(
        call("select", "-w", toy.workspace.root, *HERE),
        "no trained fold holds out cases; run: autoseg train 3d_fullres all",
    )


def test_many_structures_and_many_models_are_shown_in_brief(capsys):
    structures = {f"organ_{n}": 0.5 for n in range(9)}
    groups = [
        Group(plan="default", configuration=f"c{n}", run="default", folds=("fold0",))
        for n in range(20)
    ]
    standings = tuple(
        Standing(
            name=g.name,
            groups=(g,),
            num_networks=1,
            operations=None,
            dice=0.5,
            structures=structures,
            is_selected=n == 18,
        )
        for n, g in enumerate(groups)
    )
    spread = FoldSpread(
        group=groups[0],
        num_cases=3,
        dice=0.5,
        structures=structures,
        folds={"fold0": 0.5},
        structures_by_fold={"fold0": structures},
    )
    selection = Selection(
        groups=(groups[18],), standings=standings, spread=(spread,), notes=("x",), summary="done"
    )
    print_selection(selection)
    shown = capsys.readouterr().out
    assert "organ_1" not in shown
    assert "c18" in shown
    assert "c15" not in shown
    assert "(13 of 20 models; selection.json has all)" in shown
    assert "note: x\ndone\n" in shown
    assert "standard deviation" not in shown
