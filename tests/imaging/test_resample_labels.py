import numpy as np
import pytest
from scipy import ndimage

from autoseg.imaging.resample_labels import resample_labels

ISOTROPIC = (1.0, 1.0, 1.0)
THICK = (5.0, 1.0, 1.0)


def zoomed(array, shape, order):
    factors = [new / old for new, old in zip(shape, array.shape, strict=True)]
    array = array.astype(np.float64)
    return ndimage.zoom(array, factors, order=order, mode="nearest", grid_mode=True)


def resampled_by_masks(labels, shape, coarse):
    """The label whose resized mask is largest; ties to the nearest label, else the smallest."""
    present = np.unique(labels)

    def resized(mask):
        if coarse is None:
            return zoomed(mask, shape, 1)
        slices = np.moveaxis(mask, coarse, 0)
        size = shape[:coarse] + shape[coarse + 1 :]
        nearest = zoomed(np.arange(len(slices)), (shape[coarse],), 0).astype(int)
        return np.moveaxis(np.stack([zoomed(s, size, 1) for s in slices])[nearest], 0, coarse)

    scores = np.stack([resized(labels == label) for label in present])
    is_best = scores == scores.max(axis=0)
    own = zoomed(labels, shape, 0).astype(labels.dtype)
    own_is_best = (is_best & (present[:, None, None, None] == own)).any(axis=0)
    return np.where(own_is_best, own, present[is_best.argmax(axis=0)])


@pytest.mark.parametrize("shape", [(18, 13, 12), (5, 7, 6), (9, 12, 20), (9, 6, 5), (1, 30, 2)])
@pytest.mark.parametrize(("spacing", "coarse"), [(ISOTROPIC, None), ((1.0, 5.0, 1.0), 1)])
def test_labels_equal_the_largest_of_the_resized_masks(shape, spacing, coarse):
    labels = np.random.default_rng(2).choice([-1, 0, 1, 7], (9, 12, 10)).astype(np.int16)
    result = resample_labels(labels, shape, spacing, ISOTROPIC)
    assert result.dtype == np.int16
    np.testing.assert_array_equal(result, resampled_by_masks(labels, shape, coarse))


def test_labels_that_meet_in_the_middle_go_to_the_nearest():
    labels = np.array([3, 3, 1, 1], dtype=np.uint8).reshape(1, 1, 4)
    # Output 1 of 3 lies halfway between 3 and 1; halves round upwards, to the voxel of the 1.
    assert resample_labels(labels, (1, 1, 3), ISOTROPIC, ISOTROPIC).ravel().tolist() == [3, 1, 1]


def test_labels_of_the_target_shape_are_returned_as_they_are():
    labels = np.zeros((3, 4, 5), dtype=np.int16)
    assert resample_labels(labels, (3, 4, 5), THICK, ISOTROPIC) is labels


@pytest.mark.parametrize("coarse", [None, 0, 1, 2])
@pytest.mark.parametrize("shape", [(18, 20, 12), (5, 7, 6), (25, 6, 30), (10, 30, 30)])
def test_structures_in_a_large_background_equal_the_largest_of_the_masks(shape, coarse):
    labels = np.zeros((11, 16, 14), dtype=np.uint8)
    labels[3:8, 4:9, 5:13] = np.random.default_rng(4).choice(
        [0, 3, 200], (5, 5, 8), p=[0.6, 0.3, 0.1]
    )
    spacing = tuple(5.0 if axis == coarse else 1.0 for axis in range(3))
    result = resample_labels(labels, shape, spacing, ISOTROPIC)
    np.testing.assert_array_equal(result, resampled_by_masks(labels, shape, coarse))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.int32, np.int64])
def test_every_label_of_a_type_is_resampled_alike(dtype):
    info = np.iinfo(dtype)
    values = np.array([info.min, 1, info.max - 1, info.max], dtype=dtype)
    indices = np.random.default_rng(5).integers(0, 4, (6, 7, 8)).astype(np.int16)
    result = resample_labels(values[indices], (9, 5, 11), ISOTROPIC, ISOTROPIC)
    expected = resample_labels(indices, (9, 5, 11), ISOTROPIC, ISOTROPIC)
    np.testing.assert_array_equal(result, values[expected])


def test_labels_larger_than_what_is_worked_out_at_once():
    blocks = np.random.default_rng(6).integers(0, 3, (5, 10, 11)).astype(np.int8)
    labels = blocks.repeat(15, 1).repeat(15, 2)
    result = resample_labels(labels, (8, 300, 310), ISOTROPIC, ISOTROPIC)
    np.testing.assert_array_equal(result, resampled_by_masks(labels, (8, 300, 310), None))


def test_labels_are_read_in_any_memory_layout():
    labels = np.random.default_rng(7).integers(0, 3, (9, 12, 10)).astype(np.int16)
    turned = np.asfortranarray(labels)
    result = resample_labels(turned, (12, 10, 15), ISOTROPIC, ISOTROPIC)
    np.testing.assert_array_equal(
        result, resample_labels(labels, (12, 10, 15), ISOTROPIC, ISOTROPIC)
    )


@pytest.mark.parametrize("shape", [(7, 5, 9), (3, 4, 6)])
def test_labels_are_written_into_an_array_that_is_there(shape):
    labels = np.random.default_rng(8).integers(0, 3, (3, 4, 6)).astype(np.int16)
    out = np.full(shape[::-1], 9, dtype=np.int8).T
    assert resample_labels(labels, shape, THICK, ISOTROPIC, out) is out
    np.testing.assert_array_equal(out, resample_labels(labels, shape, THICK, ISOTROPIC))


@pytest.mark.parametrize("coarse", [0, 1, 2])
def test_a_structure_between_the_slices_that_are_kept_is_gone(coarse):
    labels = np.zeros((9, 10, 11), dtype=np.int8)
    np.moveaxis(labels, coarse, 0)[1] = 1
    spacing = tuple(5.0 if axis == coarse else 1.0 for axis in range(3))
    shape = tuple(2 if axis == coarse else size + 3 for axis, size in enumerate(labels.shape))
    # Of 9 to 11 slices only the second or third and the seventh or eighth are kept.
    assert not resample_labels(labels, shape, spacing, ISOTROPIC).any()


def test_a_map_of_one_label_stays_one():
    out = np.full((5, 6, 9), 3, dtype=np.int8)
    resample_labels(np.full((3, 4, 5), 2, dtype=np.int8), (5, 6, 9), THICK, ISOTROPIC, out)
    assert (out == 2).all()


@pytest.mark.parametrize("shape", [(7, 5, 9), (3, 4, 6)])
def test_an_out_of_another_shape_is_refused(shape):
    labels = np.zeros((3, 4, 6), dtype=np.int16)
    with pytest.raises(ValueError, match=r"but out is \(2, 2, 2\)"):
        resample_labels(labels, shape, THICK, ISOTROPIC, np.zeros((2, 2, 2), dtype=np.int16))
