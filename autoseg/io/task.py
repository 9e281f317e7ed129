"""The artefacts of a task; what is missing is named with the command that makes it."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from autoseg.core.dataset import Dataset, Split, Splits
from autoseg.core.fingerprint import Fingerprint
from autoseg.core.plan import Configuration, Plan
from autoseg.errors import ArtifactError, AutosegError, WorkspaceError, unknown_name
from autoseg.io import artifacts
from autoseg.io.workspace import TaskFolder

logger = logging.getLogger(__name__)

PLAN_COMMAND = "run: autoseg plan TASK"


def load_dataset(task: TaskFolder) -> Dataset:
    """Where the raw data of a task are and what they hold.

    Raises:
        AutosegError: if the task was not planned or the file is broken; so everywhere here.
    """
    return artifacts.load(task.task_file, Dataset, remedy=PLAN_COMMAND)


def load_fingerprint(task: TaskFolder) -> Fingerprint:
    """What was measured about a task."""
    return artifacts.load(task.fingerprint_file, Fingerprint, remedy=PLAN_COMMAND)


def known_fingerprint(task: TaskFolder) -> Fingerprint | None:
    """What was measured about a task before, if that can be used."""
    if not task.fingerprint_file.is_file():
        return None
    try:
        return load_fingerprint(task)
    except ArtifactError as error:
        logger.info("%s: it is made anew", error.finding)
        return None


def load_splits(task: TaskFolder) -> Splits:
    """The folds of a task."""
    return artifacts.load(task.splits_file, Splits, remedy=PLAN_COMMAND)


def load_fold(task: TaskFolder, fold: str, dataset: Dataset) -> Split:
    """Who trains and who is held out in a fold.

    Args:
        task: the task's folder.
        fold: such as ``"fold0"``.
        dataset: the task's data.

    Raises:
        WorkspaceError: if a case of the fold is not in the data set.
        AutosegError: if there is no such fold.
    """
    splits = load_splits(task)
    if fold not in splits.names:
        raise no_such_fold(task, splits, fold)
    split = splits.folds[splits.names.index(fold)]
    known = {case.name for case in dataset.cases}
    unknown = sorted({*split.train, *split.validation} - known)
    if unknown:
        more = f" and {len(unknown) - 1} more, which are no cases" if len(unknown) > 1 else ""
        raise WorkspaceError(
            f"{fold} names '{unknown[0]}'{more or ', which is no case'} of the data set",
            place=artifacts.shown(task.splits_file),
            remedy="put back what is gone and run: autoseg plan TASK; or take it out of the file",
        )
    return split


def no_such_fold(task: TaskFolder, splits: Splits, fold: str) -> AutosegError:
    """Build the error for a fold that does not exist."""
    if not splits.folds:
        return AutosegError(
            f"there are no folds: {splits.reason}",
            place=task.name,
            remedy="choose 'everything' (one model of all cases)",
        )
    return AutosegError(
        f"there is no fold '{fold}': the folds are 0 to {len(splits.folds) - 1}",
        place=task.name,
        remedy="choose one of them, 'all' (every fold) or 'everything' (all cases)",
    )


def load_plan(task: TaskFolder, name: str) -> Plan:
    """A plan of a task; an unknown name lists those there are."""
    names = task.plan_names()
    if not names:
        raise WorkspaceError(f"{task.name} has no plan yet", remedy=PLAN_COMMAND)
    if name not in names:
        raise unknown_name("plan", name, names)
    return artifacts.load(task.plan_file(name), Plan)


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A task as the stages after planning need it: data, measurements and plan agree."""

    dataset: Dataset
    fingerprint: Fingerprint
    plan: Plan


def load_planned(task: TaskFolder, plan_name: str) -> Planned:
    """Load data set, fingerprint and plan, and see that they belong together.

    Raises:
        WorkspaceError: if the data set or its labels have changed since the plan was made.
    """
    plan, dataset = load_plan(task, plan_name), load_dataset(task)
    fingerprint = load_fingerprint(task)
    if [case.name for case in fingerprint.cases] != [case.name for case in dataset.cases]:
        raise WorkspaceError(
            f"the cases of {task.name} are not those that were measured", remedy=PLAN_COMMAND
        )
    if plan.channels != dataset.channels or plan.label_values != dataset.labels.values:
        raise WorkspaceError(
            f"plan '{plan_name}' was made for other channels or label values",
            place=task.name,
            remedy="make a new one: autoseg plan TASK --plan NAME",
        )
    return Planned(dataset=dataset, fingerprint=fingerprint, plan=plan)


def planned_configuration(plan: Plan, name: str) -> Configuration:
    """A configuration of a plan; an unknown name lists those there are.

    Raises:
        UnknownNameError: if it is not planned.
    """
    if name not in plan.configurations:
        raise unknown_name("configuration", name, plan.configurations)
    return plan.configurations[name]
