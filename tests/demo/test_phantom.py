import cc3d
import numpy as np
import pytest
from scipy import ndimage

from autoseg.demo.phantom import CHANNELS, KIDNEY, LABELS, STANDARD, TUMOUR, PhantomSpec, make_case


def case(seed, *, with_tumour=True, spec=STANDARD):
    return make_case(np.random.default_rng(seed), with_tumour=with_tumour, spec=spec)


@pytest.fixture(scope="module")
def cases():
    return [case(seed) for seed in range(6)]


def test_equal_seeds_give_equal_cases():
    (image, labels), (again, labels_again) = case(3), case(3)
    assert np.array_equal(image.array, again.array)
    assert np.array_equal(labels.array, labels_again.array)
    assert image.geometry == again.geometry


def test_other_seeds_give_other_grids(cases):
    geometries = [image.geometry for image, _ in cases]
    assert len({geometry.shape for geometry in geometries}) == len(cases)
    assert len({geometry.origin for geometry in geometries}) == len(cases)


def test_grids_are_oblique_off_origin_and_anisotropic(cases):
    for image, labels in cases:
        geometry = image.geometry
        direction = np.asarray(geometry.direction)
        assert labels.geometry == geometry
        assert direction @ direction.T == pytest.approx(np.eye(3))
        assert np.linalg.det(direction) == pytest.approx(1)
        assert np.abs(direction - np.eye(3)).max() > 0.02
        assert np.linalg.norm(geometry.origin) > 10
        assert geometry.spacing[0] > 1.5 * geometry.spacing[1]


def test_sizes_keep_within_the_knobs():
    spec = PhantomSpec(size_z=(9, 9), size_y=(30, 31), size_x=(40, 42), spacing_z=(8.0, 9.0))
    for seed in range(4):
        geometry = case(seed, spec=spec)[0].geometry
        z, y, x = geometry.shape
        assert z == 9
        assert 30 <= y <= 31
        assert 40 <= x <= 42
        assert 8 <= geometry.spacing[0] <= 9


def test_intensities_are_whole_hounsfield_units(cases):
    for image, _ in cases:
        assert image.num_channels == len(CHANNELS)
        assert np.array_equal(image.array, np.rint(image.array))
        assert image.array.min() >= -1024
        assert np.median(image.array[0, :, 0, 0]) < -900


def test_labels_are_those_declared(cases):
    for _, labels in cases:
        assert LABELS.undeclared(labels.array) == ()
        assert np.unique(labels.array).tolist() == [0, KIDNEY, TUMOUR]


def test_there_are_two_kidneys(cases):
    for _, labels in cases:
        parts, count = ndimage.label(labels.array > 0)
        sizes = np.sort(np.bincount(parts.ravel())[1:])[::-1]
        assert count >= 2
        assert sizes[1] > 300
        assert sizes[2:].sum() < 30


def test_a_tumour_touches_its_kidney_and_is_large_enough_to_learn(cases):
    for _, labels in cases:
        tumour = labels.array == TUMOUR
        assert (ndimage.binary_dilation(tumour) & (labels.array == KIDNEY)).any()
        assert tumour.sum() * labels.geometry.voxel_volume_ml > 4


def test_a_healthy_case_has_kidneys_only():
    _, labels = case(0, with_tumour=False)
    assert np.unique(labels.array).tolist() == [0, KIDNEY]


def test_spleen_and_vessels_are_as_bright_as_kidneys(cases):
    for image, labels in cases:
        kidney = np.median(image.array[0][labels.array == KIDNEY])
        alike = np.abs(image.array[0] - kidney) < 15
        assert (alike & (labels.array == 0)).sum() > 500


def dice(mask, target):
    return 2 * (mask & target).sum() / (mask.sum() + target.sum())


def best_threshold_dice(image, target, num_levels=25):
    """Dice of the best interval of intensities, of all intervals, and its largest component.

    The ends of the intervals part the target's voxels into equal shares. An interval with less
    than a third of the target cannot reach a Dice of 0.5 and is left out.
    """
    levels = np.quantile(image[target], np.linspace(0, 1, num_levels))
    found = [0.0]
    for first in range(num_levels):
        for last in range(first + num_levels // 3, num_levels):
            inside = (image >= levels[first]) & (image <= levels[last])
            parts = cc3d.connected_components(inside, connectivity=6)
            largest = parts == np.bincount(parts.ravel())[1:].argmax() + 1
            found.append(dice(largest, target))
    return max(found)


def test_the_baseline_finds_what_differs_in_intensity():
    target = np.zeros((6, 7, 8), dtype=bool)
    target[2:4, 2:5, 2:6] = True
    image = np.where(target, 50.0, 0.0)
    image[5, 6] = 50.0
    assert best_threshold_dice(image, target) == 1.0


@pytest.mark.parametrize("smoothing_vox", [0, 1])
def test_no_interval_of_intensities_finds_the_tumour(cases, smoothing_vox):
    """Even for one who knows the best interval of every case and takes out the noise."""
    for image, labels in cases:
        smooth = ndimage.gaussian_filter(image.array[0], np.array((0.5, 1, 1)) * smoothing_vox)
        assert best_threshold_dice(smooth, labels.array == TUMOUR) < 0.5
