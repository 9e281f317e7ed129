"""Scores as a table that spreadsheets open: one line per case and structure."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from autoseg.core.metrics import Report, Scores
from autoseg.io import atomic


def write_table(path: Path, report: Report) -> None:
    """Write all scores of a report as comma-separated values, whole or not at all.

    An undefined score is an empty field. A structure nobody annotated in a case has no line.

    Args:
        path: the file.
        report: the scores.

    Raises:
        AutosegError: if it cannot be written.
    """
    text = io.StringIO()
    fields = [name for name in Scores.model_fields if _is_measured(report, name)]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["case", "group", "structure", *fields])
    for case in report.cases:
        for name, scores in case.structures.items():
            writer.writerow([case.name, case.group, name, *(getattr(scores, f) for f in fields)])
    # The mark at the start tells spreadsheets that names are UTF-8.
    atomic.write_text(path, "\ufeff" + text.getvalue())


def _is_measured(report: Report, field: str) -> bool:
    return any(
        getattr(scores, field) is not None
        for case in report.cases
        for scores in case.structures.values()
    )
