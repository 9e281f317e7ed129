"""A folder of raw data as the workspace sees it: described by init, mended by check."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from autoseg.core.dataset import Dataset
from autoseg.core.problem import Problem
from autoseg.errors import DataError
from autoseg.io.dataset_folder import Survey, survey_dataset
from autoseg.io.layouts.table import root_of
from autoseg.io.mended import (
    Mends,
    left_out_names,
    load_mends,
    put_in_place,
    without_left_out,
)
from autoseg.io.workspace import TaskFolder, Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSurvey:
    """What a folder of raw data holds, for all that follows.

    Attributes:
        dataset: the cases that are used, with mended copies in the place of raw files; None as
            in ``Survey``.
        problems: everything wrong with the names of the cases that are used.
        raw: the folder without what was mended.
        mends: what was mended.
    """

    dataset: Dataset | None
    problems: tuple[Problem, ...]
    raw: Survey
    mends: Mends

    @property
    def name(self) -> str | None:
        """The task's name, if the folder is a data set."""
        return None if self.dataset is None else self.dataset.name


def survey_folder(workspace: Workspace, folder: Path) -> TaskSurvey:
    """Find out what a folder of annotated images holds; only names are read.

    A description that ``autoseg init`` wrote for the folder comes before what lies in it.

    Args:
        workspace: where descriptions and mended copies are kept.
        folder: the raw data.

    Raises:
        AutosegError: if there is no such folder, or the description or the list of mended
            copies cannot be read.
    """
    raw = survey_dataset(folder, _description(workspace, folder.expanduser().resolve()))
    if raw.dataset is None:
        return TaskSurvey(dataset=None, problems=raw.problems, raw=raw, mends=Mends())
    task = workspace.task(raw.dataset.name)
    mends = load_mends(task)
    return TaskSurvey(
        dataset=put_in_place(raw.dataset, mends, task.mended),
        problems=without_left_out(raw.problems, left_out_names(raw.dataset, mends)),
        raw=raw,
        mends=mends,
    )


def _description(workspace: Workspace, root: Path) -> Path | None:
    """The description of a folder in the workspace, if there is one."""
    try:
        task: TaskFolder = workspace.task(root.name)
    except DataError:  # no name for a task: the survey will say so
        return None
    file = task.description_file
    return file if file.is_file() and root_of(file) == root else None
