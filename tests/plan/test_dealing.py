import numpy as np
import pytest

from autoseg.plan.dealing import Gap, deal_even, deal_everywhere, gaps


def gaps_by_hand(fold_of, presence, num_folds):
    """Naive: look into both parts of every fold for every structure."""
    found = set()
    for structure, column in enumerate(presence.T):
        for fold in range(num_folds):
            if column.sum() >= num_folds and not column[fold_of == fold].any():
                found.add((structure, fold, "validation"))
            if column.sum() >= 2 and not column[fold_of != fold].any():
                found.add((structure, fold, "train"))
    return found


@pytest.mark.parametrize("seed", range(6))
def test_gaps_are_where_a_structure_lacks(seed):
    rng = np.random.default_rng(seed)
    fold_of, presence = rng.integers(0, 3, 9), rng.random((9, 4)) < 0.4
    found = gaps(fold_of, presence, 3)
    assert {(gap.structure, gap.fold, gap.part) for gap in found} == gaps_by_hand(
        fold_of, presence, 3
    )
    assert len(found) == len(set(found))


def test_a_gap_names_the_fold_that_lacks_the_structure():
    presence = np.array([[True], [True], [False], [False]])
    assert gaps(np.array([0, 0, 1, 1]), presence, 2) == [
        Gap(structure=0, fold=0, part="train"),
        Gap(structure=0, fold=1, part="validation"),
    ]


@pytest.mark.parametrize("seed", range(5))
def test_no_exchange_of_two_groups_would_make_the_folds_more_even(seed):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 12, 14)
    fold_of = deal_even(sizes, 4, seed=1)
    totals = np.bincount(fold_of, weights=sizes, minlength=4)
    for first in range(14):
        for second in range(14):
            other = fold_of.copy()
            other[[first, second]] = other[[second, first]]
            after = np.bincount(other, weights=sizes, minlength=4)
            assert (after**2).sum() >= (totals**2).sum()


def test_groups_of_different_sizes_are_shuffled_by_the_seed():
    sizes = np.array([2, 1, 1, 1, 1, 1, 1, 1])
    deals = [deal_even(sizes, 2, seed).tolist() for seed in (1, 1, 2, 3)]
    assert deals[0] == deals[1]
    assert len(set(map(tuple, deals))) > 1


@pytest.mark.parametrize("seed", range(8))
def test_rare_structures_get_everywhere_and_folds_stay_as_even_as_they_were(seed):
    rng = np.random.default_rng(seed)
    presence = np.zeros((23, 4), dtype=bool)
    for structure, count in enumerate((5, 6, 7, 2)):
        presence[rng.choice(23, count, replace=False), structure] = True
    sizes = np.ones(23, dtype=np.int64)
    first, fold_of = deal_everywhere(sizes, presence, 5, range(12345, 12365))
    assert gaps_by_hand(fold_of, presence, 5) == set()
    assert sorted(np.bincount(fold_of)) == sorted(np.bincount(first)) == [4, 4, 5, 5, 5]
    assert (first == deal_even(sizes, 5, 12345)).all()


def test_another_shuffle_is_tried_where_exchanges_do_not_help():
    # Three folds, structures (columns) in two or three groups (rows); found by search.
    rows = ["10000", "10100", "00101", "01001", "00001", "00100", "11010", "00010"]
    presence = np.array([[letter == "1" for letter in row] for row in rows])
    sizes = np.ones(len(rows), dtype=np.int64)
    assert gaps(deal_everywhere(sizes, presence, 3, [0])[1], presence, 3)
    assert not gaps(deal_everywhere(sizes, presence, 3, range(20))[1], presence, 3)
