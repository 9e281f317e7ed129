import json

import numpy as np
import pytest

from autoseg.core.fingerprint import IntensityStats
from autoseg.core.labels import LabelSpace, Structure
from autoseg.core.plan import Recipe
from autoseg.errors import DataError
from autoseg.imaging.boxes import Box, crop
from autoseg.imaging.positions import foreground_positions
from autoseg.imaging.prepare import (
    Preparation,
    Trace,
    prepare,
    resampled_shape,
)
from autoseg.imaging.resample import resample_logits
from autoseg.imaging.restore import restore_labels, restore_probabilities

REGIONS = LabelSpace(
    structures=(Structure(name="whole", values=(1, 2)), Structure(name="core", values=(2,))),
    output_values=(1, 2),
)

CT = IntensityStats(
    mean=20, median=20, std=60, min=-99, max=150, percentile_00_5=-80, percentile_99_5=120
)


def classes(count=3):
    values = range(1, count)
    return LabelSpace(structures=tuple(Structure(name=str(v), values=(v,)) for v in values))


def recipe(spacing, scheme="none", *, mask=False, transpose=(0, 1, 2), channels=1):
    return Recipe(
        transpose=transpose,
        spacing=spacing,
        channels=("a", "b")[:channels],
        normalization=(scheme,) * channels,
        use_mask_for_norm=(mask,) * channels,
        intensities=((CT if scheme == "ct" else None),) * channels,
        label_values=(0, 1, 2),
    )


SETUPS = {
    "A": ((3.0, 0.8, 0.8), recipe((2.0, 1.0, 1.0), "ct")),
    "B": ((1.0, 1.0, 1.0), recipe((1.3, 1.1, 0.9), "zscore", mask=True)),
    "C": ((1.0, 1.0, 1.0), recipe((1.3, 1.1, 0.9), "zscore")),
    "D": ((3.0, 0.8, 0.8), recipe((1.0, 1.0))),
    "E": ((0.8, 0.8, 3.0), recipe((3.0, 1.0, 1.0), "rescale_to_0_1", transpose=(2, 0, 1))),
    "F": ((0.24, 1.25, 1.25), recipe((0.3, 1.0, 1.0))),
}

# Columns of preprocessing.md, section 9: shape; mean, std, min, max, centre, [0, 1, 2, 3];
# voxels labelled -1, 0, 1, 2.
EXPECTED = {
    "A": (
        (33, 30, 26),
        (-0.0326556801, 1.1569105101, -1.6666666, 1.6666666, 0.8612701893, -0.2821934223),
        (144, 23386, 1959, 251),
    ),
    "B": (
        (17, 34, 36),
        (1.778e-05, 0.9969454445, -1.9884101, 1.8124216, 0.7315020561, 0.0344374813),
        (135, 18907, 1557, 209),
    ),
    "C": (
        (17, 34, 36),
        (2.159e-05, 1.0000273660, -1.9929267, 1.8190850, 0.7349860668, -0.1731321961),
        (135, 18907, 1557, 209),
    ),
    "D": (
        (22, 30, 26),
        (16.9401314755, 78.6064004348, -139.7055054, 159.8941345, 71.6786422729, 3.0683956146),
        (96, 15598, 1295, 171),
    ),
    "E": (
        (32, 18, 30),
        (0.5227988520, 0.2623486547, 0, 1, 0.6975917816, 0.4209674895),
        (96, 15736, 1266, 182),
    ),
    "F": (
        (18, 46, 40),
        (16.9466567193, 78.5966852718, -139.7055054, 159.9309387, 69.9744262695, 1.1321327686),
        (180, 30173, 2423, 344),
    ),
}


@pytest.fixture
def prepared(phantom):
    def run(name):
        spacing, how = SETUPS[name]
        return prepare(phantom.image, spacing, how, phantom.labels)

    return run


@pytest.mark.parametrize("name", SETUPS)
def test_image_equals_the_reference(prepared, name):
    image = prepared(name).image
    shape, numbers, _ = EXPECTED[name]
    assert image.shape == (1, *shape)
    assert image.dtype == np.float32
    assert image.flags.c_contiguous
    centre = image[0, shape[0] // 2, shape[1] // 2, shape[2] // 2]
    found = (image.mean(dtype=float), image.std(dtype=float), image.min(), image.max(), centre)
    tolerance = 1e-4 * (numbers[3] - numbers[2])
    np.testing.assert_allclose((*found, image[0, 1, 2, 3]), numbers, atol=tolerance, rtol=0)


@pytest.mark.parametrize("name", SETUPS)
def test_labels_equal_the_reference(prepared, name):
    labels = prepared(name).labels
    shape, _, counts = EXPECTED[name]
    assert labels.shape == shape
    assert labels.dtype == np.int16
    assert tuple(int((labels == index).sum()) for index in (-1, 0, 1, 2)) == counts


@pytest.mark.parametrize(
    ("name", "structures", "counts", "rows"),
    [
        ("A", [(1,), (2,)], [1959, 251], [(12, 17, 7), (7, 14, 16), (14, 15, 6)]),
        ("B", [(1,), (2,)], [1557, 209], [(11, 14, 20), (7, 19, 13), (8, 11, 22)]),
        ("C", [(1, 2), (2,)], [1766, 209], None),
        ("E", [(1,), (-1, 0, 1)], [1266, 10000], [(14, 10, 19), (20, 12, 18), (18, 6, 9)]),
    ],
)
def test_foreground_positions_equal_the_reference(prepared, name, structures, counts, rows):
    labels = prepared(name).labels
    positions = foreground_positions(labels, structures, np.random.RandomState(1234))
    assert [len(found) for found in positions] == counts
    for found, indices in zip(positions, structures, strict=True):
        assert found.dtype == np.int64
        assert len(np.unique(found)) == len(found)
        assert np.isin(labels.ravel()[found], indices).all()
    if rows is not None:
        # The reference lists unions label by label, so only those of one label agree in order.
        first = np.stack(np.unravel_index(positions[0][:3], labels.shape), axis=1)
        assert [tuple(row) for row in first.tolist()] == rows


def test_positions_follow_the_generator(prepared):
    labels = prepared("A").labels
    first, again, other = (
        foreground_positions(labels, [(1,)], np.random.default_rng(seed))[0] for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert np.any(first != other)


def test_trace_tells_the_way_back(prepared):
    trace = prepared("E").trace
    assert trace == Trace(
        shape=(24, 40, 32),
        spacing=(0.8, 0.8, 3.0),
        transpose=(2, 0, 1),
        box=Box(lower=(0, 2, 3), upper=(32, 24, 40)),
        cropped_shape=(32, 22, 37),
        prepared_shape=(32, 18, 30),
        target_spacing=(3.0, 1.0, 1.0),
    )
    assert Trace.from_json(json.loads(json.dumps(trace.to_json()))) == trace


def test_slices_keep_their_spacing_in_two_dimensions(prepared):
    assert prepared("D").trace.target_spacing == (3.0, 1.0, 1.0)


def test_images_without_labels_are_prepared_alike(phantom):
    spacing, how = SETUPS["B"]
    with_labels = prepare(phantom.image, spacing, how, phantom.labels)
    without = prepare(phantom.image, spacing, how)
    assert without.labels is None
    assert without.trace == with_labels.trace
    np.testing.assert_array_equal(without.image, with_labels.image)


@pytest.mark.parametrize("rows", [1, 7, 1000])
@pytest.mark.parametrize("name", SETUPS)
def test_slabs_of_any_thickness_make_the_image(phantom, prepared, name, rows):
    spacing, how = SETUPS[name]
    case = Preparation(phantom.image, spacing, how, phantom.labels)
    slabs = list(case.slabs(rows))
    whole = prepared(name)
    assert [slab.shape[1] for slab in slabs[:-1]] == [rows] * (len(slabs) - 1)
    rounding = 1e-6 * np.ptp(whole.image)
    np.testing.assert_allclose(np.concatenate(slabs, axis=1), whole.image, rtol=0, atol=rounding)
    np.testing.assert_array_equal(case.labels, whole.labels)
    assert case.trace == whole.trace


def test_labels_keep_their_type(phantom):
    spacing, how = SETUPS["A"]
    small = prepare(phantom.image, spacing, how, phantom.labels.astype(np.int8)).labels
    assert small.dtype == np.int8
    np.testing.assert_array_equal(
        small, prepare(phantom.image, spacing, how, phantom.labels).labels
    )


def test_labelled_voxels_outside_the_mask_stay_and_are_normalized(phantom):
    phantom.labels[2, 3, 0] = 2
    how = recipe((1.0, 1.0, 1.0), "zscore", mask=True)
    result = prepare(phantom.image, (1.0, 1.0, 1.0), how, phantom.labels)
    assert result.labels[0, 0, :2].tolist() == [2, -1]
    assert result.image[0, 0, 0, 0] != 0
    assert result.image[0, 0, 0, 1] == 0


def test_the_mask_is_cut_with_the_image():
    image = np.random.default_rng(0).random((1, 40, 5, 6), dtype=np.float32) + 1
    # Open to the border, each slice elsewhere, and none of them on a face of its own.
    image[0, np.arange(40), 0, np.arange(40) % 6] = 0
    how = recipe((1.0, 1.0, 1.0), "zscore", mask=True)
    case = Preparation(image, (1.0, 1.0, 1.0), how, np.zeros((40, 5, 6), dtype=np.int8))
    for rows in (7, 40):
        normalized = np.concatenate(list(case.slabs(rows)), axis=1)
        np.testing.assert_array_equal(normalized == 0, image == 0)


def test_inputs_are_not_changed(phantom):
    image, labels = phantom.image.copy(), phantom.labels.copy()
    prepare(image, (1.0, 1.0, 1.0), recipe((1.0, 1.0, 1.0), "zscore"), labels)
    np.testing.assert_array_equal(image, phantom.image)
    np.testing.assert_array_equal(labels, phantom.labels)


def test_channels_are_normalized_on_their_own(phantom):
    image = np.concatenate([phantom.image, 3 * phantom.image + 500 * (phantom.image != 0)])
    result = prepare(image, (1.0, 1.0, 1.0), recipe((1.3, 1.1, 0.9), "zscore", channels=2))
    alone = prepare(image[1:], (1.0, 1.0, 1.0), recipe((1.3, 1.1, 0.9), "zscore"))
    np.testing.assert_array_equal(result.image[1], alone.image[0])
    assert np.abs(result.image.mean(axis=(1, 2, 3))).max() < 1e-2


def test_two_dimensional_images_stay_one_slice():
    image = np.random.default_rng(0).random((1, 1, 30, 20), dtype=np.float32) + 1
    result = prepare(image, (999.0, 0.5, 0.5), recipe((1.0, 1.0)))
    assert result.image.shape == (1, 1, 15, 10)
    restored = restore_labels(
        [np.stack([result.image[0], 0 * result.image[0]])], result.trace, classes(2)
    )
    assert restored.shape == (1, 30, 20)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (1.3, 1.1, 0.9)])
def test_what_nobody_annotated_says_nothing_about_the_non_zero_region(phantom, spacing):
    """Else an image would be normalized otherwise in training than when it is predicted."""
    how = recipe(spacing, "zscore", mask=True)
    sparse = np.full_like(phantom.labels, 3)
    sparse[10:14] = phantom.labels[10:14]
    case = Preparation(phantom.image, (1.0, 1.0, 1.0), how, sparse, ignore_index=3)
    without = Preparation(phantom.image, (1.0, 1.0, 1.0), how)
    np.testing.assert_array_equal(
        np.concatenate(list(case.slabs()), axis=1), np.concatenate(list(without.slabs()), axis=1)
    )
    assert set(np.unique(case.labels)) == {0, 1, 2, 3}


def test_all_zero_images_are_not_cropped():
    result = prepare(np.zeros((1, 4, 5, 6), np.float32), (1.0, 1.0, 1.0), recipe((1.0, 1.0, 1.0)))
    assert result.image.shape == (1, 4, 5, 6)


def test_no_axis_shrinks_to_nothing():
    assert resampled_shape((2, 10, 10), (1.0, 1.0, 1.0), (9.0, 2.0, 4.0)) == (1, 5, 2)


def test_what_does_not_fit_is_refused(phantom):
    with pytest.raises(ValueError, match="channels"):
        prepare(phantom.image, (1.0, 1.0, 1.0), recipe((1.0, 1.0), channels=2))
    with pytest.raises(ValueError, match="labels"):
        prepare(phantom.image, (1.0, 1.0, 1.0), recipe((1.0, 1.0)), phantom.labels[1:])


def wavy_logits(shape, classes=3):
    """The network output of inference.md, section 5."""
    count = classes * int(np.prod(shape))
    values = (3 * np.sin(0.01 * np.arange(count))).astype(np.float16)
    return values.astype(np.float32).reshape(classes, *shape)


def restored_by_hand(logits, trace):
    """Resampled logits on the raw grid, transposed axes; class 0 outside the box."""
    full = resample_logits(logits, trace.cropped_shape, trace.target_spacing, trace.cropped_spacing)
    shape = [trace.shape[axis] for axis in trace.transpose]
    whole = np.full((len(logits), *shape), -np.inf, dtype=np.float32)
    whole[0] = 0
    crop(whole, trace.box)[...] = full
    return whole.transpose(0, *(1 + np.argsort(trace.transpose)))


@pytest.mark.parametrize(
    ("name", "counts", "probability"),
    [
        ("A", (17254, 885, 12581), 0.42306131),
        ("B", (16141, 3064, 11515), 0.79895699),
        ("E", (11375, 12759, 6586), 0.48869529),
    ],
)
def test_resampled_logits_rounded_to_half_precision_equal_the_reference(
    prepared, name, counts, probability
):
    trace = prepared(name).trace
    # The reference stores resampled logits in half precision, which moves some near-ties.
    logits = restored_by_hand(wavy_logits(trace.prepared_shape), trace)
    logits = logits.astype(np.float16).astype(np.float64)
    assert tuple(np.bincount(logits.argmax(axis=0).ravel())) == counts
    exponents = np.exp(logits[:, 12, 20, 16])
    assert exponents[0] / exponents.sum() == pytest.approx(probability, abs=1e-6)


@pytest.mark.parametrize("name", ["A", "B", "D", "E"])
def test_restored_labels_are_the_argmax_of_resampled_logits(prepared, name):
    trace = prepared(name).trace
    logits = wavy_logits(trace.prepared_shape)
    labels = restore_labels([logits], trace, classes())
    assert labels.dtype == np.int16
    np.testing.assert_array_equal(labels, restored_by_hand(logits, trace).argmax(axis=0))


@pytest.mark.parametrize("name", ["A", "B", "E"])
def test_restored_probabilities_are_the_softmax_of_resampled_logits(prepared, name):
    trace = prepared(name).trace
    logits = wavy_logits(trace.prepared_shape)
    before = logits.copy()
    probabilities = restore_probabilities([logits], trace, classes())
    assert probabilities.shape == (3, *trace.shape)
    exponents = np.exp(restored_by_hand(logits, trace).astype(np.float64))
    np.testing.assert_allclose(probabilities, exponents / exponents.sum(axis=0), atol=1e-5)
    np.testing.assert_array_equal(logits, before)


def test_restoring_on_the_same_grid_leaves_the_logits(phantom):
    result = prepare(phantom.image, (1.0, 1.0, 1.0), recipe((1.0, 1.0, 1.0)))
    logits = wavy_logits(result.trace.prepared_shape)
    before = logits.copy()
    labels = restore_labels([logits], result.trace, classes())
    probabilities = restore_probabilities([logits], result.trace, classes())
    np.testing.assert_array_equal(logits, before)
    np.testing.assert_array_equal(labels, probabilities.argmax(axis=0))


def test_equal_logits_go_to_the_lowest_label(prepared):
    trace = prepared("B").trace
    logits = np.ones((3, *trace.prepared_shape), np.float32)
    assert not restore_labels([logits], trace, classes()).any()


def test_preparing_and_restoring_finds_the_labels_again(phantom):
    image = np.ones_like(phantom.image)
    image[:, :2] = 0
    spacing, how = (1.0, 2.0, 1.5), recipe((1.1, 1.6, 1.4), transpose=(1, 2, 0))
    result = prepare(image, spacing, how, phantom.labels)
    one_hot = np.stack([result.labels == index for index in range(3)]).astype(np.float32)
    restored = restore_labels([one_hot], result.trace, classes())
    for index in (1, 2):
        here, there = restored == index, phantom.labels == index
        assert 2 * (here & there).sum() / (here.sum() + there.sum()) > 0.9


def test_logits_on_another_grid_are_refused(prepared):
    with pytest.raises(ValueError, match="outputs are"):
        restore_labels([np.zeros((3, 5, 5, 5), np.float32)], prepared("A").trace, classes())


@pytest.mark.parametrize("restore", [restore_labels, restore_probabilities])
def test_another_number_of_outputs_is_refused(prepared, restore):
    trace = prepared("A").trace
    with pytest.raises(ValueError, match="3 outputs, but the labels have 2"):
        restore([wavy_logits(trace.prepared_shape)], trace, REGIONS)


def test_restored_regions_equal_the_reference(prepared):
    trace = prepared("C").trace
    logits = restored_by_hand(wavy_logits(trace.prepared_shape, 2), trace)
    # The reference stores resampled logits in half precision.
    rounded = logits.astype(np.float16)
    by_hand = np.where(rounded[1] > 0, 2, np.where(rounded[0] > 0, 1, 0))
    by_hand[~inside_box(trace)] = 0
    assert tuple(np.bincount(by_hand.ravel())) == (14612, 3030, 13078)

    indices = restore_labels([wavy_logits(trace.prepared_shape, 2)], trace, REGIONS)
    probabilities = restore_probabilities([wavy_logits(trace.prepared_shape, 2)], trace, REGIONS)

    assert indices.dtype == np.int16
    assert (indices != by_hand).mean() < 2e-3
    assert probabilities[0, 12, 20, 16] == pytest.approx(0.38364130, abs=2e-4)
    expected = np.where(inside_box(trace), 1 / (1 + np.exp(-logits.astype(np.float64))), 0)
    np.testing.assert_allclose(probabilities, expected, atol=1e-6)
    of_two = np.where(probabilities[1] > 0.5, 2, np.where(probabilities[0] > 0.5, 1, 0))
    assert (indices != of_two).mean() < 1e-4


def inside_box(trace):
    mask = np.zeros([trace.shape[axis] for axis in trace.transpose], dtype=bool)
    crop(mask, trace.box)[...] = True
    return mask.transpose(np.argsort(trace.transpose))


@pytest.mark.parametrize("target", [(2e-5, 1e-5, 4e-5), (2e-9, 1e-9, 4e-9)])
def test_an_image_that_would_fill_any_memory_is_refused_in_a_line(target):
    image = np.random.default_rng(0).normal(size=(1, 4, 5, 6)).astype(np.float32)
    with pytest.raises(DataError) as caught:
        prepare(image, (3.0, 1.0, 2.0), recipe(target))
    message = str(caught.value)
    assert message.startswith("of spacing 3 x 1 x 2 mm, resampled to ")
    assert "voxels, more than fit into memory; look at its spacing" in message
