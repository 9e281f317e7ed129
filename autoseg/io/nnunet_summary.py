"""nnU-Net's ``summary.json``: scores of cases, read and written.

It is not strict JSON: an undefined score is a bare ``NaN`` in it, in both directions, because
that is what its readers count on. Nothing else of autoseg writes such a file.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from statistics import fmean
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from autoseg.core.labels import LabelSpace
from autoseg.core.metrics import CaseScores, Report, Scores
from autoseg.errors import ArtifactError
from autoseg.io import artifacts, atomic, formats

_METRICS = ("Dice", "FN", "FP", "IoU", "TN", "TP", "n_pred", "n_ref")
_COUNTS = ("TP", "FP", "FN")
_KEY = re.compile(r"-?\d+|\((?:-?\d+,\s*)+(?:-?\d+)?\)")
_INTEGER = re.compile(r"-?\d+")

_Count = Annotated[int, Field(ge=0)]
Values = tuple[int, ...]


class _Measured(BaseModel):
    """One label or region of a case; undefined scores are ``NaN``, counts are not."""

    model_config = ConfigDict(extra="ignore")

    Dice: float | None
    IoU: float | None
    TP: _Count
    FP: _Count
    FN: _Count


class _Case(BaseModel):
    model_config = ConfigDict(extra="ignore")

    metrics: dict[str, _Measured]
    prediction_file: str
    reference_file: str

    @field_validator("metrics", mode="before")
    @classmethod
    def _without_unknown(cls, metrics: object) -> object:
        """Leave out what has no count at all, as some writers mark what was not annotated."""
        if not isinstance(metrics, dict):
            return metrics
        return {key: entry for key, entry in metrics.items() if not _is_uncounted(entry)}


def _is_uncounted(entry: object) -> bool:
    counts = [entry.get(name) for name in _COUNTS] if isinstance(entry, dict) else [None]
    return all(isinstance(count, float) and math.isnan(count) for count in counts)


class _Summary(BaseModel):
    model_config = ConfigDict(extra="ignore")

    mean: dict[str, Any] = Field(default_factory=dict)
    metric_per_case: Annotated[tuple[_Case, ...], Field(min_length=1)]

    @property
    def keys(self) -> list[str]:
        """Labels and regions; one that was annotated in no case is among the means only."""
        of_cases = (key for case in self.metric_per_case for key in case.metrics)
        return list(dict.fromkeys([*of_cases, *self.mean]))


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerScores:
    """What a ``summary.json`` says.

    Attributes:
        predictions: folder of the predictions, as it was called where they were scored.
        references: folder of the references, likewise.
        structures: names; values of the label maps where no labels tell the names.
        cases: sorted by name.
    """

    predictions: str
    references: str
    structures: tuple[str, ...]
    cases: tuple[CaseScores, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """The label maps of a case.

    Attributes:
        prediction: what was scored.
        reference: what it was scored against.
        num_voxels: that were compared, all but the ignored ones.
    """

    prediction: Path
    reference: Path
    num_voxels: int


def is_summary(data: Mapping[str, Any]) -> bool:
    """Whether parsed JSON is meant to be a ``summary.json``."""
    return "metric_per_case" in data


def read_summary(
    file: Path, data: Mapping[str, Any], labels: LabelSpace | None = None
) -> PeerScores:
    """Understand a ``summary.json``.

    Args:
        file: where it comes from, for messages.
        data: its parsed JSON.
        labels: structures to name the scores after, if they have exactly these values.

    Raises:
        ArtifactError: if it is none, or a case is in it twice.
    """
    content = artifacts.validated(file, _Summary, data)
    keys = content.keys
    for key in keys:
        if not _KEY.fullmatch(key):
            raise ArtifactError(f"'{key}' is neither a label nor a region", place=file)
    names = _names(keys, labels)
    cases = [_case_scores(case, names) for case in content.metric_per_case]
    twice = sorted({case.name for case in cases if [c.name for c in cases].count(case.name) > 1})
    if twice:
        raise ArtifactError(f"scores '{twice[0]}' more than once", place=file)
    first = content.metric_per_case[0]
    return PeerScores(
        predictions=str(_path(first.prediction_file).parent),
        references=str(_path(first.reference_file).parent),
        structures=tuple(names.values()),
        cases=tuple(sorted(cases, key=lambda case: case.name)),
    )


def _names(keys: Sequence[str], labels: LabelSpace | None) -> dict[str, str]:
    """What each key is called, in declared order or that of the values."""
    by_values = {_values(key): key for key in keys}
    known = {} if labels is None else {_sorted(s.values): s.name for s in labels.structures}
    if known.keys() == by_values.keys():
        return {by_values[values]: name for values, name in known.items()}
    return {by_values[values]: "+".join(map(str, values)) for values in sorted(by_values)}


def _values(key: str) -> Values:
    return _sorted(int(number) for number in _INTEGER.findall(key))


def _sorted(values: Any) -> Values:  # noqa: ANN401 - any iterable of integers
    return tuple(sorted(values))


def _path(name: str) -> Path:
    """A path that may have been written on another system."""
    return Path(PureWindowsPath(name).as_posix() if "\\" in name else name)


def _case_scores(case: _Case, names: Mapping[str, str]) -> CaseScores:
    return CaseScores(
        name=formats.stem(_path(case.prediction_file)),
        structures={
            name: _scores(case.metrics[key]) for key, name in names.items() if key in case.metrics
        },
        not_annotated=tuple(name for key, name in names.items() if key not in case.metrics),
    )


def _scores(measured: _Measured) -> Scores:
    right, predicted = measured.TP, measured.TP + measured.FP
    referred = measured.TP + measured.FN
    return Scores(
        true_positives=right,
        false_positives=measured.FP,
        false_negatives=measured.FN,
        dice=_defined(measured.Dice),
        iou=_defined(measured.IoU),
        precision=right / predicted if predicted else None,
        recall=right / referred if referred else None,
    )


def _defined(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value


# Writing


def write_summary(
    path: Path, report: Report, files: Mapping[str, Files], labels: LabelSpace | None
) -> None:
    """Write scores as nnU-Net does, whole or not at all.

    Means are over the cases, and the mean of the foreground over the structures, where they are
    defined: nnU-Net lets one structure that is absent everywhere make that of all NaN. A case says
    nothing of structures it is not annotated for.

    Args:
        path: the file.
        report: the scores.
        files: of every case, by its name.
        labels: values of the structures; None if they are called by their values.

    Raises:
        AutosegError: if it cannot be written.
    """
    keys = {name: _key(name, labels) for name in report.structures}
    cases = {
        case.name: {
            keys[name]: _entry(case.structures[name], files[case.name].num_voxels)
            for name in report.structures
            if name in case.structures
        }
        for case in report.cases
    }
    means = {
        key: _means([case[key] for case in cases.values() if key in case]) for key in keys.values()
    }
    content = {
        "foreground_mean": _means(list(means.values())),
        "mean": means,
        "metric_per_case": [
            {
                "metrics": entries,
                "prediction_file": str(files[name].prediction.resolve()),
                "reference_file": str(files[name].reference.resolve()),
            }
            for name, entries in cases.items()
        ],
    }
    atomic.write_text(path, json.dumps(content, indent=4, sort_keys=True) + "\n")


def _key(name: str, labels: LabelSpace | None) -> str:
    if labels is None:
        return name
    values = next(s.values for s in labels.structures if s.name == name)
    return str(values[0]) if len(values) == 1 else str(tuple(sorted(values)))


def _entry(scores: Scores, num_voxels: int) -> dict[str, float]:
    """The eight numbers of a structure in a case."""
    right, wrong, missed = (
        *(scores.true_positives, scores.false_positives),
        scores.false_negatives,
    )
    return {
        "Dice": math.nan if scores.dice is None else scores.dice,
        "FN": missed,
        "FP": wrong,
        "IoU": math.nan if scores.iou is None else scores.iou,
        "TN": num_voxels - right - wrong - missed,
        "TP": right,
        "n_pred": right + wrong,
        "n_ref": right + missed,
    }


def _means(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    columns = {name: [row[name] for row in rows if not math.isnan(row[name])] for name in _METRICS}
    return {name: fmean(column) if column else math.nan for name, column in columns.items()}
