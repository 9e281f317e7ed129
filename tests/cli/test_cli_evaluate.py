import csv
import json
import shutil

import numpy as np
import pytest
from commands import assert_done, assert_refused, call
from conftest import toy_case

from autoseg.core.geometry import Geometry
from autoseg.core.image import LabelMap
from autoseg.io.images import write_labels

TASK = "Task01_Ball"
CORE = 2


@pytest.fixture
def here(toy, tmp_path, monkeypatch):
    monkeypatch.delenv("AUTOSEG_WORKSPACE", raising=False)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(toy.workspace.root, tmp_path / "autoseg_workspace")
    return tmp_path


def write(folder, name, number, change=lambda array: array):
    _, labels = toy_case(number)
    labels = LabelMap(array=change(labels.array), geometry=labels.geometry)
    write_labels(folder / f"{name}.nii.gz", labels)


def without_core(array):
    return array * (array != CORE)


def test_scores_are_named_after_the_structures_of_the_task(here):
    for folder in ("predictions", "references"):
        write(here / folder, "whole", 0)
        write(here / folder, "coreless", 1, without_core)
    called = call("evaluate", "predictions", "references", "--workers", 0)
    assert_done(called)
    told, *rest = called.out.splitlines()
    assert (
        told == f"structures are those of the current task {TASK}, which declares all values found"
    )
    lines = [line.split() for line in rest]
    assert [*lines[:5], lines[-1]] == [
        ["case", "shell", "Dice", "IoU", "core", "Dice", "IoU"],
        ["coreless", "1.000", "1.000", "-", "-"],
        ["whole", "1.000", "1.000", "1.000", "1.000"],
        ["mean", "of", "2", *["1.000"] * 4],
        ["mean", "Dice", "1.000"],
        ["report:", "predictions/report.json"],
    ]
    report = json.loads((here / "predictions" / "report.json").read_text())
    coreless = report["cases"][0]["structures"]["core"]
    assert (coreless["dice"], coreless["iou"]) == (None, None)


def test_a_structure_that_was_missed_scores_zero(here):
    write(here / "predictions", "case", 0, without_core)
    write(here / "references", "case", 0)
    called = call("evaluate", "predictions", "references", "--workers", 0)
    assert called.out.splitlines()[2].split() == ["case", "1.000", "1.000", "0.000", "0.000"]


def test_references_without_a_prediction_are_left_out_aloud(here):
    write(here / "predictions", "one", 0)
    for name, number in (("one", 0), ("two", 1)):
        write(here / "references", name, number)
    called = call("evaluate", "predictions", "references", "--workers", 0)
    assert_done(called)
    assert "1 references have no prediction and are left out" in called.out
    assert "mean of 1" in called.out


def test_label_maps_of_another_task_are_named_by_their_values(here):
    for folder in ("predictions", "references"):
        write(here / folder, "case", 0, lambda array: array * 4)
    called = call("evaluate", "predictions", "references", "--workers", 0)
    assert_done(called)
    assert ["case", "4", "Dice", "IoU", "8", "Dice", "IoU"] in [
        line.split() for line in called.out.splitlines()
    ]
    refused = call("evaluate", "predictions", "references", "-t", TASK, "--workers", 0)
    assert_refused(refused, "case", "declared: 0, 1, 2")


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("folder", ["predictions", "references"])
def test_a_value_in_any_case_tells_that_the_labels_of_the_task_do_not_apply(here, folder, workers):
    for name, number in (("a", 0), ("b", 1)):
        write(here / "predictions", name, number)
        write(here / "references", name, number)
    write(here / folder, "b", 1, lambda array: array + (array == CORE) * 5)
    called = call("evaluate", "predictions", "references", "--workers", workers)
    assert_done(called)
    told, header, *_ = called.out.splitlines()
    assert told == (
        f"structures are named by their values, not as in the current task {TASK}: "
        f"{folder}/b.nii.gz: label values [7] are not declared (declared: 0, 1, 2)"
    )
    assert [word for word in header.split() if word.isdigit()] == ["1", "2", "7"]
    refused = call("evaluate", "predictions", "references", "-t", TASK, "--workers", workers)
    assert_refused(refused, "1 cases cannot be scored: b:", "[7] are not declared")


def test_cases_that_cannot_be_read_are_told_with_those_of_other_values(here):
    for name, number in (("a", 0), ("b", 1), ("c", 2)):
        write(here / "predictions", name, number)
        write(here / "references", name, number)
    write(here / "predictions", "b", 1, lambda array: array * 4)
    content = (here / "predictions" / "c.nii.gz").read_bytes()
    (here / "predictions" / "c.nii.gz").write_bytes(content[: len(content) // 2])
    refused = call("evaluate", "predictions", "references", "--workers", 0)
    assert refused.code == 2
    assert refused.err.startswith("error: 2 cases cannot be scored: b: predictions/b.nii.gz: label")
    assert "| c: predictions/c.nii.gz: " in refused.err


def test_without_any_task_structures_are_named_by_their_values(tmp_path):
    for folder in ("predictions", "references"):
        write(tmp_path / folder, "case", 0)
    folders = (tmp_path / "predictions", tmp_path / "references")
    called = call("evaluate", *folders, "-w", tmp_path / "none", "--workers", 0)
    assert_done(called)
    assert called.out.splitlines()[0].split() == ["case", "1", "Dice", "IoU", "2", "Dice", "IoU"]


def shifted(array):
    return np.roll(array, 1, axis=1)


def refuse_constant(constant):
    raise AssertionError(constant)


def read(path):
    return json.loads(path.read_text(), parse_constant=refuse_constant)


def score_three(here, *words):
    """A perfect case, one that misses the core, and one that has none and gets none."""
    for name, number, predicted, true in (
        ("shifted", 0, shifted, lambda array: array),
        ("missed", 1, without_core, lambda array: array),
        ("neither", 2, without_core, without_core),
    ):
        write(here / "predictions", name, number, predicted)
        write(here / "references", name, number, true)
    return call("evaluate", "predictions", "references", "--workers", 0, *words)


def test_statistics_follow_the_cases(here):
    called = score_three(here)
    assert_done(called)
    lines = [line.split() for line in called.out.splitlines()]
    heading = next(line for line in lines if line[:1] == ["structure"])
    assert heading == [
        *("structure", "metric", "n", "mean", "SD", "95%", "interval"),
        *("median", "quartiles", "worst"),
    ]
    rows = {tuple(line[:2]): line for line in lines if line[:1] in (["shell"], ["core"])}
    assert rows["core", "Dice"][2] == "2"
    assert rows["core", "Dice"][-1] == "missed"
    assert rows["core", "HD95"][3] == "1"
    assert rows["shell", "Dice"][2] == "3"
    assert "core: missed in 1 case: missed" in called.out
    assert "core: in neither, not counted in 1 case: neither" in called.out
    assert "mean Dice, 95% interval over patients: " in called.out


def test_the_report_holds_all_scores_and_no_nan(here):
    score_three(here)
    report = read(here / "predictions" / "report.json")
    assert report["format"] == 2
    # The side of a voxel of 2.5 x 1.25 x 1.125 mm, the case in the middle.
    assert (report["tolerance"], report["length_unit"]) == (1.5, "mm")
    cases = {case["name"]: case["structures"] for case in report["cases"]}
    assert cases["shifted"]["shell"]["hd95"] == 1.25
    assert cases["missed"]["core"]["hd95"] is None
    assert cases["missed"]["core"]["nsd"] == 0.0
    assert cases["missed"]["core"]["volume_ml"] == 0.0
    assert cases["neither"]["core"]["volume_error_ml"] is None
    core = report["summary"]["core"]
    assert (core["missed"], core["absent"]) == (["missed"], ["neither"])
    assert core["metrics"]["dice"]["n"] == 2
    assert core["metrics"]["hd95"]["interval"] is None
    assert report["interval"][0] <= report["interval"][1]


def test_metrics_and_tolerance_are_as_asked(here):
    chosen = ("--metrics", "dice,nsd,pixel_accuracy", "--tolerance-mm", 1.25)
    called = score_three(here, *chosen)
    assert_done(called)
    assert "NSD at 1.25 mm" in called.out
    assert "HD95" not in called.out
    report = read(here / "predictions" / "report.json")
    assert report["metrics"] == ["dice", "nsd", "pixel_accuracy"]
    assert report["cases"][2]["structures"]["shell"]["nsd"] == 1.0
    assert 0.9 < report["whole_cases"]["pixel_accuracy"]["mean"] < 1.0
    cheap = score_three(here, "--metrics", "dice")
    assert "NSD" not in cheap.out
    assert read(here / "predictions" / "report.json")["tolerance"] is None


def test_scores_are_also_a_table_for_spreadsheets(here):
    called = score_three(here, "--csv", "scores.csv")
    assert "table: scores.csv" in called.out
    with (here / "scores.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = {(row["case"], row["structure"]): row for row in csv.DictReader(file)}
    assert len(rows) == 6
    assert rows["shifted", "shell"]["hd95"] == "1.25"
    assert rows["missed", "core"]["hd95"] == ""
    assert rows["missed", "core"]["dice"] == "0.0"


def test_patients_of_the_task_are_known(here):
    task = here / "autoseg_workspace" / TASK / "task.json"
    described = json.loads(task.read_text())
    for case in described["cases"]:
        case["group"] = "one patient"
    task.write_text(json.dumps(described))
    for folder in ("predictions", "references"):
        for number in (0, 1):
            write(here / folder, f"ball_{number:02d}", number)
    called = call("evaluate", "predictions", "references", "--workers", 0)
    assert "95% interval over patients" not in called.out
    report = read(here / "predictions" / "report.json")
    assert {case["group"] for case in report["cases"]} == {"one patient"}


def test_many_structures_get_a_line_each(tmp_path):
    def eight(array):
        return (np.arange(array.shape[2]) // 3 + 1).astype(np.uint8) * np.ones_like(array)

    for folder in ("predictions", "references"):
        for number in (0, 1):
            write(tmp_path / folder, f"case_{number}", number, eight)
    folders = (tmp_path / "predictions", tmp_path / "references")
    called = call("evaluate", *folders, "-w", tmp_path / "none", "--workers", 0)
    assert_done(called)
    lines = [line.split() for line in called.out.splitlines()]
    assert lines[0][:4] == ["structure", "n", "Dice", "IoU"]
    assert [line[:3] for line in lines[1:8]] == [[str(i), "2", "1.000"] for i in range(1, 8)]


def test_pictures_without_a_size_are_measured_in_pixels(tmp_path):
    for folder, start in (("predictions", 3), ("references", 1)):
        array = np.zeros((1, 20, 30), dtype=np.uint8)
        array[0, 4:12, start : start + 10] = 1
        geometry = Geometry(shape=array.shape, spacing=(999.0, 1.0, 1.0))
        write_labels(tmp_path / folder / "cell.png", LabelMap(array=array, geometry=geometry))
    folders = (tmp_path / "predictions", tmp_path / "references")
    called = call("evaluate", *folders, "-w", tmp_path / "none", "--workers", 0)
    assert_done(called)
    assert "HD95 pixels" in called.out
    assert "NSD at 1 pixel " in called.out
    assert "volume" not in called.out
    report = read(tmp_path / "predictions" / "report.json")
    assert report["cases"][0]["structures"]["1"]["hd95"] == 2.0


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("--metrics", "hausdorff"), ("--metrics", "no metric named 'hausdorff'", "hd95", "nsd")),
        (("--tolerance-mm", -1), ("--tolerance-mm -1", "give mm, such as 2")),
        (("--tolerance-mm", "nan"), ("--tolerance-mm nan", "give mm")),
    ],
)
def test_wrong_wishes_are_refused_before_anything_is_read(here, words, parts):
    assert_refused(call("evaluate", "nowhere", "nowhere either", *words), *parts)


def test_lesions_get_lines_where_a_structure_has_several(here):
    def two_cores(array):
        changed = array.copy()
        changed[0, 0, 0] = CORE
        return changed

    write(here / "predictions", "case", 0)
    write(here / "references", "case", 0, two_cores)
    called = call("evaluate", "predictions", "references", "--workers", 0)
    lines = [line.split() for line in called.out.splitlines()]
    assert ["core", "lesion", "sensitivity", "1", "0.500"] in [line[:5] for line in lines]
    assert not any(line[:2] == ["shell", "lesion"] for line in lines)
