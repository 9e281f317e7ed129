import json
import math
from pathlib import Path

import pytest

from autoseg.core.dataset import Case, Dataset
from autoseg.core.labels import LabelSpace, Structure
from autoseg.core.metrics import CaseScores, Report, Scores
from autoseg.errors import AutosegError
from autoseg.evaluate.scored import compare_scores, read_scores
from autoseg.io import artifacts
from autoseg.io.nnunet_summary import Files, write_summary


def measured(dice, iou, tp, fp, fn, tn=10):
    return {
        "Dice": dice,
        "IoU": iou,
        "TP": tp,
        "FP": fp,
        "FN": fn,
        "TN": tn,
        "n_pred": tp + fp,
        "n_ref": tp + fn,
    }


ABSENT = measured(math.nan, math.nan, 0, 0, 0)


def write(file: Path, rows: dict, prefix: str = "/far/away/") -> Path:
    """A summary as nnU-Net writes it, with its bare NaN."""
    cases = [
        {
            "metrics": metrics,
            "prediction_file": f"{prefix}predictions/{name}.nii.gz",
            "reference_file": f"{prefix}labelsTr/{name}.nii.gz",
        }
        for name, metrics in rows.items()
    ]
    file.write_text(json.dumps({"foreground_mean": {}, "mean": {}, "metric_per_case": cases}))
    return file


@pytest.fixture
def summary(tmp_path):
    rows = {
        "b": {"1": measured(2 / 3, 0.5, 1, 0, 1), "2": ABSENT},
        "a": {"1": measured(0.8, 2 / 3, 2, 1, 0), "2": measured(0.0, 0.0, 0, 0, 3)},
    }
    return write(tmp_path / "summary.json", rows)


def task(structures, groups=()):
    cases = [
        Case(name=n, images=(Path("i"),), label=Path("l"), group=g) for n, g in dict(groups).items()
    ]
    overlap = any(len(structure.values) > 1 for structure in structures)
    written = tuple(structure.values[0] for structure in structures) if overlap else None
    return Dataset(
        name="Task",
        root=Path("/raw"),
        layout="nnunet",
        channels=("CT",),
        labels=LabelSpace(structures=structures, output_values=written),
        cases=tuple(cases),
    )


LIVER = Structure(name="liver", values=(1,))
SPLEEN = Structure(name="spleen", values=(2,))


def test_a_summary_becomes_a_report_with_statistics_of_its_own(summary):
    report = read_scores(summary)
    assert (report.predictions, report.references) == (
        "/far/away/predictions",
        "/far/away/labelsTr",
    )
    assert [case.name for case in report.cases] == ["a", "b"]
    assert report.structures == ("1", "2")
    assert report.mean_dice("1") == pytest.approx((0.8 + 2 / 3) / 2)
    first = report.cases[0].structures["1"]
    assert (first.precision, first.recall) == (pytest.approx(2 / 3), 1.0)
    assert report.summary["1"].metrics["iou"].n == 2


def test_nan_becomes_undefined_and_counts_nowhere(summary):
    report = read_scores(summary)
    assert report.cases[1].structures["2"].dice is None
    assert report.summary["2"].absent == ("b",)
    assert report.summary["2"].missed == ("a",)
    assert report.mean_foreground_dice == pytest.approx((0.8 + 2 / 3) / 4)
    assert "NaN" not in artifacts.as_text(report)


def test_structures_and_patients_of_a_task_with_these_values_are_used(summary):
    report = read_scores(summary, task((SPLEEN, LIVER), {"a": "p", "b": "p"}))
    assert report.structures == ("spleen", "liver")
    assert report.mean_dice("liver") == pytest.approx((0.8 + 2 / 3) / 2)
    assert [case.group for case in report.cases] == ["p", "p"]


def test_a_task_with_other_values_names_nothing(summary):
    assert read_scores(summary, task((LIVER,))).structures == ("1", "2")


def test_regions_are_known_by_all_their_values(tmp_path):
    rows = {"a": {"(1, 2, 3)": measured(1.0, 1.0, 4, 0, 0), "2": measured(1.0, 1.0, 4, 0, 0)}}
    file = write(tmp_path / "summary.json", rows)
    whole = Structure(name="whole", values=(3, 1, 2))
    assert read_scores(file).structures == ("1+2+3", "2")
    assert read_scores(file, task((whole, SPLEEN))).structures == ("whole", "spleen")


def test_paths_of_another_system_name_cases_too(tmp_path):
    rows = {"case.1": {"1": measured(1.0, 1.0, 4, 0, 0)}}
    file = write(tmp_path / "summary.json", rows, prefix="C:\\data\\".replace("\\", "\\"))
    text = file.read_text().replace("predictions/", "predictions\\\\")
    file.write_text(text)
    assert read_scores(file).cases[0].name == "case.1"


def test_a_structure_missing_from_a_case_was_not_annotated_there(tmp_path):
    rows = {
        "a": {"1": measured(1.0, 1.0, 4, 0, 0)},
        "b": {"1": measured(1.0, 1.0, 4, 0, 0), "2": measured(0.5, 1 / 3, 1, 1, 1)},
    }
    report = read_scores(write(tmp_path / "summary.json", rows))
    assert report.cases[0].not_annotated == ("2",)
    assert report.num_annotated("2") == 1


def test_counts_that_are_nan_say_that_it_was_not_annotated(tmp_path):
    unknown = dict.fromkeys(ABSENT, math.nan)
    rows = {
        "a": {"1": measured(1.0, 1.0, 4, 0, 0), "2": unknown},
        "b": {"1": measured(1.0, 1.0, 4, 0, 0), "2": measured(0.5, 1 / 3, 1, 1, 1)},
    }
    report = read_scores(write(tmp_path / "summary.json", rows))
    assert [case.not_annotated for case in report.cases] == [("2",), ()]
    assert report.mean_dice("2") == 0.5


def test_a_single_count_that_is_nan_is_refused(tmp_path):
    rows = {"a": {"1": measured(1.0, 1.0, math.nan, 0, 0)}}
    with pytest.raises(AutosegError, match=r"metrics\.1\.TP: should be a finite number, got NaN"):
        read_scores(write(tmp_path / "summary.json", rows))


@pytest.mark.parametrize(
    ("content", "finding"),
    [
        ({"metric_per_case": []}, "metric_per_case"),
        ({"metric_per_case": [{"metrics": {}}]}, "missing key"),
        ({"metric_per_case": [{"metrics": 3}]}, "metrics: should be a valid dictionary"),
        ({"other": 1}, "'format' must be there"),
    ],
)
def test_what_is_no_summary_is_refused_in_a_line(tmp_path, content, finding):
    file = tmp_path / "summary.json"
    file.write_text(json.dumps(content))
    with pytest.raises(AutosegError, match=finding):
        read_scores(file)


def test_a_key_that_is_no_label_is_refused(tmp_path):
    rows = {"a": {"liver": measured(1.0, 1.0, 4, 0, 0)}}
    with pytest.raises(AutosegError, match="'liver' is neither a label nor a region"):
        read_scores(write(tmp_path / "summary.json", rows))


def test_a_case_that_is_scored_twice_is_refused(tmp_path):
    rows = {name: {"1": measured(1.0, 1.0, 4, 0, 0)} for name in ("x/a", "y/a")}
    with pytest.raises(AutosegError, match="scores 'a' more than once"):
        read_scores(write(tmp_path / "summary.json", rows))


# Writing


def counts(tp, fp, fn):
    total = 2 * tp + fp + fn
    return Scores(
        true_positives=tp,
        false_positives=fp,
        false_negatives=fn,
        dice=2 * tp / total if total else None,
        iou=tp / (tp + fp + fn) if total else None,
    )


def report_of(*cases, structures):
    return Report(predictions="p", references="r", structures=structures, cases=cases)


def written(tmp_path, report, labels=None, num_voxels=8):
    files = {
        case.name: Files(
            prediction=tmp_path / "p" / f"{case.name}.nii.gz",
            reference=tmp_path / "r" / f"{case.name}.nii.gz",
            num_voxels=num_voxels,
        )
        for case in report.cases
    }
    write_summary(tmp_path / "summary.json", report, files, labels)
    return json.loads((tmp_path / "summary.json").read_text())


def test_the_worked_example_of_the_reference_is_written_as_it_writes_it(tmp_path):
    case = CaseScores(
        name="a", structures={"1": counts(1, 0, 1), "2": counts(2, 1, 0), "3": counts(0, 0, 0)}
    )
    content = written(tmp_path, report_of(case, structures=("1", "2", "3")))
    metrics = content["metric_per_case"][0]["metrics"]
    assert metrics["1"] == {
        "Dice": pytest.approx(2 / 3),
        "IoU": 0.5,
        "TP": 1,
        "FP": 0,
        "FN": 1,
        "TN": 6,
        "n_pred": 1,
        "n_ref": 2,
    }
    assert metrics["2"]["Dice"] == pytest.approx(0.8)
    assert math.isnan(metrics["3"]["Dice"])
    assert '"Dice": NaN' in (tmp_path / "summary.json").read_text()
    assert Path(content["metric_per_case"][0]["prediction_file"]).is_absolute()
    assert list(content) == ["foreground_mean", "mean", "metric_per_case"]


def test_an_absent_structure_does_not_poison_the_mean(tmp_path):
    case = CaseScores(name="a", structures={"1": counts(1, 0, 1), "3": counts(0, 0, 0)})
    content = written(tmp_path, report_of(case, structures=("1", "3")))
    assert content["foreground_mean"]["Dice"] == pytest.approx(2 / 3)
    assert content["foreground_mean"]["TP"] == 0.5


def test_structures_are_written_as_values_and_regions_as_tuples(tmp_path):
    labels = LabelSpace(
        structures=(Structure(name="whole", values=(2, 1)), SPLEEN), output_values=(1, 2)
    )
    case = CaseScores(name="a", structures={"whole": counts(2, 0, 0), "spleen": counts(1, 0, 0)})
    content = written(tmp_path, report_of(case, structures=("whole", "spleen")), labels)
    assert list(content["mean"]) == ["(1, 2)", "2"]


def test_what_is_written_is_read_again(tmp_path):
    case = CaseScores(name="a", structures={"1": counts(1, 0, 1), "3": counts(0, 0, 0)})
    report = report_of(case, structures=("1", "3"))
    written(tmp_path, report)
    again = read_scores(tmp_path / "summary.json")
    assert again.cases[0].structures["1"].dice == report.cases[0].structures["1"].dice
    assert again.cases[0].structures["3"].dice is None


def test_what_was_not_annotated_is_left_out_and_read_so_again(tmp_path):
    cases = [
        CaseScores(name="a", structures={"1": counts(2, 1, 0)}, not_annotated=("2", "3")),
        CaseScores(
            name="b", structures={"1": counts(1, 0, 1), "2": counts(1, 0, 0)}, not_annotated=("3",)
        ),
    ]
    content = written(tmp_path, report_of(*cases, structures=("1", "2", "3")))
    assert [list(case["metrics"]) for case in content["metric_per_case"]] == [["1"], ["1", "2"]]
    assert content["mean"]["2"]["TP"] == 1
    assert math.isnan(content["mean"]["3"]["TP"])
    again = read_scores(tmp_path / "summary.json")
    assert again.structures == ("1", "2", "3")
    assert [case.not_annotated for case in again.cases] == [("2", "3"), ("3",)]


# Comparing


def test_a_summary_and_a_report_are_compared_on_the_cases_they_share(tmp_path, summary):
    cases = [
        CaseScores(name=name, structures={"spleen": counts(1, 1, 1), "liver": counts(2, 0, 0)})
        for name in ("a", "b", "c")
    ]
    ours = report_of(*cases, structures=("spleen", "liver")).model_copy(
        update={"metrics": ("dice", "iou")}
    )
    artifacts.save(tmp_path / "report.json", ours)
    files = [summary, tmp_path / "report.json"]
    found = compare_scores(files, ("dice", "hd95"), task((LIVER, SPLEEN)))
    assert found.metrics == ("dice",)
    assert found.cases == ("a", "b")
    assert found.missing == {str(summary): ("c",)}
    liver = next(pair for pair in found.pairs if pair.structure == "liver")
    assert liver.difference == pytest.approx(1 - (0.8 + 2 / 3) / 2)


def test_scores_of_other_structures_are_not_compared(tmp_path, summary):
    case = CaseScores(name="a", structures={"liver": counts(1, 0, 0)})
    artifacts.save(tmp_path / "report.json", report_of(case, structures=("liver",)))
    with pytest.raises(AutosegError, match="scores liver, not 1, 2; -t TASK names the structures"):
        compare_scores([summary, tmp_path / "report.json"], ("dice",))


def test_scores_that_share_nothing_are_not_compared(tmp_path, summary):
    with pytest.raises(AutosegError, match="a file is given twice"):
        compare_scores([summary, summary], ("dice",))
    case = CaseScores(name="z", structures={"1": counts(1, 0, 0), "2": counts(1, 0, 0)})
    artifacts.save(tmp_path / "report.json", report_of(case, structures=("1", "2")))
    with pytest.raises(AutosegError, match="the files share no case"):
        compare_scores([summary, tmp_path / "report.json"], ("dice",))
    two = CaseScores(name="a", structures={"1": counts(1, 0, 0), "2": counts(1, 0, 0)})
    artifacts.save(tmp_path / "report.json", report_of(two, structures=("1", "2")))
    with pytest.raises(AutosegError, match=r"hd95 cannot be compared \(not in .*summary\.json"):
        compare_scores([summary, tmp_path / "report.json"], ("hd95",))


MEASURED = ("dice", "nsd", "hd95")


def two_reports(tmp_path, **of_second):
    """Reports of one case that differ in how it was measured."""
    case = CaseScores(name="a", structures={"1": counts(1, 0, 1)})
    first = report_of(case, structures=("1",)).model_copy(
        update={"metrics": MEASURED, "tolerance": 1.3}
    )
    files = [tmp_path / "one.json", tmp_path / "two.json"]
    for file, report in zip(files, (first, first.model_copy(update=of_second)), strict=True):
        artifacts.save(file, report)
    return files


def test_what_was_measured_in_other_ways_is_left_out_with_the_reason(tmp_path):
    other = compare_scores(two_reports(tmp_path, tolerance=5.0), MEASURED)
    assert other.metrics == ("dice", "hd95")
    assert other.left_out == {"nsd": "measured at 1.3 mm and at 5 mm"}
    assert other.tolerance is None
    pixels = compare_scores(two_reports(tmp_path, length_unit="pixels"), MEASURED)
    assert pixels.metrics == ("dice",)
    assert pixels.left_out == dict.fromkeys(("nsd", "hd95"), "measured in mm and in pixels")
    fewer = compare_scores(two_reports(tmp_path, metrics=("dice", "nsd")), MEASURED)
    assert fewer.left_out == {"hd95": f"not in {tmp_path / 'two.json'}"}
    assert compare_scores(two_reports(tmp_path), MEASURED).left_out == {}


def test_a_metric_that_is_needed_and_cannot_be_compared_is_an_error(tmp_path):
    files = two_reports(tmp_path, tolerance=5.0)
    with pytest.raises(AutosegError) as caught:
        compare_scores(files, MEASURED, are_needed=True)
    assert str(caught.value) == (
        "--metrics: nsd cannot be compared (measured at 1.3 mm and at 5 mm); write --metrics "
        "dice,hd95, or score the label maps: autoseg compare A B REFERENCES"
    )
