"""What a cascade needs of its previous stage.

Predictions of every case by weights that have not seen it, and the weights a model brings along.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from autoseg.core.dataset import Split
from autoseg.core.labels import LabelSpace
from autoseg.core.words import counted, flags
from autoseg.errors import AutosegError, WorkspaceError
from autoseg.io import atomic, bundle
from autoseg.io.case_store import CaseStore
from autoseg.io.fold_folder import FoldFolder
from autoseg.io.previous_store import PreviousStore
from autoseg.io.task import load_splits
from autoseg.io.workspace import EVERYTHING, TaskFolder

USUAL_RUN = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Previous:
    """The previous stage of a cascade, as a run needs it.

    Attributes:
        configuration: its name in the plan.
        run: name of its training run.
        folders: by case, the folder with the prediction of that case.
        weights: by fold, the hash of the weights those predictions were made with.
        carried: folds whose weights become part of the model: they hold out what it holds out.
        bundles: their model files there, relative to the cascade's own folder.
    """

    configuration: str
    run: str
    folders: Mapping[str, Path]
    weights: Mapping[str, str]
    carried: tuple[str, ...]
    bundles: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fold:
    """A trained fold of the previous stage."""

    name: str
    key: str
    held_out: tuple[str, ...]


def find_previous(
    task: TaskFolder,
    configuration: str,
    where: FoldFolder,
    split: Split,
    store: CaseStore,
    labels: LabelSpace,
) -> Previous:
    """Find predictions of the previous stage for all cases of a fold.

    A case that the fold holds out is predicted by the same fold of the previous stage, any other
    by one that holds it out. The previous stage is the training run of the same name, or the
    usual one where there is none of that name.

    Args:
        task: the task's folder.
        configuration: the previous stage's name.
        where: the cascade's own fold.
        split: who trains and who is held out.
        store: the prepared cases of the cascade, up to date.
        labels: what the data mean now.

    Raises:
        WorkspaceError: if predictions are missing or outdated, with the command that makes them.
    """
    run = _run_of(task, configuration, where)
    names = load_splits(task).names
    folds = [task.fold_folder(where.plan, configuration, run, name) for name in names]
    trained = [_trained(folder, labels) for folder in folds if folder.is_finished]
    cases = sorted({*split.train, *split.validation})
    chosen = {case: _fold_for(case, trained, split, where.fold) for case in cases}
    search = _Search(task=task, configuration=configuration, where=where, run=run, store=store)
    search.refuse_untrained([case for case, fold in chosen.items() if fold is None])
    found = {case: fold for case, fold in chosen.items() if fold is not None}
    folders = {case: search.folder(fold.key) for case, fold in found.items()}
    search.refuse_outdated(
        {c: found[c].name for c in cases if not search.is_current(c, folders[c])}
    )
    used = {fold.name: fold.key for fold in found.values()}
    carried = tuple(sorted(used)) if where.fold == EVERYTHING else (where.fold,)
    bundles = [where.previous(fold) / where.bundle.name for fold in carried]
    return Previous(
        configuration=configuration,
        run=run,
        folders=folders,
        weights=dict(sorted(used.items())),
        carried=carried,
        bundles=tuple(path.relative_to(where.root).as_posix() for path in bundles),
    )


def _run_of(task: TaskFolder, configuration: str, where: FoldFolder) -> str:
    same = [
        folder
        for folder in task.fold_folders()
        if (folder.plan, folder.configuration, folder.run) == (where.plan, configuration, where.run)
    ]
    return where.run if same else USUAL_RUN


def _trained(folder: FoldFolder, labels: LabelSpace) -> _Fold:
    model = bundle.load_model(folder.bundle)
    if model.labels != labels:
        raise WorkspaceError(
            f"{folder.configuration} {folder.fold} was trained for other structures",
            place=folder.root,
            remedy=f"run: {_command('train', folder, folder.fold)} --restart",
        )
    return _Fold(name=folder.fold, key=atomic.digest(folder.weights), held_out=model.held_out)


def _fold_for(case: str, trained: Sequence[_Fold], split: Split, fold: str) -> _Fold | None:
    """The fold whose weights may predict a case; None if there is none yet."""
    able = [one for one in trained if case in one.held_out]
    own = [one for one in able if one.name == fold]
    if case in split.validation and fold != EVERYTHING:
        return own[0] if own else None
    return able[0] if able else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Search:
    """Where predictions of one run of a previous stage lie, and what to say of missing ones."""

    task: TaskFolder
    configuration: str
    where: FoldFolder
    run: str
    store: CaseStore

    def folder(self, key: str) -> Path:
        return self.task.previous_on(self.configuration, key, self.store.folder)

    def is_current(self, case: str, folder: Path) -> bool:
        info = self.store.info(case)
        return PreviousStore(folder).is_current(case, info.source, info.shape)

    def refuse_untrained(self, cases: Sequence[str]) -> None:
        """Name the folds that are to be trained."""
        if not cases:
            return
        splits = load_splits(self.task)
        holding = {case: self._holding(case, splits.names, splits.folds) for case in cases}
        beside = [case for case, fold in holding.items() if fold is None]
        if beside:
            raise WorkspaceError(
                f"no fold holds out {_some(beside)}: {self.configuration} cannot predict what "
                "it was trained on",
                place=self.task.splits_file,
                remedy="a cascade needs folds that hold out every case",
            )
        wanted = {fold for fold in holding.values() if fold is not None}
        self._refuse(cases, "no", wanted, "train")

    def refuse_outdated(self, folds: Mapping[str, str]) -> None:
        """Name the folds whose predictions are to be made again, of cases and their folds."""
        if folds:
            old = self.task.previous_folders(self.configuration)
            stores = [PreviousStore(folder / self.store.folder.name) for folder in old]
            is_old = any(case in store for case in folds for store in stores)
            what = "an outdated" if is_old else "no"
            self._refuse(list(folds), what, folds.values(), "validate")

    def _holding(self, case: str, names: Sequence[str], folds: Sequence[Split]) -> str | None:
        """The fold that is to predict a case, by the folds as they are planned."""
        able = [n for n, fold in zip(names, folds, strict=True) if case in fold.validation]
        return self.where.fold if self.where.fold in able else next(iter(able), None)

    def _refuse(self, cases: Sequence[str], what: str, folds: Iterable[str], command: str) -> None:
        wanted, have = sorted(set(folds)), "has" if len(cases) == 1 else "have"
        fold = wanted[0] if len(wanted) == 1 else "all"
        first = self.task.fold_folder(self.where.plan, self.configuration, self.run, wanted[0])
        raise WorkspaceError(
            f"{_some(cases)} {have} {what} prediction of {self.configuration}",
            remedy=f"run: {_command(command, first, fold)}",
        )


def keep_previous(task: TaskFolder, folder: FoldFolder, previous: Previous | None) -> None:
    """Put the weights that a cascade builds on into its own folder.

    So the model is complete wherever its folder goes, and stays what it was when the previous
    stage is trained again. Costs no room where the file system knows hard links.

    Args:
        task: the task's folder.
        folder: the cascade's fold.
        previous: its previous stage; None for a configuration without.

    Raises:
        AutosegError: if they cannot be written.
    """
    if previous is None:
        return
    for fold in previous.carried:
        place = (folder.plan, previous.configuration, previous.run, fold)
        source, target = task.fold_folder(*place), folder.previous(fold)
        kept = target / source.weights.name
        if kept.is_file() and atomic.digest(kept) == previous.weights[fold]:
            continue
        atomic.remove_folder(target)
        with atomic.atomic_folder(target) as partial:
            for path in _files_of(source):
                _link(path, partial / path.relative_to(source.root))


def refuse_other_previous(place: str, before: Mapping[str, str], previous: Previous | None) -> None:
    """Go on only with the previous stage that a run was begun with.

    Args:
        place: what messages call the run.
        before: its ``Previous.weights`` when it was begun; empty if it is no cascade.
        previous: what it would go on with.

    Raises:
        AutosegError: if weights differ; the folds are named.
    """
    now = {} if previous is None else dict(previous.weights)
    if now == before or previous is None:
        return
    changed = sorted(f for f in {*now, *before} if now.get(f) != before.get(f))
    raise AutosegError(
        f"{previous.configuration} was trained anew since this run was started "
        f"({', '.join(changed)})",
        place=place,
        remedy="name another --run, or start over with --restart",
    )


def _files_of(source: FoldFolder) -> list[Path]:
    """Model and weights of a fold, and those of its own previous stage."""
    model = bundle.load_model(source.bundle)
    below = [(source.root / name).parent for name in model.previous]
    return [source.bundle, source.weights, *(file for part in below for file in _all_in(part))]


def _all_in(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        # Weights are never written over: a newer file takes the place of the older one.
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _command(name: str, folder: FoldFolder, fold: str) -> str:
    return f"autoseg {name} {folder.configuration} {fold}{flags(plan=folder.plan, run=folder.run)}"


def _some(cases: Sequence[str]) -> str:
    more = "" if len(cases) == 1 else "the first is "
    return f"{counted(len(cases), 'case')} ({more}'{cases[0]}')"
