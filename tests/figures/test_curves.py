import subprocess
import sys

import numpy as np
import pytest
from matplotlib.image import imread

from autoseg.figures.curves import curves_figure, save_curves


def epoch(number, names=("kidney", "tumour"), **changes):
    record = {
        "epoch": number,
        "train_loss": 1.0 / (number + 1),
        "validation_loss": 2.0 / (number + 1),
        "dice": {name: 0.1 * number + 0.05 * k for k, name in enumerate(names)},
        "mean_dice": 0.1 * number,
        "learning_rate": 0.01 * (1 - number / 10),
    }
    return record | changes


def curves(axes):
    return {line.get_label(): line.get_xydata() for line in axes.lines}


def test_every_curve_is_drawn_over_epochs_counted_from_one():
    loss, dice, rate = curves_figure([epoch(0), epoch(1), epoch(2)]).axes
    assert curves(loss)["train"].tolist() == [[1, 1.0], [2, 0.5], [3, pytest.approx(1 / 3)]]
    assert curves(loss)["validation"][:, 1] == pytest.approx([2, 1, 2 / 3])
    assert set(curves(dice)) == {"kidney", "tumour", "mean"}
    assert curves(dice)["tumour"][:, 1] == pytest.approx([0.05, 0.15, 0.25])
    assert rate.lines[0].get_ydata() == pytest.approx([0.01, 0.009, 0.008])


def test_an_undefined_dice_is_a_gap():
    history = [epoch(0), epoch(1, dice={"kidney": 0.5, "tumour": None}, mean_dice=None)]
    dice = curves(curves_figure(history).axes[1])
    assert np.isnan(dice["tumour"][:, 1]).tolist() == [False, True]
    assert np.isnan(dice["mean"][:, 1]).tolist() == [False, True]
    assert dice["kidney"][1, 1] == 0.5


def test_a_single_structure_needs_no_mean():
    assert set(curves(curves_figure([epoch(0, names=["kidney"])]).axes[1])) == {"kidney"}


def test_many_structures_are_drawn_but_only_their_mean_is_named():
    names = [f"organ {i}" for i in range(30)]
    axes = curves_figure([epoch(0, names=names), epoch(1, names=names)]).axes[1]
    assert len(axes.lines) == 31
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["mean"]


@pytest.mark.parametrize("epochs", [0, 1, 3])
def test_short_histories_are_written_too(tmp_path, epochs):
    path = save_curves(tmp_path / "progress.png", [epoch(number) for number in range(epochs)])
    height, width = imread(path).shape[:2]
    assert (height, width) == (380, 1200)


def test_the_first_epoch_can_be_seen():
    assert curves_figure([epoch(0)]).axes[0].lines[0].get_marker() == "o"


def test_drawing_leaves_pyplot_alone():
    code = "import sys, autoseg.figures.curves, autoseg.figures.overlay as o; print(sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert "matplotlib.figure" in loaded.stdout
    assert "matplotlib.pyplot" not in loaded.stdout
