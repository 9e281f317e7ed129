import json
import logging

import pytest
from made_up import history
from pages import Page
from toy_models import trained_toy

from autoseg.core.metrics import Report
from autoseg.core.selection import Group, Selection
from autoseg.errors import UnknownNameError
from autoseg.io import artifacts
from autoseg.io.stamps import stamp
from autoseg.pipeline.reporting import pooled, problems_of, report_task
from autoseg.report.stage import load_trained


@pytest.fixture(scope="module")
def trained(toy, tmp_path_factory):
    """To be read; a test that changes it makes its own."""
    return trained_toy(toy, tmp_path_factory.mktemp("trained"))


def page_of(task, folder, **options):
    return Page(
        report_task(task, "default", folder / "page.html", **options).read_text(encoding="utf-8")
    )


def test_a_planned_task_has_a_report(toy, tmp_path):
    page = page_of(toy.task, tmp_path)
    assert "Task01_Ball" in page.texts
    assert page.all("image") == []
    assert "planned, not trained yet" in page.text


def test_the_report_of_trained_folds_shows_scores_and_pictures(trained, tmp_path):
    drawn = []
    page = page_of(
        trained, tmp_path, progress=lambda done, total, note="": drawn.append((done, total))
    )
    assert drawn == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert {"shell", "core", "fold0", "fold1"} <= set(page.texts)
    layers = [a["data-layer"] for a in page.all("image")]
    assert {"image", "errors"} == set(layers)
    assert not any("No picture" in text for text in page.texts)


def test_the_report_lies_among_the_reports_of_the_task(trained):
    path = report_task(trained, "default")
    assert path == trained.reports / "default.html"
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_no_folder_of_this_machine_is_in_it(trained, tmp_path):
    text = report_task(trained, "default", tmp_path / "page.html").read_text(encoding="utf-8")
    assert str(trained.root.parent) not in text
    assert "imagesTr" not in text


def test_an_unknown_plan_is_refused(toy, tmp_path):
    with pytest.raises(UnknownNameError, match="no plan named 'defualt'"):
        report_task(toy.task, "defualt", tmp_path / "page.html")


def test_where_images_are_gone_pictures_are_left_out(toy, tmp_path):
    task = trained_toy(toy, tmp_path, folds=("fold0",))
    text = task.task_file.read_text(encoding="utf-8")
    task.task_file.write_text(text.replace(str(toy.raw), str(tmp_path / "moved")))
    page = page_of(task, tmp_path)
    gone = "No picture: its image, reference or prediction is not there any more."
    assert gone in page.texts
    assert page.all("image") == []
    assert str(tmp_path) not in page.text


def test_a_broken_image_is_told(toy, tmp_path, caplog):
    task = trained_toy(toy, tmp_path, folds=("fold0",))
    folder = task.predictions("default", "2d", "default", "fold0")
    for path in folder.glob("*.nii.gz"):
        path.write_bytes(b"broken")
    with caplog.at_level(logging.WARNING):
        page = page_of(task, tmp_path)
    assert "No picture: its files cannot be drawn; autoseg report says why." in page.texts
    assert any("no picture" in message for message in caplog.messages)


def test_a_broken_report_is_left_out_and_told(toy, tmp_path, caplog):
    task = trained_toy(toy, tmp_path)
    task.report_file("default", "2d", "default", "fold0").write_text("{")
    task.selection.write_text("[]")
    with caplog.at_level(logging.WARNING):
        page_of(task, tmp_path)
    assert sum(message.startswith("left out: ") for message in caplog.messages) == 2
    assert list(load_trained(task, "default")[0].scores) == ["fold1"]


def test_a_line_that_a_killed_run_left_incomplete_is_skipped(toy, tmp_path):
    task = trained_toy(toy, tmp_path, folds=("fold0",))
    lines = [json.dumps(row) for row in history(3)]
    folder = task.fold_folder("default", "2d", "default", "fold0")
    folder.history.write_text("\n".join([*lines, lines[0][:40], "7"]))
    (fold,) = load_trained(task, "default")[0].folds
    assert [row["epoch"] for row in fold.history] == [0, 1, 2]


def test_models_of_another_plan_are_not_in_it(trained):
    assert load_trained(trained, "other") == []


def test_the_selection_is_in_it(toy, tmp_path):
    task = trained_toy(toy, tmp_path, folds=("fold0",))
    trained_toy(toy, tmp_path, folds=("fold0",), run="second")
    group = Group(plan="default", configuration="2d", run="second", folds=("fold0",))
    artifacts.save(task.selection, Selection(groups=(group,), summary="The second run it is."))
    page = page_of(task, tmp_path)
    assert "The second run it is." in page.texts
    assert any(text.startswith("2d (second) (selected): ") for text in page.texts)


def test_a_selection_that_is_out_of_date_is_said_to_be(toy, tmp_path):
    task = trained_toy(toy, tmp_path, folds=("fold0",))
    group = Group(plan="default", configuration="2d", run="default", folds=("fold0",))
    weights = task.fold_folder("default", "2d", "default", "fold0").weights
    seen = {"default/2d/default/fold0": stamp(weights)}
    selection = Selection(groups=(group,), summary="The only run it is.", weights=seen)
    artifacts.save(task.selection, selection)
    assert "out of date" not in page_of(task, tmp_path).text
    trained_toy(toy, tmp_path, folds=("fold0",), run="second")
    texts = page_of(task, tmp_path).texts
    told = (
        "The selection is out of date: 1 fold trained since (default/2d/second/fold0); run: "
        "autoseg select."
    )
    assert texts.index(told) < texts.index("The only run it is.")


def test_folds_are_pooled_with_statistics_over_all_cases(trained):
    files = [trained.report_file("default", "2d", "default", f) for f in ("fold0", "fold1")]
    reports = [artifacts.load(path, Report) for path in files]
    both = pooled(reports)
    values = [case.structures["core"].dice for report in reports for case in report.cases]
    dice = both.summary["core"].metrics["dice"]
    assert dice.n == len(values)
    assert dice.mean == pytest.approx(sum(values) / len(values))
    assert dice.interval is not None
    assert both.tolerance == reports[0].tolerance
    other = reports[1].model_copy(update={"tolerance": 9.0, "metrics": ("dice", "hd95")})
    mixed = pooled([reports[0], other])
    assert (mixed.tolerance, mixed.metrics) == (None, ("dice", "hd95"))


def test_problems_are_found_without_an_image(toy, tmp_path):
    task = trained_toy(toy, tmp_path, folds=())
    assert problems_of(task) == ()
    data = json.loads(task.fingerprint_file.read_text(encoding="utf-8"))
    data["cases"][1]["spacing"] = [2.5, 40.0, 1.0]
    data["cases"][2]["remarks"] = [{"kind": "geometry-slight", "finding": "off", "file": 0}]
    data["cases"][2]["content"] = data["cases"][3]["content"]
    task.fingerprint_file.write_text(json.dumps(data))
    found = {problem.kind: problem.case for problem in problems_of(task)}
    assert found["geometry-slight"] == "ball_02"
    assert found["spacing-outlier"] == "ball_01"
    assert found["duplicate"] == "ball_03"
    page = page_of(task, tmp_path)
    assert "ball_02: off" in page.texts


def test_a_fingerprint_of_other_cases_is_no_obstacle(toy, tmp_path):
    task = trained_toy(toy, tmp_path, folds=())
    data = json.loads(task.task_file.read_text(encoding="utf-8"))
    data["cases"] = data["cases"][1:]
    task.task_file.write_text(json.dumps(data))
    assert problems_of(task) == ()
    assert "Task01_Ball" in page_of(task, tmp_path).texts
