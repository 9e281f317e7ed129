import numpy as np
import pytest

from autoseg.train.augment import (
    AUGMENTATIONS,
    Warp,
    apply,
    default_augmentation,
    draw_warp,
    enlarged_size,
    warp_patch,
)

PATCH = (6, 10, 8)


def rng(*seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def patch_of(size):
    image = rng(1).normal(size=(2, *size)).astype(np.float32)
    labels = rng(2).integers(-1, 3, size).astype(np.int16)
    return image, labels


@pytest.mark.parametrize(
    ("patch", "degrees", "in_plane", "expected"),
    [
        ((128, 128, 128), 30, False, (205, 205, 205)),
        ((40, 56, 40), 30, False, (73, 80, 64)),
        ((64, 192, 160), 30, False, (178, 289, 200)),
        ((80, 192, 160), 30, False, (194, 289, 210)),
        ((20, 320, 256), 180, True, (20, 376, 376)),
        ((512, 512), 180, False, (602, 602)),
        ((512, 256), 15, False, (659, 301)),
        ((56, 40), 180, False, (65, 65)),
    ],
)
def test_enlarged_sizes_equal_the_published(patch, degrees, in_plane, expected):
    assert enlarged_size(patch, degrees, in_plane) == expected


@pytest.mark.parametrize(
    ("patch", "degrees", "in_plane"),
    [
        ((40, 56, 40), 30, False),
        ((20, 320, 256), 180, True),
        ((56, 40), 180, False),
        ((512, 256), 15, False),
    ],
)
def test_the_patch_decides_rotation_range_and_dummy_2d(patch, degrees, in_plane):
    augmentation = default_augmentation(patch, (0, 1))
    assert augmentation.rotation_degrees == degrees
    assert augmentation.in_plane is in_plane


def test_a_patch_is_warped_about_a_third_of_the_time():
    augmentation = default_augmentation(PATCH, ())
    warps = [draw_warp(augmentation, rng(3, i)) for i in range(4000)]
    share = np.mean([warp is not None for warp in warps])
    assert share == pytest.approx(1 - 0.8**2, abs=0.03)
    scales = np.array([warp.scale for warp in warps if warp is not None and warp.scale != 1])
    assert scales.min() > 0.7
    assert scales.max() < 1.4
    assert np.mean(scales > 1) == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("name", list(AUGMENTATIONS))
@pytest.mark.parametrize("patch", [PATCH, (10, 8), (2, 16, 12)])
def test_every_augmentation_keeps_shape_type_and_label_values(name, patch):
    augmentation = AUGMENTATIONS.get(name)(patch, tuple(range(len(patch))))
    for number in range(20):
        source = rng(4, number)
        warp = draw_warp(augmentation, source)
        image, labels = patch_of(patch if warp is None else augmentation.read_size)
        image, labels = apply(image, labels, warp, augmentation, source)
        assert image.shape == (2, *patch)
        assert labels.shape == patch
        assert image.dtype == np.float32
        assert labels.dtype == np.int16
        assert set(np.unique(labels)) <= {-1, 0, 1, 2}


def test_a_sample_depends_on_its_generator_alone():
    augmentation = default_augmentation(PATCH, (0, 1, 2))
    image, labels = patch_of(augmentation.read_size)
    warp = Warp(angles=(0.1, 0.2, 0.3), scale=1.1)
    first = apply(image, labels, warp, augmentation, rng(5))
    np.random.seed(99)  # noqa: NPY002 - another user of the global state
    second = apply(image, labels, warp, augmentation, rng(5))
    other = apply(image, labels, warp, augmentation, rng(6))
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])
    assert not np.array_equal(first[0], other[0])


def test_image_and_labels_are_mirrored_together_and_only_where_allowed():
    augmentation = default_augmentation(PATCH, (2,))
    plain = AUGMENTATIONS.get("none")(PATCH, ())
    labels = np.arange(np.prod(PATCH), dtype=np.int16).reshape(PATCH)
    seen = set()
    for number in range(30):
        only_mirrors = type(plain)(
            patch_size=PATCH,
            rotation_degrees=0,
            scale_range=None,
            in_plane=False,
            mirror_axes=augmentation.mirror_axes,
            intensity=(),
            read_size=PATCH,
        )
        image, moved = apply(
            labels[None].astype(np.float32), labels, None, only_mirrors, rng(7, number)
        )
        np.testing.assert_array_equal(image[0], moved)
        flipped = not np.array_equal(moved, labels)
        if flipped:
            np.testing.assert_array_equal(moved, labels[:, :, ::-1])
        seen.add(flipped)
    assert seen == {True, False}


def test_a_scale_above_one_shrinks_objects_about_the_centre():
    augmentation = default_augmentation((9, 9, 9), ())
    size = augmentation.read_size
    labels = np.zeros(size, dtype=np.int16)
    middle = tuple(slice(n // 2 - 3, n // 2 + 4) for n in size)
    labels[middle] = 1
    image = labels[None].astype(np.float32)
    shrunk, shrunk_labels = warp_patch(
        image, labels, Warp(angles=(0, 0, 0), scale=1.4), augmentation
    )
    grown, _ = warp_patch(image, labels, Warp(angles=(0, 0, 0), scale=0.7), augmentation)
    assert shrunk.sum() < labels.sum() / 2
    assert grown.sum() > shrunk.sum() * 3
    assert shrunk_labels[4, 4, 4] == 1


def test_a_dummy_2d_warp_mixes_no_slices():
    augmentation = default_augmentation((4, 24, 16), ())
    image = np.zeros((1, *augmentation.read_size), dtype=np.float32)
    image[:, 2] = 1.0
    labels = image[0].astype(np.int16)
    warped, warped_labels = warp_patch(image, labels, Warp(angles=(0.7,), scale=1.2), augmentation)
    assert warped[0, 2].max() == pytest.approx(1.0)
    assert not warped[0, [0, 1, 3]].any()
    assert not (warped_labels[[0, 1, 3]] > 0).any()
