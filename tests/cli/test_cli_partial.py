import shutil

import pytest
from commands import assert_done, assert_refused, call
from partial_dataset import ANNOTATED, write_partial_dataset, write_table_of

TASK = "Task_Joined"


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.delenv("AUTOSEG_WORKSPACE", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "autoseg_workspace").mkdir()
    write_partial_dataset(tmp_path / TASK)
    return tmp_path


def table(text):
    return [" ".join(line.split()) for line in text.splitlines()]


def test_partly_annotated_cases_are_planned_and_scored(here):
    checked = call("check", TASK, "--workers", 0)
    assert_done(checked)
    assert "9 cases, nothing wrong" in checked.out
    planned = call("plan", TASK, "--workers", 0)
    assert_done(planned)
    assert "partial labels core in 6 of 9 cases, shell in 6" in table(planned.out)

    (here / "predictions").mkdir()
    for number in (0, 1):
        shutil.copy(here / TASK / "masks" / f"ball_0{number}.nii.gz", here / "predictions")
    called = call("evaluate", "predictions", f"{TASK}/masks", "--workers", 0)
    assert_done(called)
    lines = table(called.out)
    assert lines[2:8] == [
        "case shell Dice IoU core Dice IoU",
        "ball_00 1.000 1.000 1.000 1.000",
        "ball_01 1.000 1.000 n.a. n.a.",
        "mean of 2 1.000 1.000 1.000 1.000",
        "(n.a.: not annotated in the case; of 2 cases annotated: 1 for core)",
        "mean Dice 1.000",
    ]
    assert lines[-1] == "report: predictions/report.json"


def test_a_structure_too_many_is_found_refused_and_mended(here):
    write_table_of(here / TASK, ("shell", *ANNOTATED[1:]))
    checked = call("check", TASK, "--workers", 0)
    assert checked.code == 2
    assert "masks/ball_00.nii.gz: 'core' (label 2); annotated: 'shell'" in checked.out
    assert "add them to the column 'annotated' of cases.csv" in checked.out
    assert_refused(call("plan", TASK, "--workers", 0), "ball_00", "'core' (label 2)", "--mend")
    mended = call("check", TASK, "--mend", "labels=2:0", "--workers", 0)
    assert (mended.code, "1 file mended" in mended.out) == (0, True)
    assert_done(call("plan", TASK, "--workers", 0))


def test_an_unknown_name_is_told_with_line_and_remedy(here):
    write_table_of(here / TASK, ("shel", *ANNOTATED[1:]))
    called = call("plan", TASK, "--workers", 0)
    assert called.code == 2
    assert "cases.csv: line 2: annotated: no structure named 'shel'; did you mean 'shell'?" in (
        called.err
    )
