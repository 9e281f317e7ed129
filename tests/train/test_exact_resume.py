import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn
from training_runs import (
    InterruptAfter,
    assert_same_weights,
    differ,
    folder_of,
    request,
    rows_of,
    small_task,
    weights_of,
)

from autoseg.networks.build import NETWORKS
from autoseg.networks.norm import InstanceNorm
from autoseg.train import checkpoint, start
from autoseg.train.stage import train_fold

pytestmark = pytest.mark.slow

# Saves after every step; dies like a killed process some seconds after the second has begun, in
# the middle of whatever it is at, or at the ninth if that comes first: so quick no machine is that
# it gets to the end. A negative time never comes.
DRIVER = """
import os, pathlib, signal, sys, threading
from autoseg.io.workspace import TaskFolder
from autoseg.networks import precision
from autoseg.train import stage
precision._seconds = lambda step: 1.0
stage.CHECKPOINT_EVERY_S = 0.0
task, run, workers, doom_s = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
true_step = stage.train_step
def step(session, batch):
    step.number += 1
    if doom_s >= 0 and step.number == 2:
        timer = threading.Timer(doom_s, os.kill, (os.getpid(), signal.SIGKILL))
        timer.daemon = True
        timer.start()
    if doom_s >= 0 and step.number == 9:
        os.kill(os.getpid(), signal.SIGKILL)
    return true_step(session, batch)
step.number = 0
stage.train_step = step
if __name__ == "__main__":
    from autoseg.train.inputs import TrainingChanges, TrainRequest
    request = TrainRequest(
        configuration="2d", fold="fold0", run=run, workers=workers, device="cpu",
        precision="float32", changes=TrainingChanges(epochs=9),
    )
    stage.train_fold(TaskFolder(pathlib.Path(task)), request)
"""
MOMENTS_S = np.random.default_rng(5).uniform(0.0, 0.25, 3)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_killed_at_random_moments_ends_with_the_weights_of_an_undisturbed_one(
    toy, tmp_path, monkeypatch, workers
):
    task = small_task(toy, tmp_path, monkeypatch)
    driver = tmp_path / "driver.py"
    driver.write_text(DRIVER)

    def train(run, doom_s=-1.0):
        command = [sys.executable, *map(str, (driver, task.root, run, workers, doom_s))]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert train("undisturbed").returncode == 0
    reached = []
    for doom_s in MOMENTS_S:
        assert train("killed", doom_s).returncode == -9
        assert not folder_of(task, "killed").is_finished
        state = checkpoint.load_state(folder_of(task, "killed").resume)
        reached.append((state.epoch, state.step))
    assert reached == sorted(reached)
    assert reached[-1] > (0, 0)
    finished = train("killed")
    assert finished.returncode == 0, finished.stderr
    assert_same_weights(weights_of(task, "undisturbed"), weights_of(task, "killed"))
    rows = [(row["epoch"], row["steps"]) for row in rows_of(task, "killed")]
    assert rows == [(epoch, 3) for epoch in range(9)]


class Disturb:
    """Draws from every global generator after every step."""

    def __call__(self, done, total, note="", **_):
        torch.rand(3)
        np.random.random(3)  # noqa: NPY002 - this is the generator in question
        random.random()


def test_nothing_but_the_seed_decides_the_weights(toy, tmp_path, monkeypatch):
    task = small_task(toy, tmp_path, monkeypatch)
    assert train_fold(task, request(run="calm"))
    torch.manual_seed(99)
    assert train_fold(task, request(run="disturbed"), Disturb())
    assert train_fold(task, request(run="other", seed=1))
    assert_same_weights(weights_of(task, "calm"), weights_of(task, "disturbed"))
    assert differ(weights_of(task, "calm"), weights_of(task, "other"))


def test_a_network_that_draws_itself_resumes_exactly(toy, tmp_path, monkeypatch):
    plain = NETWORKS.get("unet")

    def with_dropout(*arguments, **options):
        network = plain(*arguments, **options)
        for module in network.modules():
            if isinstance(module, InstanceNorm):
                module.register_forward_hook(
                    lambda module, inputs, output: nn.functional.dropout(
                        output, 0.5, module.training
                    )
                )
        return network

    monkeypatch.setattr(NETWORKS, "get", lambda name: with_dropout)
    task = small_task(toy, tmp_path, monkeypatch)
    assert train_fold(task, request(run="whole"))
    assert not train_fold(task, request(run="parts"), InterruptAfter(2))
    torch.rand(7)
    assert train_fold(task, request(run="parts"))
    assert_same_weights(weights_of(task, "whole"), weights_of(task, "parts"))


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_every_optimizer_resumes_exactly(toy, tmp_path, monkeypatch, optimizer):
    task = small_task(toy, tmp_path, monkeypatch)
    assert train_fold(task, request(run="whole", optimizer=optimizer))
    assert not train_fold(task, request(run="parts", optimizer=optimizer), InterruptAfter(4))
    assert train_fold(task, request(run="parts", optimizer=optimizer))
    assert_same_weights(weights_of(task, "whole"), weights_of(task, "parts"))


def test_what_was_probed_is_kept_though_the_run_ends_before_its_first_step(
    toy, tmp_path, monkeypatch
):
    task = small_task(toy, tmp_path, monkeypatch)
    last = start.choose(torch.device("cpu"), "float32", probe=False)[0]
    other = last.model_copy(update={"channels_last": not last.channels_last})
    monkeypatch.setattr(start, "choose", lambda *_, **__: (other, "measured"))

    def die(*arguments):
        raise SystemExit

    monkeypatch.setattr("autoseg.train.stage.train_step", die)
    with pytest.raises(SystemExit):
        train_fold(task, request())
    assert checkpoint.load_state(folder_of(task).resume).precision == other
