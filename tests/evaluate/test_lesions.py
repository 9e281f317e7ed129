import numpy as np
import pytest

from autoseg.evaluate.lesions import compare_lesions


def row(text):
    """A volume of one column of voxels: ``#`` is inside."""
    return np.array([c == "#" for c in text]).reshape(1, 1, -1)


def counts(prediction, reference):
    found = compare_lesions(row(prediction), row(reference))
    return found.num_lesions, found.num_predicted, found.num_found, found.num_false


def test_lesions_are_found_missed_and_made_up():
    assert counts("##....#....", "##..##.....") == (2, 2, 1, 1)
    found = compare_lesions(row("##....#...."), row("##..##....."))
    assert (found.sensitivity, found.f1) == (0.5, 0.5)


def test_a_tenth_of_a_lesion_must_be_covered():
    assert counts("#.........." + "." * 9, "#" * 10 + "." * 10)[2] == 1
    assert counts("#" + "." * 19, "#" * 11 + "." * 9)[2] == 0


def test_one_blob_over_everything_is_false_and_misses_nothing():
    assert counts("#" * 40, "#" + "." * 38 + "#") == (2, 1, 2, 1)


def test_lesions_that_were_joined_are_both_found():
    found = compare_lesions(row("#######"), row("###.###"))
    assert (found.num_found, found.num_false, found.f1) == (2, 0, 1.0)


def test_a_lesion_that_was_split_counts_once():
    found = compare_lesions(row("###.###"), row("#######"))
    assert (found.num_found, found.num_predicted, found.f1) == (1, 2, 1.0)


def test_voxels_that_share_a_corner_are_one_lesion():
    mask = np.zeros((3, 3, 3), dtype=bool)
    mask[0, 0, 0] = mask[1, 1, 1] = True
    assert compare_lesions(mask, mask).num_lesions == 1
    plane = np.eye(3, dtype=bool)
    assert compare_lesions(plane, plane).num_lesions == 1


@pytest.mark.parametrize(
    ("prediction", "reference", "sensitivity", "f1", "false"),
    [("...", "...", None, None, 0), ("#..", "...", None, 0.0, 1), ("...", "#..", 0.0, 0.0, 0)],
)
def test_without_lesions(prediction, reference, sensitivity, f1, false):
    found = compare_lesions(row(prediction), row(reference))
    assert (found.sensitivity, found.f1, found.num_false) == (sensitivity, f1, false)
