import math
import re

import numpy as np
import pytest
import torch
from training_runs import assert_same_weights, folder_of, request, small_task

from autoseg.core.labels import LabelSpace, Structure
from autoseg.core.plan import TrainingSpec
from autoseg.errors import AutosegError
from autoseg.io import bundle
from autoseg.networks.precision import Precision
from autoseg.train import checkpoint, loop, stage
from autoseg.train.batches import Batch
from autoseg.train.loop import NotFiniteError, Session, train_step, validate
from autoseg.train.stage import train_fold

SPACE = LabelSpace(structures=(Structure(name="only", values=(1,)),))
BATCH = Batch(
    images=np.ones((2, 1, 3, 4), dtype=np.float32),
    labels=np.zeros((2, 3, 4), dtype=np.int16),
    cases=("b", "a"),
)


def session_with(loss, *, scaled=False, scale=65536.0):
    """A session of one weight, whose loss is a function of it."""
    network = torch.nn.Conv2d(1, 2, 1)
    return Session(
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.1),
        loss=loss,
        spec=TrainingSpec(),
        device=torch.device("cpu"),
        precision=Precision(),
        scaler=torch.amp.GradScaler("cpu", init_scale=scale, enabled=scaled),
    )


def nan_gradient(logits, labels):
    """Finite, but its derivative at 0 is 0 * inf."""
    return torch.where(logits > 1e9, torch.sqrt(logits * 0), 1.0).mean()


@pytest.mark.parametrize(
    ("loss", "what"),
    [
        (lambda logits, labels: logits.mean() * math.nan, "loss"),
        (lambda logits, labels: logits.mean() + math.inf, "loss"),
        (nan_gradient, "gradient"),
    ],
)
def test_a_step_that_is_no_number_changes_no_weight_and_names_the_cases(loss, what):
    session = session_with(loss)
    before = session.network.weight.detach().clone()
    with pytest.raises(NotFiniteError) as caught:
        train_step(session, BATCH)
    assert (caught.value.what, caught.value.cases) == (what, ("b", "a"))
    assert torch.equal(session.network.weight, before)


def test_validation_names_the_cases_of_the_batch():
    session = session_with(lambda logits, labels: logits.mean() * math.nan)
    with pytest.raises(NotFiniteError) as caught:
        validate(session, [BATCH], SPACE)
    assert (caught.value.what, caught.value.cases) == ("validation loss", ("b", "a"))


def test_a_step_the_scaler_leaves_out_is_no_error():
    session = session_with(lambda logits, labels: logits.mean() * 1e36, scaled=True)
    before = session.network.weight.detach().clone()
    assert math.isfinite(train_step(session, BATCH))
    assert torch.equal(session.network.weight, before)
    assert session.scaler.get_scale() == 32768.0


def test_a_gradient_that_no_scale_mends_is_an_error():
    session = session_with(nan_gradient, scaled=True, scale=4.0)
    for _ in range(2):
        assert train_step(session, BATCH) == 1.0
    with pytest.raises(NotFiniteError, match="gradient"):
        train_step(session, BATCH)


def spoil(monkeypatch, at_step, what="loss"):
    """Let the loss of one step be no number."""
    true, calls = stage.train_step, []

    def step(session, batch):
        calls.append(batch)
        if len(calls) == at_step:
            raise NotFiniteError(what, math.nan, batch.cases)
        return true(session, batch)

    monkeypatch.setattr(stage, "train_step", step)


@pytest.mark.slow
def test_training_stops_with_the_cases_and_the_file_of_the_last_good_weights(
    toy, tmp_path, monkeypatch
):
    task = small_task(toy, tmp_path, monkeypatch)
    assert train_fold(task, request(run="good", epochs=2))
    with monkeypatch.context() as context:
        spoil(context, at_step=5)
        with pytest.raises(AutosegError) as caught:
            train_fold(task, request(epochs=2))
    said = str(caught.value)
    assert re.search(r"the loss became nan in epoch 2, step 2, cases ball_\d\d", said)
    assert "another --run with a --lr below 0.01" in said
    (kept,) = re.findall(r"kept in (\S+\.safetensors)", said)
    assert kept == str(folder_of(task).resume / "epoch00001-step00000.safetensors")
    tensors = bundle.load_weights(folder_of(task).resume / kept)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values())
    # What was wrong is mended: the same command goes on.
    assert train_fold(task, request(epochs=2))
    good = bundle.load_weights(folder_of(task, "good").weights)
    assert_same_weights(bundle.load_weights(folder_of(task).weights), good)


def test_another_number_format_is_a_remedy_where_it_was_not_float32(toy, tmp_path, monkeypatch):
    task = small_task(toy, tmp_path, monkeypatch)
    spoil(monkeypatch, at_step=1, what="gradient")
    with pytest.raises(AutosegError, match=r"gradient became nan.*or with --precision float32"):
        train_fold(task, request(precision="bfloat16"))


@pytest.mark.slow
def test_weights_that_are_no_numbers_are_never_saved_over_good_ones(toy, tmp_path, monkeypatch):
    task = small_task(toy, tmp_path, monkeypatch)
    monkeypatch.setattr(stage, "CHECKPOINT_EVERY_S", 0.0)
    true, calls = loop.train_step, []

    def step(session, batch):
        loss = true(session, batch)
        calls.append(loss)
        if len(calls) == 2:
            with torch.no_grad():
                next(session.network.parameters()).fill_(math.inf)
        return loss

    monkeypatch.setattr(stage, "train_step", step)
    with pytest.raises(AutosegError, match="the weights have become nan in epoch 1, step 3; the"):
        train_fold(task, request())
    state = checkpoint.load_state(folder_of(task).resume)
    assert (state.epoch, state.step) == (0, 1)
    tensors = bundle.load_weights(folder_of(task).resume / state.tensors)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values())
