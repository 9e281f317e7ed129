"""Scores that are in a file already: our reports and nnU-Net's summaries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from autoseg.core.comparison import Comparison
from autoseg.core.dataset import Dataset
from autoseg.core.labels import LabelSpace
from autoseg.core.measures import MEASURES
from autoseg.core.metrics import CaseScores, Report
from autoseg.errors import AutosegError
from autoseg.evaluate.comparing import compare_pairs, rank_reports
from autoseg.evaluate.pairs import Pair, match_folders
from autoseg.evaluate.statistics import foreground_interval, summarise_structures
from autoseg.io import artifacts
from autoseg.io.images import read_geometry, read_labels
from autoseg.io.nnunet_summary import Files, is_summary, read_summary, write_summary

_METRICS = ("dice", "iou", "precision", "recall")


def read_scores(file: Path, dataset: Dataset | None = None) -> Report:
    """Read a ``report.json`` of ours or a ``summary.json`` of nnU-Net.

    A summary tells overlap only. Its NaN becomes undefined, and statistics are made as for our
    own scores.

    Args:
        file: either of them.
        dataset: of the task; names the structures of a summary with these label values, and
            tells the patients of its cases.

    Raises:
        AutosegError: if it is neither, or broken.
    """
    data = artifacts.read_object(file, remedy="name a report.json or nnU-Net's summary.json")
    if not is_summary(data):
        return artifacts.load(file, Report)
    labels = None if dataset is None else dataset.labels
    scores = read_summary(file, data, labels)
    groups = {} if dataset is None else {case.name: case.group for case in dataset.cases}
    cases = tuple(c.model_copy(update={"group": groups.get(c.name)}) for c in scores.cases)
    return _report(scores.predictions, scores.references, scores.structures, cases)


def save_nnunet_summary(file: Path, report: Report, labels: LabelSpace | None) -> None:
    """Write scores as nnU-Net's ``summary.json``.

    Args:
        file: where to.
        report: scores of two folders that are still there.
        labels: what the values of their label maps mean, if that is known.

    Raises:
        AutosegError: if a label map is gone, or the file cannot be written.
    """
    if labels is not None and labels.names != report.structures:
        labels = None
    pairs = match_folders(Path(report.predictions), Path(report.references))
    by_name = {pair.name: pair for pair in pairs}
    files = {
        case.name: Files(
            prediction=by_name[case.name].prediction,
            reference=by_name[case.name].reference,
            num_voxels=_num_compared(by_name[case.name], labels),
        )
        for case in report.cases
    }
    write_summary(file, report, files, labels)


def compare_scores(
    files: Sequence[Path],
    metrics: Sequence[str],
    dataset: Dataset | None = None,
    *,
    are_needed: bool = False,
) -> Comparison:
    """Compare scores of the same cases.

    Args:
        files: at least two, as ``read_scores`` takes them.
        metrics: names of metrics of structures; those that one of the files does not have, or
            that were measured in different ways, are left out.
        dataset: as ``read_scores`` takes it.
        are_needed: whether to leave one out is an error.

    Raises:
        AutosegError: if the files share no case or no metric, have different structures, or lack
            a metric that is needed.
    """
    reports = {str(file): read_scores(file, dataset) for file in files}
    if len(reports) < len(files):
        raise AutosegError("a file is given twice", remedy="write: autoseg compare A.json B.json")
    first = next(iter(reports.values()))
    _check_structures(reports, first)
    left_out = {name: why for name in metrics if (why := _hindrance(name, reports)) is not None}
    known = tuple(name for name in metrics if name not in left_out)
    if left_out and (are_needed or not known):
        raise AutosegError(
            "; ".join(f"{name} cannot be compared ({why})" for name, why in left_out.items()),
            place="--metrics",
            remedy=f"write --metrics {','.join(known) or 'dice,iou'}, or score the label maps: "
            "autoseg compare A B REFERENCES",
        )
    names = {key: {case.name for case in report.cases} for key, report in reports.items()}
    shared = sorted(set.intersection(*names.values()))
    if not shared:
        raise AutosegError("the files share no case", remedy="compare scores of the same cases")
    kept = {key: _narrowed(report, shared, first) for key, report in reports.items()}
    everything = set().union(*names.values())
    lacking = {key: tuple(sorted(everything - found)) for key, found in names.items()}
    return Comparison(
        folders={key: report.predictions for key, report in reports.items()},
        references=first.references,
        cases=tuple(shared),
        missing={key: cases for key, cases in lacking.items() if cases},
        metrics=known,
        structures=first.structures,
        tolerance=first.tolerance if "nsd" in known else None,
        length_unit=first.length_unit,
        pairs=compare_pairs(kept, known),
        ranks=rank_reports(kept, known),
        left_out=left_out,
    )


def _check_structures(reports: Mapping[str, Report], first: Report) -> None:
    for name, report in reports.items():
        if set(report.structures) != set(first.structures):
            raise AutosegError(
                f"scores {', '.join(report.structures)}, not {', '.join(first.structures)}",
                place=name,
                remedy="-t TASK names the structures of a summary.json",
            )


def _hindrance(metric: str, reports: Mapping[str, Report]) -> str | None:
    """Why a metric of some reports cannot be compared; None if it can."""
    lacking = [file for file, report in reports.items() if metric not in report.metrics]
    if lacking:
        return f"not in {', '.join(lacking)}"
    units = dict.fromkeys(report.length_unit for report in reports.values())
    is_length = metric == "nsd" or MEASURES[metric].unit == "length"
    if is_length and len(units) > 1:
        return f"measured in {' and in '.join(units)}"
    tolerances = dict.fromkeys(report.tolerance for report in reports.values())
    if metric == "nsd" and len(tolerances) > 1:
        (unit,) = units
        told = [f"at {'?' if one is None else f'{one:g}'} {unit}" for one in tolerances]
        return f"measured {' and '.join(told)}"
    return None


def _report(
    predictions: str, references: str, structures: tuple[str, ...], cases: tuple[CaseScores, ...]
) -> Report:
    return Report(
        predictions=predictions,
        references=references,
        structures=structures,
        cases=cases,
        metrics=_METRICS,
        summary=summarise_structures(cases, structures, _METRICS),
        interval=foreground_interval(cases, structures),
    )


def _narrowed(report: Report, names: Sequence[str], first: Report) -> Report:
    """A report of some of its cases, its structures in the order of another."""
    by_name = {case.name: case for case in report.cases}
    cases = tuple(by_name[name] for name in names)
    return report.model_copy(update={"cases": cases, "structures": first.structures})


def _num_compared(pair: Pair, labels: LabelSpace | None) -> int:
    if labels is None or labels.ignore is None:
        return int(np.prod(read_geometry(pair.reference)[0].shape, dtype=np.int64))
    maps = (read_labels(path, labels).array for path in (pair.prediction, pair.reference))
    prediction, reference = (array != labels.ignore for array in maps)
    return int(np.count_nonzero(prediction & reference))
