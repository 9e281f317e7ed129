"""The artefacts of a task; what is missing is named with the command that makes it."""

from __future__ import annotations

from dataclasses import dataclass

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
