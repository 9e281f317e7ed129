from types import SimpleNamespace

import pytest

from autoseg.cli import console
from autoseg.cli.console import number, print_fold_scores, print_report, print_table, progress_bar
from autoseg.core.metrics import CaseScores, Report, Scores


class Clock:
    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(console, "time", SimpleNamespace(monotonic=made.monotonic))
    return made


def scores(dice, iou):
    return Scores(true_positives=1, false_positives=1, false_negatives=1, dice=dice, iou=iou)


def report(*dice):
    cases = tuple(
        CaseScores(
            name=f"case_{i}", structures={"kidney": scores(d, d), "tumour": scores(None, None)}
        )
        for i, d in enumerate(dice)
    )
    return Report(predictions="p", references="r", structures=("kidney", "tumour"), cases=cases)


def test_progress_without_a_terminal_prints_a_line_now_and_then(clock, capsys):
    with progress_bar("measuring") as progress:
        for done in range(1, 101):
            clock.now += 1
            progress(done, 100, f"case_{done}")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [f"measuring: {n}/100 case_{n}" for n in range(10, 101, 10)]


def test_what_takes_a_few_seconds_prints_no_line(clock, capsys):
    with progress_bar("measuring") as progress:
        for done in range(1, 101):
            clock.now += 0.09
            progress(done, 100)
    assert capsys.readouterr() == ("", "")


def test_what_takes_long_prints_no_more_than_ten_lines(clock, capsys):
    with progress_bar("measuring") as progress:
        for done in range(1, 1001):
            clock.now += 60
            progress(done, 1000)
    assert len(capsys.readouterr().err.splitlines()) == 10


def test_progress_that_begins_anew_is_shown_again(clock, capsys):
    with progress_bar("training") as progress:
        for epoch in (1, 2):
            for step in (1, 2):
                clock.now += 20
                progress(step, 2, f"epoch {epoch}")
    assert capsys.readouterr().err.splitlines() == [
        *("training: 1/2 epoch 1", "training: 2/2 epoch 1"),
        *("training: 1/2 epoch 2", "training: 2/2 epoch 2"),
    ]


def test_progress_of_nothing_is_no_division_by_zero(clock, capsys):
    with progress_bar("measuring") as progress:
        clock.now += 60
        progress(0, 0)
    assert capsys.readouterr().err == "measuring: 0/0\n"


def test_quiet_progress_prints_nothing(clock, capsys):
    with progress_bar("measuring", quiet=True) as progress:
        clock.now += 1000
        progress(50, 100)
    assert capsys.readouterr() == ("", "")


def test_a_table_is_aligned(capsys):
    print_table(["case", "Dice"], [["a", "0.5"], ["longer", "-"]])
    assert capsys.readouterr().out == "case    Dice\na        0.5\nlonger     -\n"


def test_an_undefined_score_is_a_dash():
    assert [number(None), number(0.0), number(0.98765)] == ["-", "0.000", "0.988"]


def test_a_report_shows_the_lowest_cases_first_and_the_means(capsys):
    print_report(report(0.75, None, 0.25), most_cases=2)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["case", "kidney", "Dice", "IoU", "tumour", "Dice", "IoU"]
    assert [line.split() for line in lines[1:3]] == [
        ["case_2", "0.250", "0.250", "-", "-"],
        ["case_0", "0.750", "0.750", "-", "-"],
    ]
    assert lines[3].split() == ["mean", "of", "3", "0.500", "0.500", "-", "-"]
    assert lines[4:] == ["(the 2 lowest of 3 cases)", "mean Dice 0.500"]


def test_fold_scores_are_one_line_each(capsys):
    print_fold_scores({"fold0": report(0.5), "fold1": report(None)})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines] == [
        ["fold", "kidney", "tumour", "mean"],
        ["fold0", "0.500", "-", "0.500"],
        ["fold1", "-", "-", "-"],
    ]
