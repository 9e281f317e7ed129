import json

import pytest

from autoseg.core.metrics import CaseScores, Report, Scores
from autoseg.io import artifacts


def scores(dice):
    return Scores(true_positives=0, false_positives=0, false_negatives=0, dice=dice, iou=dice)


def report(*rows):
    cases = tuple(
        CaseScores(name=str(i), structures={"a": scores(a), "b": scores(b)})
        for i, (a, b) in enumerate(rows)
    )
    return Report(predictions="p", references="r", structures=("a", "b"), cases=cases)


def test_undefined_scores_do_not_count():
    made = report((0.8, None), (0.6, 0.5))
    assert made.mean_dice("a") == pytest.approx(0.7)
    assert made.mean_iou("b") == pytest.approx(0.5)
    assert made.mean_foreground_dice == pytest.approx(0.6)
    assert made.cases[0].mean_dice == pytest.approx(0.8)


def test_a_structure_absent_everywhere_does_not_poison_the_mean():
    made = report((0.8, None), (0.6, None))
    assert made.mean_dice("b") is None
    assert made.mean_foreground_dice == pytest.approx(0.7)


def test_nothing_defined_is_none():
    assert report((None, None)).mean_foreground_dice is None
    assert report((None, None)).cases[0].mean_dice is None


def test_a_report_of_format_1_is_lifted(tmp_path):
    counts = {"true_positives": 2, "false_positives": 1, "false_negatives": 1}
    old = {
        "format": 1,
        "predictions": "p",
        "references": "r",
        "structures": ["a"],
        "cases": [{"name": "x", "structures": {"a": {**counts, "dice": 0.5, "iou": 0.25}}}],
    }
    path = tmp_path / "report.json"
    path.write_text(json.dumps(old))
    lifted = artifacts.load(path, Report)
    assert (lifted.format, lifted.mean_dice("a"), lifted.metrics) == (2, 0.5, ("dice", "iou"))
    assert lifted.cases[0].structures["a"].hd95 is None
    assert (lifted.summary, lifted.interval) == ({}, None)


def test_a_structure_that_was_not_annotated_has_no_score():
    made = report((0.8, 0.5), (0.6, 0.7))
    bare = made.cases[0].model_copy(update={"structures": {"a": scores(0.8)}})
    made = made.model_copy(update={"cases": (bare, made.cases[1])})
    assert bare.value("dice", "b") is None
    assert made.mean_dice("b") == pytest.approx(0.7)


def test_nan_is_refused():
    with pytest.raises(ValueError, match="finite"):
        scores(float("nan"))


def test_a_structure_that_was_not_annotated_counts_in_no_mean():
    made = report((0.8, 0.5), (0.6, 0.1))
    second = made.cases[1]
    partial = CaseScores(name="1", structures={"a": second.structures["a"]}, not_annotated=("b",))
    made = made.model_copy(update={"cases": (made.cases[0], partial)})
    assert made.mean_dice("b") == pytest.approx(0.5)
    assert made.mean_dice("a") == pytest.approx(0.7)
    assert made.mean_foreground_dice == pytest.approx(0.6)
    assert partial.mean_dice == pytest.approx(0.6)
    assert (made.num_annotated("a"), made.num_annotated("b")) == (2, 1)


def test_a_report_of_before_there_were_partial_labels_is_still_read():
    old = report((0.8, 0.5)).model_dump(mode="json")
    del old["cases"][0]["not_annotated"]
    assert Report.model_validate(old) == report((0.8, 0.5))
