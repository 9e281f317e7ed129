import random
from dataclasses import replace

import numpy as np
import pytest
from batchgenerators.transforms.abstract_transforms import AbstractTransform
from batchgenerators.transforms.color_transforms import (
    BrightnessMultiplicativeTransform,
    ContrastAugmentationTransform,
    GammaTransform,
)
from batchgenerators.transforms.noise_transforms import GaussianNoiseTransform

from autoseg.train.augmentation.augment import (
    AUGMENTATIONS,
    Augmentation,
    apply,
    box_to_read,
    default_augmentation,
    draw_warp,
    light_augmentation,
    strong_augmentation,
)
from autoseg.train.augmentation.intensity import Brightness, Contrast, Gamma
from autoseg.train.augmentation.warp import Warp

SOLID, FLAT, PLANE = (6, 10, 8), (2, 16, 12), (10, 8)


def rng(*seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def varied(augmentation, *seed, paint=None):
    """A sample as a batch makes it, of random labels or blocks of them."""
    source = rng(4, *seed)
    warp = draw_warp(augmentation, source)
    box = box_to_read(augmentation, warp)
    blocks = rng(2).integers(-1, 3, [-(-n // 3) for n in box.size])
    labels = np.kron(blocks, np.ones((3,) * len(box.size)))
    labels = labels[tuple(slice(n) for n in box.size)].astype(np.int16)
    image = (
        rng(1).normal(size=(2, *box.size)).astype(np.float32) if paint is None else paint(labels)
    )
    return apply(image, labels, warp, augmentation, source)


def all_axes(patch):
    return tuple(range(len(patch)))


# The contract of the registry -----------------------------------------------------------------


@pytest.mark.parametrize("name", list(AUGMENTATIONS))
@pytest.mark.parametrize("patch", [SOLID, FLAT, PLANE])
class TestEveryAugmentation:
    def test_keeps_size_and_type_and_invents_no_values(self, name, patch):
        augmentation = AUGMENTATIONS.get(name)(patch, all_axes(patch))
        for number in range(40):
            image, labels = varied(augmentation, number)
            assert image.shape == (2, *patch)
            assert labels.shape == patch
            assert image.dtype == np.float32
            assert labels.dtype == np.int16
            assert np.isfinite(image).all()
            assert set(np.unique(labels)) <= {-1, 0, 1, 2}

    def test_is_a_function_of_its_generator(self, name, patch):
        augmentation = AUGMENTATIONS.get(name)(patch, all_axes(patch))
        for number in range(10):
            first, labels = varied(augmentation, number)
            np.random.seed(number)  # noqa: NPY002 - another user of the global state
            random.seed(number)
            second, again = varied(augmentation, number)
            np.testing.assert_array_equal(first, second)
            np.testing.assert_array_equal(labels, again)

    def test_gives_different_samples(self, name, patch):
        augmentation = AUGMENTATIONS.get(name)(patch, all_axes(patch))
        samples = {varied(augmentation, number)[0].tobytes() for number in range(12)}
        # The default leaves one sample in nine as it is, unless it is mirrored.
        assert len(samples) == 1 if name == "none" else len(samples) > 8

    def test_moves_image_and_labels_together(self, name, patch):
        augmentation = replace(AUGMENTATIONS.get(name)(patch, all_axes(patch)), intensity=())
        for number in range(40):
            image, labels = varied(
                augmentation, number, paint=lambda labels: (labels[None] == 2).astype(np.float32)
            )
            assert (labels[image[0] > 0.501] == 2).all()
            # A third label may be weaker than one half and still the strongest.
            assert (image[0][labels == 2] > 0.1).all()

    def test_mirrors_no_axis_that_is_not_allowed(self, name, patch):
        assert AUGMENTATIONS.get(name)(patch, ()).mirror_axes == ()
        assert set(AUGMENTATIONS.get(name)(patch, (0,)).mirror_axes) <= {0}


# Choices --------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [default_augmentation, strong_augmentation])
@pytest.mark.parametrize(
    ("patch", "degrees", "in_plane"),
    [
        ((40, 56, 40), 30, False),
        ((20, 320, 256), 180, True),
        ((54, 160, 160), 30, False),
        ((56, 40), 180, False),
        ((512, 256), 15, False),
    ],
)
def test_the_patch_decides_rotation_range_and_dummy_2d(make, patch, degrees, in_plane):
    augmentation = make(patch, (0, 1))
    assert augmentation.warp.rotation_degrees == degrees
    assert augmentation.in_plane is in_plane


def test_an_unwarped_sample_reads_the_patch_alone():
    assert box_to_read(default_augmentation(SOLID, ()), None).size == SOLID
    assert box_to_read(default_augmentation(PLANE, ()), None).lower == (0, 0)


@pytest.mark.parametrize(
    ("name", "axes"),
    [
        ("default", (0, 1, 2)),
        ("strong", (0, 1, 2)),
        ("light", (2,)),
        ("no-mirror", ()),
        ("none", ()),
    ],
)
def test_each_augmentation_says_which_axes_it_mirrors(name, axes):
    assert AUGMENTATIONS.get(name)(SOLID, (0, 1, 2)).mirror_axes == axes


def test_without_mirroring_all_else_is_the_default():
    plain = AUGMENTATIONS.get("no-mirror")(SOLID, (0, 1, 2))
    assert replace(plain, mirror_axes=(0, 1, 2)) == default_augmentation(SOLID, (0, 1, 2))


def test_the_light_flip_is_sideways_where_that_is_allowed():
    assert light_augmentation(SOLID, (0, 1)).mirror_axes == ()
    assert light_augmentation(PLANE, (0, 1)).mirror_axes == (1,)


def test_light_warps_are_small_and_never_missing():
    warps = [draw_warp(light_augmentation((40, 64, 80), ()), rng(5, n)) for n in range(1000)]
    assert None not in warps
    angles, scales, shifts = (
        np.array([getattr(warp, name) for warp in warps])
        for name in ("angles", "scales", "shift_vox")
    )
    np.testing.assert_allclose(np.degrees(np.abs(angles)).max(axis=0), 5, atol=0.05)
    assert (scales.min(), scales.max()) == pytest.approx((0.95, 1.05), abs=0.001)
    np.testing.assert_allclose(np.abs(shifts).max(axis=0), 10, atol=0.1)


def test_a_light_shift_leaves_most_of_a_small_patch():
    assert light_augmentation((8, 40, 100), ()).warp.shift_vox == (2, 10, 10)


# Mirroring ------------------------------------------------------------------------------------


def test_mirrors_are_drawn_for_each_axis_by_itself():
    only_mirrors = Augmentation(patch_size=SOLID, mirror_axes=(0, 2))
    labels = np.arange(np.prod(SOLID), dtype=np.int16).reshape(SOLID)
    seen = []
    for number in range(400):
        image, moved = apply(
            labels[None].astype(np.float32), labels, None, only_mirrors, rng(7, number)
        )
        np.testing.assert_array_equal(image[0], moved)
        seen.append(int(moved[0, 0, 0]))
    corners = [labels[i, 0, j] for i in (0, -1) for j in (0, -1)]
    assert set(seen) == set(corners)
    np.testing.assert_allclose([seen.count(corner) / 400 for corner in corners], 0.25, atol=0.07)


# Beside batchgenerators -----------------------------------------------------------------------


class GlobalNoise(AbstractTransform):
    """Draws from both global states, as transforms of batchgenerators do."""

    def __call__(self, **data_dict):
        shape = data_dict["data"].shape
        data_dict["data"] = np.random.normal(size=shape) + random.random()  # noqa: NPY002
        return data_dict


@pytest.mark.parametrize(
    "transform", [GlobalNoise(), GaussianNoiseTransform(noise_variance=(0.5, 1), p_per_sample=1)]
)
def test_transforms_of_batchgenerators_depend_on_the_sample_alone(transform):
    mixed = Augmentation(
        patch_size=SOLID,
        intensity=(transform, Gamma(share=1, exponent_range=(0.7, 1.5), inverted=False)),
    )
    first, _ = varied(mixed, 0)
    np.random.seed(99)  # noqa: NPY002 - another user of the global state
    random.seed(99)
    second, _ = varied(mixed, 0)
    other, _ = varied(mixed, 1)
    assert first.dtype == np.float32
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)


def test_global_states_are_left_alone_by_our_own_transforms():
    augmentation = strong_augmentation(SOLID, (0, 1, 2))
    np.random.seed(3)  # noqa: NPY002
    random.seed(3)
    expected = np.random.random(), random.random()  # noqa: NPY002
    np.random.seed(3)  # noqa: NPY002
    random.seed(3)
    for number in range(20):
        varied(augmentation, number)
    assert (np.random.random(), random.random()) == expected  # noqa: NPY002


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (
            Brightness(share=1, factor_range=(0.75, 1.25)),
            BrightnessMultiplicativeTransform((0.75, 1.25), p_per_sample=1),
        ),
        (
            Contrast(share=1, factor_range=(0.75, 1.25)),
            ContrastAugmentationTransform((0.75, 1.25), p_per_sample=1),
        ),
        (
            Gamma(share=1, exponent_range=(0.7, 1.5), inverted=True),
            GammaTransform((0.7, 1.5), True, True, retain_stats=True, p_per_sample=1),
        ),
    ],
    ids=lambda transform: type(transform).__name__,
)
def test_our_transforms_change_images_as_often_and_as_much_as_those_of_batchgenerators(
    ours, theirs
):
    image = rng(8).gamma(2.0, 1.0, (1, 1, 8, 9, 10)).astype(np.float32)
    np.random.seed(1)  # noqa: NPY002
    source = rng(9)
    changes = {
        name: [float((call(data=image.copy())["data"] - image)[0, 0, 2, 3, 4]) for _ in range(3000)]
        for name, call in (("ours", lambda data: ours(data=data, rng=source)), ("theirs", theirs))
    }
    shares = (0.05, 0.25, 0.5, 0.75, 0.95)
    spread = np.std(changes["theirs"])
    np.testing.assert_allclose(
        np.quantile(changes["ours"], shares),
        np.quantile(changes["theirs"], shares),
        atol=0.15 * spread,
    )


def test_a_warp_is_applied_before_the_intensities():
    augmentation = Augmentation(patch_size=PLANE)
    warp = Warp(angles=(0.0,), scales=(2.0, 2.0), shift_vox=(0.0, 0.0))
    box = box_to_read(augmentation, warp)
    image = np.ones((1, *box.size), dtype=np.float32)
    moved, labels = apply(image, np.ones(box.size, np.int16), warp, augmentation, rng(0))
    assert moved.shape == (1, *PLANE)
    assert (labels == 1).all()
