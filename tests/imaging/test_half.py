import numpy as np
import pytest

from autoseg.imaging.half import as_float32, write


def every_half() -> np.ndarray:
    # Infinities and what is no number lie in the second and the last quarter.
    return np.arange(1 << 16, dtype=np.uint16).view(np.float16).reshape(4, 128, 128)


def test_every_half_is_read_as_the_number_it_is():
    result = as_float32(every_half())
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, every_half().astype(np.float32))
    np.testing.assert_array_equal(np.signbit(result), np.signbit(every_half()))


def test_every_half_is_written_as_it_was_read():
    out = np.empty((4, 128, 128), dtype=np.float16)
    write(every_half().astype(np.float32), out)
    np.testing.assert_array_equal(out, every_half())
    np.testing.assert_array_equal(np.signbit(out), np.signbit(every_half()))


@pytest.mark.parametrize("scale", [1e-4, 1.0, 60.0, 6e4])
def test_numbers_are_rounded_to_the_nearest_half(scale):
    values = np.random.default_rng(0).uniform(-scale, scale, (3, 40, 50)).astype(np.float32)
    out = np.empty(values.shape, dtype=np.float16)
    write(values, out)
    expected = values.astype(np.float16)
    is_normal = np.abs(expected) >= 2.0**-14
    np.testing.assert_array_equal(out[is_normal], expected[is_normal])
    np.testing.assert_allclose(out.astype(float), expected.astype(float), rtol=0, atol=scale * 1e-3)
    assert np.abs(out[~is_normal].astype(float) - expected[~is_normal]).max(initial=0) <= 2.0**-24


def test_of_two_equally_near_halves_the_even_one_is_taken():
    steps = np.arange(-2048, 2048, dtype=np.float32).reshape(2, -1) * 2.0**-11 * 0.5
    values = (np.copysign(1.0, steps) + steps).astype(np.float32)
    out = np.empty(values.shape, dtype=np.float16)
    write(values, out)
    np.testing.assert_array_equal(out, values.astype(np.float16))


@pytest.mark.parametrize("value", [65519.9, 65520.0, 1e9, -1e9, np.inf, np.nan])
def test_what_no_half_holds_is_written_as_numpy_writes_it(value):
    values = np.array([[1.5, value, -2.25]], dtype=np.float32)
    out = np.empty(values.shape, dtype=np.float16)
    write(values, out)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(out, values.astype(np.float16))


def test_a_plane_is_repeated_where_there_are_more():
    values = np.array([[[0.1, 2.0], [3.0, -4.7]]], dtype=np.float32)
    for kind in (np.float16, np.float32):
        out = np.zeros((3, 2, 4), dtype=kind)[..., ::2]
        write(values, out)
        np.testing.assert_array_equal(out, np.repeat(values.astype(kind), 3, axis=0))
