from itertools import permutations, product

import numpy as np
import pytest

from autoseg.evaluate.surface_elements import element_sizes

SPACING = (3.0, 1.25, 0.5)


def pattern(*corners):
    """The number of the pattern in which these corners, (z, y, x) or (y, x), are inside."""
    return sum(1 << sum(c << axis for axis, c in enumerate(corner)) for corner in corners)


def heron(a, b, c):
    s = (a + b + c) / 2
    return np.sqrt(s * (s - a) * (s - b) * (s - c))


def test_one_corner_is_cut_off_by_a_triangle():
    # Its sides are the halves of the diagonals of the three faces.
    z, y, x = SPACING
    expected = heron(np.hypot(z, y) / 2, np.hypot(y, x) / 2, np.hypot(z, x) / 2)
    sizes = element_sizes(SPACING)
    for corner in product((0, 1), repeat=3):
        assert sizes[pattern(corner)] == pytest.approx(expected)
    assert element_sizes((1.0, 1.0, 1.0))[1] == pytest.approx(np.sqrt(3) / 8)


@pytest.mark.parametrize(("axis", "area"), [(0, 1.25 * 0.5), (1, 3.0 * 0.5), (2, 3.0 * 1.25)])
def test_a_flat_surface_has_the_area_of_the_face(axis, area):
    inside = [c for c in product((0, 1), repeat=3) if c[axis] == 0]
    assert element_sizes(SPACING)[pattern(*inside)] == pytest.approx(area)


def test_an_edge_is_cut_off_by_a_rectangle():
    z, y, x = SPACING
    assert element_sizes(SPACING)[pattern((0, 0, 0), (0, 0, 1))] == pytest.approx(
        x * np.hypot(z / 2, y / 2)
    )


def test_corners_across_are_cut_off_one_by_one():
    sizes = element_sizes(SPACING)
    assert sizes[pattern((0, 0, 0), (1, 1, 1))] == pytest.approx(2 * sizes[1])
    assert sizes[pattern((0, 0, 0), (0, 1, 1))] == pytest.approx(2 * sizes[1])


def test_all_or_none_inside_is_no_surface():
    for spacing in ((1.0, 2.0), SPACING):
        sizes = element_sizes(spacing)
        assert sizes[0] == sizes[-1] == 0
        assert (sizes[1:-1] > 0).all()


def test_a_structure_has_the_surface_of_what_it_leaves():
    for spacing in ((1.0, 2.0), SPACING):
        sizes = element_sizes(spacing)
        assert sizes.tolist() == sizes[::-1].tolist()


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_order_and_sense_of_the_axes_change_nothing(order):
    sizes = element_sizes(SPACING)
    turned = element_sizes(tuple(SPACING[axis] for axis in order))
    corners = list(product((0, 1), repeat=3))
    for number in range(256):
        inside = [c for c in corners if number >> int(np.dot(c, (1, 2, 4))) & 1]
        moved = [tuple(1 - c[axis] for axis in order) for c in inside]
        assert turned[pattern(*moved)] == pytest.approx(sizes[number])


def test_sizes_grow_with_the_spacing():
    assert element_sizes((6.0, 2.5, 1.0)) == pytest.approx(4 * element_sizes(SPACING))
    assert element_sizes((2.0, 5.0)) == pytest.approx(2 * element_sizes((1.0, 2.5)))


def test_lengths_in_a_plane():
    sizes = element_sizes((2.0, 1.5))
    corner = np.hypot(1.0, 0.75)
    assert sizes[pattern((0, 1))] == pytest.approx(corner)
    assert sizes[pattern((0, 0), (1, 1))] == pytest.approx(2 * corner)
    assert sizes[pattern((0, 0), (0, 1))] == pytest.approx(1.5)
    assert sizes[pattern((0, 0), (1, 0))] == pytest.approx(2.0)
