import weakref
from itertools import pairwise

import numpy as np
import pytest

from autoseg.core.labels import LabelSpace, Structure
from autoseg.imaging import restore
from autoseg.imaging.boxes import Box
from autoseg.imaging.decide import decide
from autoseg.imaging.prepare import Trace
from autoseg.imaging.resample import resample_logits
from autoseg.imaging.restore import (
    raw_cuts,
    restore_labels,
    restore_probabilities,
    restore_probability_slabs,
    restore_slabs,
)

REGIONS = LabelSpace(
    structures=(
        Structure(name="whole", values=(1, 2, 5)),
        Structure(name="core", values=(2, 5)),
        Structure(name="enhancing", values=(5,)),
    ),
    output_values=(1, 2, 5),
)


def classes(count: int) -> LabelSpace:
    return LabelSpace(
        structures=tuple(Structure(name=f"s{i}", values=(i,)) for i in range(1, count))
    )


def trace_of(prepared, cropped, transpose=(0, 1, 2), margin=0, spacing=(1.0, 1.0, 1.0)) -> Trace:
    """Of an image whose non-zero region lies ``margin`` voxels from each border."""
    back = np.argsort(transpose)
    raw = tuple(cropped[axis] + 2 * margin for axis in back)
    target = [s * c / p for s, c, p in zip(spacing, cropped, prepared, strict=True)]
    return Trace(
        shape=raw,
        spacing=tuple(spacing[axis] for axis in back),
        transpose=transpose,
        box=Box(lower=(margin,) * 3, upper=tuple(size + margin for size in cropped)),
        cropped_shape=tuple(cropped),
        prepared_shape=tuple(prepared),
        target_spacing=tuple(target),
    )


def smooth_logits(outputs: int, shape, seed: int = 0, scale: float = 3.0) -> np.ndarray:
    """Logits with structures of some ten voxels, and noise."""
    rng = np.random.default_rng(seed)
    knots = [max(2, size // 10) for size in shape]
    coarse = rng.standard_normal((outputs, *knots)).astype(np.float32) * scale
    spacing = tuple(size / knot for size, knot in zip(shape, knots, strict=True))
    fine = resample_logits(coarse, shape, spacing, (1.0, 1.0, 1.0))
    return fine + rng.standard_normal(fine.shape).astype(np.float32) * 0.1


def in_parts(logits: np.ndarray, axis: int, thickness: int):
    moved = np.moveaxis(logits, axis + 1, 1)
    stops = [*range(0, moved.shape[1], thickness), moved.shape[1]]
    return [moved[:, start:stop] for start, stop in pairwise(stops)]


def whole(logits: np.ndarray, trace: Trace) -> np.ndarray:
    """The logits on the cropped grid, in transposed axes."""
    return resample_logits(logits, trace.cropped_shape, trace.target_spacing, trace.cropped_spacing)


def naive(logits: np.ndarray, trace: Trace, labels: LabelSpace) -> np.ndarray:
    result = np.zeros(trace.shape, dtype=np.int16)
    inside = result.transpose(trace.transpose)[trace.box.slices]
    inside[...] = decide(iter(whole(logits, trace)), labels)
    return result


def assert_same_but_for_ties(found, expected, logits, trace) -> None:
    differs = np.argwhere(found != expected)
    values = whole(logits, trace).astype(np.float64)
    for voxel in differs:
        place = tuple(voxel[list(trace.transpose)] - trace.box.lower)
        several = np.sort(values[(slice(None), *place)])
        assert np.diff(several).min() < 1e-5 or np.abs(several).min() < 1e-5
    assert len(differs) <= found.size // 10000


@pytest.mark.parametrize("labels", [classes(5), REGIONS], ids=["classes", "regions"])
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize(
    ("prepared", "cropped", "transpose", "margin", "spacing"),
    [
        ((21, 30, 44), (35, 47, 70), (0, 1, 2), 0, (1.0, 1.0, 1.0)),
        ((40, 33, 36), (21, 70, 36), (2, 0, 1), 2, (1.0, 1.0, 1.0)),
        ((12, 50, 41), (12, 99, 38), (1, 0, 2), 1, (5.0, 0.7, 0.7)),
        ((37, 9, 44), (9, 9, 80), (0, 2, 1), 0, (4.0, 1.0, 1.0)),
        ((1, 40, 40), (1, 77, 65), (0, 1, 2), 0, (999.0, 1.0, 1.0)),
        ((20, 24, 28), (20, 24, 28), (0, 1, 2), 3, (1.0, 1.0, 1.0)),
    ],
    ids=["finer", "mixed", "coarse", "coarse-resized", "one-slice", "unchanged"],
)
def test_labels_are_those_of_the_outputs_resampled_as_a_whole(
    labels, axis, prepared, cropped, transpose, margin, spacing
):
    trace = trace_of(prepared, cropped, transpose, margin, spacing)
    logits = smooth_logits(labels.num_outputs, prepared)
    found = restore_labels(in_parts(logits, axis, 7), trace, labels, axis)
    expected = naive(logits, trace, labels)
    assert len(np.unique(expected)) > 2
    assert_same_but_for_ties(found, expected, logits, trace)


@pytest.mark.parametrize("thickness", [1, 5, 100])
def test_how_the_outputs_are_cut_does_not_matter(thickness):
    trace = trace_of((30, 26, 22), (50, 33, 41))
    logits = smooth_logits(3, (30, 26, 22))
    one = restore_labels([logits], trace, classes(3))
    other = restore_labels(in_parts(logits, 0, thickness), trace, classes(3))
    assert np.array_equal(one, other)


def test_halves_are_taken_as_they_are():
    trace = trace_of((30, 26, 22), (50, 33, 41))
    halves = smooth_logits(3, (30, 26, 22)).astype(np.float16)
    exact = restore_labels([halves.astype(np.float32)], trace, classes(3))
    assert np.array_equal(restore_labels([halves], trace, classes(3)), exact)


def test_of_equal_outputs_the_first_wins_everywhere():
    trace = trace_of((40, 40, 40), (70, 70, 70))
    assert not restore_labels([np.zeros((4, 40, 40, 40), np.float32)], trace, classes(4)).any()


@pytest.mark.parametrize("labels", [classes(6), REGIONS], ids=["classes", "regions"])
def test_outputs_that_cannot_win_in_a_block_are_not_resampled(labels, monkeypatch):
    asked: list[int] = []
    plain = restore._output

    def counted(window, block, number):
        asked.append(number)
        return plain(window, block, number)

    monkeypatch.setattr(restore, "_output", counted)
    shape = (64, 64, 64)
    logits = np.full((labels.num_outputs, *shape), -5.0, dtype=np.float32)
    logits[0] = 5.0
    logits[1, 40:, 40:, 40:] = 9.0
    trace = trace_of(shape, (128, 128, 128))
    found = restore_labels(in_parts(logits, 0, 16), trace, labels)
    assert np.array_equal(found, naive(logits, trace, labels))
    blocks = 4**3
    assert len(asked) < blocks * labels.num_outputs / 4
    assert set(asked) <= {0, 1}


def test_outputs_can_be_had_slab_by_slab():
    trace = trace_of((21, 30, 44), (35, 47, 70), (2, 0, 1), 1)
    logits = smooth_logits(3, (21, 30, 44))
    slabs = list(restore_slabs(in_parts(logits, 1, 4), trace, 1, rows=9))
    assert [rows.start for rows, _ in slabs] == list(range(0, 47, 9))
    found = np.moveaxis(np.concatenate([slab for _, slab in slabs], axis=1), 1, 2)
    np.testing.assert_allclose(found, whole(logits, trace), atol=1e-5)


def test_no_more_than_a_window_and_a_part_is_kept():
    trace = trace_of((200, 8, 8), (400, 8, 8))
    alive: list[int] = []

    def parts():
        for start in range(0, 200, 4):
            alive.append(start)
            yield np.zeros((2, 4, 8, 8), np.float32)

    taken = restore_slabs(parts(), trace, rows=16)
    next(taken)
    assert alive[-1] <= 12
    next(taken)
    assert alive[-1] <= 20


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([np.zeros((2, 10, 8, 8), np.float32)], "end after 10 of 20 rows"),
        ([np.zeros((2, 20, 8, 9), np.float32)], r"are \(20, 8, 9\) from row 0"),
        ([np.zeros((2, 21, 8, 8), np.float32)], r"are \(21, 8, 8\) from row 0"),
    ],
)
def test_outputs_of_another_grid_are_refused(parts, message):
    with pytest.raises(ValueError, match=message):
        restore_labels(parts, trace_of((20, 8, 8), (30, 9, 9)), classes(2))


@pytest.mark.parametrize("transpose", [(0, 1, 2), (2, 0, 1), (1, 0, 2), (2, 1, 0)])
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("labels", [classes(3), REGIONS], ids=["classes", "regions"])
def test_probabilities_come_slab_by_slab_of_the_whole_raw_grid(transpose, axis, labels):
    trace = trace_of((7, 9, 5), (13, 8, 11), transpose, margin=3)
    logits = smooth_logits(3, trace.prepared_shape)
    inside = whole(logits, trace)
    if labels.has_regions:
        activated = 1 / (1 + np.exp(-inside))
        expected = np.zeros((3, *trace.shape))
    else:
        activated = np.exp(inside) / np.exp(inside).sum(axis=0)
        expected = np.zeros((3, *trace.shape))
        expected[0] = 1
    view = expected.transpose(0, *(one + 1 for one in transpose))
    view[(slice(None), *trace.box.slices)] = activated

    raw = transpose[axis]
    found = np.full_like(expected, np.nan)
    cuts = []
    for rows, slab in restore_probability_slabs(
        in_parts(logits, axis, 2), trace, labels, axis, rows=4
    ):
        np.moveaxis(found, raw + 1, 1)[:, rows] = slab
        cuts.append(rows)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert cuts == raw_cuts(trace, raw, 4)
    assert cuts[0].start == 0
    assert all(one.stop == other.start for one, other in pairwise(cuts))
    whole_array = restore_probabilities(in_parts(logits, axis, 3), trace, labels, axis)
    np.testing.assert_allclose(whole_array, expected, atol=1e-5)


@pytest.mark.parametrize("margin", [0, 2])
def test_a_slab_of_probabilities_is_kept_by_nobody_but_who_took_it(margin):
    trace = trace_of((20, 8, 7), (20, 8, 7), margin=margin)
    taken: list[weakref.ref[np.ndarray]] = []

    def parts():
        for _ in range(10):
            assert all(known() is None for known in taken)
            yield np.zeros((3, 2, 8, 7), np.float32)

    slabs = restore_probability_slabs(parts(), trace, classes(3), rows=4)
    while (slab := next(slabs, None)) is not None:
        owner = slab[1] if slab[1].base is None else slab[1].base
        taken.append(weakref.ref(owner))
        del owner, slab
    assert len(taken) == 5 + 2 * (margin > 0)


def test_probabilities_of_another_number_of_outputs_are_refused():
    trace = trace_of((4, 4, 4), (4, 4, 4))
    with pytest.raises(ValueError, match="2 outputs, but the labels have 3"):
        list(restore_probability_slabs([np.zeros((2, 4, 4, 4))], trace, classes(3)))
