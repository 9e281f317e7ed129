"""Which trained folds a user means: by a place on the disk, and what of it is to be used."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from autoseg.core.selection import CleanUp, Selection
from autoseg.errors import WorkspaceError
from autoseg.io import artifacts
from autoseg.io.model_file import SUFFIX
from autoseg.io.workspace import TaskFolder, Workspace
from autoseg.predict.choice import choose
from autoseg.predict.stage import ModelChoice, candidates, model_files, narrow

BUNDLE = "bundle.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The folds that predict together.

    Attributes:
        groups: of each configuration and run, one ``bundle.json`` per fold; or one model file.
        clean_up: what is removed afterwards.
        why: how they were chosen.
    """

    groups: tuple[tuple[Path, ...], ...]
    clean_up: tuple[CleanUp, ...] = ()
    why: str = ""


def find_model(place: Path, task: str | None, choice: ModelChoice) -> Chosen:
    """Find the model that a path leads to.

    Args:
        place: a model file; a ``bundle.json`` or the folder of one; the folder of a task; or a
            workspace.
        task: of a workspace, the name of a task; None for the one planned last.
        choice: what is to be used of a task.

    Raises:
        AutosegError: if there is no such model, or it is not sound.
        ValueError: if something is to be chosen where there is nothing to choose from.
    """
    place = place.expanduser()
    is_chosen = any((choice.configuration, choice.run, choice.folds))
    is_bundle = place.is_file() or (place / BUNDLE).is_file()
    if is_bundle and (is_chosen or task is not None):
        raise ValueError(f"{place} is one model: task, configuration, folds and run are chosen")
    if is_bundle:
        path = place if place.is_file() else place / BUNDLE
        return Chosen(groups=((path,),), why=str(path))
    folder = TaskFolder(place.resolve())
    if folder.exists and task in (None, folder.name):
        return choose_model(folder, choice)
    workspace = Workspace(place.resolve())
    if not workspace.task_names():
        raise WorkspaceError(
            "there is no model here",
            place=place,
            remedy=f"name a {SUFFIX} file, a {BUNDLE}, the folder of a task, or a workspace",
        )
    return choose_model(workspace.resolve_task(task), choice)


def choose_model(task: TaskFolder, choice: ModelChoice) -> Chosen:
    """What ``predict`` uses: the selected model, or what is best of what was named.

    Args:
        task: the task's folder.
        choice: what the user named.

    Raises:
        AutosegError: if there is no such model.
    """
    found = candidates(task)
    is_chosen = any((choice.configuration, choice.run, choice.folds))
    if not is_chosen and task.selection.is_file():
        selection = artifacts.load(task.selection, Selection)
        groups = [
            [task.fold_folder(g.plan, g.configuration, g.run, fold) for fold in g.folds]
            for g in selection.groups
        ]
        if all(folder.is_finished for group in groups for folder in group):
            bundles = tuple(tuple(folder.bundle for folder in group) for group in groups)
            return Chosen(groups=bundles, clean_up=selection.clean_up, why=selection.summary)
    if found:
        found = narrow(found, choice.configuration, choice.run, choice.folds)
    chosen, reason = choose(found)
    return Chosen(groups=(tuple(model_files(task, chosen)),), why=f"{chosen.label}: {reason}")
