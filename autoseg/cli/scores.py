"""Tables of scores: one set of predictions, or several side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import typer

from autoseg.cli.console import number, print_report, print_table
from autoseg.core.comparison import Comparison, PairedScores
from autoseg.core.measures import MEASURES
from autoseg.core.metrics import Report, Summary
from autoseg.core.words import counted

MOST_STRUCTURES = 6
"""With more structures one line each has to do; the rest is in the file."""

MOST_NAMED = 3
MEAN = "(mean)"
ABSOLUTE_MEAN = "(mean, absolute)"


def print_scores(report: Report) -> None:
    """Print the scores of cases, then statistics of every structure over the cases."""
    if len(report.structures) <= MOST_STRUCTURES:
        print_report(report)
        typer.echo()
        _print_statistics(report)
    else:
        _print_one_metric(report)
        mean = number(report.mean_foreground_dice)
        typer.echo(f"mean Dice {mean}")
    if report.interval is not None:
        low, high = map(number, report.interval)
        typer.echo(f"mean Dice, 95% interval over patients: {low} to {high}")
    for line in _failures(report):
        typer.echo(line)


def print_comparison(comparison: Comparison) -> None:
    """Print how every two folders differ, and how several rank."""
    for line in _missing(comparison):
        typer.echo(line)
    if comparison.left_out:
        typer.echo(f"not compared: {_by_reason(comparison.left_out)}")
    several = len(comparison.folders) > 2
    if several:
        _print_ranks(comparison)
        typer.echo()
    header = ["metric", "structure", "n", "B - A", "95% interval", "p", "p (Holm)"]
    for first, second in dict.fromkeys((p.first, p.second) for p in comparison.pairs):
        pairs = [p for p in comparison.pairs if (p.first, p.second) == (first, second)]
        shown = [p for p in pairs if p.structure is None or not several]
        typer.echo(f"A = {first}, B = {second}: {counted(len(comparison.cases), 'case')}")
        print_table(
            [*header[:3], "A", "B", *header[3:], "B better/equal/worse"],
            [_pair_row(comparison, pair) for pair in shown],
        )
        for line in _failed(pairs):
            typer.echo(line)
    typer.echo(
        "p: Wilcoxon signed-rank test over patients, corrected for the structures after Holm"
    )


def _missing(comparison: Comparison) -> Iterator[str]:
    """What is not compared: references nobody predicted in one line, not one per folder."""
    lacking = [set(comparison.missing.get(name, ())) for name in comparison.folders]
    unpredicted = set.intersection(*lacking)
    if unpredicted:
        yield f"predicted in no folder, left out: {_named(sorted(unpredicted))}"
    for name, cases in comparison.missing.items():
        others = [case for case in cases if case not in unpredicted]
        if others:
            yield f"not in {name}, left out: {_named(others)}"


def _print_statistics(report: Report) -> None:
    header = ["structure", "metric", "n", "mean", "SD", "95% interval", "median", "quartiles"]
    rows = [
        [structure, *_summary_row(report, name, summary)]
        for structure in report.structures
        for name, summary in _shown(report, structure)
    ]
    rows += [["all", *_summary_row(report, n, s)] for n, s in report.whole_cases.items()]
    print_table([*header, "worst"], rows)


def _shown(report: Report, structure: str) -> list[tuple[str, Summary]]:
    """Metrics worth a line: those of lesions only where some case has several."""
    several = any(
        max(case.value(field, structure) or 0 for field in ("num_lesions", "num_predicted_lesions"))
        > 1
        for case in report.cases
    )
    return [
        (name, summary)
        for name, summary in report.summary[structure].metrics.items()
        if several or MEASURES[name].group != "lesions"
    ]


def _print_one_metric(report: Report) -> None:
    """One line per structure: means of what tells most, and the worst case."""
    shown = [m for m in ("dice", "iou", "nsd", "hd95", "volume_error_ml") if m in report.metrics]
    header = [_title(report, metric) for metric in shown]
    rows: list[list[str]] = []
    for structure in report.structures:
        metrics = report.summary[structure].metrics
        dice = metrics.get("dice")
        means = [_mean(metrics.get(metric)) for metric in shown]
        worst = dice.worst[0] if dice and len(report.cases) > 1 else ""
        rows.append([structure, str(dice.n if dice else 0), *means, _interval(dice), worst])
    print_table(["structure", "n", *header, "95% interval of Dice", "worst"], rows)


def _summary_row(report: Report, metric: str, summary: Summary) -> list[str]:
    quartiles = f"{number(summary.lower_quartile)} {number(summary.upper_quartile)}"
    worst = summary.worst[0] if summary.n > 1 else ""
    spread = [_mean(summary), number(summary.sd), _interval(summary), number(summary.median)]
    return [_title(report, metric), str(summary.n), *spread, quartiles, worst]


def _title(report: Report | Comparison, metric: str) -> str:
    measure = MEASURES[metric]
    if metric == "nsd" and report.tolerance is not None:
        unit = "pixel" if (report.length_unit, report.tolerance) == ("pixels", 1) else None
        return f"NSD at {report.tolerance:g} {unit or report.length_unit}"
    unit = report.length_unit if measure.unit == "length" else measure.unit
    return f"{measure.title} {unit}".rstrip()


def _failures(report: Report) -> list[str]:
    lines: list[str] = []
    for structure, summary in report.summary.items():
        for what, names in (
            ("missed", summary.missed),
            ("not in the reference, but predicted", summary.invented),
            ("in neither, not counted", summary.absent),
        ):
            if names:
                lines.append(
                    f"{structure}: {what} in {counted(len(names), 'case')}: {_named(names)}"
                )
    return lines


def _failed(pairs: Sequence[PairedScores]) -> list[str]:
    """Which folder has structures without a distance, because it missed or invented them."""
    found: dict[str, tuple[int, int]] = {}
    for pair in pairs:
        if pair.structure is not None and (pair.first_failed or pair.second_failed):
            first, second = found.get(pair.structure, (0, 0))
            found[pair.structure] = max(first, pair.first_failed), max(second, pair.second_failed)
    return [
        f"{structure}: missed or invented in {counted(first, 'case')} of A and "
        f"{counted(second, 'case')} of B, which have no distance there"
        for structure, (first, second) in found.items()
    ]


def _by_reason(left_out: Mapping[str, str]) -> str:
    """Names with the reason they share, such as ``"nsd, hd95 (not in summary.json)"``."""
    reasons = dict.fromkeys(left_out.values())
    named = {why: [name for name in left_out if left_out[name] == why] for why in reasons}
    return "; ".join(f"{', '.join(names)} ({why})" for why, names in named.items())


def _print_ranks(comparison: Comparison) -> None:
    names = list(comparison.folders)
    shown = [r for r in comparison.ranks if r.structure is None or len(comparison.structures) > 1]
    rows = [
        [
            _title(comparison, ranks.metric),
            ranks.structure or MEAN,
            str(ranks.n),
            *(f"{ranks.mean_ranks[name]:.2f}" for name in names),
            "" if ranks.p is None else _p(ranks.p),
        ]
        for ranks in shown
    ]
    typer.echo(f"mean ranks, 1 is the best: {counted(len(comparison.cases), 'case')}")
    print_table(["metric", "structure", "n", *names, "p (Friedman)"], rows)


def _pair_row(comparison: Comparison, pair: PairedScores) -> list[str]:
    interval = (
        "-"
        if pair.interval is None
        else f"{_signed(pair.interval[0])} to {_signed(pair.interval[1])}"
    )
    return [
        _title(comparison, pair.metric),
        pair.structure or (ABSOLUTE_MEAN if MEASURES[pair.metric].best == "zero" else MEAN),
        str(pair.n),
        number(pair.first_mean),
        number(pair.second_mean),
        "-" if pair.difference is None else _signed(pair.difference),
        interval,
        _p(pair.p),
        _p(pair.p_holm),
        f"{pair.wins}/{pair.ties}/{pair.losses}",
    ]


def _mean(summary: Summary | None) -> str:
    return number(None if summary is None else summary.mean)


def _interval(summary: Summary | None) -> str:
    if summary is None or summary.interval is None:
        return "-"
    return " to ".join(map(number, summary.interval))


def _signed(value: float) -> str:
    return f"{value:+.3f}"


def _p(value: float | None) -> str:
    if value is None:
        return "-"
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more
