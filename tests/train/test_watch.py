import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import write_toy_dataset
from training_runs import (
    InterruptAfter,
    assert_same_weights,
    folder_of,
    request,
    rows_of,
    small_task,
    tick,
    weights_of,
)

from autoseg.core.plan import Recipe
from autoseg.errors import AutosegError
from autoseg.figures.curves import save_curves
from autoseg.io.workspace import Workspace
from autoseg.pipeline.data import plan_folder
from autoseg.plan.planner import PlanRequest
from autoseg.preprocess.stage import preprocess_task
from autoseg.train.loop import Validation
from autoseg.train.monitoring import scalars, watch
from autoseg.train.stage import train_fold

pytestmark = pytest.mark.slow


@pytest.fixture
def task(toy, tmp_path, monkeypatch):
    return small_task(toy, tmp_path, monkeypatch)


def as_curves(folder: Path, rows) -> bytes:
    return save_curves(folder / "expected.png", rows).read_bytes()


def test_the_line_of_an_epoch_is_told_and_kept_in_the_log(task, caplog):
    with caplog.at_level("INFO", logger="autoseg"):
        assert train_fold(task, request(epochs=2))
    (first,) = (text for text in caplog.messages if text.startswith("epoch 1/2  loss "))
    for part in ("validation ", "Dice shell ", "core ", "lr ", " s left", "% waiting for data"):
        assert part in first
    assert first in folder_of(task).log.read_text()
    row = rows_of(task)[0]
    assert row["left_s"] > 0
    assert 0 <= row["waiting"] <= 1
    assert row["gpu_peak_bytes"] is None
    assert rows_of(task)[1]["left_s"] == 0


def test_a_picture_of_a_validation_case_comes_every_n_epochs_and_changes_no_weight(task):
    train_fold(task, request(epochs=5, run="seen", preview_every=2))
    train_fold(task, request(epochs=5, run="unseen"))
    folder = folder_of(task, "seen")
    pictures = sorted(folder.preview(1).parent.iterdir())
    assert pictures == [folder.preview(2), folder.preview(4)]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)
    assert not folder_of(task, "unseen").preview(1).parent.exists()
    assert_same_weights(weights_of(task, "seen"), weights_of(task, "unseen"))


def test_the_last_picture_of_the_curves_shows_all_epochs(task, tmp_path):
    train_fold(task, request(epochs=3))
    assert folder_of(task).progress_png.read_bytes() == as_curves(tmp_path, rows_of(task))


def test_curves_are_drawn_beside_the_training_too(task, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(watch, "FIRST_CURVES_S", 0.0)
    monkeypatch.setattr(watch, "CURVES_EVERY_S", 0.0)
    ask = watch.Pictures.ask
    monkeypatch.setattr(
        watch.Pictures, "ask", lambda self, *words: (asked.append(words[0]), ask(self, *words))
    )
    train_fold(task, request(epochs=3))
    assert asked == ["progress.png"] * 3
    assert folder_of(task).progress_png.read_bytes() == as_curves(tmp_path, rows_of(task))


def test_curves_are_asked_for_once_a_minute_at_most(task, monkeypatch):
    asked = []
    monkeypatch.setattr(watch, "FIRST_CURVES_S", 0.0)
    monkeypatch.setattr(watch.Pictures, "ask", lambda self, *words: asked.append(words[0]))
    tick(monkeypatch, watch, 20.0)
    # Looked at before the first epoch, after each, and again where the picture is asked for: at
    # 0, 20 and 40 s, so that the next one is due at 100 s, which is after the fourth.
    train_fold(task, request(epochs=4))
    assert asked == ["progress.png"] * 2


def test_an_interrupted_run_leaves_its_curves(task, tmp_path):
    assert not train_fold(task, request(epochs=3), InterruptAfter(5))
    assert len(rows_of(task)) == 1
    assert folder_of(task).progress_png.read_bytes() == as_curves(tmp_path, rows_of(task))


def test_what_cannot_be_drawn_ends_no_training_and_is_said_once(task, caplog):
    folder = folder_of(task)
    folder.root.mkdir(parents=True)
    folder.preview(1).parent.write_text("in the way")
    folder.progress_png.mkdir()
    assert train_fold(task, request(epochs=3, preview_every=1))
    assert caplog.text.count("training goes on without previews") == 1
    assert caplog.text.count("training goes on without progress.png") == 1
    assert len(rows_of(task)) == 3


def test_a_preview_that_cannot_be_computed_ends_no_training(task, monkeypatch, caplog):
    def too_large(*arguments, **options):
        raise torch.OutOfMemoryError("no memory left")

    monkeypatch.setattr("autoseg.train.monitoring.preview.predict_logits", too_large)
    assert train_fold(task, request(epochs=2, preview_every=1))
    assert caplog.text.count("training goes on without previews: no memory left") == 1


def test_without_tensorboard_nothing_is_begun(task, monkeypatch):
    monkeypatch.setattr(scalars, "find_spec", lambda name: None)
    with pytest.raises(AutosegError, match=r"--tensorboard .* not installed; run: pip install"):
        train_fold(task, request(tensorboard=True))
    assert not folder_of(task).root.exists()


def test_tensorboard_finds_a_run_in_the_folder_of_its_fold(task):
    pytest.importorskip("tensorboard", reason="needs the extra tensorboard")
    train_fold(task, request(epochs=2, tensorboard=True))
    assert list(folder_of(task).tensorboard.glob("events.out.tfevents.*"))


def with_a_ghost(folder: Path):
    """The toy task, whose labels name a structure that no case has."""
    raw = write_toy_dataset(folder / "Task02_Ghost")
    description = json.loads((raw / "dataset.json").read_text())
    description["labels"]["3"] = "ghost"
    (raw / "dataset.json").write_text(json.dumps(description))
    planned = plan_folder(Workspace(folder / "workspace"), raw, PlanRequest(), workers=0)
    assert preprocess_task(planned.task, ["2d"], workers=0) == []
    return planned.task


def test_a_structure_that_stays_at_0_is_explained_once_even_after_a_resume(tmp_path, caplog):
    task = with_a_ghost(tmp_path)
    wanted = request(epochs=4, steps_per_epoch=2, validation_steps=1)
    assert not train_fold(task, wanted, InterruptAfter(5))
    assert len(rows_of(task)) == 2
    warning = "the Dice of ghost stays 0: it is in none of the 4 training cases"
    assert caplog.text.count(warning) == 1
    assert train_fold(task, wanted)
    assert caplog.text.count(warning) == 1
    assert [row["warned"].count("ghost") for row in rows_of(task)] == [1, 0, 0, 0]
    assert warning in folder_of(task).log.read_text()


def test_at_the_end_of_a_short_training_it_is_said_that_it_was_short(task, monkeypatch, caplog):
    poor = Validation(
        loss=1.0, dice=(0.3, 0.0), confusion=np.array([[90, 5, 0], [5, 8, 0], [7, 2, 0]])
    )
    monkeypatch.setattr("autoseg.train.stage.validate", lambda *arguments: poor)
    train_fold(task, request(epochs=2))
    assert [row["warned"] for row in rows_of(task)] == [[], ["core"]]
    told = "the Dice of core stays 0: the training was short, 6 steps; train longer with --epochs"
    assert caplog.text.count(told) == 1


@pytest.mark.parametrize(
    ("channels", "scheme", "colour"),
    [
        (("R", "G", "B"), "zscore", True),
        (("red ", "Green", "blue"), "zscore", True),
        (("a", "b", "c"), "rgb_to_0_1", True),
        (("T1", "T2", "FLAIR"), "zscore", False),
        (("B", "G", "R"), "zscore", False),
        (("R",), "rgb_to_0_1", False),
    ],
)
def test_channels_are_colours_by_their_names_or_normalization(channels, scheme, colour):
    size = len(channels)
    recipe = Recipe(
        transpose=(0, 1, 2),
        spacing=(1.0, 1.0),
        channels=channels,
        normalization=(scheme,) * size,
        use_mask_for_norm=(False,) * size,
        intensities=(None,) * size,
        label_values=(0, 1),
    )
    assert watch.is_colour(recipe) is colour
