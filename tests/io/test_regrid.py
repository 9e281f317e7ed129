from dataclasses import replace

import numpy as np
from conftest import toy_case

from autoseg.core.geometry import Geometry
from autoseg.io.regrid import resample_onto


def naive_nearest(array, geometry, target, outside):
    """The value of the nearest voxel of every voxel's place, one by one."""
    result = np.full(target.shape, outside, array.dtype)
    for index in np.ndindex(*target.shape):
        place = geometry.world_to_voxel(target.voxel_to_world(index))
        nearest = np.rint(place).astype(int)
        if (nearest >= 0).all() and (nearest < array.shape).all():
            result[index] = array[tuple(nearest)]
    return result


def shifted(geometry, z=0.0, y=0.0, x=0.0):
    a, b, c = geometry.origin
    return replace(geometry, origin=(a + z, b + y, c + x))


def test_labels_are_taken_from_the_nearest_voxel_and_none_is_new():
    _, labels = toy_case(1)
    array = labels.array * 50
    target = Geometry(
        shape=(7, 9, 8),
        spacing=(3.3, 2.9, 2.7),
        origin=tuple(labels.geometry.voxel_to_world((1.1, 4.2, 2.3)).tolist()),
        direction=labels.geometry.direction,
    )
    found = resample_onto(array, labels.geometry, target, is_label=True, outside=7)
    np.testing.assert_array_equal(found, naive_nearest(array, labels.geometry, target, 7))
    assert found.dtype == array.dtype


def test_a_shift_by_whole_voxels_moves_the_values_and_fills_the_rest():
    image, _ = toy_case(0)
    array, geometry = image.array[0], image.geometry
    moved = shifted(geometry, z=2 * geometry.spacing[0])
    found = resample_onto(array, geometry, moved, is_label=False, outside=-3)
    np.testing.assert_allclose(found[:-2], array[2:], atol=1e-3)
    np.testing.assert_array_equal(found[-2:], -3)


def test_a_shift_by_half_a_voxel_is_interpolated_linearly():
    array = np.arange(5, dtype=np.float32).reshape(5, 1, 1) ** 2
    geometry = Geometry(shape=(5, 1, 1), spacing=(2.0, 1.0, 1.0))
    found = resample_onto(array, geometry, shifted(geometry, z=1), is_label=False, outside=0)
    np.testing.assert_allclose(found[:4, 0, 0], [0.5, 2.5, 6.5, 12.5], atol=1e-5)


def test_a_single_slice_stays_one():
    array = np.arange(20, dtype=np.uint8).reshape(1, 5, 4)
    geometry = Geometry(shape=(1, 5, 4), spacing=(999.0, 1.0, 1.0))
    found = resample_onto(array, geometry, shifted(geometry, y=1), is_label=True, outside=0)
    np.testing.assert_array_equal(found[0, :4], array[0, 1:])
