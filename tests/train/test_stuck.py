from dataclasses import replace

import numpy as np
import pytest

from autoseg.core.dataset import Split
from autoseg.core.fingerprint import CaseFingerprint, Fingerprint, StructureMeasure
from autoseg.core.plan import TrainingSpec
from autoseg.train.monitoring.stuck import (
    Facts,
    Part,
    explain,
    gather,
    is_time,
    stuck,
    with_annotated,
)

NAMES = ("liver", "vessel")
VESSEL = 1


def part(raw, prepared=None, blank=False, size=10_000, annotated=None):
    """Cases by their voxels of the vessel; the liver is in all. Where the vessel is annotated."""
    raw = np.array([[5000, voxels] for voxels in raw])
    kept = raw if prepared is None else np.array([[5000, voxels] for voxels in prepared])
    lies_blank = np.zeros(raw.shape, dtype=bool)
    lies_blank[:, VESSEL] = blank
    known = None if annotated is None else np.array([[True, bool(one)] for one in annotated])
    sizes = np.full(len(raw), size)
    return Part(raw=raw, prepared=kept, sizes=sizes, blank=lies_blank, annotated=known)


def facts(**changes):
    """Nothing wrong: every case has enough of the vessel, which is taken for background."""
    values = {
        "names": NAMES,
        "train": part([800] * 20),
        "validation": part([800] * 5),
        "confusion": np.array([[900, 0, 0], [0, 500, 0], [80, 20, 0]]),
        "steps": 2500,
        "spec": TrainingSpec(mirror_axes=(0, 1)),
        "spacing": (3.0, 1.5, 1.5),
    }
    return Facts(**(values | changes))


def reason(**changes):
    return explain(facts(**changes), VESSEL, patient=False)


def proven(**changes):
    return explain(facts(**changes), VESSEL, patient=True)


def test_a_structure_of_no_training_case_is_named_with_the_counts():
    text = proven(train=part([0] * 20), validation=part([0, 700, 0]))
    assert text == (
        "the Dice of vessel stays 0: it is in none of the 20 training cases, but in 1 of 3 "
        "validation cases; deal other folds in splits.json, or check that its label value is "
        "the one in the files"
    )


def test_a_structure_that_no_training_case_is_annotated_for_is_told_as_that():
    train = part([0] * 4, annotated=[0] * 4)
    validation = part([0, 700, 0], annotated=[0, 1, 1])
    assert proven(train=train, validation=validation) == (
        "the Dice of vessel stays 0: it is annotated in no training case (2 of 3 validation cases "
        "are annotated for it), so nothing tells the network what it is; deal other folds in "
        "splits.json, or annotate it in more cases"
    )


def test_a_structure_is_looked_for_in_the_cases_annotated_for_it():
    text = proven(train=part([0] * 4, annotated=[0, 1, 1, 0]), validation=part([700]))
    assert text is not None
    assert "it is in none of the 2 training cases annotated for it, but in 1 of 1" in text
    rare = part([800] + [0] * 39, annotated=[1] * 20 + [0] * 20)
    told = reason(train=rare)
    assert told is not None
    assert "it is in only 1 of the 20 training cases annotated for it" in told


def test_a_structure_that_no_validation_case_is_annotated_for_cannot_be_judged():
    text = proven(validation=part([0] * 5, annotated=[0] * 5))
    assert text is not None
    assert "it is annotated in none of the 5 validation cases, so nobody can tell" in text


def test_the_share_of_a_structure_is_that_of_the_cases_annotated_for_it():
    # 12 of 10000 voxels where it is annotated, 6 of 10000 over all cases.
    shown = [1] * 10 + [0] * 10
    text = reason(train=part([12] * 10 + [0] * 10, annotated=shown))
    assert text is not None
    assert "drowned" not in text
    text = reason(train=part([12] * 10 + [0] * 10))
    assert text is not None
    assert "only 0.06% of the voxels" in text


def test_facts_know_what_their_cases_are_annotated_for_in_order():
    known = {"b": (True, True, False), "e": (True, False, True)}
    split = Split(train=("c", "b"), validation=("e",))
    plain = facts(train=part([1, 2]), validation=part([3]))
    told = with_annotated(plain, split, known)
    assert told.train.annotated is not None
    assert told.validation.annotated is not None
    assert told.train.annotated.tolist() == [[True, True], [True, False]]
    assert told.validation.annotated.tolist() == [[False, True]]
    assert [told.train.num_annotated(structure) for structure in (0, 1)] == [2, 1]
    assert with_annotated(plain, split, {}) is plain


def test_a_structure_that_resampling_swallows_is_named_with_spacing_and_sizes():
    text = proven(train=part([4, 2, 9, 0], prepared=[0, 0, 1, 0]))
    assert text == (
        "the Dice of vessel stays 0: it is smaller than a voxel after resampling to 3 x 1.5 x "
        "1.5 mm: nothing is left of it in 2 of the 3 training cases that have it (median 3 "
        "voxels in the file); plan a finer grid with autoseg plan TASK --spacing under another "
        "--plan"
    )


def test_a_structure_that_is_lost_in_half_of_its_cases_only_has_another_reason():
    text = reason(train=part([4, 2, 900, 900], prepared=[0, 0, 900, 900]))
    assert text is not None
    assert "smaller than a voxel" not in text


def test_a_structure_on_nothing_but_zeros_points_at_its_label_map():
    text = proven(train=part([30, 40, 0, 50], blank=True))
    assert text == (
        "the Dice of vessel stays 0: it lies where the image is 0 in 3 of the 3 training cases "
        "that have it, so the label map does not fit the image; look at one with autoseg overlay"
    )


def test_a_structure_of_no_validation_case_cannot_be_judged():
    text = proven(validation=part([0] * 5))
    assert text == (
        "the Dice of vessel stays 0: it is in none of the 5 validation cases, so nobody can tell "
        "how well it is learnt (it is in 20 of 20 training cases); deal other folds in splits.json"
    )


def test_a_structure_that_no_validation_patch_shows_says_nothing_of_the_training():
    unseen = np.array([[900, 0, 3], [0, 500, 0], [0, 0, 0]])
    text = proven(confusion=unseen, validation=part([0, 0, 20]))
    assert text is not None
    assert "none of the validation patches shows it (it is in 1 of 3 validation cases)" in text


def test_a_structure_taken_for_another_names_it_and_its_share():
    swapped = np.array([[900, 0, 0], [0, 500, 0], [8, 92, 0]])
    text = reason(confusion=swapped)
    assert text is not None
    assert "92% of its voxels are taken for liver" in text
    assert "--augmentation no-mirror" in text
    unmirrored = reason(confusion=swapped, spec=TrainingSpec())
    assert unmirrored is not None
    assert "no-mirror" not in unmirrored


def test_a_structure_of_few_cases_is_named_with_their_number():
    text = reason(train=part([800] + [0] * 19))
    assert text is not None
    assert "it is in only 1 of the 20 training cases; annotate more" in text


def test_a_structure_that_drowns_is_named_with_its_share_and_the_losses_that_help():
    text = reason(train=part([800] * 20, size=20_000_000))
    assert text == (
        "the Dice of vessel stays 0: it is drowned by the rest, as only 0.004% of the voxels of "
        "the training cases are of it; give it more weight with --loss weighted_ce or dice_topk "
        "under another --run"
    )


def test_the_loss_in_use_is_not_suggested():
    weighted = TrainingSpec(loss="weighted_ce")
    text = reason(train=part([800] * 20, size=20_000_000), spec=weighted)
    assert text is not None
    assert "--loss dice_topk under" in text


def test_a_short_training_is_the_likeliest_reason_of_all_that_are_not_proven():
    text = reason(steps=300, train=part([800] * 20, size=20_000_000))
    assert text is not None
    assert "the training was short, 300 steps; train longer" in text


def test_without_any_reason_the_evidence_is_told():
    text = reason()
    assert text is not None
    assert "nothing in the data explains it: it is in 20 of 20 training cases, 8% of" in text


@pytest.mark.parametrize(
    "changes",
    [{}, {"train": part([800] * 20, size=20_000_000)}, {"train": part([800] + [0] * 19)}],
)
def test_only_what_the_data_prove_is_said_early(changes):
    assert proven(**changes) is None
    assert reason(**changes) is not None


@pytest.mark.parametrize(
    ("steps", "progress", "over", "expected"),
    [
        (100, 0.1, False, False),
        (499, 0.5, False, False),
        (500, 0.5, False, True),
        (2499, 0.01, False, False),
        (2500, 0.01, False, True),
        (6, 1.0, True, True),
    ],
)
def test_patience_ends_after_2500_steps_or_half_of_the_training(steps, progress, over, expected):
    assert is_time(steps, progress, over=over) is expected


def row(**dice):
    return {"dice": dice}


def test_stuck_is_what_was_never_above_0():
    rows = [row(a=0.0, b=0.0, c=None, d=0.3), row(a=0.0, b=0.4, c=None, d=0.0)]
    assert stuck(rows, ()) == ["a", "c"]


def test_a_few_stray_voxels_are_as_good_as_0():
    assert stuck([row(a=0.0005)], ()) == ["a"]


def test_nobody_is_told_twice():
    assert stuck([row(a=0.0, b=0.0)], {"a"}) == ["b"]
    assert stuck([], ()) == []


def case(name, label_voxels, structures):
    return CaseFingerprint(
        name=name,
        shape=(3, 4, 5),
        spacing=(1.0, 1.0, 1.0),
        relative_size=1.0,
        label_voxels=label_voxels,
        original_shape=(3, 4, 5),
        orientation="SPL",
        channels=(),
        structures=structures,
        files=(),
    )


def measure(mean, std):
    return StructureMeasure(centroid=(0.0, 0.0, 0.0), means=(mean, 0.0), stds=(std, 0.0))


def test_facts_are_gathered_from_fingerprint_and_prepared_cases():
    cases = (
        case("a", (7, 2), (measure(3.0, 1.0), measure(0.0, 0.0))),
        case("b", (9, 0), (measure(0.0, 2.0), None)),
        case("c", (), ()),
    )
    fingerprint = Fingerprint(label_values=(0, 1, 2), cases=cases, intensities=())
    prepared = {"a": ((2, 3, 4), (5, 0)), "b": ((1, 2, 3), (6, 0)), "c": ((1, 1, 1), (0, 0))}
    train, validation = gather(fingerprint, Split(train=("b", "a"), validation=("c",)), prepared, 2)
    assert train.raw.tolist() == [[9, 0], [7, 2]]
    assert train.prepared.tolist() == [[6, 0], [5, 0]]
    assert train.sizes.tolist() == [6, 24]
    assert train.blank.tolist() == [[False, False], [False, True]]
    assert validation.raw.tolist() == [[0, 0]]
    assert replace(train).num_with(1) == 1
