"""``autoseg report``: what there is about a task -> one HTML file."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from autoseg.core.annotation import annotated_indices
from autoseg.core.dataset import Dataset
from autoseg.core.metrics import Report
from autoseg.core.problem import Problem
from autoseg.core.progress import Progress, silent
from autoseg.core.selection import Selection
from autoseg.errors import ArtifactError, AutosegError
from autoseg.figures.cases import CasePicture
from autoseg.figures.layers import SliceLayers, draw_layers
from autoseg.io import artifacts, atomic
from autoseg.io.predict_inputs import label_files
from autoseg.io.selected import outdated
from autoseg.io.task import load_dataset, load_fingerprint, load_plan, load_splits
from autoseg.io.workspace import TaskFolder
from autoseg.report.choice import ChosenCase, cases_to_show, choose
from autoseg.report.material import Material, ShownCase, Trained, TrainedFold
from autoseg.report.page import build_page

logger = logging.getLogger(__name__)


def write_report(
    task: TaskFolder,
    plan_name: str,
    output: Path,
    problems: Sequence[Problem],
    trained: Sequence[Trained],
    progress: Progress = silent,
) -> Path:
    """Write all that is known about a task and a plan as one page.

    Args:
        task: the task's folder.
        plan_name: name of the plan.
        output: the file.
        problems: what is wrong with the data.
        trained: every configuration and run of the plan, as ``load_trained`` reads them.
        progress: called after each case that is drawn.

    Returns:
        ``output``.

    Raises:
        AutosegError: if the task is not planned, or the file cannot be written.
    """
    dataset = load_dataset(task)
    selection = _selection(task)
    chosen, why = choose(trained, selection, plan_name)
    material = Material(
        dataset=dataset,
        fingerprint=load_fingerprint(task),
        splits=load_splits(task) if task.splits_file.is_file() else None,
        plan=load_plan(task, plan_name),
        plan_name=plan_name,
        problems=tuple(problems),
        trained=tuple(trained),
        chosen=chosen,
        why=why,
        selection=selection,
        outdated=None if selection is None else outdated(task, selection),
        shown=() if chosen is None else _shown(task, plan_name, dataset, chosen, progress),
        version=version("autoseg"),
        made_on=date.today().isoformat(),
    )
    atomic.write_text(output, build_page(material))
    return output


def load_trained(task: TaskFolder, plan_name: str) -> list[Trained]:
    """Every configuration and run of a plan whose training began, without pooled scores.

    A file that cannot be read is left out, and told.
    """
    folds: dict[tuple[str, str], list[TrainedFold]] = {}
    scores: dict[tuple[str, str], dict[str, Report]] = {}
    for folder in task.fold_folders():
        if folder.plan != plan_name:
            continue
        key = (folder.configuration, folder.run)
        fold = TrainedFold(
            fold=folder.fold, history=_history(folder.history), is_finished=folder.is_finished
        )
        folds.setdefault(key, []).append(fold)
        report = _scores(task.report_file(plan_name, *key, folder.fold))
        if report is not None:
            scores.setdefault(key, {})[folder.fold] = report
    return [
        Trained(
            configuration=configuration,
            run=run,
            folds=tuple(of_key),
            scores=scores.get((configuration, run), {}),
            pooled=None,
        )
        for (configuration, run), of_key in folds.items()
    ]


def _selection(task: TaskFolder) -> Selection | None:
    if not task.selection.is_file():
        return None
    try:
        return artifacts.load(task.selection, Selection)
    except ArtifactError as error:
        logger.warning("left out: %s", error)
        return None


def _scores(path: Path) -> Report | None:
    if not path.is_file():
        return None
    try:
        report = artifacts.load(path, Report)
    except ArtifactError as error:
        logger.warning("left out: %s", error)
        return None
    return report if report.cases else None


def _history(path: Path) -> list[Mapping[str, Any]]:
    """The epochs of a run; a line that a killed run left incomplete is skipped."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    rows: list[Mapping[str, Any]] = []
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if (
            isinstance(row, dict)
            and {"epoch", "elapsed_s", "epoch_s", "learning_rate"} <= row.keys()
        ):
            rows.append(row)
    return rows


def _shown(
    task: TaskFolder, plan: str, dataset: Dataset, chosen: Trained, progress: Progress
) -> tuple[ShownCase, ...]:
    cases = cases_to_show(chosen)
    shown: list[ShownCase] = []
    progress(0, len(cases))
    for number, case in enumerate(cases, start=1):
        folder = task.predictions(plan, chosen.configuration, chosen.run, case.fold)
        shown.append(_shown_case(folder, dataset, case))
        progress(number, len(cases), case.scores.name)
    return tuple(shown)


def _shown_case(folder: Path, dataset: Dataset, case: ChosenCase) -> ShownCase:
    slices: tuple[SliceLayers, ...] = ()
    problem = None
    try:
        slices = _slices(folder, dataset, case.scores.name)
    except FileNotFoundError as error:
        # The page does without: a report of models whose raw data are elsewhere is of use, too.
        logger.info("%s: no picture, there is no %s", case.scores.name, error)
        problem = "No picture: its image, reference or prediction is not there any more."
    except (AutosegError, OSError, ValueError) as error:
        logger.warning("%s: no picture: %s", case.scores.name, error)
        problem = "No picture: its files cannot be drawn; autoseg report says why."
    return ShownCase(
        name=case.scores.name,
        fold=case.fold,
        roles=case.roles,
        mean_dice=case.mean_dice,
        dice={name: case.scores.value("dice", name) for name in case.scores.structures},
        slices=slices,
        problem=problem,
    )


def _slices(folder: Path, dataset: Dataset, name: str) -> tuple[SliceLayers, ...]:
    known = {case.name: case for case in dataset.cases}
    predictions = label_files(folder) if folder.is_dir() else {}
    case, prediction = known.get(name), predictions.get(name)
    if case is None or prediction is None:
        raise FileNotFoundError(f"{folder / name}")
    images, reference = dataset.image_paths(case), dataset.label_path(case)
    for path in (*images, reference):
        if not path.exists():
            raise FileNotFoundError(str(path))
    labels = dataset.labels
    unknown = frozenset(range(1, labels.num_classes)) - annotated_indices(labels, case.annotated)
    maps = (("reference", reference), ("prediction", prediction))
    picture = CasePicture(title=name, images=images, maps=maps)
    return draw_layers(picture, labels, unknown)
