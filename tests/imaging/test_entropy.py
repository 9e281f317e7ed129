import numpy as np
import pytest

from autoseg.imaging.entropy import uncertainty


def test_certainty_is_0_and_a_tie_of_all_classes_1():
    voxels = np.array([[1, 0, 0], [1 / 3, 1 / 3, 1 / 3], [0.5, 0.5, 0]], dtype=np.float32)
    result = uncertainty(voxels.T, has_regions=False)
    assert result == pytest.approx([0, 1, np.log(2) / np.log(3)])
    assert result.dtype == np.float32


def test_of_regions_the_most_uncertain_one_counts():
    voxels = np.array([[0, 1, 0], [0.5, 1, 0], [0.9, 0.2, 0]], dtype=np.float32)
    binary = -(0.2 * np.log2(0.2) + 0.8 * np.log2(0.8))
    assert uncertainty(voxels.T, has_regions=True) == pytest.approx([0, 1, binary], abs=1e-6)


def test_the_shape_is_that_of_the_volume():
    probabilities = np.full((4, 2, 3, 5), 0.25, dtype=np.float32)
    assert uncertainty(probabilities, has_regions=False).shape == (2, 3, 5)
    assert uncertainty(probabilities, has_regions=False).max() <= 1
