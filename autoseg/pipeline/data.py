"""From a folder of images to checked, measured and planned data."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from autoseg.core.dataset import Dataset, Splits
from autoseg.core.plan import Plan
from autoseg.core.problem import Problem
from autoseg.core.progress import Progress, silent
from autoseg.io import artifacts, atomic
from autoseg.io.survey import TaskSurvey, survey_folder
from autoseg.io.task import known_fingerprint, load_dataset, load_plan, load_splits
from autoseg.io.workspace import TaskFolder, Workspace

if TYPE_CHECKING:
    from autoseg.check.stage import CheckResult
    from autoseg.fingerprint.stage import Measured, MeasuredCase
    from autoseg.plan.planner import PlanRequest

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedTask:
    """What ``plan_folder`` made.

    Attributes:
        task: the task's folder in the workspace.
        dataset: its data.
        plan: its plan.
        splits: its folds.
    """

    task: TaskFolder
    dataset: Dataset
    plan: Plan
    splits: Splits


def plan_folder(
    workspace: Workspace,
    folder: Path,
    request: PlanRequest,
    workers: int | None = None,
    progress: Progress = silent,
    *,
    keep: bool = False,
) -> PlannedTask:
    """Find the data set in a folder, measure it, plan it and remember it.

    Only what is measured is kept case by case, so that a repeated command goes on where it
    stopped; nothing else is written before all of it has succeeded.

    Args:
        workspace: where everything is kept.
        folder: the raw data.
        request: what the user wishes.
        workers: processes; None for as many as fit.
        progress: called after each measured case.
        keep: leave a plan of that name as it is if there is one.

    Returns:
        The task, its data and its plan.

    Raises:
        AutosegError: if the folder is no usable data set, or a plan with models would change.
    """
    from autoseg.check.gate import refuse_errors, warnings_of
    from autoseg.plan.stage import plan_task, update_splits

    survey = survey_folder(workspace, folder)
    refuse_errors(survey.problems, folder.expanduser().resolve())
    dataset = survey.dataset
    assert dataset is not None
    task = workspace.task(dataset.name)
    with atomic.lock(task.lock):
        if task.exists and load_dataset(task).root != dataset.root:
            logger.info("the raw data of %s are now taken from %s", task.name, dataset.root)
        measured, problems = _examine(task, survey, workers, progress, keep=True)
        refuse_errors(problems, dataset.root)
        fingerprint = measured.fingerprint
        assert fingerprint is not None
        for line in warnings_of(problems, dataset.root):
            logger.warning("%s", line)
        if keep and request.name in task.plan_names():
            plan = load_plan(task, request.name)
            update_splits(task, dataset, fingerprint)
        else:
            plan = plan_task(task, dataset, fingerprint, request)
        artifacts.save(task.fingerprint_file, fingerprint)
        artifacts.save(task.task_file, dataset)
    workspace.set_current(task.name)
    return PlannedTask(task=task, dataset=dataset, plan=plan, splits=load_splits(task))


def check_folder(
    workspace: Workspace,
    folder: Path,
    mends: Sequence[str] = (),
    workers: int | None = None,
    progress: Progress = silent,
) -> CheckResult:
    """Find everything that is wrong with a data set, and mend what the user wants mended.

    A data set without errors that is not planned yet leaves its fingerprint in the workspace,
    so that planning it need not read the images again.

    Args:
        workspace: where mended copies and the fingerprint are kept.
        folder: the raw data.
        mends: what to mend and how, such as ``"geometry=copy"``.
        workers: processes; None for as many as fit.
        progress: called after each case.

    Returns:
        What is wrong, after mending.

    Raises:
        AutosegError: if there is no such folder, or a mend is not understood.
    """
    from autoseg.check.mend import parse_mends
    from autoseg.check.stage import CheckResult, mend_dataset

    wishes = parse_mends(mends)
    survey = survey_folder(workspace, folder)
    task = None if survey.name is None else workspace.task(survey.name)
    measured, problems = _examine(task, survey, workers, progress)
    told: tuple[str, ...] = ()
    if wishes and task is not None and survey.raw.dataset is not None:
        with atomic.lock(task.lock):
            mending = mend_dataset(
                task, survey.raw.dataset, survey.mends, problems, wishes, workers, progress
            )
        told = mending.told
        survey = survey_folder(workspace, folder)
        done = {n: case for n, case in measured.cases.items() if n not in mending.cases}
        measured, problems = _examine(task, survey, workers, progress, done)
    if survey.dataset is not None and task is not None and not task.exists:
        _remember(task, survey.dataset, measured, problems)
    return CheckResult.of(folder.resolve(), survey, problems, told)


def _remember(
    task: TaskFolder, dataset: Dataset, measured: Measured, problems: Sequence[Problem]
) -> None:
    """Keep what was measured; of broken data only where the task has a folder already."""
    from autoseg.fingerprint.stage import keep_cases

    is_sound = not any(problem.is_error for problem in problems)
    if not is_sound and not task.root.is_dir():
        return
    with atomic.lock(task.lock):
        keep_cases(task, dataset.labels, measured.cases)
        if is_sound and measured.fingerprint is not None:
            artifacts.save(task.fingerprint_file, measured.fingerprint)


def _examine(
    task: TaskFolder | None,
    survey: TaskSurvey,
    workers: int | None,
    progress: Progress,
    done: Mapping[str, MeasuredCase] | None = None,
    *,
    keep: bool = False,
) -> tuple[Measured, tuple[Problem, ...]]:
    """Measure all cases; everything wrong with names, files and the whole."""
    from autoseg.check.findings import judge
    from autoseg.fingerprint.stage import Measured, measure_dataset

    dataset = survey.dataset
    if dataset is None or task is None:
        return Measured(fingerprint=None, problems=()), survey.problems
    known = known_fingerprint(task)
    measured = measure_dataset(dataset, known, workers, progress, done=done, task=task, keep=keep)
    judged = judge(dataset, measured.fingerprint)
    return measured, (*survey.problems, *measured.problems, *judged)
