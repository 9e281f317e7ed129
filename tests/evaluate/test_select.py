"""The rule by which a model is selected, on numbers made by hand."""

import pytest

from autoseg.core.metrics import CaseScores, Scores
from autoseg.core.selection import Group
from autoseg.evaluate.overlap import score_voxels
from autoseg.evaluate.select import (
    Contender,
    dice_columns,
    foreground_dice,
    gain_interval,
    in_words,
    rank,
    shared_cases,
    spread_of,
)


def scored(dice: float | None) -> Scores:
    if dice is None:
        return score_voxels(0, 0, 0)
    return score_voxels(1, 0, 0).model_copy(update={"dice": dice})


def case(name: str, *dice: float | None, group: str | None = None) -> CaseScores:
    structures = {s: scored(d) for s, d in zip(("a", "b"), dice, strict=False)}
    return CaseScores(name=name, structures=structures, group=group)


def contender(
    *names: str, dice, networks=5, operations=1.0, groups=None, more=(), run="default"
) -> Contender:
    """A model whose Dice of structure ``a`` is given for every case; it held out ``more``."""
    cases = tuple(
        case(f"case_{n:02d}", d, group=None if groups is None else groups[n])
        for n, d in enumerate(dice)
    )
    return Contender(
        groups=tuple(
            Group(plan="default", configuration=n, run=run, folds=("fold0",)) for n in names
        ),
        num_networks=networks,
        operations=operations,
        cases=cases,
        held_out=frozenset(c.name for c in cases) | set(more),
    )


LOW = [0.70, 0.71, 0.69, 0.72, 0.70, 0.68, 0.71, 0.70]
HIGH = [0.80, 0.82, 0.79, 0.83, 0.80, 0.77, 0.82, 0.80]
MIXED = [0.75, 0.66, 0.74, 0.69, 0.76, 0.64, 0.75, 0.66]


def test_a_gain_beyond_noise_is_worth_an_ensemble():
    flat, both = contender("2d", dice=LOW), contender("2d", "3d", dice=HIGH, networks=10)
    best, other = rank([flat, both], ["a"])
    assert (best.name, best.is_selected, best.reason) == (
        "2d + 3d",
        True,
        "selected: the highest Dice",
    )
    assert other.reason == "worse, beyond noise"
    assert best.behind == 0
    assert best.interval is None
    assert other.behind == pytest.approx(sum(HIGH) / 8 - sum(LOW) / 8)
    assert other.interval is not None
    assert 0 < other.interval[0] < other.behind < other.interval[1]


def test_within_noise_the_simpler_model_is_selected_and_the_best_is_named():
    flat, both = contender("2d", dice=LOW), contender("2d", "3d", dice=MIXED, networks=10)
    best, other = rank([flat, both], ["a"])
    assert (best.name, best.is_selected) == ("2d + 3d", False)
    assert best.reason == "the highest Dice, but within noise of 2d, which is simpler"
    assert (other.is_selected, other.reason) == (
        True,
        "selected: within noise of the highest Dice, and simpler",
    )
    words = in_words([best, other], 8, 8)
    assert words.startswith("2d is selected, with a mean Dice of 0.701 over 8 held-out cases. 2d +")
    assert "has the highest of 2 models, 0.706, but the gain of 0.005 is within noise" in words
    assert words.endswith("and 2d is simpler.")


@pytest.mark.parametrize(
    ("simpler", "other"),
    [
        ({"names": ("3d",), "networks": 9}, {"names": ("2d", "3d"), "networks": 2}),
        ({"names": ("3d",), "networks": 5}, {"names": ("cascade",), "networks": 10}),
        (
            {"names": ("2d",), "networks": 5, "operations": 2.0},
            {"names": ("3d",), "networks": 5, "operations": 3.0},
        ),
        (
            {"names": ("3d",), "networks": 5, "operations": 9.0},
            {"names": ("2d",), "networks": 5, "operations": None},
        ),
    ],
)
def test_simpler_are_fewer_configurations_then_fewer_networks_then_cheaper(simpler, other):
    first, second = (contender(*one.pop("names"), dice=LOW, **one) for one in (other, simpler))
    standings = rank([first, second], ["a"])
    assert [s.is_selected for s in standings] == [True, False]
    assert standings[0].name == second.name


def test_of_several_within_noise_the_simplest_is_selected():
    near = contender("3d", dice=[d - 0.001 * (-1) ** n for n, d in enumerate(HIGH)])
    nearer = contender("2d", "3d", dice=[d + 0.0005 for d in HIGH], networks=10)
    far = contender("2d", dice=LOW)
    standings = rank([nearer, near, far], ["a"])
    assert {s.name: s.reason for s in standings} == {
        "2d + 3d": "the highest Dice, but within noise of 3d, which is simpler",
        "3d": "selected: within noise of the highest Dice, and simpler",
        "2d": "worse, beyond noise",
    }
    third = contender("2d", "3d", "low", dice=[d + 0.0004 for d in HIGH], networks=15)
    reasons = {s.name: s.reason for s in rank([nearer, near, third], ["a"])}
    assert reasons["2d + 3d + low"] == "worse, beyond noise"  # always by the same 0.0001
    wild = contender(
        "2d", "low", dice=[d + 0.01 * (-1) ** n for n, d in enumerate(HIGH)], networks=15
    )
    reasons = {s.name: s.reason for s in rank([nearer, near, wild], ["a"])}
    assert reasons["2d + low"] == "within noise of the highest Dice, but not the simplest"


OTHER_FOLDS = ("case_08", "case_09", "case_10")


def test_a_trial_of_one_fold_does_not_displace_a_cross_validation_it_equals():
    trial = contender("3d", dice=LOW, run="quick")
    full = contender("3d", dice=LOW, more=OTHER_FOLDS)
    best, other = rank([trial, full], ["a"])
    assert (best.name, best.is_selected, best.reason) == ("3d", True, "selected: the highest Dice")
    assert other.reason == "within noise of the highest Dice, but scored on fewer cases"
    assert "3d (run quick) follows with 0.701, within noise of it, but scored on fewer cases" in (
        in_words([best, other], 8, 8)
    )


def test_within_noise_a_trial_gives_way_even_where_it_is_best_and_cheaper():
    trial = contender("2d", dice=MIXED, networks=1)
    full = contender("cascade", dice=LOW, networks=2, more=OTHER_FOLDS)
    best, other = rank([trial, full], ["a"])
    assert best.name == "2d"
    assert best.reason == (
        "the highest Dice, but within noise of cascade, which is scored on more cases"
    )
    assert (other.is_selected, other.reason) == (
        True,
        "selected: within noise of the highest Dice, and scored on more cases",
    )
    words = in_words([best, other], 8, 8)
    assert words.endswith("and cascade is scored on more cases.")
    assert "is within noise (95% interval" in words


def test_within_noise_no_trial_is_taken_for_being_simpler():
    trial = contender("2d", dice=[d - 0.001 * (-1) ** n for n, d in enumerate(HIGH)])
    both = contender("3d", "low", dice=HIGH, networks=10, more=OTHER_FOLDS)
    best, other = rank([trial, both], ["a"])
    assert (best.name, best.is_selected) == ("3d + low", True)
    assert other.reason == "within noise of the highest Dice, but scored on fewer cases"


def test_beyond_noise_a_trial_wins():
    trial, full = contender("3d", dice=HIGH), contender("2d", dice=LOW, more=OTHER_FOLDS)
    best, other = rank([full, trial], ["a"])
    assert (best.name, best.reason) == ("3d", "selected: the highest Dice")
    assert other.reason == "worse, beyond noise"


def test_one_patient_is_not_enough_for_a_trial_to_win():
    trial = contender("3d", dice=[0.9])
    full = contender("2d", dice=[0.8], more=OTHER_FOLDS)
    best, other = rank([full, trial], ["a"])
    assert best.reason == (
        "the highest Dice, but with one patient not to be told from 2d, which is scored on more "
        "cases"
    )
    assert (other.is_selected, other.reason) == (
        True,
        "selected: with one patient not to be told from the highest Dice, and scored on more cases",
    )
    words = in_words([best, other], 1, 1)
    assert "the gain of 0.100 is more than one patient can tell, and 2d is scored on" in words
    without = contender("2d", dice=[0.8])
    assert rank([without, trial], ["a"])[0].is_selected  # as many cases: the highest Dice


def test_models_that_cost_the_same_are_not_called_simpler_for_their_names():
    nearly = [d + 0.001 * (-1) ** n for n, d in enumerate(HIGH)]
    best, other = rank([contender("3d", dice=HIGH[:-1]), contender("2d", dice=nearly[:-1])], ["a"])
    assert (best.name, best.reason) == ("2d", "selected: the highest Dice")
    assert other.reason == "within noise of the highest Dice, but no simpler"


def test_a_structure_that_is_absent_everywhere_does_not_poison_the_mean():
    cases = [case("x", 0.8, None), case("y", 0.6, None)]
    assert foreground_dice(cases, ["a", "b"]) == pytest.approx(0.7)
    assert foreground_dice([case("x", None, None)], ["a", "b"]) is None
    one = Contender(groups=contender("2d", dice=[1]).groups, num_networks=1, operations=1.0,
                    cases=tuple(cases))  # fmt: skip
    (standing,) = rank([one], ["a", "b"])
    assert standing.dice == pytest.approx(0.7)
    assert standing.structures == {"a": pytest.approx(0.7), "b": None}


def test_a_model_that_invents_a_structure_pays_for_it():
    groups = contender("2d", dice=[1]).groups
    honest, inventive = (
        Contender(
            groups=groups,
            num_networks=networks,
            operations=1.0,
            cases=tuple(case(f"case_{n}", 0.8, invented) for n in range(4)),
        )
        for networks, invented in ((2, None), (1, 0.0))
    )
    standings = rank([honest, inventive], ["a", "b"])
    assert [s.dice for s in standings] == [pytest.approx(0.8), pytest.approx(0.4)]
    assert standings[0].is_selected


def test_scans_of_one_patient_give_no_interval_and_the_highest_dice_wins():
    groups = ["anna"] * 8
    flat = contender("2d", dice=LOW, groups=groups)
    both = contender("2d", "3d", dice=HIGH, networks=10, groups=groups)
    best, other = rank([flat, both], ["a"])
    assert (best.name, best.is_selected, other.interval) == ("2d + 3d", True, None)
    assert other.reason == "worse"
    words = in_words([best, other], 8, 1)
    assert "over 8 held-out cases of 1 patient; 2d follows with 0.701, one patient cannot" in words


def test_patients_are_drawn_and_not_cases():
    gains = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.08]
    groups = ["a", "a", "a", "a", "a", "a", "a", "b"]
    before = contender("2d", dice=LOW, groups=groups)
    after = contender("2d", dice=[x + g for x, g in zip(LOW, gains, strict=True)], groups=groups)
    columns = [dice_columns(c.cases, ["a"]) for c in (before, after)]
    low, high = gain_interval(*columns, before.cases)
    assert low == pytest.approx(0.0, abs=1e-12)  # only patient a was drawn
    assert high == pytest.approx(0.08)  # only patient b was drawn


def test_patients_without_a_score_on_both_sides_tell_no_noise():
    flat = contender("2d", dice=[0.80] + 7 * [None])
    full = contender("3d", dice=[0.81] + 7 * [None], operations=9.0)
    best, other = rank([flat, full], ["a"])
    assert (best.name, best.is_selected) == ("3d", True)
    assert (other.interval, other.reason) == (None, "worse")
    assert "one patient cannot tell by how much" in in_words([best, other], 8, 8)
    one_each = contender("2d", dice=[0.8, None]), contender("3d", dice=[None, 0.9])
    columns = [dice_columns(c.cases, ["a"]) for c in one_each]
    assert gain_interval(*columns, one_each[0].cases) is None


def test_models_without_any_score_leave_the_simplest_and_say_so():
    both, flat = contender("2d", "3d", dice=[None]), contender("2d", dice=[None])
    standings = rank([both, flat], ["a"])
    assert standings[0].name == "2d"
    assert standings[0].is_selected
    assert standings[1].reason == "no score"
    assert in_words(standings, 1, 1) == (
        "2d is selected; no structure has a Dice in 1 held-out case."
    )


def test_the_only_model_and_a_clear_winner_are_said_in_words():
    flat, both = contender("2d", dice=LOW), contender("2d", "3d", dice=HIGH, networks=10)
    assert in_words(rank([flat], ["a"]), 8, 8) == (
        "2d is the only model: mean Dice 0.701 over 8 held-out cases."
    )
    words = in_words(rank([flat, both], ["a"]), 8, 8)
    assert words.startswith(
        "2d + 3d is selected: of 2 models it has the highest mean Dice, 0.804 over 8 held-out "
        "cases; 2d follows with 0.701, worse beyond noise (95% interval +0.09"
    )
    equal = in_words(rank([contender("3d", dice=LOW, networks=9), flat], ["a"]), 8, 8)
    assert "3d follows with 0.701, within noise of it, but not the simplest" in equal


def test_candidates_are_compared_on_the_cases_they_share():
    held = [frozenset("abc"), frozenset("bcd"), frozenset("cb")]
    assert shared_cases(held) == ([0, 1, 2], frozenset("bc"))
    assert shared_cases([frozenset("ab"), frozenset("abc"), frozenset("x")]) == (
        [0, 1],
        frozenset("ab"),
    )


def test_the_spread_of_folds_is_that_of_their_means():
    group = contender("2d", dice=[1]).groups[0]
    by_fold = {
        "fold0": [case("u", 0.5, None), case("v", 0.7, None)],
        "fold2": [case("w", 0.9, 0.6)],
    }
    spread = spread_of(group, by_fold, ["a", "b"], ["fold0", "fold1", "fold2"])
    assert spread.folds == {"fold0": pytest.approx(0.6), "fold2": pytest.approx(0.75)}
    assert spread.structures_by_fold["fold0"] == {"a": pytest.approx(0.6), "b": None}
    assert spread.structures == {"a": pytest.approx(0.7), "b": pytest.approx(0.6)}
    assert spread.dice == pytest.approx(0.65)
    assert spread.sd == pytest.approx(0.15 / 2**0.5)
    assert (spread.num_cases, spread.not_trained) == (3, ("fold1",))
    assert spread_of(group, {"fold0": by_fold["fold0"]}, ["a"], ["fold0"]).sd is None
