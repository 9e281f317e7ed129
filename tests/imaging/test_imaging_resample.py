import numpy as np
import pytest
from scipy import ndimage

from autoseg.imaging.operators import axis_operator
from autoseg.imaging.resample import (
    axis_orders,
    coarse_axis,
    resample_image,
    resample_logits,
    resize,
)

ISOTROPIC = (1.0, 1.0, 1.0)
THICK = (5.0, 1.0, 1.0)


def zoomed(array, shape, order):
    """The resize of the reference, before clipping."""
    factors = [new / old for new, old in zip(shape, array.shape, strict=True)]
    array = array.astype(np.float64)
    return ndimage.zoom(array, factors, order=order, mode="nearest", grid_mode=True)


def noise(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("order", [0, 1, 3])
@pytest.mark.parametrize(
    ("size_in", "size_out"),
    [
        (1, 1),
        (1, 6),
        (2, 1),
        (2, 9),
        (9, 2),
        (7, 7),
        (10, 3),
        (23, 61),
        (61, 23),
        (30, 12),
        (90, 113),
    ],
)
def test_operator_equals_scipy(size_in, size_out, order):
    signal = noise(size_in, seed=size_in)
    result = axis_operator(size_in, size_out, order).dense() @ signal
    np.testing.assert_allclose(result, zoomed(signal, (size_out,), order), atol=2e-6)


def test_operator_equals_scipy_for_random_sizes():
    rng = np.random.default_rng(8)
    for size_in, size_out, order in zip(
        rng.integers(1, 80, 60), rng.integers(1, 80, 60), rng.choice([0, 1, 3], 60), strict=True
    ):
        signal = noise(size_in, seed=int(size_in))
        result = axis_operator(int(size_in), int(size_out), int(order)).dense() @ signal
        expected = zoomed(signal, (size_out,), int(order))
        np.testing.assert_allclose(result, expected, atol=2e-6, err_msg=f"{size_in}->{size_out}")


@pytest.mark.parametrize(("order", "taps"), [(0, 1), (1, 2), (3, 24)])
def test_operator_is_banded_and_keeps_constants(order, taps):
    operator = axis_operator(100, 130, order)
    assert operator.weights.shape == (130, taps)
    assert operator.first.dtype == np.int32
    np.testing.assert_allclose(operator.weights.sum(axis=1), 1, atol=1e-6)
    by_hand = [
        sum(operator.weights[i, k] * float(operator.first[i] + k) ** 2 for k in range(taps))
        for i in range(130)
    ]
    np.testing.assert_allclose(operator.dense() @ np.arange(100.0) ** 2, by_hand, rtol=1e-5)


def test_part_of_an_operator_reads_only_its_window():
    operator = axis_operator(70, 90, 3)
    window, part = operator.part(40, 47)
    np.testing.assert_array_equal(part.dense(), operator.dense()[40:47, window])
    assert window.stop - window.start < 35


@pytest.mark.parametrize("arguments", [(0, 3, 1), (3, 0, 1), (3, 3, 2)])
def test_operator_refuses_what_it_cannot_do(arguments):
    with pytest.raises(ValueError, match="must be"):
        axis_operator(*arguments)


def test_resizing_keeps_leading_axes_apart():
    array = noise((2, 3, 9, 12))
    result = resize(array, (7, 20), 3)
    assert result.shape == (2, 3, 7, 20)
    np.testing.assert_allclose(result[1, 2], zoomed(array[1, 2], (7, 20), 3), atol=1e-5)


def test_resizing_takes_an_order_per_axis():
    volume = noise((6, 9, 12))
    result = resize(volume, (9, 9, 20), (0, 1, 3))
    expected = zoomed(zoomed(volume, (9, 9, 12), 0), (9, 9, 20), 3)
    np.testing.assert_allclose(result, expected, atol=1e-5)


def test_resizing_reads_arrays_in_any_memory_layout():
    volume = noise((12, 9, 7)).transpose(2, 0, 1)
    np.testing.assert_allclose(
        resize(volume, (9, 15, 8), 3), zoomed(volume, (9, 15, 8), 3), atol=1e-5
    )


def test_resizing_to_the_same_size_is_free():
    volume = noise((3, 4, 5))
    assert resize(volume, (3, 4, 5), 3) is volume


@pytest.mark.parametrize("source_type", [np.float16, np.float32])
@pytest.mark.parametrize("out_type", [np.float16, np.float32])
@pytest.mark.parametrize("shape", [(9, 15, 8), (5, 9, 12)])
def test_resizing_writes_into_an_array_that_is_there(source_type, out_type, shape):
    array = noise((2, 5, 9, 12)).astype(source_type)
    # Memory that is neither contiguous nor in order.
    out = np.full((*shape[::-1], 4), 7, dtype=out_type).transpose(3, 2, 1, 0)[::2]
    assert resize(array, shape, 1, out) is out
    expected = resize(array.astype(np.float32), shape, 1)
    np.testing.assert_allclose(out, expected, atol=2e-3 if out_type == np.float16 else 1e-6)


@pytest.mark.parametrize(
    "resample",
    [
        lambda array, out: resize(array, (4, 5, 6), 1, out),
        lambda array, out: resize(array, (3, 4, 5), 1, out),
        lambda array, out: resample_image(array, (4, 5, 6), ISOTROPIC, ISOTROPIC, out=out),
        lambda array, out: resample_image(array, (3, 4, 5), ISOTROPIC, ISOTROPIC, out=out),
        lambda array, out: resample_logits(array, (4, 5, 6), ISOTROPIC, ISOTROPIC, out),
    ],
)
def test_an_out_of_another_shape_is_the_callers_mistake(resample):
    with pytest.raises(
        ValueError, match=r"the result is \(1, ., ., .\), but out is \(1, 6, 5, 4\)"
    ):
        resample(noise((1, 3, 4, 5)), np.zeros((1, 6, 5, 4), dtype=np.float32))


@pytest.mark.parametrize(
    ("current", "target", "expected"),
    [
        ((3.0, 0.8, 0.8), (2.0, 1.0, 1.0), 0),
        ((0.8, 0.9, 3.0), ISOTROPIC, 2),
        ((3.0, 1.0, 1.0), (3.0, 1.0, 1.0), None),
        (ISOTROPIC, (4.0, 1.0, 1.0), 0),
        ((0.24, 1.25, 1.25), (0.3, 1.0, 1.0), None),
        ((1.0, 1.0, 1.0), (1.3, 1.1, 0.9), None),
        ((999.0, 0.5, 0.5), (999.0, 1.0, 1.0), 0),
        # The current spacing decides even when it leads nowhere.
        ((0.2, 1.0, 1.0), (4.0, 1.0, 1.0), None),
    ],
)
def test_coarse_axis_follows_the_reference(current, target, expected):
    assert coarse_axis(current, target) == expected


def test_coarse_axis_does_not_depend_on_how_a_file_rounds():
    rounded = float(np.float32(1.25))
    assert coarse_axis((0.24, 1.25, 1.2500001), ISOTROPIC) is None
    assert coarse_axis((0.24, 1.2499999, rounded), ISOTROPIC) is None


def test_axis_orders_take_the_nearest_along_the_coarse_axis():
    assert axis_orders(3, 1) == (3, 0, 3)
    assert axis_orders(1, None) == (1, 1, 1)


def test_image_stays_within_the_range_of_each_channel():
    image = np.stack([np.sign(noise((9, 8, 10))), 90 * np.sign(noise((9, 8, 10), seed=1))])
    shape = (14, 13, 12)
    result = resample_image(image, shape, ISOTROPIC, ISOTROPIC)
    for channel, resampled in zip(image, result, strict=True):
        unclipped = zoomed(channel, shape, 3)
        assert unclipped.max() > channel.max()
        np.testing.assert_allclose(
            resampled, unclipped.clip(channel.min(), channel.max()), atol=1e-3
        )


@pytest.mark.parametrize("size", [4, 6, 11])
def test_image_with_a_coarse_axis_is_resampled_slice_by_slice(size):
    # Steps overshoot; their height differs from slice to slice.
    image = np.sign(noise((1, 6, 8, 10))) * np.arange(1, 7, dtype=np.float32)[:, None, None]
    result = resample_image(image, (size, 13, 7), THICK, ISOTROPIC)
    slices = np.stack([zoomed(s, (13, 7), 3).clip(s.min(), s.max()) for s in image[0]])
    nearest = zoomed(np.arange(6), (size,), 0).astype(int)
    np.testing.assert_allclose(result[0], slices[nearest], atol=1e-5)


def test_coarse_axis_may_be_the_last():
    image = noise((1, 8, 10, 6))
    result = resample_image(image, (13, 7, 9), (1.0, 1.0, 5.0), ISOTROPIC)
    turned = resample_image(image.transpose(0, 3, 1, 2), (9, 13, 7), THICK, ISOTROPIC)
    np.testing.assert_allclose(result[0], turned[0].transpose(1, 2, 0), atol=1e-5)


def test_image_of_the_target_shape_is_returned_as_it_is():
    image = noise((1, 3, 4, 5))
    assert resample_image(image, (3, 4, 5), THICK, ISOTROPIC) is image


def test_image_is_written_into_an_array_that_is_there():
    image = noise((2, 6, 8, 10))
    for shape in [(9, 13, 7), (6, 8, 10)]:
        out = np.zeros((2, *shape), dtype=np.float32)
        assert resample_image(image, shape, THICK, ISOTROPIC, out=out) is out
        np.testing.assert_array_equal(out, resample_image(image, shape, THICK, ISOTROPIC))


@pytest.mark.parametrize("coarse", [0, 1, 2])
@pytest.mark.parametrize("size", [3, 6, 17])
def test_any_axis_may_be_the_coarse_one(coarse, size):
    image = np.sign(noise((6, 8, 10))) * np.arange(1, 7, dtype=np.float32)[:, None, None]
    spacing = tuple(5.0 if axis == coarse else 1.0 for axis in range(3))
    shape = [13, 7]
    shape.insert(coarse, size)
    turned = np.moveaxis(image, 0, coarse).astype(np.float16)
    result = resample_image(turned[None], tuple(shape), spacing, ISOTROPIC)
    slices = np.stack([zoomed(s, (13, 7), 3).clip(s.min(), s.max()) for s in image])
    nearest = zoomed(np.arange(6), (size,), 0).astype(int)
    np.testing.assert_allclose(np.moveaxis(result[0], coarse, 0), slices[nearest], atol=1e-5)


def test_logits_are_resampled_linearly_along_fine_axes():
    logits = noise((2, 4, 8, 10))
    result = resample_logits(logits, (7, 13, 7), THICK, ISOTROPIC)
    expected = zoomed(zoomed(logits[1], (7, 8, 10), 0), (7, 13, 7), 1)
    np.testing.assert_allclose(result[1], expected, atol=1e-5)


def test_half_logits_are_written_into_halves():
    logits = noise((2, 4, 8, 10)).astype(np.float16)
    out = np.zeros((2, 7, 13, 7), dtype=np.float16)
    assert resample_logits(logits, (7, 13, 7), ISOTROPIC, ISOTROPIC, out) is out
    np.testing.assert_allclose(out[1], zoomed(logits[1], (7, 13, 7), 1), atol=2e-3)
