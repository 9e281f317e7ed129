import json
import shutil

import pytest
from commands import assert_done, assert_refused, call
from conftest import toy_case

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
    lines = [line.split() for line in called.out.splitlines()]
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
    assert called.out.splitlines()[1].split() == ["case", "1.000", "1.000", "0.000", "0.000"]


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


def test_without_any_task_structures_are_named_by_their_values(tmp_path):
    for folder in ("predictions", "references"):
        write(tmp_path / folder, "case", 0)
    folders = (tmp_path / "predictions", tmp_path / "references")
    called = call("evaluate", *folders, "-w", tmp_path / "none", "--workers", 0)
    assert_done(called)
    assert called.out.splitlines()[0].split() == ["case", "1", "Dice", "IoU", "2", "Dice", "IoU"]
