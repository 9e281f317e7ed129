"""The contract of resizing, for arrays and for tensors."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from autoseg.imaging import resample as arrays
from autoseg.networks import resample as tensors

VOLUME = np.random.default_rng(3).normal(size=(2, 7, 12, 40)).astype(np.float32)


def resized_tensor(array, shape, order):
    result = tensors.resize(torch.from_numpy(array), shape, order)
    assert result.dtype == torch.float32
    return result.numpy()


@pytest.fixture(params=[arrays.resize, resized_tensor], ids=["arrays", "tensors"])
def resize(request):
    return request.param


def zoomed(array, shape, order):
    """The resize of the reference, before clipping."""
    factors = [new / old for new, old in zip(shape, array.shape, strict=True)]
    array = array.astype(np.float64)
    return ndimage.zoom(array, factors, order=order, mode="nearest", grid_mode=True)


def check(resize, shape, new_shape, order):
    array = np.random.default_rng(sum(shape)).normal(size=(2, *shape)).astype(np.float32)
    result = resize(array, new_shape, order)
    for channel, resized in zip(array, result, strict=True):
        expected = zoomed(channel, new_shape, order)
        limit = 2e-6 * max(1.0, float(np.ptp(channel)))
        np.testing.assert_allclose(
            resized, expected, rtol=0, atol=limit, err_msg=f"{shape} -> {new_shape}"
        )


@pytest.mark.parametrize("order", [0, 1, 3])
@pytest.mark.parametrize(
    ("shape", "new_shape"),
    [
        ((37, 22, 13), (70, 11, 19)),
        ((37, 22, 13), (5, 40, 8)),
        ((1, 2, 9), (6, 9, 2)),
        ((2, 9, 1), (1, 1, 7)),
        ((9, 1, 2), (2, 3, 1)),
        ((37, 22, 13), (1, 1, 1)),
        ((6, 9, 12), (6, 20, 12)),
        ((40, 9, 12), (90, 9, 12)),
        ((6, 9), (9, 5)),
        ((90,), (113,)),
    ],
)
def test_resizing_equals_scipy(resize, shape, new_shape, order):
    check(resize, shape, new_shape, order)


@pytest.mark.parametrize("order", [0, 1, 3])
def test_resizing_equals_scipy_for_random_sizes(resize, order):
    rng = np.random.default_rng(order)
    for _ in range(12):
        check(resize, tuple(rng.integers(1, 30, 3)), tuple(rng.integers(1, 40, 3)), order)


@pytest.mark.parametrize("order", [0, 1, 3])
def test_the_input_stays_as_it_was(resize, order):
    volume = VOLUME.copy()
    resize(volume, (14, 6, 20), order)
    np.testing.assert_array_equal(volume, VOLUME)


@pytest.mark.parametrize("order", [0, 1, 3])
def test_equal_sizes_change_nothing(resize, order):
    np.testing.assert_array_equal(resize(VOLUME, (7, 12, 40), order), VOLUME)


def test_equal_sizes_cost_nothing():
    volume = torch.from_numpy(VOLUME)
    assert tensors.resize(volume, (7, 12, 40), 3) is volume


def test_a_missing_axis_is_the_callers_mistake():
    with pytest.raises(ValueError, match="cannot resize"):
        tensors.resize(torch.from_numpy(VOLUME), (7, 12), 1)
