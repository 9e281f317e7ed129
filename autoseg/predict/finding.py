"""Which trained folds a program means: by a place on the disk."""

from __future__ import annotations

from pathlib import Path

from autoseg.errors import AutosegError, WorkspaceError
from autoseg.io.model_file import SUFFIX
from autoseg.io.named_models import BUNDLE_NAME, bundles_at
from autoseg.io.workspace import TaskFolder, Workspace
from autoseg.predict.choosing import Chosen, ModelChoice, choose_model


def find_model(place: Path, task: str | None, choice: ModelChoice) -> Chosen:
    """Find the model that a path leads to.

    Args:
        place: a model file; a ``bundle.json``, the folder of one or of several folds; the folder
            of a task; or a workspace.
        task: of a workspace, the name of a task; None for the one planned last.
        choice: what is to be used of a task.

    Raises:
        AutosegError: if there is no such model, or something is to be chosen where there is nothing
            to choose from.
    """
    place = place.expanduser()
    files = bundles_at(place)
    if files:
        if choice.is_narrow or task is not None:
            raise AutosegError(
                "is one model, of which nothing is chosen",
                place=place,
                remedy="leave out task, configuration, folds, plan and run",
            )
        return Chosen(groups=(files,), why=str(place))
    folder = TaskFolder(place.resolve())
    if folder.exists and task in (None, folder.name):
        return choose_model(folder, choice)
    workspace = Workspace(place.resolve())
    if not workspace.task_names():
        raise WorkspaceError(
            "there is no model here",
            place=place,
            remedy=f"name a {SUFFIX} file, a {BUNDLE_NAME}, the folder of a task, or a workspace",
        )
    return choose_model(workspace.resolve_task(task), choice)
