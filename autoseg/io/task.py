"""The artefacts of a task; what is missing is named with the command that makes it."""

from __future__ import annotations

from autoseg.core.dataset import Dataset, Splits
from autoseg.core.fingerprint import Fingerprint
from autoseg.core.plan import Configuration, Plan
from autoseg.errors import WorkspaceError, unknown_name
from autoseg.io import artifacts
from autoseg.io.workspace import TaskFolder

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


def load_splits(task: TaskFolder) -> Splits:
    """The folds of a task."""
    return artifacts.load(task.splits_file, Splits, remedy=PLAN_COMMAND)


def load_plan(task: TaskFolder, name: str) -> Plan:
    """A plan of a task; an unknown name lists those there are."""
    names = task.plan_names()
    if not names:
        raise WorkspaceError(f"{task.name} has no plan yet", remedy=PLAN_COMMAND)
    if name not in names:
        raise unknown_name("plan", name, names)
    return artifacts.load(task.plan_file(name), Plan)


def planned_configuration(plan: Plan, name: str) -> Configuration:
    """A configuration of a plan; an unknown name lists those there are.

    Raises:
        UnknownNameError: if it is not planned.
    """
    if name not in plan.configurations:
        raise unknown_name("configuration", name, plan.configurations)
    return plan.configurations[name]
