import numpy as np
import pytest
import torch

from autoseg.imaging import resample as arrays
from autoseg.networks import resample as tensors

VOLUME = np.random.default_rng(3).normal(size=(2, 7, 12, 40)).astype(np.float32)


@pytest.mark.parametrize("order", [0, 1, 3])
@pytest.mark.parametrize("shape", [(11, 9, 57), (3, 30, 40), (7, 12, 13), (1, 1, 1)])
def test_tensors_and_arrays_are_resized_alike(shape, order):
    resized = tensors.resize(torch.from_numpy(VOLUME), shape, order)
    expected = arrays.resize(VOLUME, shape, order)
    assert resized.dtype == torch.float32
    np.testing.assert_allclose(resized.numpy(), expected, atol=2e-5)


@pytest.mark.parametrize("order", [0, 1, 3])
def test_slices_are_resized_too(order):
    resized = tensors.resize(torch.from_numpy(VOLUME[0]), (20, 31), order)
    np.testing.assert_allclose(
        resized.numpy(), arrays.resize(VOLUME[0], (20, 31), order), atol=2e-5
    )


@pytest.mark.parametrize("order", [0, 1, 3])
def test_the_input_stays_as_it_was(order):
    volume = torch.from_numpy(VOLUME.copy())
    tensors.resize(volume, (14, 6, 20), order)
    np.testing.assert_array_equal(volume.numpy(), VOLUME)


def test_equal_sizes_cost_nothing():
    volume = torch.from_numpy(VOLUME)
    assert tensors.resize(volume, (7, 12, 40), 3) is volume


def test_a_missing_axis_is_the_callers_mistake():
    with pytest.raises(ValueError, match="cannot resize"):
        tensors.resize(torch.from_numpy(VOLUME), (7, 12), 1)
