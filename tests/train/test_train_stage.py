import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import make_toy

from autoseg.core.model import Model
from autoseg.core.plan import Plan
from autoseg.errors import AutosegError, WorkspaceError
from autoseg.io import artifacts, bundle
from autoseg.train.inputs import TrainRequest
from autoseg.train.stage import duration, train_fold

SHORT = {"epochs": 2, "steps_per_epoch": 3, "validation_steps": 1}


@pytest.fixture(scope="module")
def trained_toy(tmp_path_factory):
    return make_toy(tmp_path_factory.mktemp("train"))


def request(**changes) -> TrainRequest:
    options = {
        "configuration": "3d_fullres",
        "fold": "fold0",
        "changes": SHORT,
        "device": "cpu",
        "precision": "float32",
        "workers": 0,
    }
    return TrainRequest(**(options | changes))


def weights_of(toy, run):
    return bundle.load_weights(toy.task.fold_folder("default", "3d_fullres", run, "fold0").weights)


def assert_same_weights(one, other):
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=0, atol=0)


@pytest.mark.slow
def test_a_finished_run_leaves_all_its_artefacts(trained_toy):
    assert train_fold(trained_toy.task, request(run="artefacts"))
    folder = trained_toy.task.fold_folder("default", "3d_fullres", "artefacts", "fold0")
    model = artifacts.load(folder.bundle, Model)
    assert model.training.epochs == 2
    assert model.labels.names == ("shell", "core")
    assert folder.best.is_file()
    assert folder.progress_png.read_bytes().startswith(b"\x89PNG")
    rows = [json.loads(line) for line in folder.history.read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [0, 1]
    assert [row["steps"] for row in rows] == [3, 3]
    assert set(rows[0]["dice"]) == {"shell", "core"}
    assert rows[1]["learning_rate"] < rows[0]["learning_rate"] < 0.01
    assert "epoch 2/2" in folder.log.read_text()


@pytest.mark.slow
def test_training_again_changes_nothing(trained_toy):
    train_fold(trained_toy.task, request(run="again"))
    before = weights_of(trained_toy, "again")
    assert train_fold(trained_toy.task, request(run="again"))
    assert_same_weights(before, weights_of(trained_toy, "again"))


@pytest.mark.slow
def test_an_interrupted_run_ends_with_the_weights_of_an_undisturbed_one(trained_toy):
    train_fold(trained_toy.task, request(run="undisturbed"))
    steps = []

    def interrupt(done, total, note=""):
        steps.append(done)
        if len(steps) == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    assert not train_fold(trained_toy.task, request(run="interrupted"), interrupt)
    assert len(steps) == 2
    assert train_fold(trained_toy.task, request(run="interrupted"))
    assert_same_weights(
        weights_of(trained_toy, "undisturbed"), weights_of(trained_toy, "interrupted")
    )


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_with_the_same_number_of_steps(trained_toy, tmp_path):
    command = [
        *(sys.executable, "-m", "autoseg", "train", "3d_fullres", "fold0"),
        *("-w", str(trained_toy.workspace.root), "-t", trained_toy.task.name),
        *("--run", "killed", "--epochs", "3", "--device", "cpu", "--precision", "float32"),
        *("--workers", "0"),
    ]
    plan_file = trained_toy.task.plan_file("short")
    plan = artifacts.load(trained_toy.task.plan_file("default"), Plan)
    data = plan.model_dump(mode="json") | {"name": "short"}
    for configuration in data["configurations"].values():
        configuration["training"] |= {"steps_per_epoch": 4, "validation_steps": 1}
    artifacts.save(plan_file, Plan.model_validate(data))
    command += ["--plan", "short"]
    folder = trained_toy.task.fold_folder("short", "3d_fullres", "killed", "fold0")
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL)
    _wait_for(lambda: folder.history.is_file() and folder.history.read_text().count("\n") >= 1)
    process.kill()
    process.wait()
    assert not folder.is_finished
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    rows = [json.loads(line) for line in folder.history.read_text().splitlines()]
    assert [(row["epoch"], row["steps"]) for row in rows] == [(0, 4), (1, 4), (2, 4)]


def _wait_for(condition, timeout_s: float = 120.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.02)


@pytest.mark.slow
def test_a_time_limit_ends_the_schedule_and_counts_as_finished(trained_toy, monkeypatch):
    clock = itertools.count()
    monkeypatch.setattr("autoseg.train.stage.time.monotonic", lambda: float(next(clock)))
    changes = SHORT | {"epochs": 1000, "max_time_s": 10.0}
    assert train_fold(trained_toy.task, request(run="limited", changes=changes))
    folder = trained_toy.task.fold_folder("default", "3d_fullres", "limited", "fold0")
    rows = [json.loads(line) for line in folder.history.read_text().splitlines()]
    assert len(rows) < 10
    assert rows[-1]["elapsed_s"] >= 10.0
    assert rows[-1]["learning_rate"] < 0.003


@pytest.mark.slow
def test_a_run_is_not_resumed_with_another_recipe(trained_toy):
    train_fold(trained_toy.task, request(run="recipe"))
    other = SHORT | {"epochs": 5}
    with pytest.raises(AutosegError, match=r"epochs 2 -> 5.*--restart"):
        train_fold(trained_toy.task, request(run="recipe", changes=other))


@pytest.mark.slow
def test_a_2d_network_trains_on_slices(trained_toy):
    assert train_fold(trained_toy.task, request(configuration="2d", run="flat"))


def test_a_loss_that_is_not_a_number_names_the_cases(trained_toy, monkeypatch):
    monkeypatch.setattr("autoseg.train.stage.train_step", lambda session, batch: float("nan"))
    with pytest.raises(AutosegError, match=r"nan in epoch 1, step 1, cases ball_"):
        train_fold(trained_toy.task, request(run="nan"))


def test_training_before_preprocessing_names_the_command(tmp_path):
    toy = make_toy(tmp_path)
    for folder in (toy.task.root / "prepared").iterdir():
        folder.rename(folder.with_name("moved-" + folder.name))
    with pytest.raises(WorkspaceError, match="run: autoseg preprocess 3d_fullres"):
        train_fold(toy.task, request())


def test_training_on_files_that_changed_since_is_refused(tmp_path):
    toy = make_toy(tmp_path)
    fingerprint = json.loads(toy.task.fingerprint_file.read_text())
    fingerprint["cases"][0]["files"][0]["digest"] = "another"
    toy.task.fingerprint_file.write_text(json.dumps(fingerprint))
    with pytest.raises(WorkspaceError, match="changed since"):
        train_fold(toy.task, request())


@pytest.mark.parametrize(
    ("seconds", "text"), [(42, "42 s"), (2100, "35 min"), (9000, "2 h"), (6 * 86400, "6 days")]
)
def test_durations_read_like_speech(seconds, text):
    assert duration(seconds) == text


def test_light_workers_do_without_torch():
    code = "import autoseg.train.batches, sys; print('torch' in sys.modules)"
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.home()
    )
    assert output.stdout.strip() == "False"
