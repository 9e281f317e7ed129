import numpy as np
import pytest
from scipy import ndimage

from autoseg.core.labels import LabelSpace, Structure
from autoseg.core.selection import CleanUp
from autoseg.imaging.components import clean_up, count_components, keep_largest

SPACING = (10.0, 10.0, 5.0)  # two voxels are a millilitre
ORGANS = LabelSpace(
    structures=(Structure(name="liver", values=(9,)), Structure(name="cyst", values=(4,)))
)
TUMOUR = LabelSpace(
    structures=(
        Structure(name="whole", values=(1, 2, 4)),
        Structure(name="core", values=(2, 4)),
        Structure(name="enhancing", values=(4,)),
    ),
    output_values=(1, 2, 4),
)


def row(*values: int) -> np.ndarray:
    return np.array([[values]], dtype=np.int16)


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


def test_all_but_the_largest_part_of_a_structure_is_removed():
    labels = row(2, 2, 1, 0, 2, 1)  # liver has value 9, so index 2
    cleaned = clean_up(labels, [CleanUp(structure="liver", largest_only=True)], ORGANS, SPACING)
    assert cleaned.ravel().tolist() == [2, 2, 1, 0, 0, 1]
    assert labels.ravel().tolist() == [2, 2, 1, 0, 2, 1]
    assert cleaned.dtype == np.int16


def test_parts_below_a_volume_are_removed_wherever_they_are():
    labels = row(1, 0, 1, 1, 0, 1, 1, 1, 2)
    cleaned = clean_up(labels, [CleanUp(structure="cyst", smallest_ml=1.0)], ORGANS, SPACING)
    assert cleaned.ravel().tolist() == [0, 0, 1, 1, 0, 1, 1, 1, 2]
    cleaned = clean_up(labels, [CleanUp(structure="cyst", smallest_ml=9.0)], ORGANS, SPACING)
    assert cleaned.ravel().tolist() == [0] * 8 + [2]


def test_rules_are_followed_one_after_the_other():
    rules = [
        CleanUp(structure="cyst", largest_only=True, smallest_ml=1.0),
        CleanUp(structure="liver", largest_only=True),
    ]
    cleaned = clean_up(row(1, 1, 0, 1, 2, 2, 0, 2), rules, ORGANS, SPACING)
    assert cleaned.ravel().tolist() == [1, 1, 0, 0, 2, 2, 0, 0]


def test_what_is_removed_of_a_region_stays_in_those_around_it():
    labels = row(1, 2, 3, 1, 2, 2, 3, 3, 0, 3)
    core = CleanUp(structure="core", largest_only=True)
    assert clean_up(labels, [core], TUMOUR, SPACING).ravel().tolist() == [
        *(1, 1, 1, 1, 2, 2, 3, 3, 0, 1)
    ]
    inner = CleanUp(structure="enhancing", smallest_ml=1.0)
    cleaned = clean_up(labels, [inner], TUMOUR, SPACING)
    assert cleaned.ravel().tolist() == [1, 2, 2, 1, 2, 2, 3, 3, 0, 2]
    everything = CleanUp(structure="whole", largest_only=True)
    cleaned = clean_up(labels, [everything], TUMOUR, SPACING)
    assert cleaned.ravel().tolist() == [1, 2, 3, 1, 2, 2, 3, 3, 0, 0]


def test_a_structure_that_is_absent_stays_absent():
    rule = CleanUp(structure="cyst", largest_only=True)
    assert clean_up(row(0, 2, 2), [rule], ORGANS, SPACING).ravel().tolist() == [0, 2, 2]


def test_a_rule_for_an_unknown_structure_is_refused():
    with pytest.raises(ValueError, match="no structure named 'kidney'"):
        clean_up(row(0), [CleanUp(structure="kidney")], ORGANS, SPACING)
