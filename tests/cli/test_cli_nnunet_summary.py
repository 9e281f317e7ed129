import json
import shutil

import pytest
from commands import assert_done, assert_refused, call
from conftest import toy_case

from autoseg.core.image import LabelMap
from autoseg.io.images import write_labels


@pytest.fixture
def here(toy, tmp_path, monkeypatch):
    monkeypatch.delenv("AUTOSEG_WORKSPACE", raising=False)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(toy.workspace.root, tmp_path / "autoseg_workspace")
    for number, name in enumerate(("one", "two")):
        _, labels = toy_case(number)
        shifted = LabelMap(array=labels.array.copy(), geometry=labels.geometry)
        shifted.array[:5] = 0
        write_labels(tmp_path / "predictions" / f"{name}.nii.gz", shifted)
        write_labels(tmp_path / "references" / f"{name}.nii.gz", labels)
    return tmp_path


def test_scores_are_written_and_read_as_nnunet_has_them(here):
    called = call(
        *("evaluate", "predictions", "references", "--workers", 0),
        *("--metrics", "dice,iou", "--nnunet-summary", "summary.json"),
    )
    assert_done(called)
    assert called.out.splitlines()[-1] == "nnU-Net's summary: summary.json"
    summary = json.loads((here / "summary.json").read_text())
    entry = summary["metric_per_case"][0]["metrics"]["2"]
    assert sum(entry[name] for name in ("TP", "FP", "FN", "TN")) == 10 * 24 * 20
    assert sorted(summary["mean"]) == ["1", "2"]
    shown = call("evaluate", "summary.json", "--csv", "scores.csv")
    assert_done(shown)
    report = json.loads((here / "predictions" / "report.json").read_text())
    dice = report["cases"][0]["structures"]["core"]["dice"]
    assert f"{dice:.3f}" in shown.out
    assert "shell" in shown.out
    assert shown.out.splitlines()[-1] == "table: scores.csv"
    again = call("evaluate", "predictions/report.json")
    assert_done(again)
    assert again.out.splitlines()[1] == shown.out.splitlines()[1]


def test_scores_in_files_are_compared_without_references(here):
    call("evaluate", "predictions", "references", "--workers", 0, "--nnunet-summary", "s.json")
    called = call("compare", "s.json", "predictions/report.json")
    assert_done(called)
    assert "A = s.json, B = predictions/report.json: 2 cases" in called.out
    assert "+0.000" in called.out


def test_scores_cannot_be_measured_anew(here):
    call("evaluate", "predictions", "references", "--workers", 0)
    called = call("evaluate", "predictions/report.json", "--metrics", "dice")
    assert_refused(called, "--metrics: needs label maps, not scores; name their folders")


def test_a_folder_needs_references(here):
    called = call("evaluate", "predictions")
    assert_refused(called, "the references are missing; write: autoseg evaluate PREDICTIONS")
    assert_refused(call("evaluate", "gone.json"), "gone.json: does not exist; name a report.json")
