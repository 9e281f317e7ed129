"""A data set known by its measurements alone: a fingerprint and the description beside it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoseg.core.dataset import Dataset
from autoseg.core.fingerprint import Fingerprint
from autoseg.core.labels import LabelSpace
from autoseg.core.words import counted
from autoseg.errors import ArtifactError, DataError
from autoseg.io import artifacts, dataset_json, nnunet
from autoseg.io.layouts.found import Problems
from autoseg.io.task import PLAN_COMMAND
from autoseg.io.workspace import TaskFolder

logger = logging.getLogger(__name__)

_REMEDY = f"name a fingerprint.json of a task, or a {nnunet.FINGERPRINT} of nnU-Net"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurements:
    """What a plan follows from; no images need be there.

    Attributes:
        name: of the data set, or of the folder the fingerprint lies in.
        file: the fingerprint.
        channels: channel names, in order.
        labels: what the label values mean.
        fingerprint: the measured cases.
    """

    name: str
    file: Path
    channels: tuple[str, ...]
    labels: LabelSpace
    fingerprint: Fingerprint


@dataclass(frozen=True, slots=True, kw_only=True)
class _Description:
    """The file that names channels and labels, and what it says."""

    file: Path
    name: str
    channels: tuple[str, ...]
    labels: LabelSpace
    num_cases: int | None = None


def read_measurements(file: Path) -> Measurements:
    """Read a fingerprint, and what channels and labels mean from the description beside it.

    Args:
        file: a ``fingerprint.json`` of ours, described by ``task.json`` or else ``dataset.json``;
            or a ``dataset_fingerprint.json`` of nnU-Net, described by ``dataset.json``.

    Raises:
        WorkspaceError: if the fingerprint or its description is missing.
        ArtifactError: if one of them is broken, or they do not belong together.
        DataError: if ``dataset.json`` is broken.
    """
    data = artifacts.read_object(file, remedy=_REMEDY)
    folder = TaskFolder(file.resolve().parent)
    if nnunet.is_fingerprint(data):
        described = _read_dataset_json(folder, "the dataset.json of the data set")
        fingerprint = nnunet.read_fingerprint(file, data, described.labels.values)
        _warn_of_other_count(described, fingerprint)
    elif "format" in data:
        fingerprint = artifacts.load(file, Fingerprint, remedy=PLAN_COMMAND)
        described = _describe(folder)
    else:
        raise ArtifactError("is no fingerprint", place=artifacts.shown(file), remedy=_REMEDY)
    _see_that_they_agree(file, fingerprint, described)
    return Measurements(
        name=described.name,
        file=file,
        channels=described.channels,
        labels=described.labels,
        fingerprint=fingerprint,
    )


def _describe(folder: TaskFolder) -> _Description:
    """What ``task.json`` says, or else ``dataset.json``."""
    if not folder.task_file.is_file():
        return _read_dataset_json(folder, "task.json or dataset.json of the data set")
    dataset = artifacts.load(folder.task_file, Dataset)
    return _Description(
        file=folder.task_file,
        name=dataset.name,
        channels=dataset.channels,
        labels=dataset.labels,
    )


def _read_dataset_json(folder: TaskFolder, wanted: str) -> _Description:
    file = folder.description_file
    if not file.is_file():
        raise artifacts.missing(file, f"put {wanted} beside the fingerprint")
    data, problems = dataset_json.read(file), Problems(file)
    channels = dataset_json.channels(data, problems)
    labels = dataset_json.labels(data, problems)
    if problems or labels is None:
        findings = "; ".join(problem.finding for problem in problems)
        raise DataError(findings, place=artifacts.shown(file))
    return _Description(
        file=file,
        name=_text(data, "name") or folder.name,
        channels=channels,
        labels=labels,
        num_cases=_number(data, "numTraining"),
    )


def _text(data: Mapping[str, Any], key: str) -> str | None:
    return data[key] if isinstance(data.get(key), str) else None


def _number(data: Mapping[str, Any], key: str) -> int | None:
    return data[key] if isinstance(data.get(key), int) else None


def _warn_of_other_count(described: _Description, fingerprint: Fingerprint) -> None:
    """nnU-Net measures anew only when it is told to: its two files may be of different days."""
    measured = len(fingerprint.cases)
    if described.num_cases not in (None, measured):
        logger.warning(
            "%s: numTraining: %s, but %d were measured; the plan is for those",
            artifacts.shown(described.file),
            counted(described.num_cases, "case"),
            measured,
        )


def _see_that_they_agree(file: Path, fingerprint: Fingerprint, described: _Description) -> None:
    channels, measured = len(described.channels), len(fingerprint.intensities)
    if channels != measured:
        raise ArtifactError(
            f"{counted(measured, 'channel')} measured, but {described.file.name} names "
            f"{channels}: {', '.join(described.channels)}",
            place=artifacts.shown(file),
            remedy="put the files of one data set side by side",
        )
    if fingerprint.label_values != described.labels.values:
        raise ArtifactError(
            f"measured with the label values {list(fingerprint.label_values)}, but "
            f"{described.file.name} declares {list(described.labels.values)}",
            place=artifacts.shown(file),
            remedy="put the files of one data set side by side",
        )
