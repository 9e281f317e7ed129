import re
import sys
from io import StringIO
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


def test_progress_without_a_terminal_prints_a_line_per_tenth_with_the_time(clock, capsys):
    with progress_bar("measuring") as progress:
        for done in range(1, 101):
            clock.now += 1.2
            progress(done, 100, f"case_{done}")
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert lines[:2] == [
        "measuring: 10/100 case_10 (0:12, 1:48 left)",
        "measuring: 20/100 case_20 (0:24, 1:36 left)",
    ]
    assert [line.split()[1] for line in lines] == [f"{n}/100" for n in range(10, 101, 10)]
    assert lines[-1] == "measuring: 100/100 case_100 (2:00)"


def test_a_job_of_a_minute_prints_its_ten_lines(clock, capsys):
    with progress_bar("measuring") as progress:
        for done in range(1, 31):
            clock.now += 2
            progress(done, 30)
    assert len(capsys.readouterr().err.splitlines()) == 10


@pytest.mark.parametrize("seconds", [0.02, 0.03, 0.15])
def test_what_takes_a_few_seconds_prints_no_line(clock, capsys, seconds):
    with progress_bar("measuring") as progress:
        for done in range(1, 101):
            clock.now += seconds
            progress(done, 100)
    assert capsys.readouterr() == ("", "")


def test_what_takes_long_prints_no_more_than_ten_lines(clock, capsys):
    with progress_bar("measuring") as progress:
        for done in range(1, 1001):
            clock.now += 60
            progress(done, 1000)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10
    assert lines[0] == "measuring: 100/1000 (1:40:00, 15:00:00 left)"


def test_time_left_follows_the_share_where_cases_differ_in_size(clock, capsys):
    with progress_bar("preparing") as progress:
        progress(0, 3, share=0.0)
        for done, share, seconds in ((1, 0.05, 5), (2, 0.25, 20), (3, 1.0, 75)):
            clock.now += seconds
            progress(done, 3, f"case_{done}", share=share)
    assert capsys.readouterr().err.splitlines() == [
        "preparing: 2/3 case_2 (0:25, 1:15 left)",
        "preparing: 3/3 case_3 (1:40)",
    ]


def test_a_tenth_is_not_missed_by_a_rounding_error(clock, capsys):
    with progress_bar("preparing") as progress:
        share = 0.0
        for done in range(1, 11):
            clock.now += 6
            share += 0.1
            progress(done, 10, share=share)
    assert share < 1
    assert len(capsys.readouterr().err.splitlines()) == 10


def test_progress_that_begins_anew_is_shown_again_and_timed_anew(clock, capsys):
    with progress_bar("training") as progress:
        for epoch in (1, 2):
            for step in (1, 2):
                clock.now += 20 * epoch
                progress(step, 2, f"epoch {epoch}")
    assert capsys.readouterr().err.splitlines() == [
        *("training: 1/2 epoch 1 (0:20, 0:20 left)", "training: 2/2 epoch 1 (0:40)"),
        *("training: 1/2 epoch 2 (0:40, 0:40 left)", "training: 2/2 epoch 2 (1:20)"),
    ]


def test_progress_of_nothing_is_no_division_by_zero(clock, capsys):
    with progress_bar("measuring") as progress:
        clock.now += 60
        progress(0, 0)
    assert capsys.readouterr().err == "measuring: 0/0 (1:00)\n"


class Terminal(StringIO):
    def isatty(self):
        return True


def test_a_terminal_gets_a_bar_that_counts_cases_and_follows_the_share(clock, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    for name, value in (("COLUMNS", "120"), ("TERM", "xterm"), ("NO_COLOR", "1")):
        monkeypatch.setenv(name, value)
    with progress_bar("preparing") as progress:
        progress(0, 8, share=0.0)
        clock.now += 30
        progress(1, 8, "case_1 [a]", share=0.5)
    shown = terminal.getvalue()
    assert "1/8 0:30 left case_1 [a]" in shown
    drawn = re.findall(r"━+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown))
    assert drawn


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
