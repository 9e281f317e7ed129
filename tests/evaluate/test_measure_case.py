import numpy as np
import pytest

from autoseg.core.geometry import Geometry
from autoseg.core.labels import LabelSpace, Structure
from autoseg.core.measures import MEASURES, USUAL
from autoseg.evaluate.measure import Wanted, has_unknown_size, is_picture, measure_case
from autoseg.evaluate.surface import compare_surfaces

SPACING = (2.5, 1.25, 0.5)
SHAPE = (7, 12, 14)
LABELS = LabelSpace(structures=(Structure(name="a", values=(1,)), Structure(name="b", values=(2,))))


def grid(shape=SHAPE, spacing=SPACING):
    return Geometry(shape=shape, spacing=spacing)


def maps(shape=SHAPE):
    prediction, reference = np.zeros((2, *shape), dtype=np.int8)
    reference[2:5, 3:8, 4:9] = 1
    prediction[2:5, 4:9, 4:9] = 1
    reference[5, 9:11, 10:12] = prediction[5, 9:12, 10:12] = 2
    return prediction, reference


def measured(prediction, reference, labels=LABELS, geometry=None, metrics=USUAL, **more):
    wanted = Wanted(metrics=tuple(metrics), tolerance=1.0)
    return measure_case(prediction, reference, labels, geometry or grid(), wanted, **more)


def test_structures_are_measured_in_their_boxes_as_in_the_whole_volume():
    prediction, reference = maps()
    scores = measured(prediction, reference).structures
    for index, name in enumerate("ab", start=1):
        whole = compare_surfaces(prediction == index, reference == index, SPACING, 1.0)
        found = scores[name]
        assert (found.hd95, found.assd, found.nsd) == (whole.hd95, whole.assd, whole.nsd)
    assert scores["a"].hd95 == 1.25
    assert (scores["a"].precision, scores["a"].recall) == (0.8, 0.8)
    assert (scores["b"].precision, scores["b"].recall) == (pytest.approx(2 / 3), 1.0)


def test_volumes_are_millilitres_and_errors_have_a_sign():
    scores = measured(*maps()).structures["b"]
    voxel_ml = 2.5 * 1.25 * 0.5 / 1000
    assert scores.volume_ml == pytest.approx(6 * voxel_ml)
    assert scores.reference_volume_ml == pytest.approx(4 * voxel_ml)
    assert scores.volume_error_ml == pytest.approx(2 * voxel_ml)
    prediction, reference = maps()
    assert measured(reference, prediction).structures["b"].volume_error_ml < 0


def test_a_structure_one_slice_thick_is_measured_in_the_volume():
    # In its box it has one slice, yet its surface has two sides.
    prediction, reference = np.zeros((2, *SHAPE), dtype=np.int8)
    reference[3, 2:6, 2:6] = prediction[4, 2:6, 2:6] = 1
    assert measured(prediction, reference).structures["a"].hd95 == 2.5


@pytest.mark.parametrize(("spacing", "expected"), [(999.0, 0.5), (4.0, 0.5)])
def test_distances_of_a_single_slice_lie_in_its_plane(spacing, expected):
    prediction, reference = np.zeros((2, 1, 9, 10), dtype=np.int8)
    reference[0, 2:6, 2:6] = 1
    prediction[0, 2:6, 3:7] = 1
    geometry = grid((1, 9, 10), (spacing, 1.0, 0.5))
    found = measured(prediction, reference, geometry=geometry).structures["a"]
    assert found.hd95 == expected
    assert (found.volume_ml is None) == (spacing == 999.0)


def test_a_picture_without_a_size_is_known():
    assert has_unknown_size(grid((1, 4, 5), (999.0, 1.0, 1.0)))
    assert not has_unknown_size(grid((1, 4, 5), (999.0, 0.5, 0.5)))
    assert not has_unknown_size(grid((3, 4, 5), (1.0, 1.0, 1.0)))
    assert is_picture(grid((1, 4, 5), (999.0, 0.5, 0.5)))
    assert not is_picture(grid((1, 4, 5), (5.0, 0.5, 0.5)))


def test_structures_missing_on_one_side_have_no_distance():
    prediction, reference = maps()
    prediction[prediction == 2] = 0
    missed = measured(prediction, reference).structures["b"]
    assert (missed.dice, missed.nsd, missed.hd95, missed.assd) == (0.0, 0.0, None, None)
    assert (missed.precision, missed.recall) == (None, 0.0)
    assert (missed.lesion_sensitivity, missed.lesion_f1, missed.false_lesions) == (0.0, 0.0, 0)
    invented = measured(reference, prediction).structures["b"]
    assert (invented.dice, invented.nsd, invented.hd95) == (0.0, 0.0, None)
    assert (invented.precision, invented.recall) == (0.0, None)
    assert (invented.lesion_sensitivity, invented.false_lesions) == (None, 1)


def test_a_structure_in_neither_has_no_score():
    prediction, reference = maps()
    absent = measured(prediction % 2, reference % 2).structures["b"]
    assert not absent.in_prediction
    assert not absent.in_reference
    assert [getattr(absent, m) for m in MEASURES if hasattr(absent, m)] == [None] * 11


def test_what_is_to_be_ignored_belongs_to_no_structure():
    labels = LabelSpace(structures=LABELS.structures, ignore=9)
    prediction, reference = maps()
    prediction[:] = reference
    reference[2:5, 3:8, 7:9] = labels.ignore_index  # an unannotated side of the first structure
    prediction[0, 0, 0] = 1  # far away, in an unannotated corner
    reference[0, 0, 0] = labels.ignore_index
    found = measured(prediction, reference, labels).structures["a"]
    assert (found.dice, found.hd95, found.assd, found.nsd) == (1.0, 0.0, 0.0, 1.0)
    assert (found.num_predicted_lesions, found.false_lesions) == (1, 0)


def test_a_prediction_that_is_ignored_altogether_is_none():
    labels = LabelSpace(structures=LABELS.structures, ignore=9)
    prediction, reference = np.zeros((2, *SHAPE), dtype=np.int8)
    prediction[1, 1, 1] = 1
    reference[:3] = labels.ignore_index
    assert measured(prediction, reference, labels).structures["a"].dice is None


def test_a_region_is_measured_as_the_union_of_its_labels():
    labels = LabelSpace(
        structures=(Structure(name="whole", values=(1, 2)), Structure(name="core", values=(2,))),
        output_values=(1, 2),
    )
    prediction, reference = np.zeros((2, *SHAPE), dtype=np.int8)
    reference[2:5, 3:6, 3:8], reference[2:5, 6:9, 3:8] = 1, 2
    prediction[2:5, 3:9, 3:8] = 1
    scores = measured(prediction, reference, labels).structures
    assert (scores["whole"].dice, scores["whole"].hd95) == (1.0, 0.0)
    assert scores["whole"].num_lesions == 1
    assert (scores["core"].dice, scores["core"].hd95) == (0.0, None)


def test_only_what_is_asked_for_is_measured():
    scores = measured(*maps(), metrics=["dice"]).structures["a"]
    assert scores.dice == 0.8
    assert (scores.hd95, scores.nsd, scores.num_lesions) == (None, None, None)
    both = measured(*maps(), metrics=["dice", "pixel_accuracy"])
    assert list(both.whole) == ["pixel_accuracy"]
    assert both.whole["pixel_accuracy"] == pytest.approx(1 - (30 + 2) / np.prod(SHAPE))


def test_threads_change_nothing():
    assert measured(*maps(), threads=3) == measured(*maps())
