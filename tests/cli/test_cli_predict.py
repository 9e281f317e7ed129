import numpy as np
import pytest
from commands import ON_CPU, assert_refused, call
from random_models import finish_fold, score_fold, untrained_task

from autoseg.networks import precision


@pytest.fixture
def task(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "_seconds", lambda step: 1.0)
    task = untrained_task(toy, tmp_path)
    finish_fold(task, "2d")
    return task


def predict(toy, task, out, *words):
    place = ("-w", task.root.parent, "-t", task.name)
    return call("predict", "-i", toy.raw / "imagesTr", "-o", out, *place, *ON_CPU, *words)


def test_parts_fast_and_probabilities_from_the_command_line(toy, task, tmp_path):
    called = predict(
        toy,
        task,
        tmp_path / "out",
        *("--num-parts", 6, "--part", 4, "--fast", "--save-probabilities"),
    )
    assert called.code == 0
    assert "model: 2d fold0: --fast, a single fold of it" in called.out
    assert "run: autoseg validate 2d fold0 --fast" in called.out
    assert "1 label map in" in called.out
    names = sorted(p.name for p in (tmp_path / "out").iterdir() if not p.name.startswith("."))
    assert names == ["ball_04.nii.gz", "ball_04.npz", "predictions.json"]
    assert np.load(tmp_path / "out" / "ball_04.npz")["core"].shape == (10, 28, 20)


def test_parts_that_make_no_sense_are_refused(toy, task, tmp_path):
    refused = predict(toy, task, tmp_path, "--part", 0)
    assert_refused(refused, "--part and --num-parts belong together", "--num-parts 4 --part 0")
    assert_refused(predict(toy, task, tmp_path, "--part", 2, "--num-parts", 2), "does not exist")


def test_haste_is_measured_on_held_out_cases_beside_the_usual_scores(task):
    score_fold(task, "2d", "fold0", 0.5)
    place = ("-w", task.root.parent, "-t", task.name)
    called = call("validate", "2d", "0", "--fast", *place, *ON_CPU, "--workers", 0)
    assert called.code == 0
    assert "on the cases fold0 held out, 0.500 without --fast" in called.out
    assert task.fast_report_file("default", "2d", "default", "fold0").is_file()
    missing = call("validate", "2d", "1", "--fast", *place, *ON_CPU)
    assert_refused(missing, "2d fold1 is not trained yet", "autoseg train 2d fold1")
