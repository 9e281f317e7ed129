"""``autoseg plan``: fingerprint -> ``plans/<name>.json`` and ``splits.json``."""

from __future__ import annotations

import logging

from autoseg.core.dataset import Dataset, Splits
from autoseg.core.fingerprint import Fingerprint
from autoseg.core.plan import Plan
from autoseg.errors import AutosegError
from autoseg.io import artifacts
from autoseg.io.task import load_splits
from autoseg.io.workspace import TaskFolder
from autoseg.plan.planner import PlanRequest, make_plan
from autoseg.plan.splits import make_splits

logger = logging.getLogger(__name__)


def plan_task(
    task: TaskFolder, dataset: Dataset, fingerprint: Fingerprint, request: PlanRequest
) -> Plan:
    """Plan a measured data set and split its cases into folds.

    Args:
        task: the task's folder; plan and splits are written there.
        dataset: the data.
        fingerprint: their measurements.
        request: what the user wishes.

    Returns:
        The plan, as written.

    Raises:
        AutosegError: if the plan would replace one that models were trained with; then nothing
            is written.
    """
    plan = make_plan(fingerprint, dataset.channels, dataset.labels, request)
    _see_to_the_old_plan(task, plan)
    update_splits(task, dataset)
    artifacts.save(task.plan_file(plan.name), plan)
    return plan


def update_splits(task: TaskFolder, dataset: Dataset) -> Splits:
    """Make the folds, or keep those there are if their cases are still the task's.

    Once a fold is trained the folds are frozen: new cases are left out of them, and said so.

    Args:
        task: the task's folder.
        dataset: its cases.

    Returns:
        The folds, as they are on disk.
    """
    names = sorted(case.name for case in dataset.cases)
    if task.splits_file.is_file():
        splits = load_splits(task)
        used = {name for fold in splits.folds for name in (*fold.train, *fold.validation)}
        if used == set(names):
            return splits
        if task.fold_folders():
            logger.warning(
                "%d cases of the folds are gone and %d new ones are in no fold: the folds are "
                "frozen because models were trained on them",
                len(used - set(names)),
                len(set(names) - used),
            )
            return splits
    splits = make_splits(names)
    artifacts.save(task.splits_file, splits)
    return splits


def _see_to_the_old_plan(task: TaskFolder, plan: Plan) -> None:
    """Refuse to replace a plan that has models; say so if another one is replaced."""
    path = task.plan_file(plan.name)
    if not path.is_file():
        return
    before = artifacts.load(path, Plan)
    if before.configurations == plan.configurations and before.recipes() == plan.recipes():
        return
    trained = [folder for folder in task.fold_folders() if folder.plan == plan.name]
    if trained:
        raise AutosegError(
            f"plan '{plan.name}' would change, but {len(trained)} folds were trained with it",
            place=path,
            remedy="keep it and make a second one with --plan NAME",
        )
    logger.warning("plan '%s' was another one; it is replaced", plan.name)
