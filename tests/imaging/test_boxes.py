import numpy as np
import pytest
from scipy import ndimage

from autoseg.imaging.boxes import Box, bounding_box, crop, nonzero_mask, paste, read_padded


@pytest.fixture
def array():
    return np.arange(2 * 4 * 5 * 6, dtype=np.float32).reshape(2, 4, 5, 6)


def test_a_box_knows_its_shape_and_slices():
    box = Box(lower=(1, 2), upper=(4, 3))
    assert box.shape == (3, 1)
    assert box.slices == (slice(1, 4), slice(2, 3))
    assert Box.whole((3, 7)) == Box(lower=(0, 0), upper=(3, 7))


def test_reference_case_is_cropped_to_its_content(phantom):
    assert phantom.image.sum(dtype=np.float64) == pytest.approx(441382.7046730444, rel=1e-12)
    mask = nonzero_mask(phantom.image)
    box = bounding_box(mask)
    assert box == Box(lower=(2, 3, 0), upper=(24, 40, 32))
    outside = crop(~mask, box) & (crop(phantom.labels, box) == 0)
    assert outside.sum() == 160
    assert np.prod(box.shape) / mask.size == pytest.approx(0.8479166666666667)


@pytest.mark.parametrize("density", [0.3, 0.6, 0.8])
def test_mask_has_its_holes_filled_as_scipy_fills_them(density):
    rng = np.random.default_rng(5)
    content = np.zeros((9, 12, 10), dtype=bool)
    content[1:8, 2:, :9] = rng.random((7, 10, 9)) < density
    expected = ndimage.binary_fill_holes(content)
    assert np.any(expected != content) or density < 0.5
    np.testing.assert_array_equal(nonzero_mask(content[None].astype(np.float32)), expected)


def test_a_closed_surface_is_filled_whatever_it_holds():
    image = np.zeros((1, 7, 8, 9), dtype=np.float32)
    image[0, 1:6, 1:7, 1:8] = 1
    image[0, 2:5, 2:6:2, 2:7] = 0
    mask = nonzero_mask(image)
    assert mask[1:6, 1:7, 1:8].all()
    assert mask.sum() == 5 * 6 * 7


def test_mask_joins_channels():
    image = np.zeros((2, 3, 4, 5), dtype=np.float32)
    image[0, 0, 1, 2] = -1
    image[1, 2, 3, 4] = 1
    assert np.argwhere(nonzero_mask(image)).tolist() == [[0, 1, 2], [2, 3, 4]]


def test_mask_of_a_single_slice_has_no_holes():
    image = np.ones((1, 1, 5, 6), dtype=np.float32)
    image[0, 0, 2, 3] = 0
    assert not nonzero_mask(image)[0, 2, 3]


def test_box_of_nothing_is_everything():
    assert bounding_box(np.zeros((3, 4, 5), dtype=bool)) == Box.whole((3, 4, 5))


def test_box_is_tight_along_every_axis():
    mask = np.zeros((6, 7, 8), dtype=bool)
    mask[1, 5, 2] = mask[3, 2, 6] = True
    assert bounding_box(mask) == Box(lower=(1, 2, 2), upper=(4, 6, 7))


def test_cropping_gives_a_view_and_pasting_fills_it(array):
    box = Box(lower=(1, 0, 2), upper=(3, 4, 6))
    part = crop(array, box)
    assert np.shares_memory(part, array)
    np.testing.assert_array_equal(part, array[:, 1:3, 0:4, 2:6])
    target = np.zeros_like(array)
    paste(target, box, part)
    np.testing.assert_array_equal(crop(target, box), part)
    assert np.count_nonzero(target) == np.count_nonzero(part)


def test_reading_beyond_the_borders_fills(array):
    result = read_padded(array, (-1, 3, 2), (3, 4, 5), fill=-1)
    padded = np.pad(array, ((0, 0), (1, 9), (0, 9), (0, 9)), constant_values=-1)
    np.testing.assert_array_equal(result, padded[:, 0:3, 3:7, 2:7])
    assert result.dtype == array.dtype


@pytest.mark.parametrize("lower", [(-3, 0, 0), (4, 0, 0), (0, 50, 0), (0, 0, -60)])
def test_reading_wholly_outside_gives_only_fill(array, lower):
    assert np.all(read_padded(array, lower, (3, 4, 5), fill=-1) == -1)


def test_reading_inside_copies(array):
    result = read_padded(array, (1, 1, 1), (2, 2, 2), fill=0)
    np.testing.assert_array_equal(result, array[:, 1:3, 1:3, 1:3])
    assert not np.shares_memory(result, array)
