import numpy as np
import pytest

from autoseg.core.geometry import Geometry
from autoseg.figures.slices import (
    INVENTED,
    MISSED,
    SWAPPED,
    best_view,
    errors_of,
    slices_that_matter,
    window_around,
)

# Columns are the unit vectors of the index axes; rows are superior, posterior, left.
TO_FEET_BACK_LEFT = ((-1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
SAGITTAL = ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0), (1.0, 0.0, 0.0))


def volume(shape):
    return np.arange(np.prod(shape)).reshape(shape)


def test_an_axial_volume_is_shown_face_up_and_right_to_left():
    geometry = Geometry(
        shape=(3, 4, 5),
        spacing=(4.0, 2.0, 1.0),
        direction=((1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, -1.0)),
    )
    view = best_view(geometry)
    assert geometry.orientation == "SAR"
    assert (view.axis, view.plane, view.spacing) == (0, "axial", (2.0, 1.0))
    assert view.sides == ("A", "L", "P", "R")
    array = volume((3, 4, 5))
    assert np.array_equal(view.cut(array, 1), array[1, ::-1, ::-1])


def test_slices_are_counted_along_the_coarsest_axis():
    geometry = Geometry(shape=(6, 4, 5), spacing=(1.0, 5.0, 1.5), direction=TO_FEET_BACK_LEFT)
    view = best_view(geometry)
    assert (view.axis, view.plane, view.spacing) == (1, "coronal", (1.0, 1.5))
    assert view.sides == ("S", "L", "I", "R")
    array = volume((6, 4, 5))
    assert np.array_equal(view.cut(array, 2), array[:, 2])


def test_heads_are_up_even_where_they_are_along_the_columns():
    geometry = Geometry(
        shape=(4, 3, 5),
        spacing=(6.0, 1.0, 2.0),
        direction=((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)),
    )
    view = best_view(geometry)
    assert geometry.orientation == "LPS"
    assert (view.plane, view.spacing, view.sides) == ("sagittal", (2.0, 1.0), ("S", "P", "I", "A"))
    array = volume((4, 3, 5))
    assert np.array_equal(view.cut(array, 3), array[3].T[::-1])


def test_a_volume_of_cubes_is_cut_across_head_and_feet():
    geometry = Geometry(shape=(4, 4, 4), spacing=(1.0, 1.0, 1.05), direction=SAGITTAL)
    assert geometry.orientation == "LSA"
    assert best_view(geometry).axis == 1


def test_a_picture_stays_as_it_is():
    geometry = Geometry(shape=(1, 4, 5), spacing=(999.0, 1.0, 1.0))
    view = best_view(geometry)
    assert (view.plane, view.sides) == (None, ())
    colours = volume((1, 4, 5, 3))
    assert np.array_equal(view.cut(colours, 0), colours[0])


def test_errors_are_told_apart():
    reference = np.array([[[0, 1, 1, 2, 3, 0, 3]]])
    prediction = np.array([[[0, 1, 0, 1, 0, 2, 2]]])
    plain = errors_of(reference, prediction)
    assert plain.tolist() == [[[0, 0, MISSED, SWAPPED, MISSED, INVENTED, SWAPPED]]]
    ignoring = errors_of(reference, prediction, ignore=3)
    assert ignoring.tolist() == [[[0, 0, MISSED, SWAPPED, 0, INVENTED, 0]]]


def test_what_was_not_annotated_is_no_error_where_nothing_is_known():
    reference = np.array([[[0, 1, 0]]])
    prediction = np.array([[[2, 2, 1]]])
    assert errors_of(reference, prediction, unknown={2}).tolist() == [[[0, SWAPPED, INVENTED]]]


@pytest.fixture
def view():
    return best_view(Geometry(shape=(20, 6, 7), spacing=(3.0, 1.0, 1.0)))


def chosen(view, reference, prediction):
    found = slices_that_matter(view, reference, prediction, errors_of(reference, prediction))
    return [(s.index, s.reasons) for s in found]


def test_slices_show_the_errors_and_the_largest_cross_section(view):
    reference = np.zeros((20, 6, 7), dtype=np.int16)
    prediction = reference.copy()
    reference[5:9] = prediction[5:9] = 1
    reference[7, 2, 2] = prediction[7, 2, 2] = 2
    prediction[12, :2] = 1
    prediction[13, :1] = 1
    prediction[16, 0, :3] = 1
    assert chosen(view, reference, prediction) == [
        (7, ("largest cross-section",)),
        (12, ("most errors",)),
        (16, ("many errors",)),
    ]


def test_one_slice_may_do(view):
    reference = np.zeros((20, 6, 7), dtype=np.int16)
    reference[4, 2:4, 2:4] = 1
    assert chosen(view, reference, reference) == [(4, ("largest cross-section",))]
    missed = np.zeros_like(reference)
    assert chosen(view, reference, missed) == [(4, ("most errors", "largest cross-section"))]
    assert chosen(view, missed, reference) == [(4, ("most errors", "largest cross-section"))]
    assert chosen(view, missed, missed) == [(10, ("largest cross-section",))]


def test_the_window_holds_all_structures_with_something_around():
    labels = np.zeros((100, 80), dtype=np.int16)
    labels[40:60, 2:6] = 1
    other = np.zeros_like(labels)
    other[50, 30] = 1
    assert window_around([labels, other]) == (slice(28, 72), slice(0, 43))
    assert window_around([np.zeros((5, 6), dtype=int)]) == (slice(0, 5), slice(0, 6))
