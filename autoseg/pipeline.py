"""Stages put together: the only place where one stage follows another."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from autoseg.core.dataset import Dataset, Splits
from autoseg.core.labels import LabelSpace
from autoseg.core.metrics import Report
from autoseg.core.plan import Plan
from autoseg.core.problem import Problem
from autoseg.core.progress import Progress, silent
from autoseg.errors import AutosegError, InterruptedRunError, WorkspaceError
from autoseg.io import artifacts, atomic
from autoseg.io.survey import TaskSurvey, survey_folder
from autoseg.io.task import (
    known_fingerprint,
    load_dataset,
    load_plan,
    load_splits,
    no_such_fold,
    planned_configuration,
)
from autoseg.io.workspace import EVERYTHING, WORKSPACE_NAME, TaskFolder, Workspace

if TYPE_CHECKING:
    from autoseg.check.stage import CheckResult
    from autoseg.fingerprint.stage import Measured, MeasuredCase
    from autoseg.plan.planner import PlanRequest
    from autoseg.train.inputs import TrainRequest

logger = logging.getLogger(__name__)

DEMO_FEATURES = 8
DEMO_TRAINING = {
    "epochs": 10,
    "steps_per_epoch": 40,
    "validation_steps": 5,
    "max_time_s": 180.0,
    "optimizer": "adamw",
    "learning_rate": 2e-3,
}
"""What makes the demonstration short: fields of ``TrainingChanges``."""


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

    Nothing is written before all of it has succeeded.

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
        measured, problems = _examine(task, survey, workers, progress)
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
    is_sound = not any(problem.is_error for problem in problems)
    if is_sound and task is not None and not task.exists and measured.fingerprint is not None:
        with atomic.lock(task.lock):
            artifacts.save(task.fingerprint_file, measured.fingerprint)
    return CheckResult.of(folder.resolve(), survey, problems, told)


def _examine(
    task: TaskFolder | None,
    survey: TaskSurvey,
    workers: int | None,
    progress: Progress,
    done: Mapping[str, MeasuredCase] | None = None,
) -> tuple[Measured, tuple[Problem, ...]]:
    """Measure all cases; everything wrong with names, files and the whole."""
    from autoseg.check.findings import judge
    from autoseg.fingerprint.stage import Measured, measure_dataset

    dataset = survey.dataset
    if dataset is None or task is None:
        return Measured(fingerprint=None, problems=()), survey.problems
    measured = measure_dataset(dataset, known_fingerprint(task), workers, progress, done=done)
    judged = judge(dataset, measured.fingerprint)
    return measured, (*survey.problems, *measured.problems, *judged)


def parse_folds(task: TaskFolder, text: str) -> list[str]:
    """The folds a user means.

    Args:
        task: the task's folder.
        text: ``0``, ``fold0``, ``all`` (every fold) or ``everything`` (one model on all cases).

    Returns:
        Names such as ``"fold0"``.

    Raises:
        AutosegError: if there is no such fold.
    """
    if text == EVERYTHING:
        return [EVERYTHING]
    splits = load_splits(task)
    if text == "all" and splits.folds:
        return list(splits.names)
    name = text if text.startswith("fold") else f"fold{text}"
    if name not in splits.names:
        raise no_such_fold(task, splits, text)
    return [name]


def train_and_validate(
    task: TaskFolder, request: TrainRequest, progress: Progress = silent
) -> Report | None:
    """Train one fold, then predict and score the cases it held out.

    Args:
        task: the task's folder.
        request: what to train.
        progress: called after every step, then after every held-out case.

    Returns:
        Scores of the held-out cases; None for ``everything``, which holds out none.

    Raises:
        InterruptedRunError: if the user stopped it.
        AutosegError: if an earlier stage is missing or training failed.
    """
    from autoseg.train.stage import train_fold

    if not train_fold(task, request, progress):
        raise InterruptedRunError("stopped; all is saved", remedy="repeat the command to go on")
    if request.fold == EVERYTHING:
        return None
    return validate(task, request, progress)


def validate(
    task: TaskFolder, request: TrainRequest, progress: Progress = silent, *, again: bool = False
) -> Report:
    """Predict the held-out cases of a trained fold from their raw files and score them.

    Args:
        task: the task's folder.
        request: names plan, configuration, run and fold, device and precision.
        progress: called after every case.
        again: predict even if there is a report newer than the weights.

    Returns:
        Scores of the held-out cases.

    Raises:
        WorkspaceError: if the fold is not trained.
        AutosegError: if a case cannot be predicted.
    """
    from autoseg.evaluate.stage import Pair, evaluate_pairs
    from autoseg.io import bundle
    from autoseg.predict.stage import PredictOptions, load_predictor, predict_cases

    where = (request.plan, request.configuration, request.run, request.fold)
    planned_configuration(load_plan(task, request.plan), request.configuration)
    folder = task.fold_folder(*where)
    if not folder.is_finished:
        raise WorkspaceError(
            f"{request.configuration} {request.fold} is not trained yet",
            remedy=f"run: autoseg train {request.configuration} {request.fold}",
        )
    report_file = task.report_file(*where)
    if not again and _is_newer(report_file, folder.bundle):
        return artifacts.load(report_file, Report)
    dataset = load_dataset(task)
    held_out = bundle.load_model(folder.bundle).held_out
    gone = sorted(set(held_out) - {case.name for case in dataset.cases})
    if gone:
        raise AutosegError(
            f"{len(gone)} held-out cases are not in the data set any more, the first is "
            f"'{gone[0]}'",
            place=task.name,
            remedy="put them back and run: autoseg plan TASK; or train the fold again (--restart)",
        )
    inputs = [(name, dataset.image_paths(dataset.case(name))) for name in held_out]
    options = PredictOptions(device=request.device, precision=request.precision)
    predictor = load_predictor([folder.bundle], options)
    output = task.predictions(*where)
    predictions = predict_cases(predictor, inputs, output, progress, again=again)
    _refuse_failed([f"{p.name}: {p.error}" for p in predictions if p.error is not None])
    pairs = [
        Pair(
            name=p.name,
            prediction=p.path,
            reference=dataset.label_path(dataset.case(p.name)),
        )
        for p in predictions
        if p.path is not None
    ]
    return evaluate_pairs(pairs, dataset.labels, report_file, request.workers)


def run_task(
    workspace: Workspace,
    folder: Path,
    plan_request: PlanRequest,
    train_request: TrainRequest,
    fold: str = "all",
    progress: Progress = silent,
) -> dict[str, Report | None]:
    """The whole path for one configuration; what exists is not made again.

    Args:
        workspace: where everything is kept.
        folder: the raw data.
        plan_request: how to plan.
        train_request: what to train; its fold is replaced.
        fold: as ``parse_folds`` takes it.
        progress: called by every stage.

    Returns:
        The scores of each fold, by its name.
    """
    from autoseg.plan.planner import PlanRequest
    from autoseg.preprocess.stage import preprocess_task

    planned = plan_folder(
        workspace,
        folder,
        plan_request,
        train_request.workers,
        progress,
        # Without a wish about the plan, one that was made or edited before is the one meant.
        keep=plan_request == PlanRequest(name=plan_request.name),
    )
    planned_configuration(planned.plan, train_request.configuration)
    folds = parse_folds(planned.task, fold)
    failures = preprocess_task(
        planned.task,
        [train_request.configuration],
        plan_request.name,
        train_request.workers,
        progress,
    )
    _refuse_failed([f"{failure.name}: {failure.error}" for failure in failures])
    return {
        name: train_and_validate(planned.task, replace(train_request, fold=name), progress)
        for name in folds
    }


def _is_newer(path: Path, than: Path) -> bool:
    return path.is_file() and path.stat().st_mtime_ns >= than.stat().st_mtime_ns


def _refuse_failed(problems: Sequence[str]) -> None:
    if problems:
        raise AutosegError(f"{len(problems)} cases failed: {' | '.join(problems[:5])}")


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoResult:
    """What the demonstration ends with.

    Attributes:
        report: scores of the cases that were not trained on.
        picture: the best and the worst of them.
    """

    report: Report
    picture: Path


def run_demo(
    keep: Path | None = None, workers: int | None = None, progress: Progress = silent
) -> DemoResult:
    """The whole path on a generated data set: plan, preprocess, train, predict, evaluate.

    Args:
        keep: folder for data and workspace; None for a temporary one. The picture stays in
            either case.
        workers: processes; None for as many as fit.
        progress: called by every stage.

    Returns:
        Scores of cases that were not trained on, and a picture of the best and the worst.
    """
    from tempfile import TemporaryDirectory

    if keep is not None:
        return _demo_in(keep.resolve(), keep.resolve() / "demo.png", workers, progress)
    with TemporaryDirectory(prefix="autoseg_demo_") as folder:
        return _demo_in(Path(folder), Path.cwd() / "autoseg_demo.png", workers, progress)


def _demo_in(folder: Path, picture: Path, workers: int | None, progress: Progress) -> DemoResult:
    from autoseg.demo.stage import write_dataset
    from autoseg.evaluate.stage import evaluate_folders
    from autoseg.plan.planner import PlanRequest
    from autoseg.predict.stage import ModelChoice, PredictOptions, predict_folder
    from autoseg.preprocess.stage import preprocess_task
    from autoseg.train.inputs import TrainingChanges, TrainRequest
    from autoseg.train.stage import train_fold

    logger.info("demo: generating a data set in %s", folder)
    data = write_dataset(folder, progress)
    workspace = Workspace(folder / WORKSPACE_NAME)
    logger.info("demo: plan, preprocess")
    plan_request = PlanRequest(base_features=DEMO_FEATURES)
    planned = plan_folder(workspace, data.root, plan_request, workers, progress)
    preprocess_task(planned.task, ["3d_fullres"], workers=workers, progress=progress)
    logger.info("demo: train 3d_fullres, at most %.0f s", DEMO_TRAINING["max_time_s"])
    changes = TrainingChanges(**DEMO_TRAINING)  # type: ignore[arg-type]
    request = TrainRequest(
        configuration="3d_fullres", fold="fold0", changes=changes, workers=workers
    )
    if not train_fold(planned.task, request, progress):
        raise InterruptedRunError(
            "stopped", remedy="repeat the command with the same --keep to go on"
        )
    logger.info("demo: predict images that were not trained on")
    output = folder / "predictions"
    predict_folder(
        planned.task, data.test_images, output, ModelChoice(), PredictOptions(), progress
    )
    labels = planned.dataset.labels
    report = evaluate_folders(output, data.test_labels, labels, workers).report
    _draw_best_and_worst(report, data.test_images, labels, picture)
    return DemoResult(report=report, picture=picture)


def _draw_best_and_worst(report: Report, images: Path, labels: LabelSpace, path: Path) -> None:
    from autoseg.figures.cases import CasePicture, draw_cases

    ranked = sorted(report.cases, key=lambda case: case.mean_dice or 0.0)
    rows = [("best", ranked[-1]), ("worst", ranked[0])]
    draw_cases(
        path,
        [
            CasePicture(
                title=f"{rank} case, {case.name}: Dice {case.mean_dice or 0.0:.2f}",
                images=(images / f"{case.name}.nii.gz",),
                maps=(
                    ("reference", Path(report.references) / f"{case.name}.nii.gz"),
                    ("prediction", Path(report.predictions) / f"{case.name}.nii.gz"),
                ),
            )
            for rank, case in rows
        ],
        labels,
    )
