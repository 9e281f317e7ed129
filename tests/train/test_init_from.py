"""Runs that begin with the weights of a model, on the toy data set and on a second one."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import toy_case
from training_runs import (
    InterruptAfter,
    assert_same_weights,
    folder_of,
    request,
    rows_of,
    small_task,
    weights_of,
)

from autoseg.core.image import LabelMap
from autoseg.errors import AutosegError
from autoseg.io import atomic, bundle
from autoseg.io.images import write_image, write_labels
from autoseg.io.named_models import locate_model, read_model
from autoseg.io.workspace import Workspace
from autoseg.pipeline.data import plan_folder
from autoseg.plan.planner import PlanRequest
from autoseg.preprocess.stage import preprocess_task
from autoseg.train.stage import train_fold

pytestmark = pytest.mark.slow

STEPS = 25


@pytest.fixture(scope="module")
def source(toy, tmp_path_factory):
    """A workspace whose toy task has a trained fold."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        task = small_task(toy, tmp_path_factory.mktemp("source"), monkeypatch)
        assert train_fold(task, request(steps_per_epoch=STEPS))
    return task


@pytest.fixture
def task(source, tmp_path, monkeypatch):
    """A copy of it, to be changed."""
    shutil.copytree(source.root.parent, tmp_path / "workspace")
    monkeypatch.setattr("autoseg.networks.precision._seconds", lambda step: 1.0)
    monkeypatch.chdir(tmp_path)
    return Workspace(tmp_path / "workspace").task(source.name)


NAME = "Task01_Ball/2d/default/fold0"


def tuned(**changes):
    """A run that begins with the toy task's fold."""
    return request(**({"run": "tuned", "init_from": NAME} | changes))


def write_second_data_set(folder: Path) -> Path:
    """Other balls, with the core's upper half as a structure of its own, and other values."""
    for number in range(10, 14):
        image, labels = toy_case(number)
        is_upper = np.arange(labels.array.shape[0])[:, np.newaxis, np.newaxis] % 2 == 0
        core = labels.array == 2
        values = np.where(core & is_upper, 1, 2 * core + 3 * (labels.array == 1)).astype(np.uint8)
        write_image(folder / "imagesTr" / f"other_{number}_0000.nii.gz", image)
        other = LabelMap(array=values, geometry=labels.geometry)
        write_labels(folder / "labelsTr" / f"other_{number}.nii.gz", other)
    description = {
        "channel_names": {"0": "mri"},
        "labels": {"background": 0, "marrow": 1, "core": 2, "shell": 3},
        "numTraining": 4,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


def test_the_weights_of_the_same_task_come_over_completely(task, caplog):
    wanted = tuned(epochs=1, learning_rate=1e-12)
    with caplog.at_level("INFO", logger="autoseg"):
        assert train_fold(task, wanted)
    assert "from Task01_Ball 2d fold0: 48 of 48 tensors taken (100% of the weights)" in caplog.text
    first, last = rows_of(task, "tuned")[0], rows_of(task)[-1]
    assert first["validation_loss"] == pytest.approx(last["validation_loss"], abs=1e-5)
    assert first["dice"] == pytest.approx(last["dice"], abs=1e-5)
    # Weights no longer change by what float32 can tell.
    assert_same_weights(weights_of(task), weights_of(task, "tuned"))


def test_the_run_records_what_it_began_with_and_its_recipe(task):
    assert train_fold(task, tuned(epochs=1))
    training = bundle.load_model(folder_of(task, "tuned").bundle).training
    assert training.init_from is not None
    assert training.init_from.label == "Task01_Ball 2d fold0"
    assert training.init_from.weights == atomic.digest(folder_of(task).weights)
    assert (training.learning_rate, training.warmup) == (0.001, 0.05)
    log = folder_of(task, "tuned").log.read_text()
    assert "fine-tuning: learning rate 0.001, reached after 5% of the training" in log


def test_a_second_data_set_with_one_more_structure_begins_better_than_from_scratch(
    task, tmp_path, caplog
):
    workspace, raw = Workspace(task.root.parent), write_second_data_set(tmp_path / "Dataset002_O")
    model = read_model(locate_model(NAME, workspace))
    planned = plan_folder(workspace, raw, PlanRequest(source=model), workers=0)
    assert planned.plan.configurations["2d"].network == model.configuration.network
    assert preprocess_task(planned.task, ["2d"], workers=0) == []

    first_losses = {}
    for run, init_from in (("tuned", NAME), ("scratch", None)):
        with caplog.at_level("INFO", logger="autoseg"):
            wanted = request(run=run, init_from=init_from, epochs=1, steps_per_epoch=1)
            assert train_fold(planned.task, wanted)
        first_losses[run] = rows_of(planned.task, run)[0]["train_loss"]
    assert "structures: core, shell taken by name; marrow new, as initialised" in caplog.text
    assert first_losses["tuned"] < first_losses["scratch"] - 0.2


def test_a_run_goes_on_after_the_model_it_began_with_is_gone(task):
    assert train_fold(task, tuned(run="undisturbed"))
    assert not train_fold(task, tuned(), InterruptAfter(2))
    shutil.rmtree(folder_of(task).root)
    assert train_fold(task, tuned())
    assert_same_weights(weights_of(task, "undisturbed"), weights_of(task, "tuned"))
    assert train_fold(task, tuned())
    with pytest.raises(AutosegError, match="no model named"):
        train_fold(task, tuned(run="another"))


def test_a_run_goes_on_with_what_it_has_when_its_model_has_changed(task, caplog):
    assert not train_fold(task, tuned(), InterruptAfter(2))
    changed = weights_of(task)
    changed["heads.0.bias"] += 1
    bundle.save_weights(folder_of(task).weights, changed)
    assert train_fold(task, tuned())
    assert f"{NAME} has changed since this run began with it" in caplog.text


def test_the_same_model_may_be_named_otherwise(task, caplog):
    assert not train_fold(task, tuned(), InterruptAfter(2))
    other = str(folder_of(task).bundle)
    with caplog.at_level("INFO", logger="autoseg"):
        assert train_fold(task, tuned(init_from=other))
    assert "going on after 0 epochs and 2 steps" in caplog.text


def test_a_run_does_not_go_on_with_another_model_or_none(task):
    assert not train_fold(task, tuned(), InterruptAfter(2))
    other = folder_of(task).root.parent / "fold1"
    shutil.copytree(folder_of(task).root, other)
    changed = weights_of(task)
    changed["heads.0.bias"] += 1
    bundle.save_weights(other / "weights.safetensors", changed)
    with pytest.raises(AutosegError, match=r"changed: init_from Task01_Ball 2d fold0 \(weights"):
        train_fold(task, tuned(init_from=str(other)))
    with pytest.raises(AutosegError, match=r"learning_rate 0.001 -> 0.01, init_from .* -> None"):
        train_fold(task, tuned(init_from=None))


def test_a_run_that_began_from_scratch_does_not_go_on_with_a_model(task):
    assert not train_fold(task, tuned(init_from=None), InterruptAfter(2))
    with pytest.raises(AutosegError, match=r"init_from None -> Task01_Ball 2d fold0"):
        train_fold(task, tuned())


def test_a_run_cannot_begin_with_its_own_weights_and_keeps_them(task):
    before = weights_of(task)
    with pytest.raises(AutosegError, match="cannot begin with its own weights; name another --run"):
        train_fold(task, tuned(run="default", restart=True))
    assert_same_weights(before, weights_of(task))


def test_a_model_that_does_not_fit_costs_nothing(task):
    assert train_fold(task, tuned(init_from=None))
    before = weights_of(task, "tuned")
    plan = json.loads(task.plan_file("default").read_text())
    plan["configurations"]["2d"]["network"]["features_per_stage"] = [6, 12, 24]
    task.plan_file("default").write_text(json.dumps(plan))
    with pytest.raises(AutosegError, match=r"only 0% of the network's weights.*--from-model"):
        train_fold(task, tuned(restart=True))
    assert_same_weights(before, weights_of(task, "tuned"))


def test_a_model_without_weights_is_no_beginning(task):
    folder_of(task).weights.unlink()
    with pytest.raises(AutosegError, match="its weights do not exist"):
        train_fold(task, tuned(init_from=str(folder_of(task).bundle)))


def test_a_model_of_everything_is_warned_of_and_one_of_the_same_fold_is_not(task, caplog):
    everything = task.fold_folder("default", "2d", "default", "everything")
    shutil.copytree(folder_of(task).root, everything.root)
    model = bundle.load_model(everything.bundle)
    whole = model.members[0].model_copy(update={"fold": "everything"})
    bundle.save_model(
        everything.bundle, model.model_copy(update={"held_out": (), "members": (whole,)})
    )
    assert train_fold(task, tuned(epochs=1))
    assert "may have been trained on" not in caplog.text
    named = {"init_from": "Task01_Ball/2d/everything", "run": "leaky", "epochs": 1}
    assert train_fold(task, tuned(**named))
    assert "2 cases that this fold holds out (the first is " in caplog.text
    assert "may have been trained on by Task01_Ball 2d everything" in caplog.text


def test_several_folds_begin_each_with_the_model_of_the_same_fold(task):
    other = task.fold_folder("default", "2d", "default", "fold1")
    shutil.copytree(folder_of(task).root, other.root)
    model = bundle.load_model(other.bundle)
    member = model.members[0].model_copy(update={"fold": "fold1"})
    bundle.save_model(other.bundle, model.model_copy(update={"members": (member,)}))
    assert train_fold(task, replace(tuned(init_from="Task01_Ball/2d", epochs=1), fold="fold1"))
    tuned_fold = task.fold_folder("default", "2d", "tuned", "fold1")
    training = bundle.load_model(tuned_fold.bundle).training
    assert training.init_from is not None
    assert training.init_from.label == "Task01_Ball 2d fold1"
