import pytest
from commands import assert_refused, call

from autoseg.networks import precision
from autoseg.pipeline import folds
from autoseg.pipeline import training as pipeline_training


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setattr(precision, "_available_devices", lambda: ["cuda", "cuda:0", "cuda:1"])


@pytest.fixture
def begun(monkeypatch):
    """The commands that would be run; fold1 fails."""
    commands = {}

    def run(wanted, devices, say):
        commands.update({fold: words[1:] for fold, words in wanted.items()}, devices=devices)
        say("fold0", "epoch 1/2")
        return [fold for fold in wanted if fold == "fold1"]

    monkeypatch.setattr(folds, "run_folds", run)
    monkeypatch.setattr(folds, "shared_workers", lambda number: 10 + number)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return commands


@pytest.fixture
def scored(monkeypatch):
    validated = []
    monkeypatch.setattr(
        pipeline_training, "validate", lambda task, request: validated.append(request.fold)
    )
    monkeypatch.setattr("autoseg.cli.side_by_side.print_fold_scores", lambda scores: None)
    return validated


def test_every_fold_is_a_command_with_the_options_given(toy, two_gpus, begun, scored):
    where = ("-w", toy.workspace.root)
    options = ("--epochs", 7, "--until-plateau", "--loss", "ce", "--run", "side")
    called = call("train", "2d", "all", "--gpus", "1,0,1", *options, *where)
    assert begun["devices"] == ["1", "0"]
    assert begun["fold3"] == [
        *("-m", "autoseg", "train", "2d", "fold3"),
        *("--epochs", "7", "--until-plateau", "--loss", "ce", "--run", "side"),
        *("--workspace", str(toy.workspace.root), "--task", "Task01_Ball"),
        *("--device", "cuda", "--workers", "12"),
    ]
    assert called.out.splitlines() == ["fold0: epoch 1/2"]
    assert (called.code, called.err) == (1, "failed: fold1\n")
    assert scored == ["fold0", "fold2", "fold3", "fold4"]


def test_workers_given_are_those_of_every_fold(toy, two_gpus, begun, scored):
    call("train", "2d", "all", "--gpus", "0", "--workers", 3, "-w", toy.workspace.root)
    assert begun["fold0"][-2:] == ["--workers", "3"]


def test_where_every_fold_failed_so_has_the_command(toy, two_gpus, begun):
    called = call("train", "2d", "1", "--gpus", "0", "-w", toy.workspace.root)
    assert_refused(called, "2d: training failed: fold1")


def test_a_gpu_there_is_not_is_refused_with_those_there_are(toy, two_gpus):
    called = call("train", "2d", "all", "--gpus", "0,2", "-w", toy.workspace.root)
    assert_refused(called, "no device 'cuda:2'", "cuda:0, cuda:1")


def test_gpus_and_another_device_exclude_each_other(toy):
    called = call("train", "2d", "0", "--gpus", "0", "--device", "cpu", "-w", toy.workspace.root)
    assert_refused(called, "--gpus 0 and --device cpu cannot both hold")


def test_gpus_are_a_list_of_numbers(toy):
    called = call("train", "2d", "0", "--gpus", "first", "-w", toy.workspace.root)
    assert_refused(called, "--gpus: 'first' is no list of numbers")
