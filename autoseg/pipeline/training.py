"""From planned data to trained and scored folds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from autoseg.core.annotation import left_out
from autoseg.core.dataset import Dataset
from autoseg.core.metrics import Report
from autoseg.core.progress import Progress, silent
from autoseg.core.words import flags
from autoseg.errors import AutosegError, InterruptedRunError, WorkspaceError
from autoseg.io import artifacts
from autoseg.io.fold_folder import FoldFolder
from autoseg.io.task import (
    load_dataset,
    load_plan,
    load_splits,
    no_such_fold,
    planned_configuration,
)
from autoseg.io.workspace import EVERYTHING, TaskFolder, Workspace
from autoseg.pipeline.data import plan_folder

if TYPE_CHECKING:
    from autoseg.evaluate.pairs import Pair
    from autoseg.plan.planner import PlanRequest
    from autoseg.train.inputs import TrainRequest
    from autoseg.train.team import Team

Scored = Callable[[Report], None]


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
    task: TaskFolder,
    request: TrainRequest,
    progress: Progress = silent,
    team: Team | None = None,
    scored: Scored = lambda _: None,
) -> Report | None:
    """Train one fold, then predict and score the cases it held out.

    Args:
        task: the task's folder.
        request: what to train.
        progress: called after every step, then after every held-out case.
        team: the processes that train together; its lead predicts. None where there is one.
        scored: as ``validate`` takes it.

    Returns:
        Scores of the held-out cases; None for ``everything``, which holds out none.

    Raises:
        InterruptedRunError: if the user stopped it.
        AutosegError: if an earlier stage is missing or training failed.
    """
    from autoseg.train.stage import train_fold
    from autoseg.train.team import ALONE

    team = team or ALONE
    if not train_fold(task, request, progress, team):
        without = " without --restart" if request.restart else ""
        remedy = f"repeat the command{without} to go on"
        raise InterruptedRunError("stopped; all is saved", remedy=remedy)
    if request.fold == EVERYTHING:
        return None
    return team.decide(lambda: validate(task, request, progress, scored=scored))


def validate(
    task: TaskFolder,
    request: TrainRequest,
    progress: Progress = silent,
    *,
    again: bool = False,
    scored: Scored = lambda _: None,
) -> Report:
    """Predict the held-out cases of a trained fold from their raw files and score them.

    Where a planned cascade builds on the configuration, what it is to see of these cases is left
    for it, too.

    Args:
        task: the task's folder.
        request: names plan, configuration, run and fold, device and precision.
        progress: called after every case.
        again: predict even if there is a report newer than the weights.
        scored: called with the scores as soon as they are known, also where something fails after.

    Returns:
        Scores of the held-out cases.

    Raises:
        WorkspaceError: if the fold is not trained.
        AutosegError: if a case cannot be predicted.
    """
    from autoseg.pipeline.cascade import leave_for_cascades

    report = _score_held_out(task, request, progress, again=again)
    scored(report)
    leave_for_cascades(task, request, progress)
    return report


def _score_held_out(
    task: TaskFolder, request: TrainRequest, progress: Progress, *, again: bool
) -> Report:
    from autoseg.evaluate.stage import evaluate_pairs
    from autoseg.pipeline.quality import learn_quality

    where = (request.plan, request.configuration, request.run, request.fold)
    planned_configuration(load_plan(task, request.plan), request.configuration)
    folder = task.fold_folder(*where)
    check_trained(folder)
    report_file = task.report_file(*where)
    dataset = load_dataset(task)
    # Not than the model file, in which it is noted what the report shows.
    if not again and _is_newer(report_file, folder.weights):
        report = artifacts.load(report_file, Report)
        if _is_annotated_as_now(report, dataset):
            return report
    pairs = predict_held_out(task, request, progress, again=again)
    report = evaluate_pairs(pairs, dataset.labels, report_file, request.workers)
    learn_quality(folder, report, task.predictions(*where))
    return report


def check_trained(folder: FoldFolder) -> None:
    """Refuse a fold whose training has not come to its end.

    Raises:
        WorkspaceError: if it has not.
    """
    if not folder.is_finished:
        named = flags(plan=folder.plan, run=folder.run)
        raise WorkspaceError(
            f"{folder.configuration} {folder.fold} is not trained yet",
            remedy=f"run: autoseg train {folder.configuration} {folder.fold}{named}",
        )


def predict_held_out(
    task: TaskFolder,
    request: TrainRequest,
    progress: Progress = silent,
    *,
    again: bool = False,
    names: Sequence[str] | None = None,
    fast: bool = False,
) -> list[Pair]:
    """Predict the held-out cases of a trained fold from their raw files, as ``predict`` would.

    Label maps that these weights have made of these images are kept. No selection matters here,
    nor its clean-up.

    Args:
        task: the task's folder.
        request: names plan, configuration, run and fold, device and precision.
        progress: called after every case.
        again: make all label maps anew.
        names: only these cases; None for all it held out.
        fast: as ``predict --fast`` does, into a folder of their own.

    Returns:
        Label maps with their references.

    Raises:
        AutosegError: if a case cannot be predicted.
    """
    from autoseg.evaluate.pairs import Pair
    from autoseg.predict.loading import PredictOptions, load_predictor
    from autoseg.predict.stage import predict_cases

    where = (request.plan, request.configuration, request.run, request.fold)
    folder, dataset = task.fold_folder(*where), load_dataset(task)
    held_out = _known_held_out(folder) if names is None else names
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
    predictor = load_predictor([folder.bundle], options.in_haste() if fast else options)
    output = task.fast(*where) if fast else task.predictions(*where)
    predictions = predict_cases(predictor, inputs, output, progress, again=again)
    _refuse_failed([f"{p.name}: {p.error}" for p in predictions if p.error is not None])
    return [
        Pair(
            name=p.name,
            prediction=p.path,
            reference=dataset.label_path(dataset.case(p.name)),
            group=dataset.case(p.name).group,
            annotated=dataset.case(p.name).annotated,
        )
        for p in predictions
        if p.path is not None
    ]


def _known_held_out(folder: FoldFolder) -> tuple[str, ...]:
    """The cases a finished fold held out, which imported ones do not always tell.

    Those that the task's splits name may have been trained on: they are not asked.
    """
    from autoseg.io import bundle

    model = bundle.load_model(folder.bundle)
    if model.held_out:
        return model.held_out
    imported = "nnunetv2" in model.versions
    again = "import it again with --splits splits_final.json" if imported else "train it again"
    raise WorkspaceError(
        "it is not known which cases it held out",
        place=model.label,
        remedy=f"{again}; or score it on images it has not seen: autoseg predict, then autoseg "
        "evaluate",
    )


def run_task(
    workspace: Workspace,
    folder: Path,
    plan_request: PlanRequest,
    train_request: TrainRequest,
    fold: str = "all",
    progress: Progress = silent,
) -> dict[str, Report | None]:
    """The whole path for one configuration; what exists is not made again.

    All folds of what a cascade builds on are trained before it.

    Args:
        workspace: where everything is kept.
        folder: the raw data.
        plan_request: how to plan.
        train_request: what to train; its fold is replaced, and an empty configuration by
            ``3d_fullres``, or ``2d`` where that is all that is planned.
        fold: as ``parse_folds`` takes it.
        progress: called by every stage.

    Returns:
        The scores of each fold of the configuration, by its name.
    """
    from autoseg.pipeline.cascade import refuse_unpredicted, stages_before
    from autoseg.plan.planner import PlanRequest
    from autoseg.preprocess.stage import preprocess_task
    from autoseg.train.inputs import check_beginning

    planned = plan_folder(
        workspace,
        folder,
        plan_request,
        train_request.workers,
        progress,
        # Without a wish about the plan, one that was made or edited before is the one meant.
        keep=plan_request == PlanRequest(name=plan_request.name),
    )
    usual = "3d_fullres" if "3d_fullres" in planned.plan.configurations else "2d"
    train_request = replace(train_request, configuration=train_request.configuration or usual)
    planned_configuration(planned.plan, train_request.configuration)
    folds = parse_folds(planned.task, fold)
    for name in folds if train_request.init_from else ():
        check_beginning(planned.task, replace(train_request, fold=name))
    before = stages_before(planned.plan, train_request.configuration)
    if before:
        refuse_unpredicted(planned.task, folds)
    failures = preprocess_task(
        planned.task,
        [*before, train_request.configuration],
        plan_request.name,
        train_request.workers,
        progress,
    )
    _refuse_failed([f"{failure.name}: {failure.error}" for failure in failures])
    for stage in before:
        for name in parse_folds(planned.task, "all"):
            request = replace(train_request, configuration=stage, fold=name, init_from=None)
            where = (request.plan, request.configuration, request.run, request.fold)
            # One that is trained stays as it is, whatever it was trained with.
            trained = planned.task.fold_folder(*where).is_finished
            (validate if trained else train_and_validate)(planned.task, request, progress)
    return {
        name: train_and_validate(planned.task, replace(train_request, fold=name), progress)
        for name in folds
    }


def _is_annotated_as_now(report: Report, dataset: Dataset) -> bool:
    """Whether a report leaves out what it would leave out now."""
    now = {case.name: left_out(dataset.labels, case.annotated) for case in dataset.cases}
    return all(case.not_annotated == now.get(case.name, ()) for case in report.cases)


def _is_newer(path: Path, than: Path) -> bool:
    return path.is_file() and path.stat().st_mtime_ns >= than.stat().st_mtime_ns


def _refuse_failed(problems: Sequence[str]) -> None:
    if problems:
        raise AutosegError(f"{len(problems)} cases failed: {' | '.join(problems[:5])}")
