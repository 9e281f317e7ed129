import numpy as np
import pytest

from autoseg.imaging.patches import (
    SMALLEST_WEIGHT,
    PatchRange,
    gaussian_weights,
    lower_corner,
    tile_starts,
)


@pytest.mark.parametrize(
    ("size", "patch", "step", "expected"),
    [
        (110, 64, 0.5, [0, 23, 46]),
        (128, 128, 0.5, [0]),
        (129, 128, 0.5, [0, 1]),
        (300, 128, 0.5, [0, 57, 115, 172]),
        (200, 128, 0.5, [0, 36, 72]),
        (512, 448, 0.5, [0, 64]),
        (100, 64, 0.25, [0, 12, 24, 36]),
        (100, 64, 1, [0, 36]),
        (513, 512, 0.5, [0, 1]),
    ],
)
def test_tiles_start_where_the_reference_starts_them(size, patch, step, expected):
    assert tile_starts(size, patch, step) == expected


def test_tiles_cover_the_image_without_steps_that_are_too_long():
    for size in range(10, 60):
        starts = tile_starts(size, 10)
        assert starts[0] == 0
        assert starts[-1] == size - 10
        assert max(np.diff(starts), default=0) <= 5


@pytest.mark.parametrize(("size", "patch", "step"), [(9, 10, 0.5), (10, 10, 0), (10, 10, 1.5)])
def test_impossible_tilings_are_refused(size, patch, step):
    with pytest.raises(ValueError, match="must be"):
        tile_starts(size, patch, step)


def test_weights_have_the_shape_of_the_reference():
    weights = gaussian_weights((8, 8))
    row = [0.00033550262, 0.0111083984, 0.1353515625, 0.606640625, 1]
    np.testing.assert_allclose(
        weights[4], [*row, 0.606640625, 0.1353515625, 0.0111083984], rtol=1e-3
    )
    np.testing.assert_allclose(weights[0, 0], 1.1324882e-7, rtol=0.1)


def test_weights_of_a_cube_sum_as_in_the_reference():
    weights = gaussian_weights((16, 16, 16))
    assert weights.dtype == np.float32
    assert weights.sum(dtype=np.float64) * 10 == pytest.approx(1259.61795938, rel=1e-4)
    assert weights.min() * 10 == pytest.approx(5.9604645e-8)
    assert weights.max() == weights[8, 8, 8] == 1


def test_weights_are_those_of_an_anisotropic_patch_axis_by_axis():
    weights = gaussian_weights((4, 6, 16))
    assert weights.shape == (4, 6, 16)
    np.testing.assert_allclose(weights[2, 3], gaussian_weights((16,)), rtol=1e-6)
    np.testing.assert_allclose(weights[:, 3, 8], gaussian_weights((4,)), rtol=1e-6)


def test_no_voxel_of_any_patch_counts_nothing():
    for size in range(1, 40):
        assert gaussian_weights((size, 1, 5)).min() >= np.float32(SMALLEST_WEIGHT)


def test_constant_logits_stay_constant_where_tiles_overlap():
    weights = gaussian_weights((16, 16, 16))
    logits = np.array([0.3, 0.4, 1.7], dtype=np.float32)
    total = np.zeros((3, 24, 24, 24), dtype=np.float32)
    norm = np.zeros((24, 24, 24), dtype=np.float32)
    starts = tile_starts(24, 16)
    for z in starts:
        for y in starts:
            for x in starts:
                tile = (slice(z, z + 16), slice(y, y + 16), slice(x, x + 16))
                total[(slice(None), *tile)] += logits[:, None, None, None] * weights
                norm[tile] += weights
    np.testing.assert_allclose(
        total / norm, np.broadcast_to(logits[:, None, None, None], total.shape), rtol=1e-6
    )


def test_patch_may_reach_beyond_the_image_by_half_of_what_is_cut_away():
    allowed = PatchRange.of((200, 200, 200), (205, 205, 205), (128, 128, 128))
    assert allowed == PatchRange(lowest=(-39,) * 3, highest=(34,) * 3)


def test_patch_larger_than_the_image_is_centred_to_a_voxel():
    allowed = PatchRange.of((5, 20, 8), (8, 20, 8), (8, 20, 8))
    assert allowed == PatchRange(lowest=(-2, 0, 0), highest=(-1, 0, 0))


def test_slices_are_drawn_from_the_whole_image():
    allowed = PatchRange.of((30, 50, 60), (1, 40, 40), (1, 30, 30))
    assert allowed == PatchRange(lowest=(0, -5, -5), highest=(29, 15, 25))


def test_random_corners_reach_both_ends_of_the_range():
    rng = np.random.default_rng(0)
    corners = np.array([lower_corner((12, 20, 9), (6, 6, 12), (4, 6, 8), rng) for _ in range(400)])
    assert corners.min(axis=0).tolist() == [-1, 0, -2]
    assert corners.max(axis=0).tolist() == [7, 14, -1]


def test_centred_patch_has_its_voxel_in_the_middle():
    rng = np.random.default_rng(0)
    corner = lower_corner((100, 90, 80), (20, 21, 22), (16, 16, 16), rng, centre=(50, 40, 30))
    assert corner == (40, 30, 19)


def test_centred_patches_are_clamped_alike_at_both_borders():
    rng = np.random.default_rng(0)
    shape, read, final = (200,) * 3, (205,) * 3, (128,) * 3
    assert lower_corner(shape, read, final, rng, centre=(1, 1, 1)) == (-39,) * 3
    assert lower_corner(shape, read, final, rng, centre=(198, 198, 198)) == (34,) * 3
