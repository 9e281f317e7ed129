from dataclasses import replace

import pytest
from training_runs import (
    InterruptAfter,
    assert_same_weights,
    folder_of,
    request,
    rows_of,
    small_task,
    weights_of,
)

from autoseg.core.plan import Extension, TrainingSpec
from autoseg.io import bundle
from autoseg.train import checkpoint, stage
from autoseg.train.plateau import Plateau
from autoseg.train.stage import train_fold

PATIENT = TrainingSpec(plateau_epochs=3)


def follow(spec, dice):
    plateau = Plateau()
    for epoch, value in enumerate(dice):
        plateau = plateau.after(spec, epoch + 1, value)
    return plateau


def test_a_dice_that_keeps_rising_reaches_no_plateau():
    assert follow(PATIENT, [0.1 + 0.0051 * epoch for epoch in range(50)]).found_after is None


def test_the_plateau_is_found_after_the_epochs_without_a_better_dice():
    assert follow(PATIENT, [0.1, 0.5, 0.5, 0.504, None]).found_after == 5
    assert follow(PATIENT, [0.1, 0.5, 0.5, 0.504]).found_after is None


def test_small_steps_that_add_up_are_an_improvement():
    assert follow(PATIENT, [0.500, 0.503, 0.506, 0.509, 0.512, 0.515]).found_after is None


def test_what_has_not_begun_to_learn_has_reached_no_plateau():
    assert follow(PATIENT, [None, 0.0, 0.0, 0.0, 0.001, 0.002, 0.0]).found_after is None


def test_a_plateau_is_only_looked_for_where_it_is_wanted():
    assert follow(TrainingSpec(), [0.5] * 50) == Plateau()
    extended = PATIENT.model_copy(update={"extensions": (Extension(after=5, epochs=9),)})
    assert follow(extended, [0.5] * 50) == Plateau()


def test_the_rate_falls_in_a_line_over_a_fifth_of_the_epochs_so_far():
    plateau = Plateau(dice=0.5, waited=3, found_after=10)
    assert plateau.last_epoch == 12
    shares = [plateau.remaining(epochs) for epochs in (10, 10.5, 11, 11.5, 12, 13)]
    assert shares == pytest.approx([1, 0.75, 0.5, 0.25, 0, 0])
    assert Plateau().remaining(500) == 1.0


def test_the_planned_end_counts_where_it_comes_first():
    plateau = Plateau(dice=0.5, waited=3, found_after=95)
    spec = TrainingSpec(epochs=100, plateau_epochs=3)
    state = checkpoint.State.model_construct(training=spec, plateau=plateau, epoch=99)
    assert (state.last_epoch, state.is_over) == (100, False)
    assert state.model_copy(update={"epoch": 100}).is_over
    assert state.learning_rate < 0.01 * 0.01**0.9


@pytest.fixture
def flat_dice(monkeypatch):
    """A validation Dice that never rises after the first epoch."""
    true = stage.validate

    def validate(*arguments):
        validation = true(*arguments)
        return replace(validation, dice=(0.5,) * len(validation.dice))

    monkeypatch.setattr(stage, "validate", validate)


@pytest.mark.slow
def test_training_until_the_plateau_ends_with_its_tail_and_resumes_exactly(
    toy, tmp_path, monkeypatch, flat_dice, caplog
):
    task = small_task(toy, tmp_path, monkeypatch)
    wanted = {"epochs": 30, "plateau_epochs": 5}
    with caplog.at_level("INFO", logger="autoseg"):
        assert train_fold(task, request(run="whole", **wanted))
    rows = rows_of(task, "whole")
    # The best is the first; five more to wait, then a fifth of six epochs, rounded up.
    assert [row["epoch"] for row in rows] == list(range(8))
    assert "not risen by 0.005 for 5 epochs" in caplog.text
    assert "training ends after 8 epochs" in caplog.text
    scheduled = 0.01 * (1 - (7 + 2 / 3) / 30) ** 0.9
    assert rows[7]["learning_rate"] == pytest.approx(scheduled * (8 - 7 - 2 / 3) / 2)

    in_the_tail = InterruptAfter(6 * 3 + 1)
    assert not train_fold(task, request(run="parts", **wanted), in_the_tail)
    state = checkpoint.load_state(folder_of(task, "parts").resume)
    assert (state.epoch, state.step, state.plateau.found_after) == (6, 1, 6)
    assert train_fold(task, request(run="parts", **wanted))
    assert_same_weights(weights_of(task, "whole"), weights_of(task, "parts"))
    assert bundle.load_model(folder_of(task, "parts").bundle).training.plateau_epochs == 5
