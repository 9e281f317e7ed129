import numpy as np
import pytest

from autoseg.imaging.positions import foreground_positions


def test_one_in_a_hundred_positions_is_kept_of_a_large_structure():
    labels = np.zeros((110, 110, 100), dtype=np.int16)
    labels[5:] = 1
    absent, large = foreground_positions(labels, [(2,), (1,)], np.random.default_rng(0))
    assert len(absent) == 0
    assert len(large) == np.ceil(0.01 * 105 * 110 * 100)
    assert large.min() >= 5 * 110 * 100
    # Uniform: the mean of 11550 positions is within a percent of the structure's.
    assert large.mean() == pytest.approx((labels.size + 5 * 110 * 100) / 2, rel=0.01)


def test_every_voxel_of_a_small_structure_is_drawn_once():
    labels = np.zeros((5, 6, 7), dtype=np.int8)
    labels[1, 2, 3] = labels[4, 5, 6] = labels[4, 0, 0] = 2
    labels[2] = 1
    labels[0, :2] = -1
    ones, twos, outside, both = foreground_positions(
        labels, [(1,), (2,), (-1,), (1, 2)], np.random.default_rng(3)
    )
    assert sorted(ones.tolist()) == list(range(84, 126))
    assert sorted(twos.tolist()) == [42 + 14 + 3, 168, 168 + 35 + 6]
    assert sorted(outside.tolist()) == list(range(14))
    assert sorted(both.tolist()) == sorted([*ones.tolist(), *twos.tolist()])
