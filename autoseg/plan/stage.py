"""``autoseg plan``: fingerprint -> ``plans/<name>.json`` and ``splits.json``."""

from __future__ import annotations

import logging

from autoseg.core.dataset import Splits
from autoseg.core.plan import Plan
from autoseg.errors import AutosegError
from autoseg.io import artifacts
from autoseg.io.task import load_dataset, load_fingerprint, load_splits
from autoseg.io.workspace import TaskFolder
from autoseg.plan.planner import PlanRequest, make_plan
from autoseg.plan.splits import make_splits

logger = logging.getLogger(__name__)


def plan_task(task: TaskFolder, request: PlanRequest) -> Plan:
    """Plan a fingerprinted task and split its cases into folds.

    Args:
        task: the task's folder.
        request: what the user wishes.

    Raises:
        AutosegError: if the plan would replace one that models were trained with.
    """
    dataset, fingerprint = load_dataset(task), load_fingerprint(task)
    plan = make_plan(fingerprint, dataset.channels, dataset.labels, request)
    _refuse_orphans(task, plan)
    update_splits(task)
    artifacts.save(task.plan_file(plan.name), plan)
    return plan


def update_splits(task: TaskFolder) -> Splits:
    """Make the folds, or keep those there are if their cases are still the task's.

    Once a fold is trained the folds are frozen: new cases are left out of them, and said so.
    """
    dataset = load_dataset(task)
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


def _refuse_orphans(task: TaskFolder, plan: Plan) -> None:
    path = task.plan_file(plan.name)
    trained = [folder for folder in task.fold_folders() if folder.plan == plan.name]
    if not path.is_file() or not trained:
        return
    before = artifacts.load(path, Plan)
    if before.configurations != plan.configurations or before.recipes() != plan.recipes():
        raise AutosegError(
            f"plan '{plan.name}' would change, but {len(trained)} folds were trained with it",
            place=path,
            remedy="keep it and make a second one with --plan NAME",
        )
