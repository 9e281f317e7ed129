import numpy as np
import pytest
from scipy import ndimage

from autoseg.evaluate.surface import compare_surfaces
from autoseg.evaluate.surface_elements import element_sizes

SPACING = (2.5, 1.25, 0.7)


def ball(shape, centre, radius_mm, spacing):
    offset = np.indices(shape).reshape(3, -1).T - centre
    return (np.linalg.norm(offset * spacing, axis=1) <= radius_mm).reshape(shape)


def random_mask(seed, shape=(6, 7, 8)):
    noise = np.random.default_rng(seed).normal(size=shape)
    return ndimage.gaussian_filter(noise, 0.8) > 0.1


def naive_surface(mask, spacing):
    """Positions (mm) and sizes of all elements, cell by cell."""
    padded = np.pad(mask, 1)
    table = element_sizes(spacing)
    found = []
    for cell in np.ndindex(*(n - 1 for n in padded.shape)):
        corners = padded[tuple(slice(c, c + 2) for c in cell)]
        number = sum(
            1 << int(np.dot(corner, [1 << axis for axis in range(mask.ndim)]))
            for corner in np.argwhere(corners)
        )
        if 0 < number < len(table) - 1:
            found.append((np.multiply(cell, spacing), table[number]))
    return np.array([f[0] for f in found]), np.array([f[1] for f in found])


def naive(prediction, reference, spacing, tolerance):
    """HD95, ASSD and NSD from all distances between all elements."""
    (p, p_sizes), (r, r_sizes) = (naive_surface(m, spacing) for m in (prediction, reference))
    apart = np.linalg.norm(p[:, None] - r[None], axis=2)
    ways = ((apart.min(axis=1), p_sizes), (apart.min(axis=0), r_sizes))

    def percentile(distances, sizes):
        for distance in np.unique(distances):
            if sizes[distances <= distance].sum() >= 0.95 * sizes.sum() - 1e-9:
                return distance
        raise AssertionError

    total = p_sizes.sum() + r_sizes.sum()
    return (
        max(percentile(*way) for way in ways),
        sum((distances * sizes).sum() for distances, sizes in ways) / total,
        sum(sizes[d <= tolerance + 1e-9].sum() for d, sizes in ways) / total,
    )


def scores(*arguments):
    found = compare_surfaces(*arguments)
    return found.hd95, found.assd, found.nsd


@pytest.mark.parametrize("seed", range(4))
def test_volumes_score_as_a_naive_implementation_says(seed):
    masks = random_mask(seed), random_mask(seed + 100)
    assert scores(*masks, SPACING, 1.3) == pytest.approx(naive(*masks, SPACING, 1.3))


@pytest.mark.parametrize("seed", range(4))
def test_pictures_score_as_a_naive_implementation_says(seed):
    masks = random_mask(seed, (9, 13)), random_mask(seed + 100, (9, 13))
    spacing = (0.8, 1.5)
    assert scores(*masks, spacing, 1.0) == pytest.approx(naive(*masks, spacing, 1.0))


def slab(start, stop):
    mask = np.zeros((12, 10, 9), dtype=bool)
    mask[start:stop] = True
    return mask


def test_a_shifted_slab_lies_one_step_away():
    # Both sides (10 x 9 voxels, up to the rim) are 3 voxels away, the rest of the rim is shared.
    found = compare_surfaces(slab(1, 5), slab(4, 8), (2.0, 1.0, 1.0), 2.0)
    assert found.hd95 == 6.0
    assert 0 < found.assd < 6.0
    assert found.nsd < 0.6


def test_equal_structures_lie_nowhere_apart():
    mask = random_mask(3)
    assert scores(mask, mask, SPACING, 0.0) == (0.0, 0.0, 1.0)


def test_two_voxels_lie_as_far_apart_as_their_centres():
    one, other = np.zeros((2, 8, 9, 10), dtype=bool)
    one[1, 2, 3] = other[4, 2, 3] = True
    # Their 2 x 2 x 2 cells are 2 or 3 voxels from the nearest of the other's.
    found = compare_surfaces(one, other, (1.5, 1.0, 1.0), 3.0)
    assert found.hd95 == 4.5
    assert found.assd == pytest.approx((3.0 + 4.5) / 2)
    assert found.nsd == pytest.approx(0.5)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (3.0, 1.0, 0.8)])
def test_concentric_balls_lie_apart_by_the_difference_of_their_radii(spacing):
    shape, centre = np.round(44 / np.array(spacing)).astype(int), np.round(22 / np.array(spacing))
    small, large = (ball(shape, centre, radius, spacing) for radius in (12.0, 16.0))
    found = compare_surfaces(small, large, spacing, 2.0)
    # The cells that a surface runs through form a shell; the nearest is a little nearer.
    assert found.assd == pytest.approx(3.6, abs=0.3)
    assert found.hd95 == pytest.approx(4.0, abs=0.75)
    assert found.nsd < 0.02


def test_the_area_of_a_ball_is_that_of_a_ball():
    # Half of the surface of both is a ball's, the other half a ball's of twice the radius: the
    # share within a tolerance of 0 is what the two areas say.
    spacing, shape = (1.5, 1.0, 0.75), (60, 90, 120)
    small, large = ball(shape, (30, 45, 60), 10, spacing), ball(shape, (30, 45, 60), 20, spacing)
    only_small = compare_surfaces(small, small | _rim(large), spacing, 0.0)
    total = 2 * 10**2 + 20**2 + 18.5**2
    assert only_small.nsd == pytest.approx(2 * 10**2 / total, abs=0.03)


def _rim(mask):
    return mask & ~ndimage.binary_erosion(mask, iterations=2)


def test_both_directions_count():
    small = ball((20, 24, 28), (10, 12, 14), 4, (1, 1, 1))
    far = small.copy()
    far[1:3, 1:3, 1:3] = True
    there, back = (scores(a, b, (1.0, 1.0, 1.0), 1.0) for a, b in ((small, far), (far, small)))
    assert there == pytest.approx(back)
    assert there[0] > 4


def test_the_order_of_the_axes_changes_nothing():
    masks = random_mask(1), random_mask(2)
    turned = [mask.transpose(2, 0, 1)[::-1] for mask in masks]
    spacing = (SPACING[2], SPACING[0], SPACING[1])
    assert scores(*turned, spacing, 1.3) == pytest.approx(scores(*masks, SPACING, 1.3))


def test_distances_grow_with_the_spacing():
    masks = random_mask(1), random_mask(2)
    hd95, assd, nsd = scores(*masks, SPACING, 1.3)
    doubled = scores(*masks, tuple(2 * step for step in SPACING), 2.6)
    assert doubled == pytest.approx((2 * hd95, 2 * assd, nsd))


def test_the_border_of_the_image_is_surface():
    whole, most = np.ones((5, 6, 7), dtype=bool), np.ones((5, 6, 7), dtype=bool)
    most[-1] = False
    assert compare_surfaces(whole, whole, SPACING, 0.1).nsd == 1.0
    found = compare_surfaces(whole, most, SPACING, 0.1)
    assert found.hd95 == 2.5
    assert 0.4 < found.nsd < 0.9


@pytest.mark.parametrize(("spacing", "steps", "tolerance"), [(0.1, 3, 0.3), (0.7, 3, 2.1)])
def test_a_tolerance_of_whole_voxels_holds_whole_voxels(spacing, steps, tolerance):
    one, other = np.zeros((2, 3, 4, 12), dtype=bool)
    one[1, 1, 2] = other[1, 1, 2 + steps] = True
    assert compare_surfaces(one, other, (1.0, 1.0, spacing), tolerance).nsd == 1.0
    assert compare_surfaces(one, other, (1.0, 1.0, spacing), 0.99 * tolerance).nsd < 1.0


def test_without_two_surfaces_there_is_no_distance():
    mask, empty = random_mask(0), np.zeros((6, 7, 8), dtype=bool)
    assert scores(mask, empty, SPACING, 1.0) == (None, None, 0.0)
    assert scores(empty, mask, SPACING, 1.0) == (None, None, 0.0)
    assert scores(empty, empty, SPACING, 1.0) == (None, None, None)
