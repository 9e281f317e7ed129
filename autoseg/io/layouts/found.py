"""What a layout makes of a folder, and the wrongs it collects on the way."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from autoseg.core.dataset import Case, Split
from autoseg.core.labels import LabelSpace
from autoseg.core.problem import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A folder as its layout describes it; nobody has looked yet whether the files are there.

    Attributes:
        layout: its name, such as ``"decathlon"``.
        channels: names of the channels, in order; empty if the description is unusable.
        labels: what the label values mean; None if the description is unusable.
        cases: in any order, with the files they should have.
        folds: the folds the data came with, if they did.
        name: of the task, if the description gives one.
        root: what paths are relative to, if the description says so.
    """

    layout: str
    channels: tuple[str, ...]
    labels: LabelSpace | None
    cases: tuple[Case, ...]
    folds: tuple[Split, ...] | None = None
    name: str | None = None
    root: Path | None = None


class Problems(list[Problem]):
    """What is wrong with a data set, collected so that it is told at once.

    Args:
        description: the file that describes the data set, whether it is there or not.
    """

    def __init__(self, description: Path) -> None:
        super().__init__()
        self.description = description

    def at(self, location: str, finding: str, *, case: str | None = None) -> None:
        """Add a problem of the description.

        Args:
            location: JSON path in it, such as ``"labels.kidney"``.
            finding: what is wrong there.
            case: the case it concerns, if it is one.
        """
        self.add("description", f"{location}: {finding}", self.description, case=case)

    def add(self, kind: str, finding: str, file: Path, *, case: str | None = None) -> None:
        """Add a problem.

        Args:
            kind: a key of ``KINDS``.
            finding: what was found.
            file: the file or folder it concerns.
            case: the case it concerns, if it is one.
        """
        self.append(Problem(kind=kind, finding=finding, case=case, file=file))
