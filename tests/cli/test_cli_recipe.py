import pytest
from commands import assert_done, assert_refused, call

from autoseg.pipeline import training as pipeline_training
from autoseg.train.inputs import TrainingChanges
from autoseg.train.plateau import PLATEAU_EPOCHS

FLAGS = [
    *("--epochs", 7, "--max-time", "2m", "--until-plateau", "--seed", 3, "--loss", "ce"),
    *("--optimizer", "adam", "--schedule", "cosine", "--lr", 0.002, "--augmentation", "light"),
    *("--warmup", 0.1),
]
CHANGES = TrainingChanges(
    epochs=7,
    max_time_s=120.0,
    plateau_epochs=PLATEAU_EPOCHS,
    seed=3,
    loss="ce",
    optimizer="adam",
    schedule="cosine",
    learning_rate=0.002,
    augmentation="light",
    warmup=0.1,
)


@pytest.fixture
def requested(monkeypatch):
    """The requests that commands make."""
    requests = []

    def train(task, request, progress, team, scored):
        requests.append(request)

    def run(place, folder, plan, request, fold, progress):
        requests.append(request)
        return {}

    monkeypatch.setattr(pipeline_training, "train_and_validate", train)
    monkeypatch.setattr(pipeline_training, "run_task", run)
    return requests


def test_train_takes_every_flag_of_the_recipe(toy, requested):
    assert_done(call("train", "2d", "0", *FLAGS, "-w", toy.workspace.root))
    assert [request.changes for request in requested] == [CHANGES]


def test_run_takes_every_flag_of_the_recipe(toy, requested):
    assert_done(call("run", toy.raw, *FLAGS, "-w", toy.workspace.root))
    assert [request.changes for request in requested] == [CHANGES]


def test_flags_not_given_change_nothing(toy, requested):
    assert_done(call("train", "2d", "0", "-w", toy.workspace.root))
    assert requested[0].changes == TrainingChanges()
    assert (requested[0].extend, requested[0].restart) == (None, False)


def test_a_run_is_extended_by_a_number_of_epochs(toy, requested):
    assert_done(call("train", "2d", "0", "--extend", 30, "-w", toy.workspace.root))
    assert requested[0].extend == 30
    assert_refused(call("train", "2d", "0", "--extend", 0, "-w", toy.workspace.root), "--extend")
