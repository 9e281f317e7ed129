import numpy as np
import pytest

from autoseg.core.labels import LabelSpace, Structure
from autoseg.evaluate.overlap import confusion_matrix, ignore_alike, score_case


def label_space(ignore=None, **structures):
    return LabelSpace(
        structures=tuple(Structure(name=n, values=v) for n, v in structures.items()),
        ignore=ignore,
        output_values=tuple(values[-1] for values in structures.values()),
    )


THREE = label_space(first=(1,), second=(2,), third=(3,))


def volume(*flat):
    return np.array(flat, dtype=np.int16).reshape(2, 2, 2)


def test_the_worked_check_of_the_reference():
    reference = volume(0, 1, 1, 0, 2, 2, 0, 0)
    prediction = volume(0, 1, 0, 0, 2, 2, 2, 0)
    scores = score_case(prediction, reference, THREE)
    first, second = scores["first"], scores["second"]
    assert (first.true_positives, first.false_positives, first.false_negatives) == (1, 0, 1)
    assert (first.dice, first.iou) == pytest.approx((2 / 3, 1 / 2))
    assert (second.true_positives, second.false_positives, second.false_negatives) == (2, 1, 0)
    assert (second.dice, second.iou) == pytest.approx((0.8, 2 / 3))
    assert (scores["third"].dice, scores["third"].iou) == (None, None)


def test_a_structure_absent_from_one_side_scores_zero():
    scores = score_case(volume(*[1] * 8), volume(*[2] * 8), THREE)
    assert (scores["first"].dice, scores["first"].iou) == (0.0, 0.0)
    assert (scores["second"].dice, scores["second"].iou) == (0.0, 0.0)


def naive(prediction, reference, indices, ignore):
    """Dice, IoU and counts from boolean volumes, one structure at a time."""
    valid = np.ones(reference.shape, dtype=bool) if ignore is None else reference != ignore
    predicted = np.isin(prediction, indices) & valid
    true = np.isin(reference, indices) & valid
    both, either = int((predicted & true).sum()), int((predicted | true).sum())
    dice = 2 * both / (predicted.sum() + true.sum()) if either else None
    counts = both, int((predicted & ~true).sum()), int((true & ~predicted).sum())
    return (*counts, dice, both / either if either else None)


@pytest.mark.parametrize("ignore", [None, 200])
@pytest.mark.parametrize("seed", range(3))
def test_random_maps_score_as_a_naive_implementation_says(seed, ignore):
    rng = np.random.default_rng(seed)
    # Regions overlap and file values have gaps: indices of 5, 7, 9, 30 are 1, 2, 3, 4.
    labels = label_space(ignore, whole=(5, 9, 30), core=(9,), rest=(7, 5))
    reference = rng.integers(0, 5 + (ignore is not None), size=(5, 7, 9)).astype(np.int8)
    prediction = rng.integers(0, 5, size=(5, 7, 9)).astype(np.uint8)
    scores = score_case(prediction, reference, labels)
    assert list(scores) == ["whole", "core", "rest"]
    for name, indices in {"whole": [1, 3, 4], "core": [3], "rest": [1, 2]}.items():
        expected = naive(prediction, reference, indices, labels.ignore_index)
        assert tuple(scores[name].model_dump().values())[:5] == pytest.approx(expected)


def test_voxels_to_ignore_do_not_count_as_false_positives():
    labels = label_space(ignore=9, only=(1,))
    scores = score_case(volume(1, 1, 1, 1, 0, 0, 0, 0), volume(1, 2, 2, 2, 2, 2, 0, 0), labels)
    assert scores["only"].dice == 1.0
    assert scores["only"].false_positives == 0


def test_rows_of_the_confusion_matrix_are_the_reference():
    counts = confusion_matrix(volume(1, 1, 1, 0, 0, 0, 0, 0), volume(*[2] * 8), THREE)
    assert counts.tolist() == [[0] * 4, [0] * 4, [5, 3, 0, 0], [0] * 4]


def test_many_labels_in_a_small_type_do_not_overflow():
    labels = label_space(**{f"s{i}": (i,) for i in range(1, 121)})
    array = np.full((2, 3, 4), 120, dtype=np.int8)
    assert score_case(array, array, labels)["s120"].true_positives == 24


@pytest.mark.parametrize(
    ("prediction", "reference", "message"),
    [
        (np.zeros((2, 3, 4), int), np.zeros((2, 4, 3), int), "shapes differ"),
        (np.full((2, 3, 4), 4), np.zeros((2, 3, 4), int), r"prediction's indices must be 0\.\.3"),
        (np.zeros((2, 3, 4), int), np.full((2, 3, 4), -1), r"reference's indices must be 0\.\.3"),
    ],
)
def test_maps_that_do_not_fit_are_refused(prediction, reference, message):
    with pytest.raises(ValueError, match=message):
        score_case(prediction, reference, THREE)


def test_what_the_prediction_ignores_is_ignored_in_the_reference():
    labels = LabelSpace(structures=THREE.structures, ignore=9)
    ignored = labels.ignore_index
    prediction = volume(1, ignored, 2, 0, ignored, 1, 2, 0)
    reference = volume(1, 1, ignored, 0, ignored, 2, 2, 1)
    shown, true = ignore_alike(prediction, reference, labels)
    assert shown.ravel().tolist() == [1, 0, 2, 0, 0, 1, 2, 0]
    assert true.ravel().tolist() == [1, ignored, ignored, 0, ignored, 2, 2, 1]
    assert (shown.dtype, true.dtype) == (prediction.dtype, reference.dtype)


@pytest.mark.parametrize("ignore", [None, 9])
def test_label_maps_of_which_the_prediction_ignores_nothing_stay_as_they_are(ignore):
    labels = LabelSpace(structures=THREE.structures, ignore=ignore)
    maps = volume(1, 1, 1, 0, 0, 0, 0, 0), volume(*[2] * 8)
    assert all(a is b for a, b in zip(ignore_alike(*maps, labels), maps, strict=True))
