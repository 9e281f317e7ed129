import numpy as np
import pytest
from scipy import ndimage

from autoseg.train.augmentation.warp import Warp, WarpRange, draw_warp, source_box, warp_patch

DEFAULT = WarpRange(
    rotation_degrees=30.0, rotation_share=0.2, scale_range=(0.7, 1.4), scale_share=0.2
)


def rng(*seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def a_warp(angles=(0.0, 0.0, 0.0), scale=1.0, shift=None) -> Warp:
    dimensions = 3 if len(angles) == 3 else 2
    return Warp(
        angles=tuple(angles),
        scales=(scale,) * dimensions,
        shift_vox=tuple(shift or (0.0,) * dimensions),
    )


def cut(array, lower, size, fill):
    """A box of an array, which may reach beyond it."""
    padded = np.pad(array, 64, constant_values=fill)
    return padded[tuple(slice(low + 64, low + 64 + n) for low, n in zip(lower, size, strict=True))]


def warped_about_centre(image, labels, warp, patch):
    """As a sample would be whose patch lies in the middle of the image."""
    box = source_box(warp, patch)
    corner = [(n - p) // 2 for n, p in zip(labels.shape, patch, strict=True)]
    lower = [a + b for a, b in zip(corner, box.lower, strict=True)]
    read, read_labels = cut(image, lower, box.size, 0), cut(labels, lower, box.size, -1)
    moved, moved_labels = warp_patch(read[None], read_labels, warp, patch)
    return moved[0], moved_labels


def counts(labels):
    return dict(
        zip(*(part.tolist() for part in np.unique(labels, return_counts=True)), strict=True)
    )


@pytest.fixture
def cube(phantom):
    labels = phantom.labels[:24, :24, :24].copy()
    labels[0] = -1
    return phantom.image[0, :24, :24, :24], labels


# The reference's numbers ----------------------------------------------------------------------


def test_the_matrices_are_the_published():
    solid = Warp(angles=(0.1, 0.2, 0.3), scales=(1.1, 1.2, 1.3), shift_vox=(0.0,) * 3)
    expected = [
        [1.029923, -0.330115, 0.283856],
        [0.318592, 1.14771, -0.048044],
        [-0.218536, 0.117412, 1.267721],
    ]
    np.testing.assert_allclose(solid.matrix, expected, atol=1e-6)
    plane = Warp(angles=(0.3,), scales=(1.1, 1.2), shift_vox=(0.0,) * 2)
    expected = [[1.05087, -0.354624], [0.325072, 1.146404]]
    np.testing.assert_allclose(plane.matrix, expected, atol=1e-6)


def test_a_turned_volume_has_the_published_values(cube):
    image, labels = warped_about_centre(*cube, a_warp((0.1, 0.2, 0.3), 1.2), (16, 16, 16))
    assert image.mean(dtype=np.float64) == pytest.approx(-4.757137, abs=1e-5)
    assert image[8, 8, 8] == pytest.approx(-62.197281, abs=1e-4)
    assert counts(labels) == {-1: 41, 0: 3541, 1: 454, 2: 60}


def test_a_warp_that_does_nothing_crops_the_published_values(cube):
    image, labels = warped_about_centre(*cube, a_warp(), (16, 16, 16))
    assert image.mean(dtype=np.float64) == pytest.approx(-21.603696, abs=1e-5)
    assert image[8, 8, 8] == pytest.approx(-67.441177, abs=1e-4)
    assert counts(labels) == {0: 3528, 1: 526, 2: 42}
    np.testing.assert_array_equal(image, cube[0][4:20, 4:20, 4:20])


def test_a_turned_slice_has_the_published_values(cube):
    image, labels = warped_about_centre(cube[0][12], cube[1][12], a_warp((0.3,), 0.8), (16, 16))
    assert image.mean(dtype=np.float64) == pytest.approx(-48.255926, abs=1e-5)
    assert image[8, 8] == pytest.approx(-71.813019, abs=1e-4)
    assert counts(labels) == {0: 181, 1: 75}


@pytest.mark.parametrize(
    ("patch", "degrees", "enlarged"),
    [
        ((128, 128, 128), 30, (205, 205, 205)),
        ((40, 56, 40), 30, (73, 80, 64)),
        ((64, 192, 160), 30, (178, 289, 200)),
        ((80, 192, 160), 30, (194, 289, 210)),
        ((20, 320, 256), 90, (20, 376, 376)),
        ((512, 512), 90, (602, 602)),
        ((512, 256), 15, (659, 301)),
        ((56, 40), 90, (65, 65)),
    ],
)
def test_what_is_read_reaches_as_far_as_the_published_enlarged_patches(patch, degrees, enlarged):
    in_plane = patch[0] == 20
    limit = np.radians(degrees)
    turns = np.eye(1 if in_plane or len(patch) == 2 else 3) * limit
    boxes = [source_box(a_warp(angles, 1 / 0.85), patch) for angles in (0 * turns[0], *turns)]
    furthest = np.max([box.size for box in boxes], axis=0)
    assert (furthest >= enlarged).all()
    assert furthest[0] == 20 or not in_plane


# Against plain scipy --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("patch", "angles", "scales", "shift"),
    [
        ((6, 11, 8), (0.4, -0.3, 0.5), (0.9, 1.2, 0.75), (1.5, -2.25, 0.5)),
        ((6, 11, 8), (0.0, 0.0, 0.0), (1.3, 0.8, 1.1), (0.0, 0.5, 0.0)),
        ((13, 9), (2.5,), (1.2, 0.8), (0.0, 3.0)),
    ],
)
def test_images_are_those_of_scipy_and_nothing_in_reach_is_cut_off(patch, angles, scales, shift):
    size = tuple(3 * n for n in patch)
    image = rng(1).normal(size=size).astype(np.float32)
    warp = Warp(angles=angles, scales=scales, shift_vox=shift)
    moved, _ = warped_about_centre(image, np.zeros(size, np.int16), warp, patch)
    corner = np.array([(n - p) // 2 for n, p in zip(size, patch, strict=True)])
    centre = (np.array(patch) - 1) / 2
    expected = ndimage.affine_transform(
        image.astype(np.float64),
        warp.matrix,
        corner + centre + shift - warp.matrix @ centre,
        output_shape=patch,
        order=1,
        mode="grid-constant",
    )
    np.testing.assert_allclose(moved, expected, atol=2e-5)


def test_the_box_is_the_smallest_that_holds_what_is_needed():
    patch, warp = (6, 11, 8), a_warp((0.4, -0.3, 0.5), 1.2)
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in patch])).reshape(3, -1)
    centre = (np.array(patch)[:, None] - 1) / 2
    places = warp.matrix @ (corners - centre) + centre
    box = source_box(warp, patch)
    np.testing.assert_array_equal(box.lower, np.floor(places.min(axis=1)))
    np.testing.assert_array_equal(np.add(box.lower, box.size), np.floor(places.max(axis=1)) + 2)


def test_arrays_of_another_size_than_the_box_are_refused():
    with pytest.raises(ValueError, match="the warp needs"):
        warp_patch(
            np.zeros((1, 6, 11, 8), np.float32),
            np.zeros((6, 11, 8), np.int16),
            a_warp(scale=1.2),
            (6, 11, 8),
        )


def test_a_scale_above_one_shrinks_objects():
    labels = np.zeros((27, 27, 27), dtype=np.int16)
    labels[10:17, 10:17, 10:17] = 1
    image = labels.astype(np.float32)
    shrunk, shrunk_labels = warped_about_centre(image, labels, a_warp(scale=1.4), (9, 9, 9))
    grown, _ = warped_about_centre(image, labels, a_warp(scale=0.7), (9, 9, 9))
    assert shrunk.sum() < labels.sum() / 2
    assert grown.sum() == 9**3
    assert counts(shrunk_labels)[1] == 5**3


def test_a_shift_moves_the_content_towards_lower_indices():
    image = np.zeros((12, 14), dtype=np.float32)
    image[6, 9] = 1.0
    moved, _ = warped_about_centre(
        image, np.zeros(image.shape, np.int16), a_warp((0.0,), 1.0, (2.0, 3.0)), (12, 14)
    )
    assert np.argwhere(moved > 0.5).tolist() == [[4, 6]]


def test_a_warp_in_the_plane_mixes_no_slices():
    patch, warp = (4, 24, 16), a_warp((0.7,), 1.2)
    box = source_box(warp, patch)
    assert (box.lower[0], box.size[0]) == (0, 4)
    image = np.zeros((2, *box.size), dtype=np.float32)
    image[1, 2] = 1.0
    labels = image[1].astype(np.int16)
    moved, moved_labels = warp_patch(image, labels, warp, patch)
    np.testing.assert_allclose(moved[1, 2], 1.0)
    assert (moved_labels[2] == 1).all()
    assert not moved[0].any()
    assert not moved[1, [0, 1, 3]].any()
    assert not moved_labels[[0, 1, 3]].any()


# What is drawn --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def drawn():
    return [draw_warp(DEFAULT, 3, rng(3, number)) for number in range(6000)]


def test_a_third_of_the_samples_is_warped(drawn):
    assert np.mean([warp is not None for warp in drawn]) == pytest.approx(1 - 0.8**2, abs=0.02)


def test_scales_are_uniform_and_the_same_for_all_axes(drawn):
    scales = np.array([warp.scales for warp in drawn if warp is not None and warp.scales[0] != 1])
    assert len(scales) / len(drawn) == pytest.approx(0.2, abs=0.02)
    np.testing.assert_array_equal(scales, scales[:, :1].repeat(3, axis=1))
    np.testing.assert_allclose(
        np.quantile(scales[:, 0], (0, 0.25, 0.5, 0.75, 1)),
        (0.7, 0.875, 1.05, 1.225, 1.4),
        atol=0.03,
    )


def test_angles_are_uniform_and_independent(drawn):
    angles = np.array([warp.angles for warp in drawn if warp is not None and any(warp.angles)])
    assert len(angles) / len(drawn) == pytest.approx(0.2, abs=0.02)
    quarters = np.quantile(np.degrees(angles), (0, 0.25, 0.5, 0.75, 1), axis=0)
    np.testing.assert_allclose(quarters, np.array([[-30, -15, 0, 15, 30]] * 3).T, atol=2.5)
    assert np.abs(np.corrcoef(angles.T) - np.eye(3)).max() < 0.1


def test_axes_may_be_turned_and_scaled_each_by_itself():
    allowed = WarpRange(
        rotation_degrees=30.0,
        rotation_share=1.0,
        axis_share=0.5,
        scale_range=(0.7, 1.43),
        scale_share=1.0,
        is_isotropic=False,
    )
    warps = [draw_warp(allowed, 3, rng(4, number)) for number in range(2000)]
    angles = np.array([warp.angles for warp in warps if warp is not None])
    scales = np.array([warp.scales for warp in warps if warp is not None])
    np.testing.assert_allclose((angles != 0).mean(axis=0), 0.5, atol=0.04)
    assert np.abs(np.corrcoef(scales.T) - np.eye(3)).max() < 0.1


def test_shifts_are_uniform_per_axis_and_in_the_plane_those_of_its_axes():
    allowed = WarpRange(
        rotation_degrees=0.0,
        rotation_share=0.0,
        scale_range=(1.0, 1.0),
        scale_share=0.0,
        shift_vox=(0, 10, 4),
    )
    warps = [draw_warp(allowed, 2, rng(5, number)) for number in range(2000)]
    shifts = np.array([warp.shift_vox for warp in warps if warp is not None])
    np.testing.assert_allclose(
        np.quantile(shifts, (0, 0.5, 1), axis=0)[:, 0], (-10, 0, 10), atol=0.7
    )
    np.testing.assert_allclose(np.quantile(shifts, (0, 0.5, 1), axis=0)[:, 1], (-4, 0, 4), atol=0.3)
