"""Cases that came, went or changed since a task was planned, as later stages notice it."""

from __future__ import annotations

import logging

from autoseg.core.changes import cases_beside_folds, changed_annotation, changed_cases
from autoseg.core.dataset import Case, Dataset
from autoseg.errors import AutosegError
from autoseg.io.survey import survey_folder
from autoseg.io.task import load_dataset, load_splits
from autoseg.io.workspace import TaskFolder, Workspace

logger = logging.getLogger(__name__)


def warn_of_changes(task: TaskFolder) -> None:
    """Warn of cases that came, went or changed since the plan was made, and of those in no fold.

    Only names are looked at. Raw data that are not at hand, as on a machine that only trains,
    are no reason to say anything.

    Args:
        task: the task's folder.
    """
    try:
        dataset, splits = load_dataset(task), load_splits(task)
    except AutosegError as error:
        logger.debug("cases that came or went were not looked for: %s", error)
        return
    names = [case.name for case in dataset.cases]
    beside = cases_beside_folds(splits, names) if splits.folds else None
    if beside is not None:
        logger.warning("%s", beside)
    found = _cases_there_are(task, dataset)
    changes = (
        changed_cases(names, [case.name for case in found]) if found else None,
        changed_annotation(dataset.cases, found),
    )
    for changed in filter(None, changes):
        logger.warning("%s since the plan was made: repeat autoseg plan %s", changed, task.name)


def _cases_there_are(task: TaskFolder, dataset: Dataset) -> tuple[Case, ...]:
    """The cases in the raw data now; none if they are not at hand."""
    try:
        found = survey_folder(Workspace(task.root.parent), dataset.root).dataset
    except AutosegError as error:
        logger.debug("the raw data are not at hand: %s", error)
        return ()
    return () if found is None else found.cases
