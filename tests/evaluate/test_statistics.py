import json

import numpy as np
import pytest
from scipy.stats import binom

from autoseg.core.metrics import CaseScores, Scores
from autoseg.evaluate.statistics import (
    bootstrap_means,
    foreground_interval,
    holm,
    patient_means,
    patients_of,
    signed_rank_p,
    summarise_structures,
    summarise_whole,
)


def scores(dice, **more):
    counts = {"true_positives": 1, "false_positives": 1, "false_negatives": 1}
    return Scores(**{**counts, "dice": dice, "iou": dice, **more})


def cases(*dice, groups=None):
    groups = groups or [None] * len(dice)
    return [
        CaseScores(name=f"case_{i}", group=group, structures={"a": scores(value)})
        for i, (value, group) in enumerate(zip(dice, groups, strict=True))
    ]


def test_statistics_over_cases_by_hand():
    found = summarise_structures(cases(0.5, 0.9, 0.7, 0.8, None), ["a"], ["dice"])
    summary = found["a"].metrics["dice"]
    assert summary.n == 4
    assert summary.mean == pytest.approx(0.725)
    assert summary.sd == pytest.approx(np.sqrt((0.225**2 + 0.175**2 + 0.025**2 + 0.075**2) / 3))
    assert summary.median == pytest.approx(0.75)
    assert summary.lower_quartile == pytest.approx(0.65)
    assert summary.upper_quartile == pytest.approx(0.825)
    assert summary.worst == ("case_0", "case_2", "case_3", "case_1")
    low, high = summary.interval
    assert 0.5 < low < 0.65
    assert 0.8 < high < 0.9


def test_the_worst_case_has_the_largest_distance_and_the_largest_error_of_either_sign():
    found = [
        CaseScores(name=name, structures={"a": scores(0.5, hd95=hd95, volume_error_ml=error)})
        for name, hd95, error in (("x", 3.0, -9.0), ("y", 8.0, 1.0), ("z", 5.0, 4.0))
    ]
    metrics = summarise_structures(found, ["a"], ["hd95", "volume_error_ml"])["a"].metrics
    assert metrics["hd95"].worst == ("y", "z", "x")
    assert metrics["volume_error_ml"].worst == ("x", "z", "y")


def test_cases_without_a_structure_are_listed_and_not_counted():
    sides = {
        "both": (1, 1, 1),
        "neither": (0, 0, 0),
        "missed": (0, 0, 1),
        "invented": (0, 1, 0),
    }
    found = [
        CaseScores(
            name=name,
            structures={
                "a": Scores(
                    true_positives=tp,
                    false_positives=fp,
                    false_negatives=fn,
                    dice=None if name == "neither" else tp * 0.5,
                    iou=None,
                    hd95=2.0 if name == "both" else None,
                )
            },
        )
        for name, (tp, fp, fn) in sides.items()
    ]
    found.append(CaseScores(name="not annotated", structures={}))
    summary = summarise_structures(found, ["a"], ["dice", "hd95", "assd"])["a"]
    assert summary.num_cases == 4
    assert (summary.absent, summary.missed) == (("neither",), ("missed",))
    assert summary.invented == ("invented",)
    assert (summary.metrics["dice"].n, summary.metrics["hd95"].n) == (3, 1)
    assert summary.metrics["dice"].mean == pytest.approx(0.5 / 3)
    assert "assd" not in summary.metrics


def test_a_single_case_has_neither_spread_nor_interval():
    summary = summarise_structures(cases(0.5), ["a"], ["dice"])["a"].metrics["dice"]
    assert (summary.sd, summary.interval) == (None, None)
    assert json.loads(summary.model_dump_json())["sd"] is None


def test_several_cases_of_a_single_patient_have_no_interval():
    same = cases(0.5, 0.7, groups=["p", "p"])
    assert summarise_structures(same, ["a"], ["dice"])["a"].metrics["dice"].interval is None
    assert foreground_interval(same, ["a"]) is None


def test_patients_without_a_score_count_for_no_interval():
    found = [
        CaseScores(name=str(i), structures={"a": scores(d)})
        for i, d in enumerate((0.5, None, None, None))
    ]
    assert foreground_interval(found, ["a"]) is None
    again = CaseScores(name="4", structures={"a": scores(0.7)})
    assert foreground_interval([*found, again], ["a"]) == pytest.approx((0.5, 0.7))


def test_patients_are_drawn_with_all_their_cases():
    values = np.array([[1.0], [1.0], [1.0], [0.0]])
    means = bootstrap_means(values, ["p", "p", "p", "q"], resamples=4000)[:, 0]
    # Two draws of two patients: both p, both q, or one of each with 3 of 4 cases.
    found, counts = np.unique(means, return_counts=True)
    assert found.tolist() == [0.0, 0.75, 1.0]
    assert counts / 4000 == pytest.approx([0.25, 0.5, 0.25], abs=0.03)


def test_cases_without_a_patient_are_patients_of_their_own():
    found = cases(0.1, 0.2, 0.3, groups=[None, "case_0", "case_0"])
    one, two, three = patients_of(found)
    assert one != two
    assert two == three


def test_the_interval_is_that_of_a_binomial_share():
    # The mean of zeros and ones over n patients is binomial when they are drawn anew.
    values = np.array([[1.0]] * 14 + [[0.0]] * 6)
    means = bootstrap_means(values, [str(i) for i in range(20)])
    expected = binom(20, 0.7).ppf([0.025, 0.975]) / 20
    assert np.quantile(means, [0.025, 0.975]) == pytest.approx(expected, abs=0.051)
    assert means.mean() == pytest.approx(0.7, abs=0.01)


def test_draws_are_the_same_every_time():
    values = np.random.default_rng(1).normal(size=(9, 2))
    patients = list("abcdefghi")
    assert np.array_equal(bootstrap_means(values, patients), bootstrap_means(values, patients))
    other = bootstrap_means(values, patients, seed=2)
    assert not np.array_equal(bootstrap_means(values, patients), other)


def test_a_structure_absent_everywhere_does_not_poison_the_interval():
    found = [
        CaseScores(name=str(i), structures={"a": scores(d), "b": scores(None)})
        for i, d in enumerate((0.4, 0.6, 0.8))
    ]
    low, high = foreground_interval(found, ["a", "b"])
    assert 0.39 < low < 0.6 < high < 0.81


def test_metrics_of_whole_cases_have_statistics_of_their_own():
    found = [
        CaseScores(name=str(i), structures={}, pixel_accuracy=value)
        for i, value in enumerate((0.8, 0.9))
    ]
    assert summarise_whole(found, ["dice", "pixel_accuracy"])["pixel_accuracy"].mean == (
        pytest.approx(0.85)
    )


def test_the_signed_rank_test_by_counting_signs():
    # Of 2**6 signs one alone gives the sum of all ranks, and one the opposite.
    assert signed_rank_p([1, 2, 3, 4, 5, 6]) == pytest.approx(2 / 64)
    assert signed_rank_p([0, 1, 2, 3, 4, 5, 6, 0]) == pytest.approx(2 / 64)
    # 1 + 2 is the smaller sum: 0, 1, 2 and 3 (twice) come from 5 of 64 choices, both sides 10.
    assert signed_rank_p([-1, -2, 3, 4, 5, 6]) == pytest.approx(10 / 64)


def test_without_differences_nothing_is_shown():
    assert signed_rank_p([0.0, 0.0]) == 1.0
    assert signed_rank_p([]) is None


def test_holm_corrects_the_smallest_most():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, None, 0.9]) == [1.0, None, 1.0]
    assert holm([]) == []


def test_the_mean_of_a_patient_is_over_the_cases():
    assert patient_means(np.array([1.0, 5.0, 3.0]), ["q", "p", "q"]).tolist() == [5.0, 2.0]
