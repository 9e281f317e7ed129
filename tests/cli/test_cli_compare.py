import json
import shutil

import numpy as np
import pytest
from commands import assert_done, assert_refused, call
from conftest import toy_case

from autoseg.core.image import LabelMap
from autoseg.io.images import write_labels

NUMBERS = range(6)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Predictions of six cases: shifted by a voxel, by two, right."""
    monkeypatch.delenv("AUTOSEG_WORKSPACE", raising=False)
    monkeypatch.chdir(tmp_path)
    for folder, steps in (("one", 1), ("two", 2), ("right", 0), ("references", 0)):
        for number in NUMBERS:
            write(tmp_path / folder, f"ball_{number}", number, steps)
    return tmp_path


def write(folder, name, number, steps=0):
    _, labels = toy_case(number)
    array = np.roll(labels.array, steps, axis=1)
    write_labels(folder / f"{name}.nii.gz", LabelMap(array=array, geometry=labels.geometry))


def compare(*words):
    return call("compare", *words, "--workers", 0)


def rows(called):
    """Lines of the tables by metric and structure."""
    lines = [line.split() for line in called.out.splitlines()]
    return {(line[0], line[1]): line for line in lines if line[:1] == ["Dice"]}


def test_two_folders_are_compared_pair_by_pair(here):
    called = compare("one", "right", "references")
    assert_done(called)
    assert "A = one, B = right: 6 cases" in called.out
    assert "HD95 mm" in called.out
    row = rows(called)["Dice", "1"]
    assert row[2] == "6"
    assert row[4] == "1.000"
    # All six are better: 2 of 64 signs, and twice that for two structures.
    assert row[-3:] == ["0.031", "0.062", "6/0/0"]
    assert rows(called)["Dice", "(mean)"][-2:] == ["-", "6/0/0"]


def test_all_numbers_are_written_as_json_without_nan(here):
    def refuse(constant):
        raise AssertionError(constant)

    called = compare("one", "right", "references", "-o", "c.json", "--metrics", "all")
    assert "comparison: c.json" in called.out
    found = json.loads((here / "c.json").read_text(), parse_constant=refuse)
    assert found["folders"] == {"one": "one", "right": "right"}
    assert found["cases"] == [f"ball_{n}" for n in NUMBERS]
    assert "pixel_accuracy" not in found["metrics"]
    by_place = {(p["metric"], p["structure"]): p for p in found["pairs"]}
    hd95 = by_place["hd95", "1"]
    assert (hd95["first_mean"], hd95["difference"]) == (1.25, -1.25)
    assert hd95["interval"] == [-1.25, -1.25]
    assert found["ranks"][0]["mean_ranks"] == {"one": 2.0, "right": 1.0}


def test_the_mean_of_volume_errors_is_said_to_be_of_absolute_ones(here):
    called = compare("one", "right", "references", "--metrics", "dice,volume_error_ml")
    assert_done(called)
    lines = [line for line in called.out.splitlines() if "(mean" in line]
    assert [line.split("  ")[0] for line in lines] == ["Dice", "volume error ml"]
    assert "(mean, absolute)" in lines[1]
    assert "absolute" not in lines[0]


def test_all_metrics_leave_out_those_of_whole_label_maps_and_say_so(here):
    called = compare("one", "right", "references", "--metrics", "all", "-o", "c.json")
    assert called.out.splitlines()[0] == (
        "not compared: pixel_accuracy, pixel_error, weighted_jaccard (of whole label maps)"
    )
    left_out = json.loads((here / "c.json").read_text())["left_out"]
    assert left_out["pixel_error"] == "of whole label maps"


def test_scores_are_compared_as_they_were_measured_and_what_does_not_fit_is_told(here):
    files = [f"{name}/report.json" for name in ("one", "right")]
    for name, tolerance in (("one", 1.3), ("right", 5)):
        words = ("evaluate", name, "references", "--tolerance-mm", tolerance, "--workers", 0)
        assert_done(call(*words))
    assert_refused(compare(*files, "--tolerance-mm", 5), "--tolerance-mm: needs label maps")
    usual = compare(*files)
    assert_done(usual)
    assert usual.out.startswith("not compared: nsd (measured at 1.3 mm and at 5 mm)\nA = ")
    assert "HD95 mm" in usual.out
    assert_refused(compare(*files, "--metrics", "dice,nsd"), "nsd cannot be compared", "1.3 mm")
    named = compare(*files, "--metrics", "dice,hd95")
    assert_done(named)
    assert "not compared" not in named.out


def test_three_folders_get_ranks(here):
    called = compare("two", "one", "right", "references", "--metrics", "dice")
    assert_done(called)
    lines = [line.split() for line in called.out.splitlines()]
    assert lines[1][:6] == ["metric", "structure", "n", "two", "one", "right"]
    assert lines[2][:6] == ["Dice", "1", "6", "3.00", "2.00", "1.00"]
    assert lines[4] == ["Dice", "(mean)", "6", "3.00", "2.00", "1.00"]
    for pair in ("A = two, B = one", "A = two, B = right", "A = one, B = right"):
        assert pair in called.out


def test_cases_missing_in_a_folder_are_named_and_left_out(here):
    (here / "one" / "ball_2.nii.gz").unlink()
    write(here / "right", "extra", 0)
    called = compare("one", "right", "references")
    assert_done(called)
    assert "not in one, left out: ball_2, extra" in called.out
    assert "not in references, left out: extra" in called.out
    assert "A = one, B = right: 5 cases" in called.out


def test_references_that_no_folder_predicts_are_named_once(here):
    for folder, number in (("one", 2), ("one", 4), ("right", 4)):
        (here / folder / f"ball_{number}.nii.gz").unlink()
    called = compare("one", "right", "references", "-o", "c.json", "--metrics", "dice")
    assert_done(called)
    assert called.out.splitlines()[:3] == [
        "predicted in no folder, left out: ball_4",
        "not in one, left out: ball_2",
        "A = one, B = right: 4 cases",
    ]
    found = json.loads((here / "c.json").read_text())
    assert found["missing"] == {"one": ["ball_2", "ball_4"], "right": ["ball_4"]}


def test_a_value_in_any_folder_tells_that_the_labels_of_the_task_do_not_apply(here, toy):
    shutil.copytree(toy.workspace.root, here / "autoseg_workspace")
    called = compare("one", "right", "references", "--metrics", "dice")
    assert_done(called)
    assert called.out.startswith("structures are those of the current task Task01_Ball, which")
    assert ("Dice", "core") in rows(called)
    _, labels = toy_case(3)
    other = LabelMap(array=labels.array * 3, geometry=labels.geometry)
    write_labels(here / "right" / "ball_3.nii.gz", other)
    called = compare("one", "right", "references", "--metrics", "dice")
    assert_done(called)
    assert "right/ball_3.nii.gz: label values [3, 6] are not declared" in called.out
    assert [key for key in rows(called) if "core" in key] == []


def test_a_structure_that_one_folder_misses_is_told(here):
    _, labels = toy_case(0)
    without = LabelMap(array=labels.array * (labels.array != 2), geometry=labels.geometry)
    write_labels(here / "one" / "ball_0.nii.gz", without)
    called = compare("one", "right", "references")
    assert "2: missed or invented in 1 case of A and 0 cases of B" in called.out


def test_folders_of_the_same_name_are_told_apart_by_their_paths(here):
    for parent, folder in (("x", "one"), ("y", "two")):
        (here / parent).mkdir()
        (here / folder).rename(here / parent / "out")
    assert "A = x/out, B = y/out" in compare("x/out", "y/out", "references").out


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("one", "references"), ("two folders of predictions", "autoseg compare A B REFERENCES")),
        (("one", "two/../one", "references"), ("two/../one", "given twice", "different folders")),
        (("one", "two", "one"), ("one", "as predictions and as references")),
        (("one", "nowhere", "references"), ("nowhere", "no such folder")),
        (("one", "other", "references"), ("no case is in all 2 folders", "the same name")),
        (("one", "two", "references", "--metrics", "dise"), ("no metric named 'dise'", "'dice'")),
        (
            ("one", "two", "references", "--metrics", "pixel_error"),
            ("--metrics pixel_error", "whole label maps are not compared", "dice"),
        ),
        (
            ("one", "two", "references", "--metrics", "dice,pixel_accuracy"),
            ("--metrics pixel_accuracy: scores of whole", "write for example --metrics dice"),
        ),
        (("one", "two", "references", "--tolerance-mm", "-2"), ("--tolerance-mm -2",)),
    ],
)
def test_what_cannot_be_compared_is_refused(here, words, parts):
    write(here / "other", "another", 0)
    assert_refused(compare(*words), *parts)
