"""``autoseg plan``: fingerprint -> ``plans/<name>.json`` and ``splits.json``."""

from __future__ import annotations

import logging

from autoseg.core.changes import cases_beside_folds
from autoseg.core.dataset import Dataset, Splits
from autoseg.core.fingerprint import Fingerprint
from autoseg.core.plan import Plan
from autoseg.errors import AutosegError
from autoseg.io import artifacts
from autoseg.io.task import load_splits
from autoseg.io.workspace import EVERYTHING, TaskFolder
from autoseg.plan import reasons
from autoseg.plan.edits import NO_EDITS, find_edits
from autoseg.plan.planner import make_plan
from autoseg.plan.request import PlanRequest
from autoseg.plan.splits import splits_of

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
    before = _load_old_plan(task, request.name)
    edits = NO_EDITS if before is None else find_edits(before, _place(task, request.name))
    plan = make_plan(fingerprint, dataset.channels, dataset.labels, request, edits)
    _see_to_the_old_plan(task, before, plan)
    update_splits(task, dataset, fingerprint)
    partial = reasons.partial_labels(dataset.cases, dataset.labels)
    plan = plan.model_copy(update={"decisions": (*partial, *plan.decisions)})
    artifacts.save(task.plan_file(plan.name), plan)
    return plan


def update_splits(task: TaskFolder, dataset: Dataset, fingerprint: Fingerprint) -> Splits:
    """Make the folds, or keep those there are if they still hold.

    Folds that a user edited are never replaced, nor are those of which one was trained: new
    cases are left out of them, and said so.

    Args:
        task: the task's folder.
        dataset: its cases.
        fingerprint: their measurements.

    Returns:
        The folds, as they are on disk.

    Raises:
        AutosegError: if the file was edited into nonsense, or the data set's own folds cannot
            be trained.
    """
    made = splits_of(dataset, fingerprint)
    if task.splits_file.is_file():
        splits = load_splits(task)
        if splits.folds == made.folds:
            return splits
        kept_because = _why_kept(task, splits)
        if kept_because is not None:
            _warn_of_kept(splits, dataset, kept_because)
            return splits
        logger.info("the cases or their folds changed: they are divided anew")
    artifacts.save(task.splits_file, made)
    return made


def _why_kept(task: TaskFolder, splits: Splits) -> str | None:
    """Why folds may not be replaced; None if they may."""
    if any(folder.fold != EVERYTHING for folder in task.fold_folders()):
        return "models were trained on them"
    return "they were edited by hand" if splits.is_edited else None


def _warn_of_kept(splits: Splits, dataset: Dataset, kept_because: str) -> None:
    beside = cases_beside_folds(splits, [case.name for case in dataset.cases])
    if beside is not None:
        logger.warning("%s: the folds stay as they are, because %s", beside, kept_because)
    if dataset.folds is not None:
        logger.warning("the folds the data come with are not used, because %s", kept_because)


def _load_old_plan(task: TaskFolder, name: str) -> Plan | None:
    path = task.plan_file(name)
    return artifacts.load(path, Plan) if path.is_file() else None


def _place(task: TaskFolder, name: str) -> str:
    return str(artifacts.shown(task.plan_file(name)))


def _see_to_the_old_plan(task: TaskFolder, before: Plan | None, plan: Plan) -> None:
    """Refuse to replace a plan that has models; say so if another one is replaced."""
    if before is None:
        return
    if before.configurations == plan.configurations and before.recipes() == plan.recipes():
        return
    trained = [folder for folder in task.fold_folders() if folder.plan == plan.name]
    if trained:
        raise AutosegError(
            f"plan '{plan.name}' would change, but {len(trained)} folds were trained with it",
            place=task.plan_file(plan.name),
            remedy="keep it and make a second one with --plan NAME",
        )
    logger.warning("plan '%s' was another one; it is replaced", plan.name)
