"""What ``predict`` would use, written for use elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from autoseg.core.metrics import Report
from autoseg.core.model_file import FoldScores
from autoseg.core.progress import Progress, silent
from autoseg.errors import AutosegError
from autoseg.exchange.nnunet_export import ForNnunet, export_to_nnunet
from autoseg.exchange.onnx_networks import Exported, export_onnx
from autoseg.io import artifacts
from autoseg.io.model_file import (
    OpenedModel,
    PackedGroup,
    is_model_file,
    open_groups,
    write_model_file,
)
from autoseg.io.named_models import locate_folds
from autoseg.io.workspace import TaskFolder, Workspace
from autoseg.networks.from_weights import network_of
from autoseg.predict.choosing import Chosen, ModelChoice, choose_model

logger = logging.getLogger(__name__)


def find_for_export(
    model: str | None, workspace: Workspace, task: str | None, choice: ModelChoice
) -> Chosen:
    """Find the model a user wants to export.

    Args:
        model: a model file, a ``bundle.json`` or the folder of one, the name of a task, or a name
            as ``locate_folds`` takes it; None for what ``predict`` would choose.
        workspace: where names are looked up.
        task: of the workspace, the name of a task; None for the one planned last.
        choice: what is to be used of the task.

    Raises:
        AutosegError: if there is no such model.
    """
    if model is None or model in workspace.task_names():
        return choose_model(workspace.resolve_task(model or task), choice)
    if task is not None or choice.is_narrow:
        raise AutosegError(
            f"'{model}' is one model, of which nothing is chosen",
            remedy="leave out either it or all of -t, -c, -f, --plan and --run",
        )
    file = Path(model).expanduser()
    bundles = (file,) if is_model_file(file) else tuple(locate_folds(model, workspace))
    # Not where it lies: that goes into files for others.
    return Chosen(groups=(bundles,), why="as named")


def export_file(chosen: Chosen, path: Path) -> OpenedModel:
    """Write a model file, and see that what was written is sound.

    Args:
        chosen: what predicts.
        path: the file to appear; must not exist.

    Raises:
        AutosegError: if a model is broken, or the file cannot be written.
    """
    artifacts.refuse_to_replace(path)
    if is_model_file(chosen.groups[0][0]):
        raise AutosegError("is a model file already", place=chosen.groups[0][0], remedy="copy it")
    groups = [
        PackedGroup(bundles=tuple(bundles), held_out=_scores(bundles)) for bundles in chosen.groups
    ]
    return write_model_file(
        path,
        groups,
        clean_up=chosen.clean_up,
        summary=chosen.why,
        versions={"autoseg": version("autoseg")},
        check=_check,
    )


def export_networks(chosen: Chosen, folder: Path, progress: Progress = silent) -> Exported:
    """Write networks as ONNX; see ``export_onnx``.

    Args:
        chosen: what predicts.
        folder: to appear; must not exist.
        progress: called after each network.
    """
    groups, clean_up = open_groups(chosen.groups, chosen.clean_up)
    return export_onnx(groups, folder, clean_up=clean_up, progress=progress)


def export_for_nnunet(chosen: Chosen, folder: Path) -> ForNnunet:
    """Write model folders of nnU-Net; see ``export_to_nnunet``.

    Clean-up has no place there: what is left out is logged.

    Args:
        chosen: what predicts.
        folder: where the model folders go.

    Raises:
        AutosegError: if nnU-Net cannot predict with it, or it cannot be written.
    """
    bundles, *others = chosen.groups
    if others:
        raise AutosegError(
            "what predicts is an ensemble, a model folder of nnU-Net holds one configuration",
            remedy="name one with --plan, -c and --run, and export each by itself",
        )
    if is_model_file(bundles[0]):
        raise AutosegError(
            "is a model file, not the folder of one",
            place=bundles[0],
            remedy="export from the workspace that trained it",
        )
    written = export_to_nnunet(bundles, folder)
    if chosen.clean_up:
        logger.warning(
            "clean-up of %s is left out: nnU-Net has it beside its models",
            ", ".join(rule.structure for rule in chosen.clean_up),
        )
    return written


def _check(opened: OpenedModel) -> None:
    """Every network can be built on its weights."""
    for trained in (one for group in opened.groups() for one in group):
        for one in (trained, *trained.previous):
            network_of(one.model, one.weights(), one.place)


def _scores(bundles: Sequence[Path]) -> tuple[FoldScores, ...]:
    """Scores of the folds whose bundles lie in a workspace; without names of cases."""
    found = (_scores_of(path) for path in bundles)
    return tuple(scores for scores in found if scores is not None)


def _scores_of(path: Path) -> FoldScores | None:
    # Near the root there are fewer parts.
    *above, plan, configuration, run, fold, _ = (*[""] * 5, *path.resolve().parts)
    task = TaskFolder(Path(*above).parent)
    if above[-1:] != [task.models.name] or not task.exists:
        return None
    file = task.report_file(plan, configuration, run, fold)
    if not file.is_file():
        return None
    report = artifacts.load(file, Report)
    means = {name: report.mean_dice(name) for name in report.structures}
    return FoldScores(
        fold=fold,
        num_cases=len(report.cases),
        mean_dice=report.mean_foreground_dice,
        dice={name: mean for name, mean in means.items() if mean is not None},
    )
