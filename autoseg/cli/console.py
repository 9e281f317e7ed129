"""What the terminal shows: messages, progress, tables."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from autoseg.core.progress import Progress, silent
from autoseg.core.words import counted

if TYPE_CHECKING:
    from autoseg.core.metrics import CaseScores, Report

NOT_ANNOTATED = "n.a."
"""Stands in tables for the scores of a structure that a case is not annotated for."""

MOST_NAMED = 6

PLAIN_LINES = 10

PLAIN_FROM_S = 20.0
"""What is over sooner gets no lines where there is no terminal."""


def set_up_logging(verbose: bool = False, quiet: bool = False) -> None:
    """Send what the library logs to the terminal: results to stdout, warnings to stderr."""
    package = logging.getLogger("autoseg")
    package.handlers.clear()
    package.propagate = False
    package.setLevel(logging.DEBUG if verbose else logging.INFO)
    package.addHandler(_Terminal(logging.WARNING if quiet else logging.DEBUG))


class _Terminal(logging.Handler):
    """Warnings go to stderr with their level, everything else to stdout as it is."""

    def emit(self, record: logging.LogRecord) -> None:
        warns = record.levelno >= logging.WARNING
        prefix = f"{record.levelname.lower()}: " if warns else ""
        typer.echo(f"{prefix}{record.getMessage()}", err=warns)


@contextmanager
def progress_bar(title: str, quiet: bool = False) -> Iterator[Progress]:
    """Show how far a stage is: a bar on a terminal, plain lines elsewhere.

    Args:
        title: what is being done.
        quiet: show nothing.
    """
    if quiet:
        yield silent
    elif sys.stderr.isatty():
        with _terminal_bar(title) as progress:
            yield progress
    else:
        yield _PlainProgress(title)


@contextmanager
def _terminal_bar(title: str) -> Iterator[Progress]:
    from rich import progress as rich_progress
    from rich.console import Console

    pace = _Pace()

    class TimeLeft(rich_progress.ProgressColumn):
        max_refresh = 0.5

        def render(self, task: rich_progress.Task) -> str:  # noqa: ARG002 - rich calls it so
            left_s = pace.left_s()
            return "-:--" if left_s is None else f"{_clock(left_s)} left"

    columns = (
        rich_progress.TextColumn("{task.description}"),
        rich_progress.BarColumn(bar_width=30),
        rich_progress.TextColumn("{task.fields[count]}"),
        TimeLeft(),
        rich_progress.TextColumn("{task.fields[note]}", markup=False),
    )
    console = Console(stderr=True)
    with rich_progress.Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(title, note="", count="", total=None)

        def progress(done: int, total: int, note: str = "", *, share: float | None = None) -> None:
            now = pace.follow(done, total, share)
            bar.update(task, completed=now, total=1.0, note=note, count=f"{done}/{total}")

        yield progress


class _PlainProgress:
    """A line per tenth of the work, and none for what takes a few seconds."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._pace = _Pace()
        self._shown = 0

    def __call__(
        self, done: int, total: int, note: str = "", *, share: float | None = None
    ) -> None:
        """Report progress: a line whenever another tenth is done."""
        # Sums of shares fall short of the tenth that they mean by the last digit.
        tenths = int(PLAIN_LINES * self._pace.follow(done, total, share) + 1e-6)
        if tenths < self._shown:  # the next epoch, or the next stage
            self._shown = 0
        elapsed_s, left_s = self._pace.elapsed_s(), self._pace.left_s()
        if tenths == self._shown or left_s is None or elapsed_s + left_s < PLAIN_FROM_S:
            return
        self._shown = tenths
        left = f", {_clock(left_s)} left" if done < total else ""
        times = f"({_clock(elapsed_s)}{left})"
        typer.echo(
            " ".join(filter(None, (f"{self._title}: {done}/{total}", note, times))), err=True
        )


class _Pace:
    """How much of the work is done, since when, and how long the rest will take."""

    def __init__(self) -> None:
        self._share = 0.0
        self._start_s = self._last_s = time.monotonic()

    def follow(self, done: int, total: int, share: float | None) -> float:
        """Take a report in; returns the share of the work that is done, 0 to 1."""
        if share is None:
            share = done / total if total else 1.0
        if share < self._share:  # begun anew, right after the last report
            self._start_s = self._last_s
        self._share, self._last_s = min(max(share, 0.0), 1.0), time.monotonic()
        return self._share

    def elapsed_s(self) -> float:
        """Seconds since the work began."""
        return time.monotonic() - self._start_s

    def left_s(self) -> float | None:
        """Seconds to go at the pace so far, fewer as time goes by; None before the first unit."""
        if self._share == 0:
            return None
        foreseen_s = (self._last_s - self._start_s) / self._share
        return max(0.0, foreseen_s - self.elapsed_s())


def _clock(seconds: float) -> str:
    """``0:05``, ``12:30`` or ``1:02:03``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table: the first column to the left, the others to the right."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    for row in (header, *rows):
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        typer.echo("  ".join(cells).rstrip())


def print_report(report: Report, most_cases: int = 12) -> None:
    """Print Dice and IoU per structure, and the worst cases where there are many.

    Args:
        report: the scores.
        most_cases: cases listed one by one.
    """
    cases = sorted(report.cases, key=_lowest_dice)
    shown = cases[:most_cases]
    header = ["case"]
    for structure in report.structures:
        header += [f"{structure} Dice", "IoU"]
    rows = [
        [case.name, *(cell for s in report.structures for cell in _case_cells(case, s))]
        for case in shown
    ]
    means = [(report.mean_dice(s), report.mean_iou(s)) for s in report.structures]
    rows.append([f"mean of {len(cases)}", *_cells(means)])
    print_table(header, rows)
    if len(cases) > len(shown):
        typer.echo(f"(the {len(shown)} lowest of {len(cases)} cases)")
    _explain_partial_labels(report)
    mean = report.mean_foreground_dice
    typer.echo(f"mean Dice {number(mean)}")


def _explain_partial_labels(report: Report) -> None:
    """Say what the means are over, where cases are not annotated for all structures."""
    total = len(report.cases)
    counts = [(report.num_annotated(name), name) for name in report.structures]
    partial = [f"{count} for {name}" for count, name in counts if count < total]
    if partial:
        more = len(partial) - MOST_NAMED
        told = [*partial[:MOST_NAMED], *([f"{more} more structures"] if more > 0 else [])]
        typer.echo(
            f"({NOT_ANNOTATED}: not annotated in the case; of {counted(total, 'case')} annotated: "
            f"{', '.join(told)})"
        )


def print_fold_scores(scores: Mapping[str, Report]) -> None:
    """Print the mean Dice of each fold, and over the folds."""
    structures = next(iter(scores.values())).structures
    rows = [
        [fold, *(number(r.mean_dice(s)) for s in structures), number(r.mean_foreground_dice)]
        for fold, r in scores.items()
    ]
    print_table(["fold", *structures, "mean"], rows)


def number(value: float | None) -> str:
    """A score with three digits, or a dash where it is undefined."""
    return "-" if value is None else f"{value:.3f}"


def _case_cells(case: CaseScores, structure: str) -> list[str]:
    if structure in case.not_annotated:
        return [NOT_ANNOTATED, NOT_ANNOTATED]
    scores = case.structures[structure]
    return _cells([(scores.dice, scores.iou)])


def _cells(pairs: Sequence[tuple[float | None, float | None]]) -> list[str]:
    return [number(value) for pair in pairs for value in pair]


def _lowest_dice(case: CaseScores) -> float:
    defined = [s.dice for s in case.structures.values() if s.dice is not None]
    return min(defined, default=2.0)
