"""The trained fold a user means: by a path, or by a name inside the workspace."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from autoseg.core.model import Model
from autoseg.errors import ArtifactError, AutosegError, WorkspaceError, unknown_name
from autoseg.io import artifacts
from autoseg.io.fold_folder import FoldFolder
from autoseg.io.workspace import TaskFolder, Workspace

BUNDLE_NAME = "bundle.json"
DEFAULT = "default"
"""Name of the plan and the run where a user names none."""

_EXAMPLE = "TASK/3d_fullres/fold0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Purpose:
    """What a model is wanted for, which tells which of several is meant.

    Attributes:
        task: the task it is wanted for; empty if that does not matter, nor which fold.
        configuration: the configuration; empty if any will do.
        fold: of several folds of this very task this one is meant, which has not seen the cases
            that the fold holds out.
    """

    task: str = ""
    configuration: str = ""
    fold: str = ""


ANY = Purpose()


def locate_model(
    text: str, workspace: Workspace, purpose: Purpose = ANY, cwd: Path = Path()
) -> Path:
    """Find the model file a user means.

    Args:
        text: a ``bundle.json`` or the folder of one; or, inside the workspace,
            ``TASK/CONFIGURATION/FOLD`` with plan or run between them where they are not the
            default ones. Parts that leave no doubt may be left out.
        workspace: where names are looked up.
        purpose: what the model is wanted for.
        cwd: the current directory.

    Returns:
        Path of the model file.

    Raises:
        AutosegError: if there is no such model, several are meant, or its training has not come
            to its end.
    """
    for root in (cwd, workspace.root):
        path = root / Path(text).expanduser()
        if path.is_file() or (path / BUNDLE_NAME).is_file():
            return path if path.is_file() else path / BUNDLE_NAME
    parts = [part for part in Path(text).parts if part not in (".", "models")]
    if not parts or parts[0] not in workspace.task_names():
        raise _no_such_model(text, workspace)
    return _fold_of(workspace.task(parts[0]), parts[1:], text, purpose).bundle


def locate_folds(text: str, workspace: Workspace, cwd: Path = Path()) -> list[Path]:
    """Find the model files of all folds a user means.

    Args:
        text: as ``locate_model`` takes it; where it names no fold, all that are finished. A
            folder of folds will do, too.
        workspace: where names are looked up.
        cwd: the current directory.

    Returns:
        Model files, sorted; at least one.

    Raises:
        AutosegError: as ``locate_model``.
    """
    for root in (cwd, workspace.root):
        found = _folds_in(root / Path(text).expanduser())
        if found:
            return found
    one = locate_model(text, workspace, cwd=cwd)
    is_file = any((root / Path(text).expanduser()).exists() for root in (cwd, workspace.root))
    words, fold = Path(text).parts, one.parent.name
    if is_file or fold in words or _number(fold) in words:
        return [one]
    return _folds_in(one.parent.parent)


def bundles_at(place: Path) -> tuple[Path, ...]:
    """The model files a path leads to.

    Args:
        place: a model file, the folder of a ``bundle.json``, or a folder of finished folds.

    Returns:
        The file, or those of the folds, sorted; none if there is no model.
    """
    if place.is_file():
        return (place,)
    one = place / BUNDLE_NAME
    return (one,) if one.is_file() else tuple(_folds_in(place))


def _folds_in(folder: Path) -> list[Path]:
    """Model files of the finished folds of a run, given its folder."""
    places = (path.parent for path in sorted(folder.glob(f"*/{BUNDLE_NAME}")))
    folds = [
        FoldFolder(root=place, plan="", configuration="", run="", fold=place.name)
        for place in places
    ]
    return [fold.bundle for fold in folds if fold.is_finished]


def read_model(path: Path) -> Model:
    """Read a model file that one set of weights belongs to.

    Raises:
        ArtifactError: if it is no valid model file, or several sets of weights belong to it.
    """
    return single(path, artifacts.load(path, Model, remedy="train a fold, or name another model"))


def single(path: Path, model: Model) -> Model:
    """A model that one set of weights belongs to.

    Args:
        path: its file, for messages.
        model: its content.

    Raises:
        ArtifactError: if several sets of weights belong to it.
    """
    if len(model.members) != 1:
        raise ArtifactError(
            f"holds {len(model.members)} sets of weights, where one is wanted",
            place=artifacts.shown(path),
            remedy="name the model of one fold",
        )
    return model


def _fold_of(task: TaskFolder, words: Sequence[str], text: str, purpose: Purpose) -> FoldFolder:
    folders = task.fold_folders()
    meant = [folder for folder in folders if _is_meant(folder, words)]
    if folders and not meant:
        raise unknown_name("model", text, [_name(task, folder) for folder in folders])
    finished = [folder for folder in meant if folder.is_finished]
    if not finished:
        begun = "its training has not come to its end" if meant else "nothing is trained yet"
        raise WorkspaceError(begun, place=text, remedy="train it, or name another model")
    finished = _narrowed(finished, lambda folder: _is_usual(folder, words))
    finished = _narrowed(finished, lambda folder: folder.configuration == purpose.configuration)
    if task.name == purpose.task:
        finished = _narrowed(finished, lambda folder: folder.fold == purpose.fold)
    are_folds = len({(one.plan, one.configuration, one.run) for one in finished}) == 1
    if len(finished) > 1 and not (are_folds and not purpose.task):
        names = ", ".join(_name(task, folder) for folder in finished)
        raise AutosegError(f"'{text}' may mean {names}", remedy="name one of them")
    return finished[0]


def _narrowed(
    folders: list[FoldFolder], is_likelier: Callable[[FoldFolder], bool]
) -> list[FoldFolder]:
    """Those that are likelier to be meant; all if none is."""
    return [folder for folder in folders if is_likelier(folder)] or folders


def _is_meant(folder: FoldFolder, words: Sequence[str]) -> bool:
    """Whether the words name the folder, in the order of its path, some left out."""
    parts = iter((folder.plan, folder.configuration, folder.run, folder.fold))
    return all(any(word in (part, _number(part)) for part in parts) for word in words)


def _is_usual(folder: FoldFolder, words: Sequence[str]) -> bool:
    """Whether plan and run are named, or the default ones."""
    return all(name in (DEFAULT, *words) for name in (folder.plan, folder.run))


def _number(part: str) -> str:
    """What users write for a fold."""
    return part.removeprefix("fold")


def _name(task: TaskFolder, folder: FoldFolder) -> str:
    """The shortest name of a fold that leaves no doubt."""
    named = [folder.plan if folder.plan != DEFAULT else "", folder.configuration]
    named += [folder.run if folder.run != DEFAULT else "", folder.fold]
    return "/".join([task.name, *filter(None, named)])


def _no_such_model(text: str, workspace: Workspace) -> AutosegError:
    """There is nothing of that name; what there is, is listed."""
    if Path(text).suffix == ".json" or Path(text).is_absolute():
        return WorkspaceError(
            "there is no model here",
            place=text,
            remedy=f"name the bundle.json of a trained fold, its folder, or {_EXAMPLE}",
        )
    tasks = [workspace.task(name) for name in workspace.task_names()]
    known = [_name(t, folder) for t in tasks for folder in t.fold_folders() if folder.is_finished]
    return unknown_name("model", text, known, place=workspace.root)
