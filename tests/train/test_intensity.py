import numpy as np
import pytest
from scipy import ndimage

from autoseg.train.augmentation.intensity import (
    Blur,
    Brightness,
    Contrast,
    Gamma,
    LowResolution,
    Noise,
    below_or_above_one,
    blur,
    change_contrast,
    change_gamma,
    chosen_channels,
    gaussian_kernel,
    lower_resolution,
)


def rng(*seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture
def channel(phantom) -> np.ndarray:
    return phantom.image[0, :24, :24, :24].copy()


def images(number: int, shape=(5, 6, 7), channels=1) -> np.ndarray:
    return rng(8, number).normal(3, 2, (1, channels, *shape)).astype(np.float32)


def changed(transform, number: int, **options) -> np.ndarray:
    return transform(data=images(number, **options), rng=rng(9, number))["data"]


# The reference's numbers ----------------------------------------------------------------------


@pytest.mark.parametrize(("sigma", "size"), [(0.5, 3), (0.6, 5), (0.75, 5), (0.9, 5), (1.0, 7)])
def test_the_kernel_is_as_wide_as_the_published(sigma, size):
    assert gaussian_kernel(sigma).size == size


def test_the_kernel_has_the_published_weights():
    half = [0.00443305, 0.05400558, 0.24203622, 0.39905027]
    np.testing.assert_allclose(gaussian_kernel(1.0), half + half[-2::-1], atol=1e-8)


def test_a_blurred_image_has_the_published_values(channel):
    blur(channel, (1.0, 1.0, 1.0))
    assert channel.mean() == pytest.approx(4.632051, abs=1e-4)
    assert channel[12, 12, 12] == pytest.approx(-64.172066, abs=1e-4)


@pytest.mark.parametrize(("inverted", "value"), [(False, -67.246758), (True, -68.785072)])
def test_gamma_gives_the_published_values(channel, inverted, value):
    change_gamma(channel, 1.4, inverted=inverted)
    assert channel.mean() == pytest.approx(4.608911, abs=1e-4)
    assert channel.std(ddof=1) == pytest.approx(69.691580, abs=1e-3)
    assert channel[12, 12, 12] == pytest.approx(value, abs=2e-4)


def test_contrast_gives_the_published_values(channel):
    change_contrast(channel, 1.2)
    assert channel.mean() == pytest.approx(4.748463, abs=1e-4)
    assert channel.std(ddof=1) == pytest.approx(81.148294, abs=1e-3)
    assert channel[12, 12, 12] == pytest.approx(-81.851196, abs=1e-4)


def test_low_resolution_gives_the_published_values(channel):
    flat = channel.copy()
    lower_resolution(channel, 0.6)
    assert channel.mean() == pytest.approx(4.237939, abs=1e-4)
    assert channel.std(ddof=1) == pytest.approx(66.704762, abs=1e-3)
    assert channel[12, 12, 12] == pytest.approx(-76.134773, abs=1e-4)
    lower_resolution(flat, 0.6, in_plane=True)
    assert flat.mean() == pytest.approx(4.456469, abs=1e-4)
    assert flat[12, 12, 12] == pytest.approx(-70.614960, abs=1e-4)


# Equality with plain formulas -----------------------------------------------------------------


def test_blur_uses_another_width_along_every_axis():
    image = images(0)[0, 0]
    expected = image.astype(np.float64)
    for axis, sigma in enumerate((0.5, 0.9, 1.0)):
        kernel = gaussian_kernel(sigma)
        expected = ndimage.convolve1d(expected, kernel, axis, mode="mirror")
    blur(image, (0.5, 0.9, 1.0))
    np.testing.assert_allclose(image, expected, atol=1e-6)


@pytest.mark.parametrize("inverted", [False, True])
def test_gamma_is_a_power_of_the_range_with_mean_and_deviation_kept(inverted):
    image = images(1, shape=(40, 50, 45))[0, 0]
    source = (-image if inverted else image).astype(np.float64)
    bent = ((source - source.min()) / np.ptp(source)) ** 0.7
    bent = (bent - bent.mean()) / bent.std(ddof=1) * source.std(ddof=1) + source.mean()
    change_gamma(image, 0.7, inverted=inverted)
    np.testing.assert_allclose(image, -bent if inverted else bent, atol=2e-5)


def test_contrast_may_leave_the_range():
    held, free = images(2)[0, 0], images(2)[0, 0]
    low, high, mean = held.min(), held.max(), held.mean()
    expected = (held - mean) * 1.8 + mean
    change_contrast(held, 1.8)
    change_contrast(free, 1.8, clip=False)
    np.testing.assert_allclose(free, expected, atol=1e-5)
    np.testing.assert_allclose(held, np.clip(expected, low, high), atol=1e-5)


def test_a_constant_channel_stays_as_it_is():
    image = np.full((4, 5, 6), 2.5, dtype=np.float32)
    change_gamma(image, 1.4)
    change_contrast(image, 1.2)
    np.testing.assert_array_equal(image, 2.5)


def test_one_slice_can_be_coarsened():
    image = images(3, shape=(1, 8, 6))[0, 0]
    before = image.copy()
    lower_resolution(image, 0.5)
    assert image.shape == before.shape
    assert np.ptp(image) < np.ptp(before)


# What is drawn --------------------------------------------------------------------------------


def test_factors_are_below_one_as_often_as_above_and_uniform_on_their_side():
    source = rng(4)
    factors = np.array([below_or_above_one((0.7, 1.5), source) for _ in range(8000)])
    below, above = factors[factors < 1], factors[factors >= 1]
    assert len(below) / len(factors) == pytest.approx(0.5, abs=0.02)
    assert (below.min(), above.max()) == pytest.approx((0.7, 1.5), abs=0.005)
    assert below.mean() == pytest.approx(0.85, abs=0.005)
    assert above.mean() == pytest.approx(1.25, abs=0.01)
    assert below_or_above_one((1.2, 1.5), source) >= 1.2


def test_each_channel_is_chosen_by_itself():
    source = rng(5)
    drawn = [tuple(chosen_channels(3, 0.5, source)) for _ in range(4000)]
    assert len(set(drawn)) == 8
    assert np.mean([2 in one for one in drawn]) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(
    ("transform", "share"),
    [
        (Noise(share=0.1, deviation_range=(0.05, 0.1)), 0.1),
        (Blur(share=0.2, sigma_range=(0.5, 1.0)), 0.2 * 0.5),
        (Brightness(share=0.15, factor_range=(0.75, 1.25)), 0.15),
        (Contrast(share=0.15, factor_range=(0.75, 1.25)), 0.15),
        (LowResolution(share=0.25, factor_range=(0.5, 0.8), in_plane=False), 0.25 * 0.5),
        (Gamma(share=0.3, exponent_range=(0.7, 1.5), inverted=False), 0.3),
    ],
    ids=lambda value: type(value).__name__,
)
def test_as_many_samples_are_changed_as_wanted(transform, share):
    images_changed = [
        not np.array_equal(changed(transform, number), images(number)) for number in range(3000)
    ]
    assert np.mean(images_changed) == pytest.approx(share, abs=0.03)


def test_noise_is_normal_with_a_uniform_deviation_that_channels_share():
    transform = Noise(share=1.0, deviation_range=(0.0, 0.1))
    deviations: list[float] = []
    for number in range(300):
        noise = changed(transform, number, shape=(8, 9, 10), channels=2)
        noise = noise - images(number, shape=(8, 9, 10), channels=2)
        first, second = noise[0].std(axis=(1, 2, 3))
        assert first == pytest.approx(second, rel=0.2)
        assert not np.allclose(noise[0, 0], noise[0, 1], atol=1e-3) or first < 0.005
        deviations.append(float(noise.std()))
    quarters = np.quantile(deviations, (0.25, 0.5, 0.75))
    np.testing.assert_allclose(quarters, (0.025, 0.05, 0.075), atol=0.01)


def test_noise_does_not_repeat_itself_within_a_large_image():
    transform = Noise(share=1.0, deviation_range=(1.0, 1.0))
    image = np.zeros((1, 1, 100, 1000), dtype=np.float32)
    noise = transform(data=image, rng=rng(6))["data"].ravel()
    assert len(np.unique(noise)) > 0.99 * noise.size
    assert noise.std() == pytest.approx(1.0, abs=0.01)


def test_brightness_multiplies_every_channel_by_its_own_factor():
    transform = Brightness(share=1.0, factor_range=(0.75, 1.25))
    ratios = changed(transform, 0, channels=3) / images(0, channels=3)
    factors = ratios[0].reshape(3, -1)
    np.testing.assert_allclose(factors, factors[:, :1].repeat(factors.shape[1], 1), rtol=1e-5)
    assert len(set(factors[:, 0].tolist())) == 3


def test_what_other_transforms_left_in_another_layout_is_changed_too():
    transform = Gamma(share=1.0, exponent_range=(1.4, 1.5), inverted=False)
    turned = images(0).astype(np.float64).transpose(0, 1, 4, 3, 2)
    result = transform(data=turned, rng=rng(9, 0))["data"]
    np.testing.assert_allclose(result, changed(transform, 0).transpose(0, 1, 4, 3, 2), atol=1e-5)
    assert result.dtype == np.float32


def test_other_entries_of_a_batch_are_passed_on():
    transform = Brightness(share=0.0, factor_range=(0.75, 1.25))
    assert transform(data=images(0), rng=rng(1), seg="kept")["seg"] == "kept"
