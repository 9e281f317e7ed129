import numpy as np
import pytest

from autoseg.core.fingerprint import IntensityStats
from autoseg.errors import DataError, UnknownNameError
from autoseg.imaging.normalize import NORMALIZERS, scheme_of, uses_mask

STATS = IntensityStats(
    mean=20, median=18, std=60, min=-500, max=900, percentile_00_5=-80, percentile_99_5=120
)


def normalized(scheme, channel, mask=None, stats=None):
    return NORMALIZERS.get(scheme)(channel, mask, stats)(channel, mask)


@pytest.fixture
def channel():
    return np.array([[[0, 50, 255], [10, 100, 5]]], dtype=np.float32)


@pytest.fixture
def mask():
    return np.array([[[0, 1, 1], [0, 1, 0]]], dtype=bool)


@pytest.mark.parametrize("scheme", list(NORMALIZERS))
def test_every_scheme_gives_new_finite_float32_and_leaves_its_input(scheme, channel, mask):
    before = channel.copy()
    result = normalized(scheme, channel, mask, STATS)
    assert result.dtype == np.float32
    assert result.shape == channel.shape
    assert np.isfinite(result).all()
    assert not np.shares_memory(result, channel)
    np.testing.assert_array_equal(channel, before)


@pytest.mark.parametrize("scheme", list(NORMALIZERS))
def test_every_scheme_survives_a_constant_image(scheme):
    constant = np.full((2, 3, 4), 7, dtype=np.float32)
    assert np.isfinite(normalized(scheme, constant, None, STATS)).all()


def test_zscore_uses_the_whole_image(channel):
    result = normalized("zscore", channel)
    np.testing.assert_allclose(result, (channel - 70) / channel.std(), rtol=1e-6)


def test_zscore_with_a_mask_leaves_the_outside(channel, mask):
    result = normalized("zscore", channel, mask)
    np.testing.assert_array_equal(result[~mask], channel[~mask])
    inside = np.array([50, 255, 100], dtype=np.float64)
    np.testing.assert_allclose(result[mask], (inside - 135) / inside.std(), rtol=1e-6)


def test_zscore_with_an_empty_mask_changes_nothing(channel):
    result = normalized("zscore", channel, np.zeros(channel.shape, dtype=bool), None)
    np.testing.assert_array_equal(result, channel)


def test_zscore_is_exact_far_from_zero():
    ramp = np.linspace(10000, 10001, 50**3, dtype=np.float32).reshape(50, 50, 50)
    result = normalized("zscore", ramp)
    assert result.mean(dtype=np.float64) == pytest.approx(0, abs=2e-3)
    assert result.std(dtype=np.float64) == pytest.approx(1, abs=1e-4)


def test_ct_clips_and_standardizes_with_the_statistics_of_the_data_set(channel):
    result = normalized("ct", channel - 100, None, STATS)
    expected = np.array([[[-100, -70, 100], [-100, -20, -100]]]) / 60
    np.testing.assert_allclose(result, expected, rtol=1e-6)


def test_ct_without_statistics_is_refused(channel):
    with pytest.raises(ValueError, match="statistics"):
        normalized("ct", channel)


@pytest.mark.parametrize("scheme", list(NORMALIZERS))
@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1)])
def test_parts_are_scaled_like_the_whole_in_any_memory_layout(scheme, axes):
    rng = np.random.default_rng(0)
    channel = rng.uniform(3, 250, (5, 6, 7)).astype(np.float32)
    mask = rng.random(channel.shape) < 0.6
    whole = normalized(scheme, channel, mask, STATS).transpose(axes)
    view, inside = channel.transpose(axes), mask.transpose(axes)
    transform = NORMALIZERS.get(scheme)(view, inside, STATS)
    parts = [transform(view[rows], inside[rows]) for rows in (slice(0, 2), slice(2, None))]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_rescaling_maps_the_range_to_0_1(channel):
    result = normalized("rescale_to_0_1", channel * 2 - 30)
    np.testing.assert_allclose(result, channel / 255, atol=1e-7)


def test_rgb_is_divided_by_255(channel):
    np.testing.assert_allclose(normalized("rgb_to_0_1", channel), channel / 255)


@pytest.mark.parametrize("shift", [-1, 1])
def test_rgb_beyond_0_to_255_is_refused(channel, shift):
    with pytest.raises(DataError, match="0 to 255"):
        normalized("rgb_to_0_1", channel + shift)


def test_none_copies(channel):
    np.testing.assert_array_equal(normalized("none", channel), channel)


def test_unknown_scheme_is_refused_with_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'zscore'"):
        NORMALIZERS.get("zcore")


@pytest.mark.parametrize(
    ("name", "scheme"),
    [
        ("CT", "ct"),
        ("ct ", "ct"),
        ("noNorm", "none"),
        ("zscore", "zscore"),
        ("rescale_to_0_1", "rescale_to_0_1"),
        ("RGB_to_0_1", "rgb_to_0_1"),
        ("T1w", "zscore"),
        ("CT scan", "zscore"),
    ],
)
def test_channel_name_decides_the_scheme(name, scheme):
    assert scheme_of(name) == scheme


def test_only_zscore_uses_the_mask():
    assert [scheme for scheme in NORMALIZERS if uses_mask(scheme)] == ["zscore"]
