"""Clean-up in thought, beside clean-up of label maps."""

import numpy as np
import pytest

from autoseg.core.labels import LabelSpace, Structure
from autoseg.core.metrics import CaseScores
from autoseg.core.selection import CleanUp
from autoseg.evaluate.overlap import score_case
from autoseg.evaluate.removing import CaseParts, parts_of
from autoseg.imaging.components import clean_up

SPACING = (4.0, 2.0, 2.5)
VOXEL_ML = 0.02
CLASSES = LabelSpace(
    structures=(Structure(name="core", values=(2,)), Structure(name="shell", values=(1,))),
    ignore=9,
)
REGIONS = LabelSpace(
    structures=(
        Structure(name="whole", values=(1, 4, 7)),
        Structure(name="core", values=(4, 7)),
        Structure(name="tip", values=(7,)),
    ),
    output_values=(1, 4, 7),
)
RULES = [
    [],
    [CleanUp(structure="core", largest_only=True)],
    [CleanUp(structure="core", smallest_ml=0.09)],
    [CleanUp(structure="core", largest_only=True, smallest_ml=0.5)],
]


def speckled(labels: LabelSpace, seed: int):
    """A prediction of blobs and specks and a reference that has some of them."""
    rng = np.random.default_rng(seed)
    shape = (7, 12, 10)
    prediction = rng.integers(0, labels.num_classes, shape) * (rng.random(shape) < 0.12)
    prediction[1:4, 2:6, 1:5] = 1
    prediction[2, 3:5, 2:4] = labels.num_classes - 1
    reference = np.where(rng.random(shape) < 0.3, 0, prediction)
    reference[5:, 8:] = 1
    if labels.ignore_index is not None:
        reference[:, :2] = labels.ignore_index
    return prediction.astype(np.int16), reference.astype(np.int8)


def in_thought(prediction, reference, labels, voxel_ml=VOXEL_ML, unknown=()):
    case = CaseScores(name="x", structures={}, not_annotated=unknown)
    parts = parts_of(prediction, reference, labels, voxel_ml)
    return CaseParts(case=case, parts=parts, labels=labels)


def by_voxels(prediction, reference, rules, labels):
    cleaned = clean_up(prediction, rules, labels, SPACING)
    dice = [s.dice for s in score_case(cleaned, reference, labels).values()]
    return [np.nan if value is None else value for value in dice]


@pytest.mark.parametrize("labels", [CLASSES, REGIONS], ids=["classes", "regions"])
@pytest.mark.parametrize("rules", RULES)
def test_dice_from_parts_is_that_of_the_cleaned_label_map(labels, rules):
    for seed in range(4):
        prediction, reference = speckled(labels, seed)
        numbers = range(len(labels.structures))
        found = in_thought(prediction, reference, labels).dice(rules, numbers)
        np.testing.assert_allclose(found, by_voxels(prediction, reference, rules, labels))


def test_rules_of_several_structures_follow_each_other():
    prediction, reference = speckled(CLASSES, 3)
    rules = [CleanUp(structure="shell", largest_only=True), *RULES[2]]
    found = in_thought(prediction, reference, CLASSES).dice(rules, [0, 1])
    np.testing.assert_allclose(found, by_voxels(prediction, reference, rules, CLASSES))


def test_what_is_removed_of_a_whole_takes_what_lies_inside_along():
    prediction = np.zeros((3, 4, 9), dtype=np.int16)
    prediction[1, 1:3, 1:5] = 1
    prediction[1, 1, 1] = 3
    prediction[1, 1:3, 7] = 2  # an island of core, and so of the whole
    reference = np.where(prediction == 2, 0, prediction).astype(np.int8)
    case = in_thought(prediction, reference, REGIONS)
    assert case.dice([], [0, 1, 2]) == [
        pytest.approx(16 / 18),
        pytest.approx(2 / 4),
        pytest.approx(1.0),
    ]
    rule = CleanUp(structure="whole", largest_only=True)
    assert case.dice([rule], [0, 1, 2]) == [1.0, 1.0, 1.0]


def test_an_empty_prediction_has_no_parts():
    reference = np.zeros((2, 3, 4), dtype=np.int8)
    reference[0, 1, 1:3] = 1
    empty = np.zeros((2, 3, 4), dtype=np.int16)
    case = in_thought(empty, reference, CLASSES)
    assert case.parts.indices == ()
    core, shell = case.dice(RULES[3], [0, 1])
    assert np.isnan(core)
    assert shell == 0.0
    assert case.false_volumes_ml(0) == []


def test_false_volumes_are_those_of_components_without_a_hit():
    prediction = np.zeros((3, 5, 9), dtype=np.int16)
    prediction[1, 1, 1:4] = 2
    prediction[1, 3, 1:3] = 2
    prediction[1, 1:4, 7] = 1
    reference = np.zeros(prediction.shape, dtype=np.int8)
    reference[1, 1, 3:6] = 2
    case = in_thought(prediction, reference, CLASSES)
    assert case.false_volumes_ml(0) == [pytest.approx(2 * VOXEL_ML)]
    assert case.false_volumes_ml(1) == [pytest.approx(3 * VOXEL_ML)]
    assert in_thought(prediction, reference, CLASSES, None).false_volumes_ml(0) == []
    unknown = in_thought(prediction, reference, CLASSES, unknown=("core",))
    assert unknown.false_volumes_ml(0) == []
    assert np.isnan(unknown.dice([], [0])[0])


def test_pictures_have_no_volumes_to_remove_by():
    prediction, reference = speckled(CLASSES, 1)
    rule = CleanUp(structure="core", smallest_ml=100.0)
    case = in_thought(prediction, reference, CLASSES, None)
    assert case.dice([rule], [0]) == case.dice([], [0])


def test_an_island_of_voxels_to_ignore_counts_for_its_size_only():
    prediction = np.zeros((1, 4, 9), dtype=np.int16)
    prediction[0, 1, 0:5] = 2
    prediction[0, 1, 7] = 2
    reference = np.zeros(prediction.shape, dtype=np.int8)
    reference[0, 1, 0:5] = CLASSES.ignore_index
    reference[0, 1, 7] = 2
    case = in_thought(prediction, reference, CLASSES)
    assert case.dice([], [0]) == [1.0]
    assert case.dice([CleanUp(structure="core", largest_only=True)], [0]) == [0.0]
