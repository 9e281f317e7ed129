import numpy as np
import pytest
from scipy import ndimage

from autoseg.train.augmentation.local_intensity import (
    BlankRectangles,
    BrightnessGradient,
    LocalGamma,
    Offset,
    Sharpen,
    change_local_gamma,
    draw_profiles,
    hill,
    sharpen,
)

SHAPE = (9, 12, 15)


def rng(*seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def images(number: int, channels: int = 2) -> np.ndarray:
    return rng(1, number).normal(3, 2, (1, channels, *SHAPE)).astype(np.float32)


def difference(transform, number: int) -> np.ndarray:
    after = transform(data=images(number), rng=rng(2, number))["data"]
    return (after - images(number))[0]


def test_offsets_are_normal_and_chosen_channel_by_channel():
    changes = np.array([difference(Offset(share=1.0, deviation=0.5), n) for n in range(1500)])
    np.testing.assert_allclose(np.ptp(changes.reshape(1500, 2, -1), axis=2), 0, atol=1e-5)
    constants = changes[:, :, 0, 0, 0]
    assert (constants != 0).mean() == pytest.approx(0.5, abs=0.03)
    assert constants[constants != 0].std() == pytest.approx(0.5, abs=0.03)
    assert constants[constants != 0].mean() == pytest.approx(0.0, abs=0.04)


def test_blank_rectangles_hold_the_mean_of_what_they_hide():
    blanked = 0
    for number in range(200):
        before = images(number, channels=1)
        after = BlankRectangles(share=1.0)(data=before.copy(), rng=rng(3, number))["data"]
        covered, count = ndimage.label((before != after)[0, 0])
        assert count <= 4
        share = (covered > 0).mean()
        assert share <= 4 * np.prod([n // 3 for n in SHAPE]) / np.prod(SHAPE)
        blanked += bool(count)
        assert after.sum() == pytest.approx(before.sum(), abs=0.05)
    assert blanked / 200 == pytest.approx(0.5, abs=0.12)


def test_a_blank_rectangle_is_a_box_of_one_value():
    for number in range(50):
        before = images(number, channels=1)[0, 0]
        after = BlankRectangles(share=1.0, channel_share=1.0)(
            data=before[None, None].copy(), rng=rng(4, number)
        )["data"][0, 0]
        boxes = ndimage.find_objects(ndimage.label(before != after)[0])
        if len(boxes) == 1:
            assert np.ptp(after[boxes[0]]) == 0
            for side, length in zip(boxes[0], SHAPE, strict=True):
                assert max(1, length // 10) <= side.stop - side.start


def test_hills_reach_from_zero_to_one_and_have_one_top():
    for number in range(100):
        drawn = hill(draw_profiles(SHAPE, rng(5, number)))
        assert drawn.shape == SHAPE
        assert (drawn.min(), drawn.max()) == (0.0, 1.0)
        for axis in range(3):
            slopes = np.sign(np.diff(drawn, axis=axis))
            assert (np.diff(slopes, axis=axis) <= 0).all()
    peaks = [np.argmax(hill(draw_profiles((40,), rng(6, n)))) for n in range(2000)]
    assert np.mean(np.equal(peaks, 0)) == pytest.approx(0.25, abs=0.04)
    assert np.mean(np.equal(peaks, 39)) == pytest.approx(0.25, abs=0.04)


def test_gradients_are_as_strong_as_wanted_in_both_directions():
    transform = BrightnessGradient(share=1.0, strength_range=(1.0, 5.0), channel_share=1.0)
    changes = np.array([difference(transform, n)[0] for n in range(400)])
    tops, bottoms = changes.max(axis=(1, 2, 3)), changes.min(axis=(1, 2, 3))
    heights = tops - bottoms
    assert heights.min() >= 0.999
    assert heights.max() <= 5.001
    assert heights.mean() == pytest.approx(3.0, abs=0.2)
    assert (tops > 0.5).mean() == pytest.approx(0.5, abs=0.08)


def test_local_gamma_is_gamma_where_its_weight_is_one_and_nothing_where_it_is_zero():
    channel = images(0)[0, 0]
    before = channel.copy()
    weight = np.linspace(0, 1, SHAPE[0], dtype=np.float32).reshape(-1, 1, 1)
    change_local_gamma(channel, 2.0, np.broadcast_to(weight, SHAPE))
    low, span = before.min(), np.ptp(before)
    bent = ((before - low) / span) ** 2 * span + low
    np.testing.assert_allclose(channel, (1 - weight) * before + weight * bent, atol=1e-5)


def test_local_gamma_keeps_the_range_and_a_constant():
    transform = LocalGamma(share=1.0, low_range=(0.01, 0.8), high_range=(1.5, 4.0))
    brighter = []
    for number in range(300):
        before = images(number, channels=1)
        after = transform(data=before.copy(), rng=rng(7, number))["data"]
        assert after.min() >= before.min() - 1e-4
        assert after.max() <= before.max() + 1e-4
        brighter.append(np.sign(np.round(after.mean() - before.mean(), 4)))
    assert np.mean(np.equal(brighter, 1)) == pytest.approx(0.25, abs=0.08)
    assert np.mean(np.equal(brighter, -1)) == pytest.approx(0.25, abs=0.08)
    constant = np.full((1, 1, 4, 5), 2.0, dtype=np.float32)
    np.testing.assert_array_equal(transform(data=constant.copy(), rng=rng(8))["data"], constant)


@pytest.mark.parametrize("in_plane", [False, True])
def test_sharpening_adds_the_differences_from_the_neighbours(in_plane):
    channel = images(0)[0, 0]
    kernel = np.zeros((3, 3, 3))
    for axis in range(int(in_plane), 3):
        kernel += np.roll(np.pad([[[-1.0]]], 1), 1, axis) + np.roll(np.pad([[[-1.0]]], 1), -1, axis)
    kernel[1, 1, 1] = -kernel.sum()
    edges = ndimage.convolve(channel.astype(np.float64), kernel, mode="nearest")
    expected = channel + 0.3 * edges
    sharpen(channel, 0.3, in_plane=in_plane)
    np.testing.assert_allclose(channel, expected, atol=1e-5)


def test_sharpening_strengths_are_uniform():
    transform = Sharpen(share=1.0, strength_range=(0.1, 1.0), channel_share=1.0, in_plane=False)
    unit = images(0).copy()[0, 0]
    sharpen(unit, 1.0)
    unit -= images(0)[0, 0]
    strengths = [
        float(((transform(data=images(0), rng=rng(9, n))["data"] - images(0))[0, 0] / unit).mean())
        for n in range(400)
    ]
    np.testing.assert_allclose(np.quantile(strengths, (0, 0.5, 1)), (0.1, 0.55, 1.0), atol=0.06)
