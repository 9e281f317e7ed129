import json

import pytest
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

from autoseg.core.plan import Extension, TrainingSpec
from autoseg.errors import AutosegError
from autoseg.io import bundle
from autoseg.train import checkpoint
from autoseg.train.checkpoint import State
from autoseg.train.extension import extend, rewarmed
from autoseg.train.stage import train_fold

FINISHED = TrainingSpec(epochs=100)
ONCE = FINISHED.model_copy(update={"extensions": (Extension(after=100, epochs=60),)})


def rate(spec, epoch, **state):
    return State.model_construct(training=spec, epoch=epoch, step=0, **state).learning_rate


def test_an_extension_follows_the_schedule_of_the_whole_length():
    whole = TrainingSpec(epochs=160)
    for epoch in (103, 120, 159):
        assert rate(ONCE, epoch) == pytest.approx(rate(whole, epoch))
    assert rate(ONCE, 160) == 0.0


def test_an_extension_warms_up_over_its_first_twentieth():
    whole = TrainingSpec(epochs=160)
    assert rate(ONCE, 100) == pytest.approx(0.01 * rate(whole, 100))
    assert rewarmed(ONCE, 101.5) == pytest.approx(0.505)
    assert rewarmed(ONCE, 103) == pytest.approx(1.0)
    assert rewarmed(FINISHED, 0.0) == 1.0


def test_no_time_limit_holds_for_an_extension():
    limited = ONCE.model_copy(update={"max_time_s": 60.0})
    state = State.model_construct(training=limited, epoch=130, step=0, elapsed_s=500.0)
    assert state.learning_rate == pytest.approx(rate(ONCE, 130))
    assert (state.last_epoch, state.is_over) == (160, False)


def test_a_run_is_extended_from_the_epochs_it_has_once_and_again():
    first = extend(FINISHED, FINISHED, 40, 60, "run")
    assert first.extensions == (Extension(after=40, epochs=60),)
    assert extend(FINISHED, first, 70, 60, "run") == first
    assert extend(first, first, 100, 60, "run") is None
    assert extend(first, first, 100, 5, "run").extensions[1] == Extension(after=100, epochs=5)


def test_an_extension_under_way_is_not_changed():
    with pytest.raises(AutosegError, match=r"by 60 epochs was begun.*--extend 60"):
        extend(FINISHED, ONCE, 120, 30, "run")


@pytest.mark.slow
def test_a_finished_run_is_extended_exactly_and_keeps_its_weights_meanwhile(
    toy, tmp_path, monkeypatch, caplog
):
    task = small_task(toy, tmp_path, monkeypatch)
    for run in ("whole", "parts"):
        assert train_fold(task, request(run=run))
    before = weights_of(task, "parts")
    assert train_fold(task, request(run="whole", extend=2))

    assert not train_fold(task, request(run="parts", extend=2), InterruptAfter(2))
    assert_same_weights(weights_of(task, "parts"), before)
    assert bundle.load_model(folder_of(task, "parts").bundle).training.extensions == ()
    with caplog.at_level("INFO", logger="autoseg"):
        assert train_fold(task, request(run="parts"))
    assert "its extension is not finished: --extend 2 goes on with it" in caplog.text
    assert_same_weights(weights_of(task, "parts"), before)

    assert train_fold(task, request(run="parts", extend=2))
    assert differ(weights_of(task, "parts"), before)
    assert_same_weights(weights_of(task, "parts"), weights_of(task, "whole"))
    extensions = (Extension(after=2, epochs=2),)
    assert bundle.load_model(folder_of(task, "parts").bundle).training.extensions == extensions
    assert checkpoint.load_state(folder_of(task, "parts").resume).training.extensions == extensions
    rates = [row["learning_rate"] for row in rows_of(task, "parts")]
    assert rates[2:] == pytest.approx([0.01 * (1 / 3) ** 0.9, 0.01 * (1 / 12) ** 0.9])
    assert "epoch 4/4" in folder_of(task, "parts").log.read_text()

    caplog.clear()
    with caplog.at_level("INFO", logger="autoseg"):
        assert train_fold(task, request(run="parts"))
        assert train_fold(task, request(run="parts", extend=2))
    assert "2d fold0 is trained already" in caplog.text
    assert "extended by 2 epochs already; another number extends it further" in caplog.text
    assert_same_weights(weights_of(task, "parts"), weights_of(task, "whole"))
    with pytest.raises(AutosegError, match="epochs 2 -> 7"):
        train_fold(task, request(run="parts", extend=2, epochs=7))


def test_only_a_finished_run_is_extended(toy, tmp_path, monkeypatch):
    task = small_task(toy, tmp_path, monkeypatch)
    with pytest.raises(AutosegError, match=r"only a finished run.*to its end without --extend"):
        train_fold(task, request(extend=3))


@pytest.mark.slow
def test_a_run_without_its_state_cannot_be_extended(toy, tmp_path, monkeypatch):
    task = small_task(toy, tmp_path, monkeypatch)
    assert train_fold(task, request(epochs=1))
    (folder_of(task).resume / "state.json").unlink()
    with pytest.raises(AutosegError, match=r"not there any more.*--restart and more --epochs"):
        train_fold(task, request(epochs=1, extend=3))


def test_starting_over_leaves_nothing_to_extend(toy, tmp_path, monkeypatch):
    task = small_task(toy, tmp_path, monkeypatch)
    kept = folder_of(task).root / "kept"
    kept.mkdir(parents=True)
    with pytest.raises(AutosegError, match=r"--restart leaves nothing to --extend"):
        train_fold(task, request(extend=3, restart=True))
    assert kept.is_dir()


def test_an_extension_is_read_again_as_it_was_written():
    assert TrainingSpec.model_validate(json.loads(ONCE.model_dump_json())) == ONCE
