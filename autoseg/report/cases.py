"""The part that lists every held-out case with its scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autoseg.core.measures import MEASURES
from autoseg.core.metrics import CaseScores, Report
from autoseg.core.words import counted
from autoseg.report.elements import Element, data, element
from autoseg.report.material import Material
from autoseg.report.quantities import score, title
from autoseg.report.scores import shown_metrics
from autoseg.report.section import command, paragraph, section
from autoseg.report.tables import Cell, Column, Entry, table

MOST_TABLE_BYTES = 1_000_000
MOST_DATA_BYTES = 900_000

_MEAN = "mean of structures"
_ABSOLUTE_MEAN = "mean of structures, absolute"
_BYTES_PER_CELL = 16
_BYTES_PER_ROW = 120
_BYTES_PER_NUMBER = 7

Row = tuple[str, CaseScores]


def cases_section(material: Material) -> Element | None:
    """Scores of every case; the metric can be changed, any column sorts."""
    chosen = material.chosen
    if chosen is None or chosen.pooled is None:
        return None
    rows = [(fold, case) for fold, report in chosen.scores.items() for case in report.cases]
    # The worst cases come first, and stay where there are too many to list.
    rows.sort(key=lambda row: (row[1].mean_dice is None, row[1].mean_dice or 0.0, row[1].name))
    listed = _fitting(rows, len(chosen.pooled.structures))
    left = len(rows) - len(listed)
    has_groups = any(case.group is not None for _, case in rows)
    metrics = _fitting_metrics(shown_metrics(chosen.pooled), listed)
    return section(
        "cases",
        "Case by case",
        paragraph(
            "Press the head of a column to sort by it, once more for the other way round. Marked "
            "scores are of structures that were missed or invented."
        ),
        _choice(metrics, chosen.pooled),
        table(
            _columns(chosen.pooled, has_groups=has_groups),
            [_row(fold, case, chosen.pooled, has_groups=has_groups) for fold, case in listed],
            caption=f"Scores of {counted(len(listed), 'case')}",
            sortable=True,
            name="case-scores",
        ),
        paragraph(
            f"{counted(left, 'case')} with better scores are left out to keep this file small: ",
            command("report.json"),
            " beside the predictions has all.",
        )
        if left
        else None,
        data("case-data", _values(metrics, listed, chosen.pooled)),
    )


def _fitting(rows: list[Row], num_structures: int) -> list[Row]:
    room = MOST_TABLE_BYTES
    for number, (_, case) in enumerate(rows):
        names = len(case.name) + len(case.group or "")
        room -= _BYTES_PER_ROW + 2 * names + _BYTES_PER_CELL * (num_structures + 1)
        if room < 0:
            return rows[:number]
    return rows


def _fitting_metrics(metrics: list[str], rows: list[Row]) -> list[str]:
    """As many as there is room for; Dice, which the table holds, takes none."""
    numbers = sum(len(case.structures) + 1 for _, case in rows)
    most = MOST_DATA_BYTES // max(1, _BYTES_PER_NUMBER * numbers)
    return [metric for metric in metrics if metric != "dice"][:most]


def _choice(metrics: list[str], report: Report) -> Element | None:
    if not metrics:
        return None
    options = [element("option", title(m, report), value=m) for m in ("dice", *metrics)]
    select = element("select", options, id="metric")
    return paragraph(element("label", "Metric ", select), kind="needs-script")


def _columns(report: Report, *, has_groups: bool) -> list[Column]:
    patient = [Column(title="patient", kind="text")] if has_groups else []
    return [
        Column(title="case", kind="text"),
        Column(title="fold", kind="text"),
        *patient,
        Column(title=_MEAN, key="score"),
        *(Column(title=name, key="score") for name in report.structures),
    ]


def _row(fold: str, case: CaseScores, report: Report, *, has_groups: bool) -> list[Entry]:
    patient = [case.group or ""] if has_groups else []
    scores = [_score(case, name) for name in report.structures]
    return [case.name, fold, *patient, score(case.mean_dice), *scores]


def _score(case: CaseScores, structure: str) -> Entry:
    if structure in case.not_annotated:
        return "n.a."
    text = score(case.value("dice", structure))
    scores = case.structures.get(structure)
    failed = scores is not None and scores.in_reference != scores.in_prediction
    return Cell(content=text, mark="bad") if failed else text


def _values(metrics: list[str], rows: list[Row], report: Report) -> Mapping[str, Any]:
    """For the script: by metric its digits, what its mean is of, and a row of numbers per case."""
    return {
        metric: {
            "mean": _ABSOLUTE_MEAN if MEASURES[metric].best == "zero" else _MEAN,
            "digits": 0 if metric == "false_lesions" else 2 if MEASURES[metric].unit else 3,
            "rows": [_numbers(case, metric, report) for _, case in rows],
        }
        for metric in metrics
    }


def _numbers(case: CaseScores, metric: str, report: Report) -> list[float | None]:
    values = [case.value(metric, structure) for structure in report.structures]
    defined = [value for value in values if value is not None]
    mean = MEASURES[metric].mean(defined) if defined else None
    return [None if value is None else float(f"{value:.4g}") for value in (mean, *values)]
