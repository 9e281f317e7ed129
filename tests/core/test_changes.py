import pytest

from autoseg.core.changes import cases_beside_folds, changed_cases
from autoseg.core.dataset import Split, Splits


@pytest.mark.parametrize(
    ("now", "words"),
    [
        ("abc", None),
        ("abcd", "1 case is new (the first is 'd')"),
        ("abced", "2 cases are new (the first is 'd')"),
        ("ac", "1 case is gone (the first is 'b')"),
        ("c", "2 cases are gone (the first is 'a')"),
        ("bcfed", "3 cases are new and 1 is gone (the first is 'd')"),
        ("cx", "1 case is new and 2 are gone (the first is 'x')"),
    ],
)
def test_cases_that_came_or_went_are_counted(now, words):
    assert changed_cases("abc", now) == words


IN_NONE_AND_GONE = (
    "2 cases are in no fold (the first is 'x') and 2 cases of the folds are gone (the first is 'a')"
)
SPLITS = Splits(folds=(Split(train=("a", "b"), validation=("c",)),), reason="by hand")


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ("abc", None),
        ("abcd", "1 case is in no fold (the first is 'd')"),
        ("bc", "1 case of the folds is gone (the first is 'a')"),
        ("cxy", IN_NONE_AND_GONE),
    ],
)
def test_folds_and_cases_that_do_not_agree_are_told(names, words):
    assert cases_beside_folds(SPLITS, names) == words
