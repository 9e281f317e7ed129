"""What a folder of predictions was made from, so that a repeated command goes on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from autoseg.core.artifact import Artifact
from autoseg.errors import AutosegError
from autoseg.io import artifacts, atomic

RECORD_NAME = "predictions.json"


class PredictionRecord(Artifact):
    """The content of ``predictions.json``, beside the label maps.

    Attributes:
        cases: by name, a hash of the model and of the image the label map was made from.
    """

    cases: dict[str, str] = {}  # noqa: RUF012 - pydantic copies defaults


def load_record(folder: Path) -> PredictionRecord:
    """The record of a folder; an empty one if there is none that can be read."""
    try:
        return artifacts.load(folder / RECORD_NAME, PredictionRecord)
    except (FileNotFoundError, AutosegError):
        return PredictionRecord()


def save_record(folder: Path, cases: dict[str, str]) -> None:
    """Write the record of a folder.

    Raises:
        AutosegError: if it cannot be written.
    """
    artifacts.save(folder / RECORD_NAME, PredictionRecord(cases=cases))


def combined_hash(parts: Sequence[str]) -> str:
    """A hash of several strings."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def file_hash(paths: Sequence[Path]) -> str:
    """A hash of the content of several files, or of folders that are images.

    Raises:
        OSError: if one cannot be read.
    """
    return combined_hash([atomic.digest(path) for path in paths])
