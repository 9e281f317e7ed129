import numpy as np
import pytest
from scipy import ndimage

from autoseg.imaging.resample import resample_image, resize
from autoseg.imaging.resizer import Resizer, ValueRange

SHAPES = [((40, 9, 12), (90, 11, 7)), ((90, 9, 12), (40, 9, 12)), ((50, 6, 5), (50, 9, 4))]


def noise(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("slab_rows", [1, 7, 32, 77, 500])
@pytest.mark.parametrize("orders", [(3, 3, 3), (0, 3, 1), (3, 0, 1), (1, 1, 0)])
@pytest.mark.parametrize(("shape", "new_shape"), SHAPES)
def test_slabs_of_any_thickness_make_the_whole(shape, new_shape, orders, slab_rows):
    volume = noise(shape)
    resizer = Resizer(shape, new_shape, orders, slab_rows)
    parts = [resizer.slab(slab, volume[slab.window]) for slab in resizer.slabs]
    expected = volume
    for axis, order in enumerate(orders):
        factors = [new_shape[a] / shape[a] if a == axis else 1.0 for a in range(3)]
        expected = ndimage.zoom(
            expected.astype(np.float64), factors, order=order, mode="nearest", grid_mode=True
        )
    np.testing.assert_allclose(np.concatenate(parts), expected, atol=1e-5)


def test_slabs_are_cut_where_they_were_asked_for():
    slabs = Resizer((100, 5, 5), (70, 6, 5), (1, 1, 1), slab_rows=30).slabs
    assert [(slab.rows.start, slab.rows.stop) for slab in slabs] == [(0, 30), (30, 60), (60, 70)]
    # Output 30 lies at (30 + 0.5) * 100 / 70 - 0.5 = 43.07, output 59 at 84.5.
    assert slabs[1].window == slice(43, 86)


def test_slabs_of_a_picked_axis_read_only_what_they_pick():
    slabs = Resizer((6, 5, 5), (30, 6, 5), (0, 3, 3), slab_rows=12).slabs
    assert [slab.window for slab in slabs] == [slice(0, 3), slice(2, 5), slice(4, 6)]


def test_a_slab_is_written_into_an_array_that_is_there():
    volume = noise((10, 9, 12))
    resizer = Resizer((10, 9, 12), (10, 9, 12), (3, 3, 3), slab_rows=4)
    out = np.zeros((4, 9, 12), dtype=np.float32)
    assert resizer.slab(resizer.slabs[1], volume[4:8], out) is out
    np.testing.assert_array_equal(out, volume[4:8])


def test_nothing_to_resize_gives_the_source_back():
    volume = noise((4, 9, 12))
    resizer = Resizer((4, 9, 12), (4, 9, 12), (3, 3, 3))
    assert resizer.slab(resizer.slabs[0], volume) is volume


@pytest.mark.parametrize("shape", [(6, 8, 10), (11, 8, 10), (11, 13, 7)])
def test_clipping_leaves_the_source_alone(shape):
    volume = noise((6, 8, 10))
    before = volume.copy()
    resizer = Resizer((6, 8, 10), shape, (0, 3, 3), slab_rows=5)
    within = ValueRange.of(0.5 * volume, 0)
    for slab in resizer.slabs:
        out = np.empty((slab.rows.stop - slab.rows.start, *shape[1:]), dtype=np.float32)
        resizer.slab(slab, volume[slab.window], out, within)
    np.testing.assert_array_equal(volume, before)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_resize_of_a_single_axis_is_clipped_too(axis):
    volume = np.moveaxis(np.sign(noise((12, 5, 6))), 0, axis)
    shape = tuple(19 if a == axis else size for a, size in enumerate(volume.shape))
    resizer = Resizer(volume.shape, shape, (3, 3, 3), slab_rows=4)
    within = ValueRange.of(volume, None)
    for slab in resizer.slabs:
        resized = resizer.slab(slab, volume[slab.window])
        clipped = resizer.slab(slab, volume[slab.window], np.empty_like(resized), within)
        np.testing.assert_array_equal(clipped, resized.clip(-1, 1))
    assert np.abs(resize(volume, shape, 3)).max() > 1.01


@pytest.mark.parametrize("coarse", [None, 0, 1, 2])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_ranges_collected_in_parts_clip_in_parts(coarse, dtype):
    volume = np.sign(noise((6, 8, 10))) * np.linspace(1, 2, 480).reshape(6, 8, 10)
    volume = volume.astype(dtype)
    new_shape, orders = (11, 13, 17), tuple(0 if axis == coarse else 3 for axis in range(3))
    within = ValueRange((6, 8, 10), coarse)
    for rows in (slice(4, 6), slice(0, 3), slice(3, 4)):
        within.add(rows, volume[rows])
    clipped = resize(volume, new_shape, orders)
    overshooting = clipped.copy()
    for rows in (slice(0, 5), slice(5, 11)):
        within.clip(rows, clipped[rows], new_shape)
    assert np.abs(overshooting).max() > 2.01
    spacing = tuple(5.0 if axis == coarse else 1.0 for axis in range(3))
    expected = resample_image(volume[None], new_shape, spacing, (1.0, 1.0, 1.0))[0]
    np.testing.assert_array_equal(clipped, expected)
    if coarse is None:
        assert clipped.min() == volume.min()
        assert clipped.max() == volume.max()
    else:
        slices = np.moveaxis(volume, coarse, 0)
        size = new_shape[coarse]
        nearest = (np.arange(size) + 0.5) * len(slices) / size
        for index, resized in zip(
            nearest.astype(int), np.moveaxis(clipped, coarse, 0), strict=True
        ):
            assert slices[index].min() <= resized.min()
            assert resized.max() <= slices[index].max()


def test_a_range_is_not_left_by_halves():
    volume = (100 * np.sign(noise((1, 6, 8, 10)))).astype(np.float16)
    out = np.zeros((1, 9, 11, 13), dtype=np.float16)
    resample_image(volume, (9, 11, 13), (1.0, 1.0, 1.0), (1.0, 1.0, 1.0), out=out)
    assert out.min() == -100
    assert out.max() == 100
