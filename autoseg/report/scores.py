"""The part about scores: means with intervals, folds, distributions, models side by side."""

from __future__ import annotations

from collections.abc import Sequence

from autoseg.core.measures import MEASURES, of_structures
from autoseg.core.metrics import Report, Summary
from autoseg.core.words import counted, flags
from autoseg.io.workspace import EVERYTHING
from autoseg.report.charts import Mean, Strip, means, strips
from autoseg.report.elements import Content, Element, element
from autoseg.report.material import Material, Trained
from autoseg.report.quantities import NOTHING, interval, score, title
from autoseg.report.section import command, folded, paragraph, section, side_by_side
from autoseg.report.tables import Cell, Column, Entry, table

MOST_MODELS = 12
MOST_IN_FULL = 4
MOST_STRIPS = 24
MOST_NAMED = 8

_OF_LESIONS = ("lesion_sensitivity", "lesion_f1", "false_lesions")


def scores_section(material: Material) -> Element:
    """How good the models are on cases they were not trained on."""
    chosen = material.chosen
    if chosen is None or chosen.pooled is None:
        return section("scores", "Scores", _selection(material), _without(material))
    others = [model for model in material.scored if model is not chosen][: MOST_MODELS - 1]
    return section(
        "scores",
        "Scores",
        _selection(material),
        paragraph(_of_what(chosen, material.why)),
        _statistics(chosen.pooled, chosen.label),
        _failures(chosen.pooled),
        _distributions(chosen.pooled),
        element("h3", "By fold"),
        _folds(chosen),
        [element("h3", "Models side by side"), _models([chosen, *others], chosen.pooled.structures)]
        if others
        else None,
        [
            folded(f"All scores of {model.label}", _statistics(model.pooled, model.label))
            for model in others[: MOST_IN_FULL - 1]
            if model.pooled is not None
        ],
        _all_statistics(chosen.pooled),
    )


def _without(material: Material) -> Element:
    # What select compares leaves no scores case by case.
    lack = "held-out case is scored" if material.selection is None else "case has scores to show"
    for trained in material.trained:
        for fold in trained.folds:
            if fold.fold == EVERYTHING:
                continue
            verb = "validate" if fold.is_finished else "train"
            named = flags(plan=material.plan_name, run=trained.run)
            words = f"autoseg {verb} {trained.configuration} {fold.fold}{named}"
            what = "scores it" if fold.is_finished else "goes on and scores it at the end"
            return paragraph(f"No {lack} yet. ", command(words), f" {what}.")
    only = "A model of all cases has none left to be scored on. " if material.trained else ""
    return paragraph(f"{only}Scores come with the first trained fold, which is scored at its end.")


def _selection(material: Material) -> Sequence[Element] | Element | None:
    """What was selected, in its words; before them what has happened since."""
    selection = material.selection
    if selection is None:
        several = len(material.scored) > 1
        hint = " decides between these models and their ensembles."
        return paragraph(command("autoseg select"), hint, kind="note") if several else None
    lines = [line for line in selection.summary.split("\n") if line.strip()]
    found = [element("blockquote", [paragraph(line) for line in lines])] if lines else []
    if material.outdated is not None:
        found.insert(0, paragraph(f"{material.outdated[0].upper()}{material.outdated[1:]}."))
    return found


def _of_what(chosen: Trained, why: str) -> str:
    assert chosen.pooled is not None
    folds = list(chosen.scores)
    number = counted(len(chosen.pooled.cases), "held-out case")
    return (
        f"{chosen.label} ({why}): {number} of {', '.join(folds)}, each predicted by a model that "
        "has never seen it. Intervals are those of the mean over patients (95%, bootstrap)."
    )


# Structures and metrics


def shown_metrics(report: Report) -> list[str]:
    """Metrics worth a column: those defined somewhere, those of lesions only if there are many."""
    several = any(
        max(case.value(field, name) or 0 for field in ("num_lesions", "num_predicted_lesions")) > 1
        for case in report.cases
        for name in case.structures
    )
    defined = {metric for summary in report.summary.values() for metric in summary.metrics}
    return [
        metric
        for metric in of_structures(tuple(MEASURES))
        if metric in defined and (several or metric not in _OF_LESIONS)
    ]


def _statistics(report: Report, label: str) -> Element:
    metrics = shown_metrics(report)
    columns = [
        Column(title="structure", kind="text"),
        Column(title="cases"),
        *(Column(title=title(metric, report)) for metric in metrics),
        Column(title="missed"),
        Column(title="invented"),
    ]
    rows: list[list[Entry]] = []
    for name, summary in report.summary.items():
        found = [summary.metrics.get(metric) for metric in metrics]
        cells = [_mean(s, m) for s, m in zip(found, metrics, strict=True)]
        failures = [_count(summary.missed), _count(summary.invented)]
        rows.append([name, str(summary.num_cases), *cells, *failures])
    mean = report.mean_foreground_dice
    whole = None
    if mean is not None and len(report.structures) > 1:
        ends = (
            ""
            if report.interval is None
            else " ({}\u2009\u2013\u2009{})".format(*map(score, report.interval))
        )
        whole = paragraph(
            "Mean Dice over the structures: ", element("strong", score(mean)), ends, "."
        )
    caption = f"Mean scores of {label} with 95% intervals"
    return element("div", table(columns, rows, caption=caption, sortable=True), whole)


def _mean(summary: Summary | None, metric: str) -> Entry:
    if summary is None:
        return Cell(content=NOTHING)
    around = element("small", interval(summary, metric))
    return Cell(content=element("span", score(summary.mean, metric), around), order=summary.mean)


def _count(cases: tuple[str, ...]) -> Entry:
    return Cell(content=str(len(cases)), order=len(cases), mark="bad" if cases else None)


def _failures(report: Report) -> Element | None:
    items: list[Content] = []
    for name, summary in report.summary.items():
        for kind, cases in (
            ("missed in", summary.missed),
            ("invented in", summary.invented),
            ("in neither reference nor prediction, so not counted, in", summary.absent),
        ):
            if cases:
                more = f" and {len(cases) - MOST_NAMED} more" if len(cases) > MOST_NAMED else ""
                named = ", ".join(cases[:MOST_NAMED])
                items.append(
                    element("li", f"{name}: {kind} {counted(len(cases), 'case')} ({named}{more})")
                )
    return element("ul", items) if items else None


def _all_statistics(report: Report) -> Element:
    columns = [
        Column(title="structure", kind="text"),
        Column(title="metric", kind="text"),
        *(
            Column(title=t)
            for t in ("n", "mean", "SD", "median", "lower quartile", "upper quartile")
        ),
        Column(title="worst cases", kind="text"),
    ]
    metrics = shown_metrics(report)
    rows = [
        [name, title(metric, report), *_row(metric, summary.metrics[metric])]
        for name, summary in report.summary.items()
        for metric in metrics
        if metric in summary.metrics
    ]
    rows += [["whole cases", title(m, report), *_row(m, s)] for m, s in report.whole_cases.items()]
    caption = "Spread over the cases and worst cases"
    return folded(caption, table(columns, rows, caption=caption, sortable=True))


def _row(metric: str, summary: Summary) -> list[Entry]:
    values = (summary.mean, summary.sd, summary.median)
    quartiles = (summary.lower_quartile, summary.upper_quartile)
    cells = [score(value, metric) for value in (*values, *quartiles)]
    return [str(summary.n), *cells, ", ".join(summary.worst)]


# Distributions, folds, models


def _distributions(report: Report) -> Element:
    charts = []
    for metric, range_ in (("dice", (0.0, 1.0)), ("nsd", (0.0, 1.0)), ("hd95", None)):
        rows = _strips(report, metric)
        if rows:
            defined = sum(metric in summary.metrics for summary in report.summary.values())
            left = (
                "" if len(rows) == defined else f", the {len(rows)} worst of {defined} structures"
            )
            lowest = min(value for row in rows for value in row.values)
            # Few scores are below a half: the room is for what tells cases apart.
            shown = (0.5, 1.0) if range_ and lowest >= 0.5 else range_
            name = title(metric, report)
            charts.append(
                strips(rows, title=f"{name} of the cases{left}", x_title=name, range_=shown)
            )
    return side_by_side(*charts)


def _strips(report: Report, metric: str) -> list[Strip]:
    rows: list[Strip] = []
    means = {
        name: MEASURES[metric].merit(summary.metrics[metric].mean)
        for name, summary in report.summary.items()
        if metric in summary.metrics
    }
    worst = sorted(means, key=means.__getitem__)[:MOST_STRIPS]
    for number, structure in enumerate(report.structures):
        if structure not in worst:
            continue
        found = [
            (c.value(metric, structure), c.name) for c in report.cases if structure in c.structures
        ]
        defined = [(value, name) for value, name in found if value is not None]
        if defined:
            values, names = zip(*defined, strict=True)
            rows.append(Strip(name=structure, values=values, names=names, colour=number))
    return rows


def _folds(chosen: Trained) -> Element:
    structures = next(iter(chosen.scores.values())).structures
    columns = [
        Column(title="fold", kind="text"),
        Column(title="cases"),
        Column(title="mean Dice"),
        *(Column(title=name) for name in structures),
    ]
    rows: list[list[Entry]] = [
        [
            fold,
            str(len(report.cases)),
            score(report.mean_foreground_dice),
            *(score(report.mean_dice(name)) for name in structures),
        ]
        for fold, report in chosen.scores.items()
    ]
    return table(columns, rows, caption=f"Dice of {chosen.label} by fold", sortable=len(rows) > 1)


def _models(models: list[Trained], structures: Sequence[str]) -> Element:
    columns = [
        Column(title="model", kind="text"),
        Column(title="folds", kind="text"),
        Column(title="cases"),
        Column(title="mean Dice"),
        *(Column(title=name) for name in structures),
    ]
    rows: list[list[Entry]] = []
    marks: list[Mean] = []
    for number, model in enumerate(models):
        report = model.pooled
        mean = None if report is None else report.mean_foreground_dice
        if report is None or mean is None:
            continue
        ends = report.interval
        text = score(mean) if ends is None else "{} ({} to {})".format(*map(score, (mean, *ends)))
        marks.append(Mean(name=model.label, value=mean, interval=ends, text=text, colour=number))
        cells = [_mean(_dice(report, name), "dice") for name in structures]
        folds = ", ".join(model.scores)
        rows.append(
            [model.label, folds, str(len(report.cases)), Cell(content=text, order=mean), *cells]
        )
    note = None
    if len({tuple(sorted(c.name for c in m.pooled.cases)) for m in models if m.pooled}) > 1:
        note = paragraph(
            "Not all models were scored on the same cases: their means are not to be compared as "
            "they stand.",
            kind="note",
        )
    return element(
        "div",
        table(columns, rows, caption="Dice of all models", sortable=True),
        note,
        side_by_side(means(marks, title="Mean Dice with 95% interval", x_title="mean Dice")),
    )


def _dice(report: Report, structure: str) -> Summary | None:
    summary = report.summary.get(structure)
    return None if summary is None else summary.metrics.get("dice")
