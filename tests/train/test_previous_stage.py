import numpy as np
import pytest

from autoseg.train.augmentation.previous_stage import (
    PreviousRange,
    closed,
    dilated,
    eroded,
    one_hot,
    opened,
    vary,
)

NEVER = {"reshape_share": 0.0, "removal_share": 0.0}


def within(mask, radius):
    """Voxels within a distance of a mask, by looking at every pair."""
    places = np.argwhere(mask)
    every = np.indices(mask.shape).reshape(mask.ndim, -1).T
    squared = ((every[:, None] - places[None]) ** 2).sum(-1)
    return (squared <= radius**2).any(1).reshape(mask.shape)


def speckled(shape=(7, 9, 11), seed=0, share=0.04):
    return np.random.default_rng(seed).random(shape) < share


@pytest.mark.parametrize("radius", [1.0, 1.5, 2.9, 5.0, 8.0])
@pytest.mark.parametrize("shape", [(7, 9, 11), (13, 6)])
def test_masks_grow_and_shrink_by_a_ball(shape, radius):
    mask = speckled(shape)
    np.testing.assert_array_equal(dilated(mask, radius), within(mask, radius))
    np.testing.assert_array_equal(eroded(~mask, radius), ~within(mask, radius))


def test_a_gap_is_closed_and_a_thread_is_opened_away():
    mask = np.zeros((9, 9), dtype=bool)
    mask[2:7, 2:7] = True
    gap, thread = mask.copy(), mask.copy()
    gap[4, 4] = False
    thread[4, 7:] = True
    np.testing.assert_array_equal(closed(gap, 1.0), mask)
    assert not opened(thread, 1.0)[4, 8]
    assert opened(thread, 1.0)[3:6, 3:6].all()


def test_a_ball_larger_than_the_bytes_hold_is_refused():
    with pytest.raises(ValueError, match="up to 8 voxels"):
        dilated(speckled(), 8.5)


def test_every_foreground_label_becomes_a_mask():
    labels = np.array([[0, 2], [1, 2]], dtype=np.int16)
    expected = [[[0, 0], [1, 0]], [[0, 1], [0, 1]], [[0, 0], [0, 0]]]
    np.testing.assert_array_equal(one_hot(labels, 3), np.array(expected, dtype=bool))


def changed(allowed, masks, seed):
    result = masks.copy()
    vary(result, allowed, np.random.default_rng(seed))
    return result


def test_what_one_mask_gains_the_others_lose():
    masks = np.zeros((2, 6, 12, 12), dtype=bool)
    masks[0, :, :, :6], masks[1, :, :, 6:] = True, True
    allowed = PreviousRange(reshape_share=1.0, removal_share=0.0)
    results = [changed(allowed, masks, seed) for seed in range(40)]
    assert not any((result[0] & result[1]).any() for result in results)
    assert any((result[0] & masks[1]).any() for result in results)
    assert any(result.sum() < masks.sum() for result in results)


def test_reshaping_a_mask_in_its_box_is_reshaping_it_in_the_patch():
    masks = np.zeros((1, 20, 24, 28), dtype=bool)
    masks[0, 8:12, 0:6, 9:14] = speckled((4, 6, 5), share=0.5)
    allowed = PreviousRange(reshape_share=1.0, removal_share=0.0, channel_share=1.0)
    found = set()
    for seed in range(60):
        rng = np.random.default_rng(seed)
        rng.random()
        rng.permutation(1)
        rng.random(1)
        operation = (dilated, eroded, closed, opened)[int(rng.integers(4))]
        expected = operation(masks[0], float(rng.uniform(1.0, 8.0)))
        np.testing.assert_array_equal(changed(allowed, masks, seed)[0], expected)
        found.add(operation.__name__)
    assert len(found) == 4


def test_the_shares_of_varied_samples_are_those_planned():
    masks = np.zeros((1, 12, 12, 12), dtype=bool)
    masks[0, 3:9, 3:9, 3:9] = True
    masks[0, 0, 0, 0] = True
    grown = PreviousRange(removal_share=0.0, channel_share=1.0, radius_vox=(1.0, 1.0))
    removed = PreviousRange(reshape_share=0.0)
    # Closing this mask changes nothing.
    share = np.mean([(changed(grown, masks, seed) != masks).any() for seed in range(1500)])
    assert share == pytest.approx(0.4 * 0.75, abs=0.035)
    share = np.mean([(changed(removed, masks, seed) != masks).any() for seed in range(1500)])
    assert share == pytest.approx(0.2 * 0.5, abs=0.025)


def test_only_one_small_component_is_left_out():
    masks = np.zeros((1, 10, 10, 10), dtype=bool)
    masks[0, :5] = True
    masks[0, 7, 7, 7] = masks[0, 8, 8, 8] = masks[0, 9, 0, 0] = True
    allowed = PreviousRange(reshape_share=0.0, removal_share=1.0, channel_share=1.0)
    lost = {int((masks ^ changed(allowed, masks, seed)).sum()) for seed in range(30)}
    # The half is too large; two of the voxels touch at a corner and go together.
    assert lost == {1, 2}


@pytest.mark.parametrize("content", [False, True])
def test_a_patch_of_one_label_or_none_stays_as_it_is(content):
    masks = np.full((2, 6, 7, 8), fill_value=False)
    masks[1] = content
    allowed = PreviousRange(reshape_share=1.0, removal_share=1.0, channel_share=1.0)
    for seed in range(20):
        np.testing.assert_array_equal(changed(allowed, masks, seed), masks)


def test_nothing_is_varied_where_nothing_may_be():
    masks = speckled((2, 6, 7, 8), share=0.3)
    np.testing.assert_array_equal(changed(PreviousRange(**NEVER), masks, 0), masks)


def test_masks_of_slices_are_varied_too():
    masks = speckled((3, 20, 24), share=0.1)
    allowed = PreviousRange(reshape_share=1.0, removal_share=1.0)
    assert any((changed(allowed, masks, seed) != masks).any() for seed in range(5))
