import numpy as np
import pytest

from autoseg.core.geometry import Geometry


@pytest.fixture
def oblique() -> Geometry:
    cos, sin = np.cos(0.3), np.sin(0.3)
    return Geometry(
        shape=(4, 6, 5),
        spacing=(3.0, 0.8, 1.2),
        origin=(-40.0, 12.0, 7.5),
        direction=((1.0, 0.0, 0.0), (0.0, -cos, sin), (0.0, sin, cos)),
    )


def test_a_step_along_an_axis_moves_by_its_spacing_in_its_direction(oblique):
    step = oblique.voxel_to_world((0, 1, 0)) - oblique.voxel_to_world((0, 0, 0))
    np.testing.assert_allclose(step, (0.0, -0.8 * np.cos(0.3), 0.8 * np.sin(0.3)))
    np.testing.assert_allclose(oblique.voxel_to_world((0, 0, 0)), oblique.origin)


def test_world_to_voxel_is_the_inverse(oblique):
    indices = np.array([[0, 0, 0], [3, 5, 4], [1.5, 2.25, 0.5]])
    back = oblique.world_to_voxel(oblique.voxel_to_world(indices))
    np.testing.assert_allclose(back, indices, atol=1e-12)


def test_the_volume_of_a_voxel_is_in_millilitres(oblique):
    assert oblique.voxel_volume_ml == pytest.approx(3.0 * 0.8 * 1.2 / 1000)


def test_distance_of_grids_is_in_voxels(oblique):
    moved = Geometry(
        shape=oblique.shape,
        spacing=oblique.spacing,
        origin=(-40.0 + 1.5, 12.0, 7.5),
        direction=oblique.direction,
    )
    assert oblique.distance_vox(moved) == pytest.approx(0.5)
    assert oblique.distance_vox(oblique) < 1e-12


def test_grids_of_other_shapes_have_no_distance(oblique):
    with pytest.raises(ValueError, match="shapes differ"):
        oblique.distance_vox(Geometry(shape=(4, 6, 6), spacing=(1, 1, 1)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shape": (0, 2, 2)}, "shape must be"),
        ({"spacing": (1.0, 0.0, 1.0)}, "spacing must be"),
        ({"spacing": (1.0, float("nan"), 1.0)}, "spacing must be"),
        ({"direction": ((1.0, 0, 0), (1.0, 0, 0), (0, 0, 1.0))}, "direction must be invertible"),
    ],
)
def test_impossible_grids_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Geometry(**({"shape": (2, 3, 4), "spacing": (1.0, 1.0, 1.0)} | changes))


def test_orientation_names_where_each_axis_points(oblique):
    turned = Geometry(
        shape=(2, 3, 4),
        spacing=(1.0, 1.0, 1.0),
        direction=((0.0, 0.9, 0.1), (-0.1, 0.1, 0.9), (-0.9, 0.0, -0.1)),
    )

    assert Geometry(shape=(2, 3, 4), spacing=(1.0, 1.0, 1.0)).orientation == "SPL"
    assert turned.orientation == "RSP"
