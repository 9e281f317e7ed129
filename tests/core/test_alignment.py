from dataclasses import replace

import numpy as np
import pytest

from autoseg.core.alignment import find_misfit, flip, mirrored_axes
from autoseg.core.geometry import Geometry


def oblique(angle=0.3):
    cos, sin = np.cos(angle), np.sin(angle)
    return Geometry(
        shape=(6, 5, 4),
        spacing=(3.0, 0.75, 0.5),
        origin=(101.125, 33.5, -12.25),
        direction=((1.0, 0.0, 0.0), (0.0, cos, sin), (0.0, -sin, cos)),
    )


def moved(geometry, z=0.0, y=0.0, x=0.0):
    a, b, c = geometry.origin
    return replace(geometry, origin=(a + z, b + y, c + x))


def test_rounding_is_no_misfit():
    assert find_misfit(oblique(), moved(oblique(), z=0.0029)) is None
    assert find_misfit(oblique(), oblique(0.3 + 1e-8)) is None


def test_up_to_a_tenth_of_a_voxel_is_slight_and_told_with_its_size():
    misfit = find_misfit(oblique(), moved(oblique(), z=-0.15))
    assert misfit.kind == "geometry-slight"
    assert misfit.finding == "origin off by (-0.15, 0, 0) mm; corners up to 0.05 voxels away"


def test_more_than_a_tenth_of_a_voxel_is_an_error():
    misfit = find_misfit(oblique(), moved(oblique(), z=0.6))
    assert misfit.kind == "geometry"
    assert misfit.finding == "origin off by (0.6, 0, 0) mm; corners up to 0.2 voxels away"


@pytest.mark.parametrize(("axis", "name"), [(0, "z"), (1, "y"), (2, "x")])
def test_a_true_flip_names_the_axis(axis, name):
    flipped = flip(oblique(), (axis,))
    misfit = find_misfit(oblique(), flipped)
    assert misfit.kind == "geometry"
    assert misfit.finding.startswith(f"mirrored along {name} (the same box, indexed backwards);")
    assert "origin" not in misfit.finding


def test_flipping_twice_changes_nothing_and_keeps_every_voxel_once():
    once = flip(oblique(), (0, 2))
    np.testing.assert_allclose(
        once.voxel_to_world((5, 1, 3)), oblique().voxel_to_world((0, 1, 0)), atol=1e-12
    )
    assert find_misfit(oblique(), flip(once, (0, 2))) is None


def test_a_header_with_the_signs_of_two_axes_wrong_names_both():
    direction = np.asarray(oblique().direction) * [1, -1, -1]
    turned = replace(oblique(), direction=tuple(map(tuple, direction.tolist())))
    assert mirrored_axes(oblique(), turned) == (1, 2)
    assert find_misfit(oblique(), turned).finding.startswith("mirrored along y and x;")


def test_a_turned_grid_is_told_with_its_angle():
    finding = find_misfit(oblique(), oblique(0.3 + np.radians(5))).finding
    assert finding.startswith("direction turned by 5 degrees;")


def test_another_spacing_is_told_beside_that_of_the_image():
    other = replace(oblique(), spacing=(3.0, 0.75, 0.625))
    misfit = find_misfit(oblique(), other)
    assert misfit.kind == "geometry"
    assert misfit.finding == (
        "spacing (3, 0.75, 0.625) mm, its image has (3, 0.75, 0.5) mm; "
        "corners up to 0.75 voxels away"
    )


def test_all_that_differs_is_told():
    other = moved(replace(oblique(0.4), spacing=(2.0, 0.75, 0.5)), x=1)
    finding = find_misfit(oblique(), other).finding
    assert "direction turned by 5.7 degrees, spacing (2," in finding
    assert "origin off by (0, 0, 1) mm" in finding


def test_another_shape_is_told_first():
    misfit = find_misfit(oblique(), replace(oblique(), shape=(6, 5, 3), spacing=(1.0, 1.0, 1.0)))
    assert (misfit.kind, misfit.finding) == ("shape", "shape (6, 5, 3), its image has (6, 5, 4)")


def test_permuted_axes_are_told():
    shape = replace(oblique(), shape=(4, 6, 5))
    assert find_misfit(oblique(), shape).finding.endswith("; the axes seem to be permuted")
    cube = Geometry(shape=(4, 4, 4), spacing=(1, 1, 1))
    direction = ((0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (1.0, 0.0, 0.0))
    finding = find_misfit(cube, replace(cube, direction=direction)).finding
    assert finding.startswith("axes permuted: its z, y, x run along the image's x, z, y;")
