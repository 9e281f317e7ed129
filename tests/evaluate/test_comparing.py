import pytest

from autoseg.core.metrics import CaseScores, Report, Scores
from autoseg.evaluate.comparing import compare_pairs, rank_reports

ABSENT = Scores(true_positives=0, false_positives=0, false_negatives=0, dice=None, iou=None)
MISSED = Scores(true_positives=0, false_positives=0, false_negatives=5, dice=0.0, iou=0.0)
INVENTED = Scores(true_positives=0, false_positives=5, false_negatives=0, dice=0.0, iou=0.0)


def found(dice, **more):
    return Scores(
        true_positives=5, false_positives=1, false_negatives=1, dice=dice, iou=None, **more
    )


def report(rows, structures=("a",), groups=None):
    cases = tuple(
        CaseScores(
            name=f"case_{i}",
            group=groups[i] if groups else None,
            structures=dict(
                zip(structures, row if isinstance(row, tuple) else (row,), strict=True)
            ),
        )
        for i, row in enumerate(rows)
    )
    return Report(predictions="p", references="r", structures=structures, cases=cases)


def dices(*values, **more):
    return report([found(value) for value in values], **more)


def one(reports, metric="dice", structure="a"):
    pairs = compare_pairs(reports, [metric])
    (pair,) = [p for p in pairs if p.structure == structure]
    return pair


def test_differences_are_those_of_the_same_case():
    first = dices(0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
    second = dices(0.2, 0.4, 0.6, 0.8, 1.0, 0.6)
    pair = one({"one": first, "two": second})
    assert (pair.first, pair.second, pair.n) == ("one", "two", 6)
    assert pair.difference == pytest.approx(1.5 / 6)
    assert (pair.first_mean, pair.second_mean) == pytest.approx((0.35, 0.6))
    assert (pair.wins, pair.ties, pair.losses) == (5, 1, 0)
    assert pair.p == pytest.approx(2 / 32)
    assert pair.interval[0] < pair.difference < pair.interval[1]
    assert pair.interval[0] > 0


def test_the_other_way_round_everything_is_turned():
    first, second = dices(0.1, 0.5, 0.3, 0.4), dices(0.2, 0.4, 0.6, 0.8)
    there, back = one({"x": first, "y": second}), one({"y": second, "x": first})
    assert back.difference == pytest.approx(-there.difference)
    assert (back.wins, back.ties, back.losses) == (there.losses, there.ties, there.wins)
    assert back.p == there.p
    assert back.interval == pytest.approx((-there.interval[1], -there.interval[0]))


def test_a_smaller_distance_wins_and_a_failure_loses():
    first = report([found(0.5, hd95=4.0), found(0.5, hd95=4.0), MISSED])
    second = report([found(0.5, hd95=3.0), MISSED, found(0.5, hd95=90.0)])
    pair = one({"one": first, "two": second}, "hd95")
    assert (pair.n, pair.difference) == (1, -1.0)
    assert (pair.wins, pair.ties, pair.losses) == (2, 0, 1)
    assert (pair.first_failed, pair.second_failed) == (1, 1)


def test_leaving_an_absent_structure_out_beats_inventing_it():
    pair = one({"one": report([ABSENT, ABSENT]), "two": report([INVENTED, ABSENT])})
    assert (pair.wins, pair.ties, pair.losses, pair.n) == (0, 0, 1, 0)
    assert (pair.difference, pair.interval, pair.p) == (None, None, None)


def test_a_volume_error_is_better_the_nearer_it_is_to_zero():
    first = report([found(0.5, volume_error_ml=e) for e in (-3.0, 2.0)])
    second = report([found(0.5, volume_error_ml=e) for e in (1.0, -2.0)])
    pair = one({"one": first, "two": second}, "volume_error_ml")
    assert (pair.wins, pair.ties, pair.losses) == (1, 1, 0)
    assert pair.difference == pytest.approx(0.0)


def test_patients_are_the_unit_of_the_test():
    groups = list("ppqqrrsstt")
    first = dices(*[0.5] * 10, groups=groups)
    second = dices(*[0.6, 0.62, 0.63, 0.65, 0.64, 0.67, 0.7, 0.71, 0.73, 0.78], groups=groups)
    pair = one({"one": first, "two": second})
    assert (pair.n, pair.num_patients) == (10, 5)
    assert pair.p == pytest.approx(2 / 32)


def test_p_values_are_corrected_for_the_structures():
    names = ("a", "b")
    first = report([(found(0.1 * i), found(0.5)) for i in range(1, 7)], names)
    second = report([(found(0.12 * i), found(0.5)) for i in range(1, 7)], names)
    reports = {"one": first, "two": second}
    assert one(reports).p == pytest.approx(2 / 64)
    assert one(reports).p_holm == pytest.approx(4 / 64)
    assert one(reports, structure="b").p_holm == 1.0


def test_the_mean_over_structures_is_taken_case_by_case():
    names = ("a", "b")
    first = report([(found(0.2), found(0.4)), (found(0.6), ABSENT)], names)
    second = report([(found(0.4), found(0.8)), (found(0.7), ABSENT)], names)
    pair = one({"one": first, "two": second}, structure=None)
    assert (pair.first_mean, pair.second_mean) == pytest.approx((0.45, 0.65))
    assert (pair.n, pair.p_holm) == (2, None)


def test_volume_errors_of_two_structures_do_not_cancel_in_the_mean():
    def volumes(*rows):
        names = ("a", "b")
        return report([tuple(found(0.5, volume_error_ml=e) for e in row) for row in rows], names)

    first = volumes(*[(0.2, -0.2 - 0.01 * n) for n in range(7)])
    second = volumes(*[(0.04, 0.04)] * 7)
    reports = {"one": first, "two": second}
    pair = one(reports, "volume_error_ml", structure=None)
    assert (pair.first_mean, pair.second_mean) == pytest.approx((0.2 + 0.03 / 2, 0.04))
    assert (pair.wins, pair.ties, pair.losses) == (7, 0, 0)
    assert pair.difference == pytest.approx(0.04 - 0.2 - 0.03 / 2)
    assert pair.interval[1] < 0
    signed = one(reports, "volume_error_ml", structure="b")
    assert (signed.first_mean, signed.second_mean) == pytest.approx((-0.23, 0.04))


def test_a_structure_that_was_not_annotated_is_not_compared():
    first, second = dices(0.1, 0.2), dices(0.3, 0.4)
    bare = second.cases[0].model_copy(update={"structures": {}})
    second = second.model_copy(update={"cases": (bare, second.cases[1])})
    pair = one({"one": first, "two": second})
    assert (pair.n, pair.wins) == (1, 1)


def test_ranks_by_hand():
    reports = {"x": dices(0.9, 0.5, 0.7), "y": dices(0.8, 0.5, 0.9), "z": dices(0.1, 0.2, 0.3)}
    of_structure, mean = rank_reports(reports, ["dice"])
    assert of_structure.mean_ranks == pytest.approx({"x": 4.5 / 3, "y": 4.5 / 3, "z": 3.0})
    assert (of_structure.n, mean.structure, mean.p) == (3, None, None)
    assert mean.mean_ranks == of_structure.mean_ranks
    assert 0 < of_structure.p < 0.2


def test_failures_rank_last_and_rightly_absent_structures_first():
    reports = {
        "x": report([MISSED, ABSENT]),
        "y": report([found(0.5, hd95=50.0), INVENTED]),
        "z": report([found(0.5, hd95=5.0), INVENTED]),
    }
    ranks = rank_reports(reports, ["hd95"])[0].mean_ranks
    assert ranks == pytest.approx({"x": (3 + 1) / 2, "y": (2 + 2.5) / 2, "z": (1 + 2.5) / 2})


def test_two_folders_or_one_patient_have_no_friedman_test():
    assert rank_reports({"x": dices(0.1, 0.2), "y": dices(0.2, 0.3)}, ["dice"])[0].p is None
    alone = {name: dices(value) for name, value in (("x", 0.1), ("y", 0.2), ("z", 0.3))}
    assert rank_reports(alone, ["dice"])[0].p is None


def test_equal_folders_do_not_differ():
    same = {name: dices(0.5, 0.6, 0.7) for name in "xyz"}
    assert rank_reports(same, ["dice"])[0].p == 1.0
    assert {pair.p for pair in compare_pairs(same, ["dice"])} == {1.0}
