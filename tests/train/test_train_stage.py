import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import make_toy
from training_runs import InterruptAfter, folder_of, small_task, tick

from autoseg.core.model import Model
from autoseg.core.plan import TrainingSpec
from autoseg.errors import ArtifactError, AutosegError, WorkspaceError
from autoseg.io import artifacts, bundle
from autoseg.io.task import load_dataset, load_fingerprint
from autoseg.networks import precision
from autoseg.networks.precision import Precision
from autoseg.networks.residual_unet import ResidualUNet
from autoseg.plan.planner import PlanRequest
from autoseg.plan.stage import plan_task
from autoseg.predict.loading import PredictOptions, load_predictor
from autoseg.train import checkpoint, stage
from autoseg.train.inputs import TrainingChanges, TrainRequest
from autoseg.train.loop import Session
from autoseg.train.stage import train_fold
from autoseg.train.start import duration

SHORT = TrainingChanges(epochs=2, steps_per_epoch=3, validation_steps=1)


@pytest.fixture(scope="module")
def trained_toy(tmp_path_factory):
    return make_toy(tmp_path_factory.mktemp("train"))


@pytest.fixture
def even_clock(monkeypatch):
    """Every probe takes as long as any other, so that two runs compute in the same layout."""
    monkeypatch.setattr(precision, "_seconds", lambda step: 1.0)


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
def test_a_residual_network_is_trained_and_loaded_again(trained_toy):
    dataset = load_dataset(trained_toy.task)
    fingerprint = load_fingerprint(trained_toy.task)
    wishes = PlanRequest(name="residual", preset="resenc-m", base_features=4)
    plan_task(trained_toy.task, dataset, fingerprint, wishes)

    assert train_fold(trained_toy.task, request(plan="residual"))

    folder = trained_toy.task.fold_folder("residual", "3d_fullres", "default", "fold0")
    predictor = load_predictor([folder.bundle], PredictOptions(device="cpu", precision="float32"))
    assert isinstance(predictor.networks[0], ResidualUNet)


@pytest.mark.slow
def test_training_again_changes_nothing(trained_toy):
    train_fold(trained_toy.task, request(run="again"))
    before = weights_of(trained_toy, "again")
    assert train_fold(trained_toy.task, request(run="again"))
    assert_same_weights(before, weights_of(trained_toy, "again"))


@pytest.mark.slow
def test_an_interrupted_run_ends_with_the_weights_of_an_undisturbed_one(trained_toy, even_clock):
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


def _wait_for(condition, timeout_s: float = 600.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.02)


@pytest.mark.slow
def test_a_time_limit_ends_the_schedule_and_counts_as_finished(trained_toy, monkeypatch):
    tick(monkeypatch, stage)
    changes = replace(SHORT, epochs=1000, max_time_s=20.0)
    assert train_fold(trained_toy.task, request(run="limited", changes=changes))
    folder = trained_toy.task.fold_folder("default", "3d_fullres", "limited", "fold0")
    rows = [json.loads(line) for line in folder.history.read_text().splitlines()]
    assert len(rows) < 10
    assert rows[-1]["elapsed_s"] >= 20.0
    assert rows[-1]["learning_rate"] < 0.003


@pytest.mark.slow
def test_a_time_limit_counts_the_training_of_all_restarts(toy, tmp_path, monkeypatch):
    task = small_task(toy, tmp_path, monkeypatch)
    tick(monkeypatch, stage)
    limited = replace(SHORT, epochs=1000, max_time_s=60.0)
    wanted = request(configuration="2d", changes=limited)
    elapsed_s = [0.0]
    while not train_fold(task, wanted, InterruptAfter(4)):
        elapsed_s.append(checkpoint.load_state(folder_of(task).resume).elapsed_s)
    elapsed_s.append(checkpoint.load_state(folder_of(task).resume).elapsed_s)
    assert len(elapsed_s) > 3
    assert elapsed_s == sorted(set(elapsed_s))
    assert elapsed_s[-2] < 60.0 <= elapsed_s[-1]


@pytest.mark.slow
def test_a_run_is_not_resumed_with_another_recipe(trained_toy):
    train_fold(trained_toy.task, request(run="recipe"))
    other = replace(SHORT, epochs=5)
    with pytest.raises(AutosegError, match=r"epochs 2 -> 5.*--restart"):
        train_fold(trained_toy.task, request(run="recipe", changes=other))


@pytest.mark.slow
def test_a_2d_network_trains_on_slices(trained_toy):
    assert train_fold(trained_toy.task, request(configuration="2d", run="flat"))


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


def test_a_float16_run_is_resumed_with_its_scaler(tmp_path):
    network = torch.nn.Conv3d(1, 2, 1)
    session = Session(
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9),
        loss=lambda logits, labels: logits.mean(),
        spec=TrainingSpec(),
        device=torch.device("cpu"),
        precision=Precision(dtype="float32", channels_last=False),
        scaler=torch.amp.GradScaler("cpu", enabled=True),
    )

    def step():
        loss = network(torch.ones(1, 1, 2, 2, 2)).mean()
        session.scaler.scale(loss).backward()
        session.scaler.step(session.optimizer)
        session.scaler.update()
        session.optimizer.zero_grad()

    step()
    bare = checkpoint.State.model_construct(
        training=session.spec, precision=session.precision, epoch=1, step=2
    )
    saved = checkpoint.save(tmp_path, bare, session)
    step()
    expected = network.weight.detach().clone()
    checkpoint.restore(tmp_path, saved, session)
    step()
    torch.testing.assert_close(network.weight.detach(), expected, rtol=0, atol=0)


@pytest.mark.slow
def test_a_mistyped_device_does_not_cost_the_finished_run(trained_toy):
    train_fold(trained_toy.task, request(run="kept"))
    before = weights_of(trained_toy, "kept")
    with pytest.raises(AutosegError):
        train_fold(trained_toy.task, request(run="kept", restart=True, device="cdua"))
    assert_same_weights(before, weights_of(trained_toy, "kept"))


@pytest.mark.slow
def test_ctrl_c_reaches_the_whole_process_group_and_still_saves(toy, tmp_path, monkeypatch):
    task = small_task(toy, tmp_path, monkeypatch)
    command = [
        *(sys.executable, "-m", "autoseg", "train", "2d", "fold0", "--epochs", "100000"),
        *("-w", str(task.root.parent), "-t", task.name),
        *("--run", "ctrl-c", "--device", "cpu", "--precision", "float32", "--workers", "1"),
    ]
    folder = folder_of(task, "ctrl-c")
    process = subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
        start_new_session=True, text=True,
    )  # fmt: skip
    _wait_for(folder.history.is_file)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 130, errors
    assert "all is saved" in errors
    assert "Traceback" not in errors
    assert checkpoint.load_state(folder.resume).step > 0


@pytest.mark.slow
def test_a_plan_edited_after_the_run_began_is_noticed(tmp_path):
    toy = make_toy(tmp_path)
    train_fold(toy.task, request())
    plan = json.loads(toy.task.plan_file("default").read_text())
    plan["configurations"]["3d_fullres"]["batch_size"] += 1
    toy.task.plan_file("default").write_text(json.dumps(plan))
    with pytest.raises(AutosegError, match="batch_size of the plan"):
        train_fold(toy.task, request())


def test_other_labels_than_the_plans_are_noticed(tmp_path):
    toy = make_toy(tmp_path)
    task = json.loads(toy.task.task_file.read_text())
    task["labels"]["structures"].append({"name": "third", "values": [3]})
    toy.task.task_file.write_text(json.dumps(task))
    with pytest.raises(WorkspaceError, match="other channels or label values"):
        train_fold(toy.task, request())


def test_what_no_model_may_say_is_noticed_before_the_training(tmp_path):
    toy = make_toy(tmp_path)
    file = toy.task.root / "fingerprint.json"
    fingerprint = json.loads(file.read_text())
    for case in fingerprint["cases"]:
        case["spacing"] = [1000 * mm for mm in case["spacing"]]
    file.write_text(json.dumps(fingerprint))
    with pytest.raises(ArtifactError, match=r"mm is more than 100 times away.*; mend the plan or"):
        train_fold(toy.task, request())


@pytest.mark.parametrize("changes", [{"learning_rate": -1.0}, {"seed": 2**64}])
def test_values_out_of_range_are_one_line(trained_toy, changes):
    with pytest.raises(AutosegError, match=next(iter(changes))):
        train_fold(trained_toy.task, request(changes=TrainingChanges(**changes)))


def test_an_unknown_loss_lists_the_known(trained_toy):
    with pytest.raises(AutosegError, match="no loss named 'dicee'; did you mean 'dice"):
        train_fold(trained_toy.task, request(changes=TrainingChanges(loss="dicee")))


@pytest.mark.parametrize(
    ("step_s", "words"),
    [
        (2.0, "take about 6 days; --max-time 2h ends sooner"),
        (0.01, "take about 42 min; --max-time 10m ends sooner"),
        (0.001, "take about 4 min"),
    ],
)
def test_without_a_gpu_the_length_is_said_first(trained_toy, monkeypatch, caplog, step_s, words):
    monkeypatch.setattr("autoseg.train.start.measure_step_s", lambda session, shape: step_s)
    monkeypatch.setattr("autoseg.train.stage._train", lambda *arguments: False)
    wanted = request(run=f"announced-{step_s}", changes=TrainingChanges())
    with caplog.at_level("INFO", logger="autoseg"):
        assert not train_fold(trained_toy.task, wanted)
    assert words in caplog.text
