"""What can be wrong with a data set, how bad it is, and what mends it."""

from __future__ import annotations

from collections.abc import Iterable
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
        can_leave_out: whether one can go on without the cases that have it.
    """

    title: str
    severity: Severity
    remedy: str
    can_leave_out: bool = False


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


def in_words(problem: Problem, root: Path) -> str:
    """A problem with its place, such as ``"labelsTr/a.nii.gz: incomplete"``.

    Args:
        problem: what is wrong.
        root: folder that paths are shown relative to, where they lie in it.
    """
    file = problem.file
    if file is None or file == root:
        return problem.finding if problem.case is None else f"{problem.case}: {problem.finding}"
    place = file.relative_to(root) if file.is_relative_to(root) else file
    return f"{place.as_posix()}: {problem.finding}"


def by_kind(problems: Iterable[Problem]) -> dict[str, list[Problem]]:
    """Problems by their kind: errors before warnings, kinds in the order of ``KINDS``."""
    found: dict[str, list[Problem]] = {}
    for problem in problems:
        found.setdefault(problem.kind, []).append(problem)
    order = list(KINDS)
    kinds = sorted(found, key=lambda kind: (_is_warning(kind), order.index(kind)))
    return {kind: found[kind] for kind in kinds}


def _is_warning(kind: str) -> bool:
    return KINDS[kind].severity is Severity.WARNING


def _error(title: str, remedy: str, *, can_leave_out: bool = False) -> ProblemKind:
    return ProblemKind(
        title=title, severity=Severity.ERROR, remedy=remedy, can_leave_out=can_leave_out
    )


def _warning(title: str, remedy: str, *, can_leave_out: bool = False) -> ProblemKind:
    return ProblemKind(
        title=title, severity=Severity.WARNING, remedy=remedy, can_leave_out=can_leave_out
    )


KINDS: dict[str, ProblemKind] = {
    "description": _error(
        "what the description says cannot be", "correct it, or let autoseg init FOLDER write one"
    ),
    "name": _error("case names that cannot be used", "rename the files"),
    "missing-label": _error(
        "images without a label map",
        "annotate them, or go on without: autoseg check TASK --mend missing-label=leave-out",
        can_leave_out=True,
    ),
    "missing-image": _error(
        "label maps without an image",
        "add the images, or go on without: autoseg check TASK --mend missing-image=leave-out",
        can_leave_out=True,
    ),
    "missing-channel": _error(
        "cases that lack a channel",
        "add the files, or go on without: autoseg check TASK --mend missing-channel=leave-out",
        can_leave_out=True,
    ),
    "unreadable": _error(
        "files that cannot be read",
        "copy or export them again, or go on without: autoseg check TASK --mend "
        "unreadable=leave-out",
        can_leave_out=True,
    ),
    "channels": _error(
        "images with another number of channels than declared",
        "correct the image or the description, or go on without: autoseg check TASK --mend "
        "channels=leave-out",
        can_leave_out=True,
    ),
    "shape": _error(
        "label maps or channels of another shape than their image",
        "look at them first; autoseg check TASK --mend geometry=resample puts them on the "
        "image's grid",
        can_leave_out=True,
    ),
    "geometry": _error(
        "label maps or channels that lie elsewhere than their image",
        "look at them first; if the voxels match: autoseg check TASK --mend geometry=copy; if "
        "the headers are right: autoseg check TASK --mend geometry=resample",
        can_leave_out=True,
    ),
    "undeclared-labels": _error(
        "label values that are not declared",
        "declare them, or translate them: autoseg check TASK --mend labels=FROM:TO,...",
        can_leave_out=True,
    ),
    "fractional-labels": _error(
        "label maps with values that are not whole numbers",
        "export them anew as labels, or: autoseg check TASK --mend labels=round",
        can_leave_out=True,
    ),
    "unannotated-structure": _error(
        "structures in label maps of cases that are not annotated for them",
        "add them to the column 'annotated' of cases.csv; if they are there by mistake, make "
        "them background: autoseg check TASK --mend labels=FROM:TO,...",
        can_leave_out=True,
    ),
    "never-annotated": _error(
        "structures that no case is annotated for",
        "name them in the column 'annotated' of the cases that have them, or declare them no more",
    ),
    "not-finite": _error(
        "images with NaN or infinite voxels",
        "autoseg check TASK --mend voxels=lowest gives them the image's lowest value",
        can_leave_out=True,
    ),
    "spacing": _error(
        "voxel sizes that cannot be",
        "correct the headers, or: autoseg check TASK --mend spacing=Z,Y,X (mm)",
        can_leave_out=True,
    ),
    "nothing-labelled": _error(
        "nothing to learn from",
        "check that the declared label values are those in the label maps",
    ),
    "geometry-slight": _warning(
        "label maps or channels that lie slightly off their image",
        "nothing, or: autoseg check TASK --mend geometry=copy",
        can_leave_out=True,
    ),
    "empty-label": _warning(
        "label maps without any structure",
        "nothing if the structures are really absent, else annotate them, or: "
        "autoseg check TASK --mend empty-label=leave-out",
        can_leave_out=True,
    ),
    "spacing-outlier": _warning(
        "voxel sizes far from those of the other cases",
        "nothing if they are right, else: autoseg check TASK --mend spacing=Z,Y,X (mm)",
        can_leave_out=True,
    ),
    "axis-order": _warning(
        "images whose axes are ordered or directed unlike the others'",
        "reorient them, so that the network sees every patient the same way round, or go on "
        "without: autoseg check TASK --mend axis-order=leave-out",
        can_leave_out=True,
    ),
    "duplicate": _warning(
        "one image under several names",
        "autoseg check TASK --mend duplicate=leave-out keeps the first of them",
        can_leave_out=True,
    ),
    "constant-channel": _warning(
        "channels that are the same everywhere",
        "export them anew, or: autoseg check TASK --mend constant-channel=leave-out",
        can_leave_out=True,
    ),
    "not-ct": _warning(
        "CT channels whose values are not HU",
        "export them in HU, or name the channel by what it is in the description",
        can_leave_out=True,
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
    "absent-structure": _warning(
        "structures that no label map has",
        "check that their declared values are those in the label maps, or declare them no more",
    ),
    "rare-structure": _warning(
        "structures in fewer cases than there are folds",
        "annotate more of them, or expect folds without a score for them",
    ),
    "unlisted": _warning(
        "files that the description does not list", "list them, or move them away"
    ),
}
"""Every kind of problem ``autoseg check`` knows, in the order it reports them."""
