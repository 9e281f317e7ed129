"""The trained models that can be selected from, and what they held out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from autoseg.core.dataset import Dataset
from autoseg.core.fingerprint import FileStamp, Fingerprint
from autoseg.core.model import Model
from autoseg.core.selection import Group
from autoseg.core.words import counted, flags
from autoseg.errors import WorkspaceError
from autoseg.evaluate.cost import operations
from autoseg.io import atomic, bundle
from autoseg.io.fold_folder import FoldFolder
from autoseg.io.selected import finished_folds
from autoseg.io.stamps import stamp
from autoseg.io.task import load_dataset, load_fingerprint, load_splits
from autoseg.io.workspace import TaskFolder


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """One set of weights.

    Attributes:
        folder: where it lies.
        identity: hash of the weights and of how they are used.
        held_out: cases it was not trained on that are still there, by name.
    """

    folder: FoldFolder
    identity: str
    held_out: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """The folds of one configuration and run.

    Attributes:
        group: what it is, with its folds.
        folds: by name.
        num_networks: networks a case goes through with one fold, previous stages counted.
        operations: multiplications of these for a case of median size; None if unknown.
    """

    group: Group
    folds: dict[str, Fold]
    num_networks: int
    operations: float | None

    @property
    def holders(self) -> dict[str, Fold]:
        """The fold that held out a case, by case; the first of several."""
        of: dict[str, Fold] = {}
        for fold in self.folds.values():
            for case in fold.held_out:
                of.setdefault(case, fold)
        return of


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """All that can be selected from.

    Attributes:
        dataset: of the task.
        fingerprint: of the task.
        candidates: sorted by plan, configuration and run.
        weights: what the weights of every finished fold looked like, by
            ``plan/configuration/run/fold``.
        all_folds: names of the task's folds.
        notes: what was left out, and what is missing, in lines.
    """

    dataset: Dataset
    fingerprint: Fingerprint
    candidates: tuple[Candidate, ...]
    weights: dict[str, FileStamp]
    all_folds: tuple[str, ...]
    notes: tuple[str, ...]


def gather(task: TaskFolder, plan: str | None = None, run: str | None = None) -> Gathered:
    """Find the finished folds of a task that held out cases.

    Args:
        task: the task's folder.
        plan: only those of this plan; None for all.
        run: only those of this run; None for all.

    Raises:
        WorkspaceError: if there is none.
        AutosegError: if the task was not planned, or a file is broken.
    """
    dataset, fingerprint = load_dataset(task), load_fingerprint(task)
    all_folds = load_splits(task).names
    by_group: dict[tuple[str, str, str], list[FoldFolder]] = {}
    finished = finished_folds(task, plan, run)
    weights = {name: stamp(folder.weights) for name, folder in finished.items()}
    for folder in finished.values():
        by_group.setdefault((folder.plan, folder.configuration, folder.run), []).append(folder)
    candidates: list[Candidate] = []
    notes: list[str] = []
    known = _names(dataset) & {case.name for case in fingerprint.cases}
    digests = {finished[name].root: seen.digest for name, seen in weights.items()}
    slices = median([case.shape[0] for case in fingerprint.cases]) if fingerprint.cases else 1.0
    for folders in by_group.values():
        models = [bundle.load_model(folder.bundle) for folder in folders]
        kept, said = _alike(folders, models, dataset)
        notes += said
        folds = {
            folder.fold: Fold(
                folder=folder,
                identity=_identity(folder, model, digests[folder.root]),
                held_out=tuple(name for name in model.held_out if name in known),
            )
            for folder, model in kept
        }
        folds = {name: fold for name, fold in folds.items() if fold.held_out}
        if folds:
            candidates.append(_candidate(folds, kept[0][1], slices))
            notes += _missing(candidates[-1].group, all_folds)
    if not candidates:
        raise WorkspaceError(
            "; ".join(["no trained fold holds out cases", *notes]),
            place=task.name,
            remedy="run: autoseg train 3d_fullres all",
        )
    return Gathered(
        dataset=dataset,
        fingerprint=fingerprint,
        candidates=tuple(candidates),
        weights=weights,
        all_folds=all_folds,
        notes=tuple(notes),
    )


def _names(dataset: Dataset) -> frozenset[str]:
    return frozenset(case.name for case in dataset.cases)


def _alike(
    folders: Sequence[FoldFolder], models: Sequence[Model], dataset: Dataset
) -> tuple[list[tuple[FoldFolder, Model]], list[str]]:
    """The folds that can be scored here and predict together, and why the others cannot."""
    kept: list[tuple[FoldFolder, Model]] = []
    notes: list[str] = []
    for folder, model in zip(folders, models, strict=True):
        name = f"{_group(folder, (folder.fold,)).name} {folder.fold}"
        first = kept[0][1] if kept else model
        if (model.labels, model.channels) != (dataset.labels, dataset.channels):
            notes.append(f"{name} is left out: it was trained for other labels or channels")
        elif not model.held_out:
            notes.append(f"{name} is left out: it is not known which cases it held out")
        elif _way(model) != _way(first):
            other = kept[0][0].fold
            notes.append(f"{name} is left out: it was trained with another plan than {other}")
        else:
            kept.append((folder, model))
            gone = sorted(set(model.held_out) - _names(dataset))
            if gone:
                notes.append(
                    f"{name} held out {counted(len(gone), 'case')} that "
                    f"{'is' if len(gone) == 1 else 'are'} not in the data set any more"
                )
    return kept, notes


def _way(model: Model) -> tuple[object, ...]:
    """How a model sees images; models that predict together agree in it."""
    return model.recipe, model.configuration.patch_size


def _candidate(folds: Mapping[str, Fold], model: Model, num_slices: float) -> Candidate:
    stages, cost = 0, 0.0
    name: str | None = model.members[0].configuration
    is_known = True
    while name is not None:
        configuration = model.plan.configurations[name]
        num_inputs = configuration.num_inputs(model.channels, model.labels)
        one = operations(configuration, num_inputs, model.labels.num_outputs, num_slices)
        is_known &= one is not None
        stages, cost = stages + 1, cost + (one or 0.0)
        name = configuration.previous
    return Candidate(
        group=_group(next(iter(folds.values())).folder, tuple(folds)),
        folds=dict(folds),
        num_networks=stages,
        operations=cost if is_known else None,
    )


def _group(folder: FoldFolder, folds: tuple[str, ...]) -> Group:
    return Group(plan=folder.plan, configuration=folder.configuration, run=folder.run, folds=folds)


def _missing(group: Group, all_folds: Sequence[str]) -> list[str]:
    """What would complete a cross-validation."""
    missing = [name for name in all_folds if name not in group.folds]
    if not missing:
        return []
    fold = missing[0] if len(missing) == 1 else "all"
    named = flags(plan=group.plan, run=group.run)
    command = f"autoseg train {group.configuration} {fold}{named}"
    have = counted(len(all_folds), "fold")
    return [f"{group.name}: {len(all_folds) - len(missing)} of {have} trained; the rest: {command}"]


def _identity(folder: FoldFolder, model: Model, weights: str) -> str:
    """A hash of all that decides what a fold predicts.

    The model file itself may gain remarks later, which change nothing.
    """
    stages = [atomic.digest((folder.root / name).parent) for name in model.previous]
    meaning = (
        weights,
        *stages,
        model.plan.model_dump_json(),
        model.labels.model_dump_json(),
        repr(model.training.mirror_axes),
    )
    return hashlib.blake2b("\n".join(meaning).encode(), digest_size=8).hexdigest()
