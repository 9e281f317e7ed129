"""``autoseg import``: models that nnU-Net v2 trained -> models of a task in the workspace."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from autoseg.core.dataset import Dataset
from autoseg.core.labels import LabelSpace
from autoseg.core.model import Model
from autoseg.core.plan import Plan
from autoseg.core.progress import Progress, silent
from autoseg.errors import AutosegError, WorkspaceError
from autoseg.exchange.nnunet_model import (
    USUAL_TRAINER,
    is_known_trainer,
    joined,
    model_of,
    plan_of,
    weights_of,
)
from autoseg.io import artifacts, atomic, bundle
from autoseg.io.fold_folder import FoldFolder
from autoseg.io.nnunet_model import (
    CHECKPOINTS,
    PeerFold,
    PeerModel,
    model_folders,
    read_checkpoint,
    read_model_folder,
    read_splits,
)
from autoseg.io.nnunet_zip import unpacked
from autoseg.io.task import load_dataset
from autoseg.io.torch_file import TorchFile
from autoseg.io.workspace import EVERYTHING, TaskFolder, Workspace

logger = logging.getLogger(__name__)

_DEFAULT_RUN = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """A fold that was imported.

    Attributes:
        folder: where it lies now.
        mirror_axes: axes of the patch that predictions mirror.
        trainer: name of nnU-Net's trainer.
        was_there: whether the very same fold had been imported before.
        num_held_out: how many cases it held out; None where that is not known.
    """

    folder: FoldFolder
    mirror_axes: tuple[int, ...]
    trainer: str
    was_there: bool
    num_held_out: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """What was imported.

    Attributes:
        task: the task's folder.
        channels: channel names, in the order images must bring them.
        labels: what the outputs mean.
        folds: in order of import.
    """

    task: TaskFolder
    channels: tuple[str, ...]
    labels: LabelSpace
    folds: tuple[Imported, ...]


def import_models(
    workspace: Workspace,
    source: Path,
    task_name: str | None = None,
    plan_name: str | None = None,
    progress: Progress = silent,
    splits: Path | None = None,
) -> Import:
    """Make models of a task of what nnU-Net trained.

    Args:
        workspace: where they are kept.
        source: a folder ``TRAINER__PLANS__CONFIGURATION``, one with several of them, or a zip as
            ``nnUNetv2_export_model_to_zip`` writes it.
        task_name: the task's name; None for the data set's.
        plan_name: the plan's name; None for nnU-Net's.
        progress: called after each fold.
        splits: nnU-Net's ``splits_final.json``, which tells what folds held out that were not
            validated; None if that is to stay unknown.

    Returns:
        What was imported; the task is the current one from now on.

    Raises:
        AutosegError: if there is no such model, it is damaged or hostile, needs what autoseg
            does not have, or something else has its place. Folds before it stay imported.
    """
    held_out = {} if splits is None else read_splits(splits)
    with _folder_of(source) as folder:
        models = [read_model_folder(path) for path in _with_previous(folder, source)]
        models = [_with_held_out(model, held_out) for model in models]
        models = sorted(models, key=_is_cascade)
        first = models[0]
        if any((m.channels, m.labels) != (first.channels, first.labels) for m in models):
            raise AutosegError(
                "holds models of several data sets",
                place=artifacts.shown(source),
                remedy="name the folder of one",
            )
        for line in dict.fromkeys(line for model in models for line in model.plans.lines):
            logger.warning("%s", line)
        name = task_name or first.plans.dataset or first.root.parent.name
        task = workspace.task(name)
        with atomic.lock(task.lock):
            _see_to_task(task, first)
            folds = _import_all(task, models, plan_name, progress)
    workspace.set_current(task.name)
    return Import(task=task, channels=first.channels, labels=first.labels, folds=tuple(folds))


@contextmanager
def _folder_of(source: Path) -> Iterator[Path]:
    """The folder of models that a folder or a zip is."""
    if source.is_dir():
        yield source
    elif source.is_file():
        with unpacked(source) as folder:
            yield folder
    else:
        raise AutosegError(
            "there is no such folder or zip",
            place=source,
            remedy="name a model folder of nnU-Net v2, or an exported zip",
        )


def _with_previous(folder: Path, source: Path) -> list[Path]:
    """The folders of models; with that of a single one, the previous stage's beside it."""
    found = model_folders(folder)
    if not found:
        raise AutosegError(
            "holds no model of nnU-Net v2 (plans.json, dataset.json and fold_*/"
            f"{CHECKPOINTS[0]} beside each other)",
            place=artifacts.shown(source),
        )
    if found != [folder]:
        return found
    trainer, plans, name = (*folder.resolve().name.split("__"), "", "")[:3]
    planned = read_model_folder(folder).plans.configurations.get(name)
    if planned is None or planned.previous is None:
        return found
    beside = folder.resolve().with_name(f"{trainer}__{plans}__{planned.previous}")
    return model_folders(beside) + found if beside.is_dir() else found


def _with_held_out(model: PeerModel, held_out: Mapping[str, tuple[str, ...]]) -> PeerModel:
    """A model that knows what its folds held out; what their validation says counts more."""
    folds = (
        replace(fold, held_out=fold.held_out or held_out.get(fold.name, ())) for fold in model.folds
    )
    return replace(model, folds=tuple(folds))


def _is_cascade(model: PeerModel) -> bool:
    planned = model.plans.configurations.get(model.root.resolve().name.rpartition("__")[2])
    return planned is not None and planned.previous is not None


def _see_to_task(task: TaskFolder, model: PeerModel) -> None:
    """See that a task of that name is of the same data."""
    if not task.exists:
        return
    known = load_dataset(task)
    if (known.channels, known.labels) != (model.channels, model.labels):
        what = "channels" if known.channels != model.channels else "labels"
        raise AutosegError(
            f"there is a task of this name with other {what}",
            place=task.name,
            remedy="import under another name: --task NAME",
        )


def _see_to_plan(task: TaskFolder, plan: Plan) -> None:
    """See that a plan of that name is the same."""
    file = task.plan_file(plan.name)
    if file.is_file() and joined(artifacts.load(file, Plan), plan) is None:
        raise AutosegError(
            f"there is another plan '{plan.name}'",
            place=artifacts.shown(file),
            remedy="import under another name: --plan NAME",
        )


def _make_task(task: TaskFolder, model: PeerModel, plan: Plan) -> None:
    """Write task and plan, as far as they are not there."""
    if not task.exists:
        # The images are elsewhere, if anywhere: planning asks for them by this name.
        dataset = Dataset(
            name=task.name,
            root=task.root / "raw",
            layout="none: imported",
            channels=model.channels,
            labels=model.labels,
            cases=(),
        )
        artifacts.save(task.task_file, dataset)
    file = task.plan_file(plan.name)
    known = artifacts.load(file, Plan) if file.is_file() else None
    wanted = plan if known is None else joined(known, plan)
    assert wanted is not None, "two plans are refused before"
    if wanted != known:
        artifacts.save(file, wanted)


def _import_all(
    task: TaskFolder, models: Sequence[PeerModel], plan_name: str | None, progress: Progress
) -> list[Imported]:
    total = sum(len(model.folds) for model in models)
    folds: list[Imported] = []
    progress(0, total)
    for model in models:
        plan = plan_of(model.plans, plan_name or model.plans.name, model.channels, model.labels)
        _see_to_plan(task, plan)
        for fold in model.folds:
            folds.append(_import_fold(task, model, fold, plan))
            progress(len(folds), total, fold.name)
    _warn_of_trainers(folds)
    return folds


def _import_fold(task: TaskFolder, peer: PeerModel, fold: PeerFold, plan: Plan) -> Imported:
    path = fold.checkpoint
    with TorchFile(path) as file:
        checkpoint = read_checkpoint(file, path, peer.root.resolve())
        trainer = checkpoint.trainer or USUAL_TRAINER
        run = _DEFAULT_RUN if trainer == USUAL_TRAINER else trainer
        model = model_of(peer, fold, checkpoint, plan, task.name, run)
        try:
            weights = weights_of(model, checkpoint, file.tensor)
        except AutosegError as error:
            if error.place is not None:
                raise
            place = artifacts.shown(path)
            raise type(error)(error.finding, place=place, remedy=error.remedy) from error
    _make_task(task, peer, plan)
    folder = task.fold_folder(plan.name, checkpoint.configuration, run, fold.name)
    if path.name != CHECKPOINTS[0]:
        logger.warning("%s %s: the weights are of %s", folder.configuration, fold.name, path.name)
    was_there = not _save(task, folder, model, weights)
    return Imported(
        folder=folder,
        mirror_axes=model.training.mirror_axes,
        trainer=trainer,
        was_there=was_there,
        num_held_out=_num_held_out(folder),
    )


def _save(
    task: TaskFolder, folder: FoldFolder, model: Model, weights: dict[str, torch.Tensor]
) -> bool:
    """Write a fold, unless the very same is there.

    Returns:
        Whether it was written.

    Raises:
        AutosegError: if another fold is there.
    """
    if folder.is_finished and _is_same(bundle.load_weights(folder.weights), weights):
        _learn_held_out(folder, model)
        return False
    if folder.root.exists() and (folder.is_finished or folder.resume.exists()):
        raise AutosegError(
            "another training is here already",
            place=artifacts.shown(folder.root),
            remedy="import under another name (--task or --plan NAME), or take it away",
        )
    previous = _bring_previous(task, folder, model)
    bundle.save_weights(folder.weights, weights)
    bundle.save_model(folder.bundle, model.model_copy(update={"previous": previous}))
    return True


def _num_held_out(folder: FoldFolder) -> int | None:
    known = len(bundle.load_model(folder.bundle).held_out)
    return known if known or folder.fold == EVERYTHING else None


def _learn_held_out(folder: FoldFolder, model: Model) -> None:
    """Note what a fold held out that was imported when that was not known."""
    known = bundle.load_model(folder.bundle)
    if model.held_out and not known.held_out:
        bundle.save_model(folder.bundle, known.model_copy(update={"held_out": model.held_out}))


def _is_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


def _bring_previous(task: TaskFolder, folder: FoldFolder, model: Model) -> tuple[str, ...]:
    """Put the previous stage's folds into a cascade's folder: its own fold, else all.

    Returns:
        Their model files, relative to the cascade.

    Raises:
        WorkspaceError: if none is imported.
    """
    name = model.configuration.previous
    if name is None:
        return ()
    known = [one for one in task.fold_folders() if one.is_finished]
    known = [one for one in known if (one.plan, one.configuration) == (folder.plan, name)]
    known = [one for one in known if one.run == folder.run] or known
    known = [one for one in known if one.fold == folder.fold] or known
    if not known:
        raise WorkspaceError(
            f"a cascade needs its previous stage, and no {name} is imported",
            place=f"{folder.configuration} {folder.fold}",
            remedy=f"import the model of {name} first, or the folder that holds both",
        )
    found: list[str] = []
    for one in known:
        target = replace(folder, root=folder.previous(one.fold))
        for source, place in ((one.weights, target.weights), (one.bundle, target.bundle)):
            with atomic.atomic_path(place) as partial:
                shutil.copyfile(source, partial)
        found.append(target.bundle.relative_to(folder.root).as_posix())
    return tuple(found)


def _warn_of_trainers(folds: Sequence[Imported]) -> None:
    unknown = sorted({fold.trainer for fold in folds if not is_known_trainer(fold.trainer)})
    if unknown:
        logger.warning(
            "%s: autoseg does not know this trainer; its network fits, but if it prepares images "
            "or predicts in a way of its own, results differ",
            ", ".join(unknown),
        )
