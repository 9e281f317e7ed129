"""Folders of models that nnU-Net v2 trained: what it writes beside the weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoseg.core.geometry import Triple
from autoseg.core.labels import LabelSpace
from autoseg.errors import ArtifactError, AutosegError, DataError
from autoseg.io import artifacts, dataset_json, nnunet
from autoseg.io.layouts.found import Problems
from autoseg.io.nnunet_plans import PeerPlans, read_plans
from autoseg.io.torch_file import StoredTensor, TorchFile
from autoseg.io.workspace import EVERYTHING

PLANS, DESCRIPTION, SUMMARY = "plans.json", "dataset.json", "summary.json"
CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_best.pth")
"""Files of weights, the one that counts first."""
_DEPTH = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerFold:
    """One trained fold.

    Attributes:
        name: what autoseg calls it, such as ``"fold0"`` or ``"everything"``.
        checkpoint: file of the weights.
        held_out: cases it was validated with, as far as its summary says.
    """

    name: str
    checkpoint: Path
    held_out: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerModel:
    """A folder ``TRAINER__PLANS__CONFIGURATION``.

    Attributes:
        root: the folder.
        plans: what its ``plans.json`` says.
        channels: channel names, in order.
        labels: what the outputs mean.
        min_spacing: smallest spacing per axis of the training data, mm, ``(z, y, x)``.
        max_spacing: largest.
        folds: those with weights.
    """

    root: Path
    plans: PeerPlans
    channels: tuple[str, ...]
    labels: LabelSpace
    min_spacing: Triple
    max_spacing: Triple
    folds: tuple[PeerFold, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What a checkpoint says besides its numbers.

    Attributes:
        trainer: name of nnU-Net's trainer.
        configuration: name of the configuration.
        mirror_axes: axes of the patch that predictions may mirror.
        epochs: how long the training took.
        weights: tensors that have not been read yet, by nnU-Net's names.
    """

    trainer: str
    configuration: str
    mirror_axes: tuple[int, ...]
    epochs: int
    weights: Mapping[str, StoredTensor]


def model_folders(root: Path) -> list[Path]:
    """Folders of models in a folder or below, sorted; itself if it is one."""
    if _is_model(root):
        return [root]
    below = (
        path.parent for path in root.rglob(PLANS) if len(path.relative_to(root).parts) < _DEPTH
    )
    return sorted(folder for folder in below if _is_model(folder))


def _is_model(folder: Path) -> bool:
    has_files = all((folder / name).is_file() for name in (PLANS, DESCRIPTION))
    return has_files and any(_checkpoint_of(fold) for fold in folder.glob("fold_*"))


def _checkpoint_of(fold: Path) -> Path | None:
    return next((fold / name for name in CHECKPOINTS if (fold / name).is_file()), None)


def read_model_folder(root: Path) -> PeerModel:
    """Read all but the weights of a model.

    Args:
        root: a folder as ``model_folders`` finds it.

    Raises:
        AutosegError: if a file is broken or they do not fit together.
    """
    plans = read_plans(root / PLANS)
    file = root / DESCRIPTION
    data, problems = dataset_json.read(file), Problems(file)
    channels = dataset_json.channels(data, problems)
    labels = dataset_json.labels(data, problems)
    if problems or labels is None:
        findings = "; ".join(problem.finding for problem in problems)
        raise DataError(findings, place=artifacts.shown(file))
    if len(channels) != len(plans.intensities):
        raise ArtifactError(
            f"names {len(channels)} channels, but {PLANS} is for {len(plans.intensities)}",
            place=artifacts.shown(file),
        )
    smallest, largest = _spacings(root, plans, labels)
    folds = [_fold(folder, data.get("file_ending")) for folder in sorted(root.glob("fold_*"))]
    return PeerModel(
        root=root,
        plans=plans,
        channels=channels,
        labels=labels,
        min_spacing=smallest,
        max_spacing=largest,
        folds=tuple(fold for fold in folds if fold is not None),
    )


def _fold(folder: Path, ending: object) -> PeerFold | None:
    checkpoint, number = _checkpoint_of(folder), folder.name.removeprefix("fold_")
    if checkpoint is None or not (number.isdigit() or number == "all"):
        return None
    return PeerFold(
        name=EVERYTHING if number == "all" else f"fold{int(number)}",
        checkpoint=checkpoint,
        held_out=() if number == "all" else _held_out(folder, str(ending or "")),
    )


def _held_out(folder: Path, ending: str) -> tuple[str, ...]:
    """Cases of the summary of the fold's validation; none where it cannot be read."""
    try:
        rows = artifacts.read_object(folder / "validation" / SUMMARY).get("metric_per_case")
    except (AutosegError, FileNotFoundError):
        return ()
    files = [row.get("prediction_file") for row in rows or () if isinstance(row, dict)]
    names = {str(file).replace("\\", "/").rpartition("/")[2] for file in files if file}
    return tuple(sorted(name.removesuffix(ending) for name in names))


def read_splits(path: Path) -> dict[str, tuple[str, ...]]:
    """Read which cases each fold of nnU-Net held out.

    Args:
        path: a ``splits_final.json``.

    Returns:
        Names of cases by our name of the fold.

    Raises:
        ArtifactError: if it is no such file.
    """
    try:
        rows = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"cannot be read ({error})", place=artifacts.shown(path)) from error
    folds = rows if isinstance(rows, list) else []
    held_out = [row.get("val") if isinstance(row, dict) else None for row in folds]
    if not folds or not all(_are_names(names) for names in held_out):
        raise ArtifactError(
            "should list the folds, with the names of the cases in 'val'",
            place=artifacts.shown(path),
            remedy="name the splits_final.json the model was trained with",
        )
    return {f"fold{number}": tuple(sorted(names)) for number, names in enumerate(held_out) if names}


def _are_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _spacings(root: Path, plans: PeerPlans, labels: LabelSpace) -> tuple[Triple, Triple]:
    """Smallest and largest spacing of the data; the median for both where nothing else is known."""
    file = root / nnunet.FINGERPRINT
    if file.is_file():
        data = artifacts.read_object(file)
        measured = nnunet.read_fingerprint(file, data, labels.values)
        return measured.min_spacing, measured.max_spacing
    median = plans.median_spacing
    if median is None:
        planned = next(iter(plans.configurations.values())).spacing
        median = (planned[0], planned[-2], planned[-1])
    raw = [0.0, 0.0, 0.0]
    for axis, mm in zip(plans.transpose, median, strict=True):
        raw[axis] = mm
    return (raw[0], raw[1], raw[2]), (raw[0], raw[1], raw[2])


def read_checkpoint(file: TorchFile, path: Path, folder: Path) -> Checkpoint:
    """Understand a checkpoint.

    Args:
        file: the checkpoint, open.
        path: its path, for messages.
        folder: of the model, whose name tells what the checkpoint leaves out.

    Raises:
        ArtifactError: if it is none of nnU-Net v2.
    """
    content = file.content if isinstance(file.content, dict) else {}
    weights = content.get("network_weights")
    if not isinstance(weights, dict) or not all(
        isinstance(name, str) and isinstance(tensor, StoredTensor)
        for name, tensor in weights.items()
    ):
        raise ArtifactError(
            "is no checkpoint of nnU-Net v2: 'network_weights' is missing or holds more than "
            "tensors",
            place=artifacts.shown(path),
        )
    trainer, _, configuration = _names(folder)
    arguments = content.get("init_args")
    arguments = arguments if isinstance(arguments, dict) else {}
    epochs = content.get("current_epoch")
    return Checkpoint(
        trainer=_text(content.get("trainer_name"), trainer),
        configuration=_text(arguments.get("configuration"), configuration),
        mirror_axes=_axes(content.get("inference_allowed_mirroring_axes"), path),
        epochs=max(1, epochs) if type(epochs) is int else 1,
        weights=weights,
    )


def _names(folder: Path) -> tuple[str, str, str]:
    """Trainer, plans and configuration by the folder's name."""
    parts = folder.name.split("__")
    return (parts[0], parts[1], parts[2]) if len(parts) == 3 else ("", "", "")


def _text(value: Any, otherwise: str) -> str:  # noqa: ANN401 - whatever the checkpoint holds
    return value if isinstance(value, str) and value else otherwise


def _axes(value: object, path: Path) -> tuple[int, ...]:
    axes = value if isinstance(value, (tuple, list)) else ()
    if (value is not None and value is not axes) or not all(
        type(axis) is int and 0 <= axis < 3 for axis in axes
    ):
        raise ArtifactError(
            "inference_allowed_mirroring_axes: should be some of 0, 1, 2",
            place=artifacts.shown(path),
        )
    return tuple(sorted(set(axes)))
