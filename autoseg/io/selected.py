"""The selection of a task, and whether the models are still those it was made of."""

from __future__ import annotations

from autoseg.core.selection import Selection
from autoseg.core.words import counted
from autoseg.io import artifacts
from autoseg.io.fold_folder import FoldFolder
from autoseg.io.stamps import is_unchanged
from autoseg.io.workspace import EVERYTHING, TaskFolder

COMMAND = "run: autoseg select"


def load_selection(task: TaskFolder) -> Selection | None:
    """What was selected; None if nothing was.

    Raises:
        ArtifactError: if the file is broken.
    """
    if not task.selection.is_file():
        return None
    return artifacts.load(task.selection, Selection, remedy=COMMAND)


def finished_folds(
    task: TaskFolder, plan: str | None = None, run: str | None = None
) -> dict[str, FoldFolder]:
    """Finished folds that hold out cases, by ``plan/configuration/run/fold``.

    Args:
        task: the task's folder.
        plan: only those of this plan; None for all.
        run: only those of this run; None for all.
    """
    return {
        f"{one.plan}/{one.configuration}/{one.run}/{one.fold}": one
        for one in task.fold_folders()
        if one.is_finished
        and one.fold != EVERYTHING
        and plan in (None, one.plan)
        and run in (None, one.run)
    }


def outdated(task: TaskFolder, selection: Selection) -> str | None:
    """What has happened to the models since they were selected from, in a line.

    Files are only read where their times differ.

    Args:
        task: the task's folder.
        selection: of the task.

    Returns:
        None if nothing has, or the selection does not know.
    """
    if not selection.weights:
        return None
    now = finished_folds(task, selection.plan, selection.run)
    seen = selection.weights
    changes = (
        ("trained since", [name for name in now if name not in seen]),
        (
            "trained again",
            [n for n, one in now.items() if n in seen and not is_unchanged(one.weights, seen[n])],
        ),
        ("gone", [name for name in seen if name not in now]),
    )
    told = [
        f"{counted(len(names), 'fold')} {what} ({names[0]}{', ...' if len(names) > 1 else ''})"
        for what, names in changes
        if names
    ]
    return f"the selection is out of date: {', '.join(told)}; {COMMAND}" if told else None
