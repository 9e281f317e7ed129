"""What can be wrong with a data set, how bad it is, and what mends it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path


class Severity(Enum):
    """Whether one can go on."""

    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProblemKind:
    """A way in which data sets are wrong.

    Attributes:
        title: the kind in a few words, plural.
        severity: an error stops planning, a warning does not.
        remedy: what mends it; ``TASK`` stands for the data set.
    """

    title: str
    severity: Severity
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something wrong at one place.

    Attributes:
        kind: a key of ``KINDS``.
        finding: what was found there, such as ``"label values [255] are not declared"``.
        case: the case it concerns, if it is one.
        file: the file or folder it concerns, if it is one.
    """

    kind: str
    finding: str
    case: str | None = None
    file: Path | None = None

    def __post_init__(self) -> None:
        assert self.kind in KINDS, self.kind

    @property
    def is_error(self) -> bool:
        """Whether it stops planning."""
        return KINDS[self.kind].severity is Severity.ERROR


def _error(title: str, remedy: str) -> ProblemKind:
    return ProblemKind(title=title, severity=Severity.ERROR, remedy=remedy)


def _warning(title: str, remedy: str) -> ProblemKind:
    return ProblemKind(title=title, severity=Severity.WARNING, remedy=remedy)


KINDS: dict[str, ProblemKind] = {
    "description": _error(
        "the description is wrong", "correct it, or let autoseg init FOLDER write one"
    ),
    "name": _error("case names that cannot be used", "rename the files"),
    "missing-label": _error(
        "images without a label map",
        "annotate them, or go on without: autoseg check TASK --mend missing-label=leave-out",
    ),
    "missing-image": _error(
        "label maps without an image",
        "add the images, or go on without: autoseg check TASK --mend missing-image=leave-out",
    ),
    "missing-channel": _error(
        "cases that lack a channel",
        "add the files, or go on without: autoseg check TASK --mend missing-channel=leave-out",
    ),
    "unreadable": _error(
        "files that cannot be read",
        "copy them again, or go on without: autoseg check TASK --mend unreadable=leave-out",
    ),
    "channels": _error(
        "images with another number of channels than declared",
        "correct the description, or go on without: autoseg check TASK --mend channels=leave-out",
    ),
    "shape": _error(
        "label maps or channels of another shape than their image",
        "look at them first; autoseg check TASK --mend geometry=resample puts them on the "
        "image's grid",
    ),
    "geometry": _error(
        "label maps or channels that lie elsewhere than their image",
        "look at them first; if the voxels match: autoseg check TASK --mend geometry=copy; if "
        "the headers are right: autoseg check TASK --mend geometry=resample",
    ),
    "geometry-slight": _warning(
        "label maps or channels that lie slightly off their image",
        "nothing, or: autoseg check TASK --mend geometry=copy",
    ),
    "undeclared-labels": _error(
        "label values that are not declared",
        "declare them, or translate them: autoseg check TASK --mend labels=FROM:TO,...",
    ),
    "fractional-labels": _error(
        "label maps with values that are not whole numbers",
        "export them anew as labels, or: autoseg check TASK --mend labels=round",
    ),
    "empty-label": _warning(
        "label maps without any structure",
        "nothing if the structures are really absent, else annotate them, or: "
        "autoseg check TASK --mend empty-label=leave-out",
    ),
    "not-finite": _error(
        "images with NaN or infinite voxels",
        "autoseg check TASK --mend voxels=lowest gives them the image's lowest value",
    ),
    "spacing": _error(
        "voxel sizes that cannot be",
        "correct the headers, or: autoseg check TASK --mend spacing=Z,Y,X (mm)",
    ),
    "spacing-outlier": _warning(
        "voxel sizes far from those of the other cases", "nothing if they are right"
    ),
    "axis-order": _warning(
        "images whose axes are ordered or directed unlike the others'",
        "reorient them, so that the network sees every patient the same way round",
    ),
    "duplicate": _warning(
        "one image under several names",
        "autoseg check TASK --mend duplicate=leave-out keeps the first of them",
    ),
    "constant-channel": _warning(
        "channels that are the same everywhere",
        "export them anew, or: autoseg check TASK --mend constant-channel=leave-out",
    ),
    "not-ct": _warning(
        "CT channels whose values are not HU",
        "export them in HU, or name the channel by what it is in the description",
    ),
    "maybe-ct": _warning(
        "channels not named CT whose values look like HU",
        "name the channel CT in the description, so that intensities keep their meaning",
    ),
    "sides": _warning(
        "structures whose names tell left from right",
        "see the mirror axes of the plan; autoseg plan TASK --mirror-axes sets them",
    ),
    "patient": _warning(
        "patients who seem to have several cases, without a group",
        "give them one: autoseg init FOLDER writes a cases.csv with a group for each case",
    ),
    "rare-structure": _warning(
        "structures in too few cases for five folds", "annotate more of them, or expect no score"
    ),
    "unlisted": _warning(
        "files that the description does not list", "list them, or move them away"
    ),
}
"""Every kind of problem ``autoseg check`` knows, in the order it reports them."""
