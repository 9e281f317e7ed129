import numpy as np
from scipy import ndimage

from autoseg.imaging.components import count_components, keep_largest


def test_largest_component_of_a_label_stays():
    labels = np.zeros((4, 6, 8), dtype=np.int16)
    labels[0, 0, :3] = 1
    labels[3, 4:, 2:5] = 1
    labels[1, 3, 7] = 2
    result = keep_largest(labels, (1,))
    assert (result == 1).sum() == 6
    assert result[0, 0, 0] == 0
    assert result[1, 3, 7] == 2
    assert labels[0, 0, 0] == 1


def test_labels_are_joined_before_components_are_counted():
    labels = np.zeros((1, 3, 9), dtype=np.uint8)
    labels[0, 1, :2] = 1
    labels[0, 1, 2:4] = 2
    labels[0, 1, 6:9] = 1
    assert keep_largest(labels, (1, 2))[0, 1].tolist() == [1, 1, 2, 2, 0, 0, 0, 0, 0]


def test_other_labels_between_the_components_stay():
    labels = np.array([[[1, 0, 2, 1, 1]]], dtype=np.int16)
    assert keep_largest(labels, (1,)).ravel().tolist() == [0, 0, 2, 1, 1]


def test_voxels_that_share_a_corner_are_connected():
    labels = np.zeros((4, 4, 4), dtype=np.int16)
    labels[0, 0, 0] = labels[1, 1, 1] = labels[2, 2, 2] = 1
    labels[3, 0, 0] = labels[3, 0, 1] = 1
    result = keep_largest(labels, (1,))
    assert np.argwhere(result).tolist() == [[0, 0, 0], [1, 1, 1], [2, 2, 2]]


def test_pixels_of_a_slice_that_share_a_corner_are_connected():
    labels = np.zeros((1, 4, 4), dtype=np.int16)
    labels[0, 0, 0] = labels[0, 1, 1] = labels[0, 3, 3] = 1
    assert np.argwhere(keep_largest(labels, (1,))).tolist() == [[0, 0, 0], [0, 1, 1]]


def test_components_of_equal_size_all_stay():
    labels = np.zeros((2, 3, 8), dtype=np.int16)
    labels[0, 0, :2] = labels[1, 2, 6:] = labels[0, 0, 4] = 1
    assert keep_largest(labels, (1,)).sum() == 4


def test_absent_labels_change_nothing():
    labels = np.zeros((2, 3, 4), dtype=np.int16)
    labels[0, 0, 0] = labels[1, 2, 3] = 3
    np.testing.assert_array_equal(keep_largest(labels, (1, 2)), labels)


def test_components_of_every_label_are_counted():
    labels = np.random.default_rng(2).choice(5, (6, 9, 13), p=(0.7, 0.1, 0.12, 0.03, 0.05))
    naive = [ndimage.label(labels == index, np.ones((3, 3, 3)))[1] for index in (1, 2, 3)]
    assert count_components(labels.astype(np.int16), 3) == tuple(naive)


def test_an_absent_label_has_no_component():
    labels = np.zeros((3, 4, 5), np.int16)
    assert count_components(labels, 2) == (0, 0)
    labels[1, 2, 3], labels[0, 0, 0] = 2, -1
    assert count_components(labels, 3) == (0, 1, 0)
