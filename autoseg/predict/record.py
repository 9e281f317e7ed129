"""What a folder of predictions was made from, and what can be said about each of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from autoseg.core.artifact import Artifact, Frozen
from autoseg.core.quality import Signals
from autoseg.errors import AutosegError
from autoseg.io import artifacts, atomic

RECORD_NAME = "predictions.json"
LOCK_NAME = ".predictions.lock"
_PATIENCE_S = 60.0


class StructureHints(Frozen):
    """One structure of one case; None where something is undefined.

    Attributes:
        num_voxels: of the structure, pixels of a picture.
        volume_ml: None in pictures.
        area_mm2: in pictures that tell the size of their pixels.
        num_components: connected components; voxels that share a corner are connected.
        touches: sides of the image in whose outermost voxels the structure lies, by direction
            (``"superior"``); of pictures ``"top"``, ``"bottom"``, ``"left"``, ``"right"``.
        predicted_dice: what a reference would probably give; None if the model is not calibrated,
            or the structure is not there.
        signals: what this is predicted from, of each model that predicted together.
    """

    num_voxels: int
    volume_ml: float | None = None
    area_mm2: float | None = None
    num_components: int
    touches: tuple[str, ...] = ()
    predicted_dice: float | None = None
    signals: tuple[Signals, ...] = ()


class CaseHints(Frozen):
    """What can be said about a case without a reference.

    Attributes:
        warnings: what is unusual about the image, a line each.
        predicted_dice: mean over the structures that have one; None if none has.
        structures: by name, in declared order.
    """

    warnings: tuple[str, ...] = ()
    predicted_dice: float | None = None
    structures: dict[str, StructureHints]


class CaseRecord(Frozen):
    """One case of a folder of predictions.

    Attributes:
        source: a hash of the model and of the image the label map was made from.
        hints: what can be said about it; None of a label map that an earlier version made.
    """

    source: str
    hints: CaseHints | None = None


class PredictionRecord(Artifact):
    """The content of ``predictions.json``, beside the label maps.

    Attributes:
        cases: by name.
    """

    FORMAT: ClassVar[int] = 2
    format: int = 2

    cases: dict[str, CaseRecord] = {}  # noqa: RUF012 - pydantic copies defaults

    @classmethod
    def migrate(cls, data: dict[str, Any]) -> dict[str, Any] | None:
        """Format 1 held the hashes only."""
        cases = data.get("cases")
        if not isinstance(cases, dict):
            return None
        return {"format": cls.FORMAT, "cases": {n: {"source": s} for n, s in cases.items()}}


def load_record(folder: Path) -> PredictionRecord:
    """The record of a folder; an empty one if there is none that can be read."""
    try:
        return artifacts.load(folder / RECORD_NAME, PredictionRecord)
    except (FileNotFoundError, AutosegError):
        return PredictionRecord()


def save_record(folder: Path, cases: dict[str, CaseRecord]) -> None:
    """Write the record of a folder.

    Raises:
        AutosegError: if it cannot be written.
    """
    artifacts.save(folder / RECORD_NAME, PredictionRecord(cases=cases))


def note_case(folder: Path, name: str, noted: CaseRecord) -> None:
    """Enter a case into the record of a folder, to which other commands may write as well.

    Args:
        folder: of the label maps.
        name: the case.
        noted: what is noted of it.

    Raises:
        AutosegError: if it cannot be written.
    """
    change_record(folder, lambda cases: dict(cases) | {name: noted})


def forget_case(folder: Path, name: str) -> None:
    """Take a case out of the record of a folder, before the first of its files is replaced.

    Until it is entered again nothing there is taken for finished.

    Args:
        folder: of the label maps.
        name: the case.

    Raises:
        AutosegError: if it cannot be written.
    """
    with atomic.lock(folder / LOCK_NAME, _PATIENCE_S):
        cases = load_record(folder).cases
        # Also where it was not there when this command began: others write here as well.
        if cases.pop(name, None) is not None:
            save_record(folder, cases)


def change_record(
    folder: Path, change: Callable[[Mapping[str, CaseRecord]], dict[str, CaseRecord]]
) -> None:
    """Change the record of a folder, to which other commands may write as well.

    Args:
        folder: of the label maps.
        change: makes new cases of those that are there.

    Raises:
        AutosegError: if it cannot be written.
    """
    with atomic.lock(folder / LOCK_NAME, _PATIENCE_S):
        save_record(folder, change(load_record(folder).cases))


def combined_hash(parts: Sequence[str]) -> str:
    """A hash of several strings."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def file_hash(paths: Sequence[Path]) -> str:
    """A hash of the content of several files, or of folders that are images.

    Raises:
        OSError: if one cannot be read.
    """
    return combined_hash([atomic.digest(path) for path in paths])
