"""A cascade's stages in their order: what comes before it, and what is left for it."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from autoseg.core.plan import Plan
from autoseg.core.progress import Progress, silent
from autoseg.core.words import counted
from autoseg.errors import AutosegError
from autoseg.io import atomic, bundle
from autoseg.io.case_store import source_of
from autoseg.io.task import Planned, load_dataset, load_planned, load_splits
from autoseg.io.workspace import EVERYTHING, TaskFolder
from autoseg.predict.for_cascade import HeldOut, missing_in, predict_for_cascade
from autoseg.predict.loading import PredictOptions, load_predictor
from autoseg.predict.predictor import Predictor
from autoseg.train.inputs import TrainRequest

logger = logging.getLogger(__name__)


def stages_before(plan: Plan, configuration: str) -> list[str]:
    """The configurations a cascade builds on, first things first; none for any other.

    Args:
        plan: the plan.
        configuration: a name in it.

    Raises:
        AutosegError: if a configuration builds on itself.
    """
    stages: list[str] = []
    name = plan.configurations[configuration].previous
    while name is not None:
        if name in (configuration, *stages):
            raise AutosegError(
                f"{configuration} builds on itself",
                place=f"plan {plan.name}",
                remedy="mend 'previous' of its configurations",
            )
        stages.insert(0, name)
        name = plan.configurations[name].previous
    return stages


def refuse_unpredicted(task: TaskFolder, folds: Sequence[str]) -> None:
    """Refuse folds with cases that no fold holds out, before their first stage is trained.

    Args:
        task: the task's folder.
        folds: of the cascade, as ``parse_folds`` gives them.

    Raises:
        AutosegError: if there is such a case.
    """
    splits = load_splits(task)
    held_out = {name for fold in splits.folds for name in fold.validation}
    wanted: set[str] = set()
    for name in folds:
        wanted |= set(
            (case.name for case in load_dataset(task).cases)
            if name == EVERYTHING
            else splits.folds[splits.names.index(name)].train
        )
    unpredicted = sorted(wanted - held_out)
    if unpredicted:
        raise AutosegError(
            f"no fold holds out {counted(len(unpredicted), 'case')} (the first is "
            f"'{unpredicted[0]}'); a cascade needs folds that hold out every case",
            place=task.name,
            remedy="train 3d_fullres, or delete splits.json and plan again for folds that do",
        )


def leave_for_cascades(
    task: TaskFolder, request: TrainRequest, progress: Progress = silent
) -> None:
    """Leave predictions of the cases a trained fold held out, for cascades that build on it.

    They lie on the grid of the cascade's prepared cases; what is there already is kept.

    Args:
        task: the task's folder.
        request: names plan, configuration, run and fold, device and precision.
        progress: called after every case.

    Raises:
        AutosegError: if a case cannot be predicted; the others are.
    """
    planned = load_planned(task, request.plan)
    plan = planned.plan
    cascades = [
        name
        for name, configuration in plan.configurations.items()
        if configuration.previous == request.configuration
    ]
    if not cascades:
        return
    folder = task.fold_folder(request.plan, request.configuration, request.run, request.fold)
    cases = _held_out(planned, bundle.load_model(folder.bundle).held_out)
    key = atomic.digest(folder.weights)
    predictor: Predictor | None = None
    # Cascades that share their prepared cases share these predictions, too.
    places = {task.prepared(plan.prepared_as(n), plan.recipe(n).key): n for n in cascades}
    for prepared, name in places.items():
        target = task.previous_on(request.configuration, key, prepared)
        wanted = missing_in(target, cases)
        if not wanted:
            continue
        logger.info("%s: predicting %s for %s", request.fold, counted(len(wanted), "case"), name)
        options = PredictOptions(device=request.device, precision=request.precision)
        predictor = predictor or load_predictor([folder.bundle], options)
        patch = plan.configurations[name].patch_size
        recipe = plan.recipe(name)
        _refuse(predict_for_cascade(predictor, wanted, recipe, patch, target, progress), name)


def _held_out(planned: Planned, names: Sequence[str]) -> list[HeldOut]:
    # Of a case that is gone no cascade will ask.
    present = {case.name for case in planned.dataset.cases}
    return [_case(planned, name) for name in names if name in present]


def _case(planned: Planned, name: str) -> HeldOut:
    dataset, measured = planned.dataset, planned.fingerprint.case(name)
    images = dataset.image_paths(dataset.case(name))
    return HeldOut(
        name=name,
        images=images,
        measured=measured.files[: len(images)],
        source=source_of(measured, dataset.labels),
    )


def _refuse(failures: Sequence[str], cascade: str) -> None:
    if failures:
        raise AutosegError(
            f"{counted(len(failures), 'case')} could not be predicted for {cascade}: "
            f"{' | '.join(failures[:5])}",
            remedy="mend them and repeat the command, which only predicts these",
        )
