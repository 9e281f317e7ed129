from pathlib import Path

import pytest

from autoseg.core.dataset import Case, Dataset, Split
from autoseg.core.fingerprint import CaseFingerprint, Fingerprint
from autoseg.core.labels import LabelSpace, Structure
from autoseg.errors import DataError
from autoseg.plan.splits import SplitCase, make_splits, splits_of, take_over


def names(count):
    return [f"case_{index:02d}" for index in range(count)]


def alone(count):
    return [SplitCase(name=name) for name in names(count)]


def grouped(**members):
    """Cases of groups: ``grouped(anna="a b", bob="c")``."""
    return [
        SplitCase(name=name, group=group)
        for group, cases in members.items()
        for name in cases.split()
    ]


def with_structures(count, **where):
    """Cases 0 to count - 1, and which of them have which structure."""
    return [
        SplitCase(
            name=name,
            structures=frozenset(what for what, cases in where.items() if index in cases),
        )
        for index, name in enumerate(names(count))
    ]


def held_out(splits):
    return [[int(name.removeprefix("case_")) for name in fold.validation] for fold in splits.folds]


def validation_names(splits):
    return [set(fold.validation) for fold in splits.folds]


REFERENCE_OF_TEN = [[0, 7], [3, 9], [4, 6], [1, 8], [2, 5]]


def test_the_folds_of_ten_cases_are_those_of_the_reference():
    assert held_out(make_splits(alone(10))) == REFERENCE_OF_TEN


def test_the_folds_of_seven_cases_are_those_of_the_reference():
    assert held_out(make_splits(alone(7))) == [[3, 6], [0, 4], [1], [5], [2]]


def test_the_order_of_the_names_does_not_matter():
    assert make_splits(alone(10)[::-1]) == make_splits(alone(10))


@pytest.mark.parametrize("count", [2, 3, 5, 17])
def test_every_case_is_held_out_once_and_trains_in_all_other_folds(count):
    folds = make_splits(alone(count)).folds
    assert sorted(name for fold in folds for name in fold.validation) == names(count)
    for fold in folds:
        assert sorted((*fold.train, *fold.validation)) == names(count)
        assert list(fold.train) == sorted(fold.train)


def test_three_cases_make_three_folds_and_the_reason_says_so():
    splits = make_splits(alone(3))
    assert len(splits.folds) == 3
    assert splits.reason == (
        "3 folds instead of 5, because there are only 3 cases; each holds out a single case"
    )


def test_the_reason_states_cases_folds_and_seed():
    assert make_splits(alone(10)).reason == (
        "10 cases, sorted by name, shuffled with seed 12345 and dealt into 5 folds"
    )


def test_a_single_case_makes_no_folds_and_the_reason_says_so():
    splits = make_splits(alone(1))
    assert splits.folds == ()
    assert splits.reason == "a single case, of which none can be held out"


def test_cases_of_one_group_make_no_folds_and_the_reason_says_so():
    splits = make_splits(grouped(anna="a b c"))
    assert splits.folds == ()
    assert splits.reason == "all 3 cases are of one group, of which none can be held out"


def test_repeated_names_are_refused():
    with pytest.raises(ValueError, match="differ"):
        make_splits([SplitCase(name=name) for name in "aba"])


def test_a_single_fold_is_refused():
    with pytest.raises(ValueError, match="two folds"):
        make_splits(alone(4), num_folds=1)


# Groups


def test_groups_of_one_case_change_nothing():
    cases = [SplitCase(name=name, group=f"patient {name}") for name in names(10)]
    assert make_splits(cases).folds == make_splits(alone(10)).folds


def test_no_group_is_divided():
    cases = grouped(anna="a1 a2 a3", bob="b1 b2", carl="c1 c2", dora="d1", eva="e1", finn="f1 f2")
    splits = make_splits(cases)
    assert len(splits.folds) == 5
    for fold in splits.folds:
        patients = ({name[0] for name in part} for part in (fold.train, fold.validation))
        assert not set.intersection(*patients)


def test_a_case_without_a_group_is_one_of_its_own_even_if_named_like_a_group():
    cases = [*grouped(x="a b"), SplitCase(name="x"), SplitCase(name="y")]
    assert {frozenset(part) for part in validation_names(make_splits(cases, 3))} == {
        frozenset("ab"),
        frozenset("x"),
        frozenset("y"),
    }


def test_folds_of_groups_hold_out_equally_many_cases():
    cases = grouped(a="a1 a2 a3", b="b1 b2 b3", c="c1 c2", d="d1 d2", e="e1 e2")
    assert [len(part) for part in validation_names(make_splits(cases, 2))] == [6, 6]


def test_fewer_groups_than_folds_are_held_out_one_by_one():
    splits = make_splits(grouped(anna="a b", bob="c", carl="d e f"))
    assert sorted(map(sorted, validation_names(splits))) == [["a", "b"], ["c"], ["d", "e", "f"]]
    assert splits.reason.startswith(
        "3 folds instead of 5, because there are only 3 groups of cases; each holds out a single "
        "group"
    )


def test_the_reason_states_the_groups():
    cases = grouped(**{name: f"{name}1 {name}2" for name in "abcdef"})
    assert make_splits(cases).reason == (
        "12 cases in 6 groups, none of them divided, shuffled with seed 12345 and dealt into 5 "
        "folds of about equally many cases"
    )


# Structures


def test_a_structure_in_every_part_changes_nothing():
    splits = make_splits(with_structures(10, kidney=range(10), tumour={0, 3, 4, 1, 2}))
    assert splits == make_splits(alone(10))


def test_a_structure_no_fold_could_score_makes_cases_change_folds():
    # Fold 0 would hold out two of the five tumours, fold 4 none.
    splits = make_splits(with_structures(10, kidney=range(10), tumour={0, 7, 3, 4, 1}))
    assert held_out(splits) == [[2, 7], [3, 9], [4, 6], [1, 8], [0, 5]]
    assert splits.reason.endswith(
        "; 2 cases then changed folds, because fold 4 would have held out no 'tumour'"
    )


def test_a_structure_a_fold_would_not_train_with_makes_cases_change_folds():
    splits = make_splits(with_structures(10, cyst={0, 7}))
    assert held_out(splits) == [[1, 7], [3, 9], [4, 6], [0, 8], [2, 5]]
    assert "because fold 0 would have trained without 'cyst'" in splits.reason


def test_a_structure_in_fewer_cases_than_folds_is_named_and_changes_nothing_else():
    splits = make_splits(with_structures(10, kidney=range(10), cyst={0, 7, 3, 4}, stone={1}))
    assert held_out(splits) == REFERENCE_OF_TEN
    assert splits.reason.endswith(
        "5 folds; 'cyst' and 'stone' are in too few cases for every fold to hold one out"
    )


def test_many_structures_are_counted_instead_of_named():
    cases = with_structures(10, a={0}, b={1}, c={2}, d={3}, e={4})
    assert "; 'a', 'b', 'c' and 2 more are in too few cases" in make_splits(cases).reason


def test_several_structures_that_made_it_necessary_are_named():
    cases = with_structures(10, tumour={0, 7, 3, 4, 1}, cyst={3, 9})
    assert "because fold 1 would have trained without 'cyst', and likewise 'tumour'" in (
        make_splits(cases).reason
    )


def test_what_no_exchange_can_mend_is_said():
    # Each two of three cases share a structure: two folds cannot part them all.
    cases = with_structures(4, a={0, 1}, b={1, 2}, c={0, 2})
    assert make_splits(cases, 2).reason.endswith(
        " is still missing from a part of a fold: no exchange helps"
    )


def test_groups_change_folds_as_a_whole():
    cases = [
        SplitCase(
            name=f"{group}{number}",
            group=group,
            structures=frozenset({"tumour"} if group in "abcde" and number == 1 else ()),
        )
        for group in "abcdefghij"
        for number in (1, 2)
    ]
    for fold in make_splits(cases).folds:
        assert {name[0] for name in fold.validation} & set("abcde")
        assert not {name[0] for name in fold.train} & {name[0] for name in fold.validation}
        assert len(fold.validation) == 4


# A measured data set

LABELS = LabelSpace(
    structures=(
        Structure(name="organ", values=(1, 2)),
        Structure(name="tumour", values=(2,)),
    ),
    output_values=(1, 2),
)


def dataset(count, layout="decathlon", folds=None):
    return Dataset(
        name="Task",
        root=Path("/raw"),
        layout=layout,
        channels=("CT",),
        labels=LABELS,
        cases=tuple(
            Case(name=name, images=(Path(f"{name}.nii"),), label=Path(f"{name}_seg.nii"))
            for name in names(count)
        ),
        folds=folds,
    )


def fingerprint(label_voxels):
    cases = [
        CaseFingerprint(
            name=name,
            shape=(4, 5, 6),
            spacing=(3.0, 1.0, 1.0),
            relative_size=1.0,
            label_voxels=voxels,
            original_shape=(4, 5, 6),
            orientation="SPL",
            channels=(),
            structures=(None, None),
            files=(),
        )
        for name, voxels in zip(names(len(label_voxels)), label_voxels, strict=True)
    ]
    return Fingerprint(label_values=LABELS.values, cases=tuple(cases), intensities=())


def test_a_region_is_in_a_case_that_has_any_of_its_values():
    # Value 1 is missing from four folds; the organ is everywhere, thanks to value 2.
    voxels = [(9, 0) if index in (0, 7) else (0, 3) for index in range(10)]
    splits = splits_of(dataset(10), fingerprint(voxels))
    assert "'organ'" not in splits.reason
    assert "fold 0 would have held out no 'tumour'" in splits.reason


def test_folds_of_the_data_are_taken_over_with_their_source():
    folds = (Split(train=("case_01",), validation=("case_00",)),)
    for layout, source in [
        ("nnunet", "splits_final.json"),
        ("table", "the column 'split' of the table of cases"),
        ("other", "the data set"),
    ]:
        splits = splits_of(dataset(2, layout, folds), fingerprint([(1, 1)] * 2))
        assert splits.folds == folds
        assert splits.reason == f"taken over from {source}"


def test_cases_that_are_left_out_leave_the_folds_of_the_data():
    folds = [Split(train=("a", "b"), validation=("c", "x")), Split(train=("c",), validation=("a",))]
    splits = take_over(folds, ["a", "b", "c"], "splits_final.json")
    assert splits.folds[0] == Split(train=("a", "b"), validation=("c",))
    assert splits.reason == "taken over from splits_final.json, without 1 case that is left out"


@pytest.mark.parametrize(
    ("fold", "what"),
    [
        (Split(train=("a",), validation=("x",)), "hold out"),
        (Split(train=("x",), validation=("a",)), "train with"),
    ],
)
def test_a_fold_of_the_data_that_is_left_empty_is_an_error(fold, what):
    with pytest.raises(DataError, match=rf"the table: fold 0 has no case to {what}; correct it"):
        take_over([fold], ["a"], "the table")
