import logging
from dataclasses import replace

import pytest
import torch
from batchgenerators.transforms.noise_transforms import GaussianNoiseTransform
from training_runs import (
    InterruptAfter,
    assert_same_weights,
    folder_of,
    request,
    rows_of,
    small_task,
    weights_of,
)

from autoseg.core.plan import TrainingSpec
from autoseg.errors import AutosegError
from autoseg.io.task import load_plan
from autoseg.networks.precision import Precision
from autoseg.train import augmenting, checkpoint, start
from autoseg.train.augmentation.augment import AUGMENTATIONS, Augmentation
from autoseg.train.augmenting import Timings, asked_for, choose_place, measure, refusal
from autoseg.train.inputs import TrainRequest, load_inputs
from autoseg.train.loop import Session
from autoseg.train.stage import train_fold

SHAPE = (2, 1, 8, 12)
CPU = torch.device("cpu")


@pytest.fixture
def foreign(monkeypatch):
    """An augmentation with a transform of another package."""

    def make(patch_size, mirror_axes):
        transform = GaussianNoiseTransform(p_per_sample=1)
        return Augmentation(patch_size=tuple(patch_size), intensity=(transform,))

    plain = AUGMENTATIONS.get
    monkeypatch.setattr(
        AUGMENTATIONS, "get", lambda name: make if name == "foreign" else plain(name)
    )
    return "foreign"


@pytest.fixture
def configuration(toy):
    return load_plan(toy.task, "default").configurations["2d"]


@pytest.fixture
def session() -> Session:
    network = torch.nn.Conv2d(1, 2, 1)
    return Session(
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.1),
        loss=lambda logits, labels: logits.mean(),
        spec=TrainingSpec(),
        device=torch.device("cpu"),
        precision=Precision(),
        scaler=torch.amp.GradScaler("cpu", enabled=False),
    )


# What is made of measurements -----------------------------------------------------------------


def timings(making_s, step_s, reading_s=0.0, varying_s=0.0, num_workers=4) -> Timings:
    return Timings(
        making_s=making_s,
        step_s=step_s,
        reading_s=reading_s,
        varying_s=varying_s,
        num_workers=num_workers,
    )


@pytest.mark.parametrize(
    ("measured", "choice"),
    [
        # The processes keep up, however fast the device is.
        (timings(0.09, 0.10, 0.01, 0.0), "cpu"),
        # The network waits, and what it waits for is the augmentation.
        (timings(0.30, 0.10, 0.05, 0.02), "device"),
        # It waits for the disk all the same.
        (timings(0.30, 0.10, 0.29, 0.02), "cpu"),
        # The device is slower than the processes.
        (timings(0.30, 0.10, 0.05, 0.25), "cpu"),
        # A gain of less than a tenth.
        (timings(0.130, 0.10, 0.05, 0.02), "cpu"),
        (timings(0.133, 0.10, 0.05, 0.02), "device"),
        # Without processes all is done one after the other.
        (timings(0.05, 0.10, 0.01, 0.02, num_workers=0), "device"),
        (timings(0.05, 0.10, 0.03, 0.02, num_workers=0), "cpu"),
    ],
)
def test_the_device_is_chosen_where_processes_do_not_keep_up_and_it_is_clearly_faster(
    measured, choice
):
    assert measured.choice == choice


def test_the_choice_is_said_with_its_numbers():
    assert str(timings(0.30, 0.10, 0.05, 0.02)) == (
        "samples are augmented on the GPU: 4 processes 300 ms a batch, the network 100 ms a step; "
        "read only 50 ms, varied on the GPU 20 ms: together 120 ms instead of 300 ms"
    )
    assert str(timings(0.05, 0.10)) == (
        "samples are augmented on the CPU: 4 processes 50 ms a batch, the network 100 ms a step"
    )
    assert "the training's own process 50 ms a batch" in str(timings(0.05, 0.1, num_workers=0))


# What is measured -----------------------------------------------------------------------------


class Cuda:
    """What stands for a GPU: nothing is computed on it."""

    type = "cuda"


def test_nothing_is_measured_without_cuda(session, toy, configuration):
    inputs = load_inputs(toy.task, TrainRequest(configuration="2d", fold="fold0"))
    spec = inputs.batches("train")
    assert choose_place(session, spec, configuration, 0, SHAPE) == ("cpu", "")


def test_on_cuda_the_measured_place_is_taken(session, toy, configuration, monkeypatch):
    inputs = load_inputs(toy.task, TrainRequest(configuration="2d", fold="fold0"))
    session.device = Cuda()
    found = timings(0.30, 0.10, 0.05, 0.02)
    monkeypatch.setattr(augmenting, "measure", lambda *_: found)
    place, reason = choose_place(session, inputs.batches("train"), configuration, 4, SHAPE)
    assert (place, reason) == ("device", str(found))


def test_what_only_processes_can_do_is_not_measured(
    session, toy, configuration, foreign, monkeypatch
):
    inputs = load_inputs(toy.task, TrainRequest(configuration="2d", fold="fold0"))
    session.device = Cuda()
    monkeypatch.setattr(augmenting, "measure", lambda *_: pytest.fail("measured"))
    spec = replace(inputs.batches("train"), augmentation=foreign)
    place, reason = choose_place(session, spec, configuration, 4, SHAPE)
    assert place == "cpu"
    assert reason == "GaussianNoiseTransform of the augmentation 'foreign' works on the CPU only"


@pytest.fixture
def spec(toy):
    inputs = load_inputs(toy.task, TrainRequest(configuration="2d", fold="fold0"))
    return replace(inputs.batches("train"), batch_size=2, patch_size=(8, 12))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_processes_network_and_device_are_all_timed(session, spec, monkeypatch, num_workers):
    monkeypatch.setattr(augmenting, "_PROBE_S", 0.05)
    monkeypatch.setattr(augmenting, "measure_step_s", lambda *_: 1e-9)
    measured = measure(session, spec, num_workers, SHAPE)
    assert min(measured.making_s, measured.reading_s, measured.varying_s) > 0
    assert (measured.step_s, measured.num_workers) == (1e-9, num_workers)


def test_the_device_is_not_timed_where_processes_keep_up(session, spec, monkeypatch):
    monkeypatch.setattr(augmenting, "_PROBE_S", 0.05)
    monkeypatch.setattr(augmenting, "measure_step_s", lambda *_: 1e9)
    measured = measure(session, spec, 1, SHAPE)
    assert (measured.reading_s, measured.varying_s) == (0.0, 0.0)
    assert measured.choice == "cpu"


# What users ask for ---------------------------------------------------------------------------


def test_users_may_name_the_place(configuration):
    assert asked_for("auto", CPU, configuration, "default") is None
    assert asked_for("cpu", CPU, configuration, "default") == "cpu"
    assert asked_for("device", CPU, configuration, "default") == "device"


def test_an_unknown_place_lists_those_there_are(configuration):
    with pytest.raises(AutosegError) as caught:
        asked_for("gpu", CPU, configuration, "default")
    assert str(caught.value) == (
        "--augment-on: samples cannot be augmented on 'gpu'; choose auto, cpu, or device for where "
        "the network is computed"
    )


def test_a_foreign_transform_is_refused_on_the_device(configuration, foreign):
    assert asked_for("cpu", CPU, configuration, foreign) == "cpu"
    with pytest.raises(AutosegError) as caught:
        asked_for("device", CPU, configuration, foreign)
    assert str(caught.value) == (
        "--augment-on device: GaussianNoiseTransform of the augmentation 'foreign' works on the "
        "CPU only; leave --augment-on out"
    )


def test_the_cascade_is_augmented_by_processes(configuration):
    cascade = configuration.model_copy(update={"previous": "3d_lowres"})
    refused = "the cascade's samples are augmented on the CPU only"
    assert refusal(CPU, cascade, "default") == refused
    assert refusal(CPU, configuration, "default") is None


def test_with_mps_samples_are_augmented_by_processes(configuration):
    mps = torch.device("mps")
    with pytest.raises(AutosegError, match="with mps samples are augmented on the CPU only"):
        asked_for("device", mps, configuration, "default")
    assert asked_for("cpu", mps, configuration, "default") == "cpu"


def test_a_wrong_place_stops_a_training_before_it_begins(toy, tmp_path, monkeypatch):
    task = small_task(toy, tmp_path, monkeypatch)
    with pytest.raises(AutosegError, match="--augment-on"):
        train_fold(task, request(augment_on="gpu"))
    assert not folder_of(task).resume.exists()


# Whole runs, on the CPU as though it were a GPU -----------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_learns_the_same_wherever_its_samples_are_varied(toy, tmp_path, monkeypatch, workers):
    task = small_task(toy, tmp_path, monkeypatch)
    assert train_fold(task, request(run="cpu"))
    assert train_fold(task, request(run="device", augment_on="device", workers=workers))
    places = [
        checkpoint.load_state(folder_of(task, run).resume).augment_on for run in ("cpu", "device")
    ]
    assert places == ["cpu", "device"]
    for one, other in zip(rows_of(task, "cpu"), rows_of(task, "device"), strict=True):
        assert one["train_loss"] == pytest.approx(other["train_loss"], abs=1e-3)
    others = weights_of(task, "device")
    for name, weight in weights_of(task, "cpu").items():
        torch.testing.assert_close(weight, others[name], rtol=0, atol=5e-3)


@pytest.mark.slow
def test_a_run_whose_samples_are_varied_on_the_device_resumes_exactly(toy, tmp_path, monkeypatch):
    task = small_task(toy, tmp_path, monkeypatch)
    options = {"augment_on": "device", "augmentation": "strong"}
    assert train_fold(task, request(run="whole", **options))
    assert not train_fold(task, request(run="parts", **options), InterruptAfter(4))
    assert train_fold(task, request(run="parts", **options))
    assert_same_weights(weights_of(task, "whole"), weights_of(task, "parts"))


@pytest.mark.slow
def test_what_was_measured_is_said_and_kept_with_the_run(toy, tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    task = small_task(toy, tmp_path, monkeypatch)
    asked: list[tuple] = []

    def chosen(session, spec, configuration, num_workers, shape):
        asked.append((spec.part, num_workers, shape))
        return "device", "samples are augmented on the GPU"

    monkeypatch.setattr(start, "choose_place", chosen)
    assert not train_fold(task, request(), InterruptAfter(1))
    patch = load_plan(task, "default").configurations["2d"].patch_size
    assert asked == [("train", 0, (2, 1, *patch))]
    assert "samples are augmented on the GPU" in caplog.messages
    assert checkpoint.load_state(folder_of(task).resume).augment_on == "device"
    # Where there is no GPU any more, and nobody asks for it, the processes go on.
    monkeypatch.setattr(start, "choose_place", lambda *_: pytest.fail("measured again"))
    assert train_fold(task, request())
    assert checkpoint.load_state(folder_of(task).resume).augment_on == "cpu"
