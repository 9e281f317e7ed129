import pytest

from autoseg.errors import DataError
from autoseg.plan.splits import make_splits


def names(count):
    return [f"case_{index:02d}" for index in range(count)]


def held_out(count):
    return [
        [int(name.removeprefix("case_")) for name in fold.validation]
        for fold in make_splits(names(count)).folds
    ]


def test_the_folds_of_ten_cases_are_those_of_the_reference():
    assert held_out(10) == [[0, 7], [3, 9], [4, 6], [1, 8], [2, 5]]


def test_the_folds_of_seven_cases_are_those_of_the_reference():
    assert held_out(7) == [[3, 6], [0, 4], [1], [5], [2]]


def test_the_order_of_the_names_does_not_matter():
    assert make_splits(names(10)[::-1]) == make_splits(names(10))


@pytest.mark.parametrize("count", [2, 3, 5, 17])
def test_every_case_is_held_out_once_and_trains_in_all_other_folds(count):
    folds = make_splits(names(count)).folds
    assert sorted(name for fold in folds for name in fold.validation) == names(count)
    for fold in folds:
        assert sorted((*fold.train, *fold.validation)) == names(count)
        assert list(fold.train) == sorted(fold.train)


def test_three_cases_make_three_folds_and_the_reason_says_so():
    splits = make_splits(names(3))
    assert len(splits.folds) == 3
    assert "3 folds instead of 5" in splits.reason


def test_the_reason_states_cases_folds_and_seed():
    reason = make_splits(names(10)).reason
    assert "10 cases" in reason
    assert "5 folds" in reason
    assert "12345" in reason


def test_a_single_case_is_an_error_with_a_remedy():
    with pytest.raises(DataError, match=r"1 annotated case, .*; annotate more cases"):
        make_splits(["only"])


def test_repeated_names_are_refused():
    with pytest.raises(ValueError, match="differ"):
        make_splits(["a", "b", "a"])


def test_a_single_fold_is_refused():
    with pytest.raises(ValueError, match="two folds"):
        make_splits(names(4), num_folds=1)
