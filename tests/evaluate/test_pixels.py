import numpy as np
import pytest

from autoseg.evaluate.pixels import pixel_scores


def test_scores_of_whole_label_maps():
    # 90 of background (6 of it taken for the structure), 10 of the structure (4 missed).
    scores = pixel_scores(np.array([[84, 6], [4, 6]]))
    assert scores["pixel_accuracy"] == pytest.approx(0.9)
    assert scores["pixel_error"] == pytest.approx(0.1)
    expected = 0.9 * 84 / 94 + 0.1 * 6 / 16
    assert scores["weighted_jaccard"] == pytest.approx(expected)


def test_a_prediction_of_nothing_looks_good():
    scores = pixel_scores(np.array([[98, 0], [2, 0]]))
    assert scores["pixel_accuracy"] == 0.98
    assert scores["weighted_jaccard"] == pytest.approx(0.98 * 0.98)


def test_without_voxels_there_are_no_scores():
    assert set(pixel_scores(np.zeros((2, 2), dtype=int)).values()) == {None}
