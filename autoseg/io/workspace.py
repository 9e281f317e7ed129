"""Where everything lies: the only place that knows file and folder names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from glob import escape as glob_escape
from pathlib import Path

from autoseg.errors import AutosegError, DataError, WorkspaceError
from autoseg.io import atomic, nnunet_folders
from autoseg.io.fold_folder import FoldFolder, check_name
from autoseg.io.lookup import ambiguous, folders_below, suggestion

WORKSPACE_NAME = "autoseg_workspace"
WORKSPACE_VARIABLE = "AUTOSEG_WORKSPACE"
REPORT_NAME = "report.json"
EVERYTHING = "everything"
"""The fold that trains on all cases and holds out none."""


@dataclass(frozen=True, slots=True)
class TaskFolder:
    """Where everything about one task lies.

    Args:
        root: the task's folder in the workspace.
    """

    root: Path

    @property
    def name(self) -> str:
        """The task's name."""
        return self.root.name

    @property
    def exists(self) -> bool:
        """Whether the task is known: its ``task.json`` exists."""
        return self.task_file.is_file()

    @property
    def lock(self) -> Path:
        """Lock file of the commands that change the task's own files."""
        return self.root / ".lock"

    @property
    def task_file(self) -> Path:
        """The data set: a ``Dataset``."""
        return self.root / "task.json"

    @property
    def description_file(self) -> Path:
        """The description of raw data that brought none, as ``autoseg init`` writes it."""
        return self.root / "dataset.json"

    @property
    def fingerprint_file(self) -> Path:
        """What was measured: a ``Fingerprint``."""
        return self.root / "fingerprint.json"

    @property
    def measured(self) -> Path:
        """Folder of what was measured case by case."""
        return self.root / "measured"

    @property
    def splits_file(self) -> Path:
        """The folds: ``Splits``."""
        return self.root / "splits.json"

    @property
    def mended(self) -> Path:
        """Folder of the mended copies of raw files."""
        return self.root / "mended"

    @property
    def mended_file(self) -> Path:
        """What was mended: ``Mends``."""
        return self.mended / "mended.json"

    @property
    def plans(self) -> Path:
        """Folder of the plans."""
        return self.root / "plans"

    @property
    def selection(self) -> Path:
        """The selected model."""
        return self.root / "selection.json"

    @property
    def held_out(self) -> Path:
        """Folder of what models got right in cases they held out."""
        return self.root / "held_out"

    @property
    def reports(self) -> Path:
        """Folder of the reports."""
        return self.root / "reports"

    @property
    def models(self) -> Path:
        """Folder of all trained models."""
        return self.root / "models"

    def plan_file(self, name: str) -> Path:
        """The file of a plan.

        Raises:
            DataError: if the name would leave the folder; so everywhere in this class.
        """
        return self.plans / f"{check_name(name, 'plan')}.json"

    def measured_file(self, case: str) -> Path:
        """What was measured of a case."""
        return self.measured / f"{check_name(case, 'case')}.npz"

    def held_out_file(self, case: str) -> Path:
        """What models got right in a case."""
        return self.held_out / f"{check_name(case, 'case')}.json"

    def plan_names(self) -> list[str]:
        """Names of the plans there are, sorted."""
        return sorted(p.stem for p in self.plans.glob("*.json") if not p.name.startswith("."))

    def prepared(self, configuration: str, recipe_key: str) -> Path:
        """Folder of the cases prepared by a recipe (``Recipe.key``)."""
        check_name(configuration, "configuration")
        return self.root / "prepared" / f"{configuration}-{check_name(recipe_key, 'recipe')}"

    def prepared_folders(self) -> list[Path]:
        """Folders of prepared cases, sorted, whatever they were prepared for."""
        folders = (self.root / "prepared").glob("*-*")
        return sorted(f for f in folders if f.is_dir() and not f.name.startswith("."))

    def previous(self, configuration: str, weights_key: str) -> Path:
        """Folder of out-of-fold predictions for a cascade, by the hash of their weights."""
        check_name(configuration, "configuration")
        return self.root / "previous" / f"{configuration}-{check_name(weights_key, 'hash')}"

    def previous_on(self, configuration: str, weights_key: str, prepared: Path) -> Path:
        """Folder of those of them that lie on the grid of some prepared cases."""
        return self.previous(configuration, weights_key) / prepared.name

    def previous_folders(self, configuration: str) -> list[Path]:
        """Folders of such predictions, sorted, whatever the weights."""
        name = check_name(configuration, "configuration")
        return sorted((self.root / "previous").glob(f"{glob_escape(name)}-*"))

    def fold_folder(self, plan: str, configuration: str, run: str, fold: str) -> FoldFolder:
        """Where a trained fold lies, or is to lie."""
        root = self.models / _fold_path(plan, configuration, run, fold)
        return FoldFolder(root=root, plan=plan, configuration=configuration, run=run, fold=fold)

    def predictions(self, plan: str, configuration: str, run: str, fold: str) -> Path:
        """Folder of a fold's predictions of the cases it was not trained on."""
        return self.root / "predictions" / _fold_path(plan, configuration, run, fold)

    def report_file(self, plan: str, configuration: str, run: str, fold: str) -> Path:
        """The scores of those predictions."""
        return self.predictions(plan, configuration, run, fold) / REPORT_NAME

    def fast(self, plan: str, configuration: str, run: str, fold: str) -> Path:
        """Folder of such predictions made in haste (``--fast``)."""
        return self.reports / "fast" / _fold_path(plan, configuration, run, fold)

    def fast_report_file(self, plan: str, configuration: str, run: str, fold: str) -> Path:
        """The scores of those."""
        return self.fast(plan, configuration, run, fold) / REPORT_NAME

    def fold_folders(self) -> list[FoldFolder]:
        """Every fold whose training began, sorted by plan, configuration, run and fold."""
        folders = sorted(p for p in self.models.glob("*/*/*/*") if p.is_dir())
        names = [folder.relative_to(self.models).parts for folder in folders]
        return [self.fold_folder(*parts) for parts in names if not any(map(_is_hidden, parts))]


@dataclass(frozen=True, slots=True)
class Workspace:
    """The folder autoseg keeps everything in; made when something is first written.

    Args:
        root: its absolute path.
    """

    root: Path

    @property
    def current_file(self) -> Path:
        """The file that names the task later commands mean."""
        return self.root / "current"

    def task(self, name: str) -> TaskFolder:
        """Where a task lies, or is to lie.

        Raises:
            DataError: if the name would leave the workspace.
        """
        return TaskFolder(self.root / check_name(name, "task"))

    def task_names(self) -> list[str]:
        """Names of the tasks the workspace knows, sorted."""
        return sorted(path.parent.name for path in self.root.glob("*/task.json"))

    def current(self) -> str:
        """Name of the task that was planned last.

        Raises:
            WorkspaceError: if there is none.
        """
        name = self.current_file.read_text().strip() if self.current_file.is_file() else ""
        if not name or not self.task(name).exists:
            raise WorkspaceError("no task planned yet", remedy="run: autoseg plan TASK")
        return name

    def set_current(self, task: str) -> None:
        """Remember the task later commands mean.

        Raises:
            AutosegError: if the workspace cannot be written.
        """
        atomic.write_text(self.current_file, check_name(task, "task") + "\n")

    def resolve_task(self, text: str | None) -> TaskFolder:
        """Find the task a command means.

        Args:
            text: what ``--task`` said: a task's name, a path whose last part is one, or the
                number of a ``Dataset004_Name``; None for the current task.

        Raises:
            WorkspaceError: if there is no current task, or no task of that name was planned.
        """
        if text is None:
            return self.task(self.current())
        name = Path(text).expanduser().resolve().name
        known = self.task_names()
        if nnunet_folders.is_number(text):
            meant = nnunet_folders.numbered(map(Path, known), text)
            name = meant[0].name if len(meant) == 1 else name
        if name not in known:
            raise WorkspaceError(
                f"no task named '{text}' has been planned{suggestion(name, known)}",
                place=self.root,
                remedy=f"run: autoseg plan {text}",
            )
        return self.task(name)

    def locate_dataset(self, text: str, cwd: Path = Path()) -> Path:
        """Find the raw data a user means by a path or a name.

        Args:
            text: a path; or the name of a folder up to three levels below ``cwd``, of a task
                of the workspace, or of a data set in ``$nnUNet_raw``; or the number that only
                one ``Dataset004_Name`` has in these places.
            cwd: the current directory.

        Returns:
            Absolute path of the folder.

        Raises:
            DataError: if there is no such folder (near names are suggested) or several, or if
                the workspace lies inside it, where nothing may be written.
        """
        root = self._locate(text, cwd)
        if self.root.is_relative_to(root):
            raise DataError(
                f"the workspace {self.root} would lie inside the raw data",
                place=root,
                remedy="choose another place for it with -w",
            )
        return root

    def _locate(self, text: str, cwd: Path) -> Path:
        path = cwd / Path(text).expanduser()
        if path.exists():
            task = TaskFolder(path.resolve())
            is_task = task.exists and task.root.parent == self.root
            return _raw_root(task) if is_task else task.root
        return self._locate_by_name(text, cwd.resolve())

    def _locate_by_name(self, name: str, cwd: Path) -> Path:
        folders = list(folders_below(cwd, (self.root, WORKSPACE_NAME)))
        found = [folder for folder in folders if folder.name == name]
        if len(found) == 1:
            return found[0]
        if found:
            raise ambiguous(name, [folder.relative_to(cwd) for folder in found])
        known = self.task_names()
        if name in known:
            return _raw_root(self.task(name))
        of_peer = nnunet_folders.raw_folders()
        found = [folder for folder in of_peer if folder.name == name]
        if not found and nnunet_folders.is_number(name):
            tasks = nnunet_folders.numbered(map(Path, known), name)
            raw = nnunet_folders.numbered([*folders, *of_peer], name)
            roots = (*(_raw_root(self.task(task.name)) for task in tasks), *raw)
            found = list(dict.fromkeys(folder.resolve() for folder in roots))
        if len(found) == 1:
            return found[0]
        if found:
            raise ambiguous(name, found)
        hint = suggestion(name, [folder.name for folder in (*folders, *of_peer)] + known)
        beside = f", none of ${nnunet_folders.RAW_VARIABLE}" if of_peer else ""
        raise DataError(
            f"no task named '{name}': it is no path, no folder below {cwd}{beside} and no task of "
            f"the workspace {self.root}{hint}"
        )


def find_workspace(
    option: Path | None = None, cwd: Path = Path(), environ: Mapping[str, str] = os.environ
) -> Workspace:
    """Find the workspace a command means; nothing is created.

    Args:
        option: what ``--workspace`` said.
        cwd: the current directory.
        environ: environment variables.

    Returns:
        The option, else ``$AUTOSEG_WORKSPACE``, else the nearest ``autoseg_workspace`` in the
        current directory or above, else a new one in the current directory.

    Raises:
        AutosegError: if the place is a file.
    """
    here = cwd.resolve()
    if option is None and environ.get(WORKSPACE_VARIABLE):
        option = Path(environ[WORKSPACE_VARIABLE])
    if option is not None:
        root = (here / option.expanduser()).resolve()
    else:
        candidates = [folder / WORKSPACE_NAME for folder in (here, *here.parents)]
        root = next((c for c in candidates if c.is_dir()), candidates[0])
    if root.is_file():
        raise AutosegError("is a file, not a workspace", place=root, remedy="choose a folder")
    return Workspace(root)


def _fold_path(plan: str, configuration: str, run: str, fold: str) -> Path:
    return Path(
        check_name(plan, "plan"),
        check_name(configuration, "configuration"),
        check_name(run, "run"),
        check_name(fold, "fold"),
    )


def _is_hidden(name: str) -> bool:
    return name.startswith(".")


def _raw_root(task: TaskFolder) -> Path:
    # Reading JSON imports pydantic, which most uses of this module do without.
    from autoseg.core.dataset import Dataset
    from autoseg.io import artifacts

    root = artifacts.load(task.task_file, Dataset).root
    if not root.is_dir():
        raise DataError(
            "the raw data of this task are not there any more",
            place=root,
            remedy="write the path of the folder they are in now",
        )
    return root
