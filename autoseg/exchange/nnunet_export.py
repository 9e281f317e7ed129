"""Trained models as folders that nnU-Net v2 predicts with.

nnU-Net lists a tensor under every name by which it is reached (a decoder holds the encoder, a
block its layers twice) and loads nothing less.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from autoseg.core.fingerprint import Fingerprint
from autoseg.core.model import Model
from autoseg.core.plan import NetworkSpec
from autoseg.errors import AutosegError
from autoseg.exchange.nnunet_export_plans import (
    Json,
    dataset_json,
    file_ending,
    fingerprint_json,
    plans_json,
    refusals,
)
from autoseg.io import atomic, bundle, formats
from autoseg.io.task import known_fingerprint, load_dataset
from autoseg.io.workspace import EVERYTHING, TaskFolder
from autoseg.networks.nnunet_names import nnunet_name

if TYPE_CHECKING:
    from torch import Tensor

TRAINER = "nnUNetTrainer"
CHECKPOINT = "checkpoint_final.pth"
_PLAN_NAMES = {"default": "nnUNetPlans"}

_IN_BLOCK = re.compile(r"(.+\.)(conv|norm)(\.(?:weight|bias))")
_POSITION = {"conv": 0, "norm": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class ForNnunet:
    """What was written for nnU-Net.

    Attributes:
        folders: one per configuration, a previous stage before the stage that reads it.
        folds: what its commands call the folds in each of them.
        reads_previous: of each folder, whether it needs predictions of another one.
        ending: that images must have.
    """

    folders: tuple[Path, ...]
    folds: tuple[tuple[str, ...], ...]
    reads_previous: tuple[bool, ...]
    ending: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    model: Model
    bundle: Path

    @property
    def weights(self) -> Path:
        return self.bundle.parent / self.model.members[0].weights

    @property
    def configuration(self) -> str:
        return self.model.members[0].configuration

    @property
    def fold(self) -> str:
        return self.model.members[0].fold


def peer_names(name: str, network: NetworkSpec) -> tuple[str, ...]:
    """All names that a tensor of our networks has in nnU-Net's.

    Args:
        name: in the ``state_dict`` of ``UNet`` or ``ResidualUNet``.
        network: which of the two, and its strides.

    Raises:
        ValueError: if no network of ours has such a tensor.
    """
    found = [nnunet_name(name, network)]
    inside = _IN_BLOCK.fullmatch(found[0])
    if inside is not None:
        before, kind, after = inside.groups()
        found.append(f"{before}all_modules.{_POSITION[kind]}{after}")
    if found[0].startswith("encoder."):
        found += [f"decoder.{alias}" for alias in found]
    return tuple(found)


def peer_weights(weights: Mapping[str, Tensor], network: NetworkSpec) -> dict[str, Tensor]:
    """Weights of a network of ours as nnU-Net loads them, in float32.

    Args:
        weights: by our names.
        network: whose weights they are.
    """
    return {
        theirs: tensor.detach().cpu().float().contiguous()
        for ours, tensor in weights.items()
        for theirs in peer_names(ours, network)
    }


def export_to_nnunet(bundles: Sequence[Path], folder: Path) -> ForNnunet:
    """Write trained folds as model folders of nnU-Net v2.

    ``nnUNetv2_predict_from_modelfolder`` predicts with each of them. A previous stage is written,
    too: nnU-Net wants its predictions made first.

    Args:
        bundles: ``bundle.json`` of each fold, of one plan; of several configurations if wished.
        folder: gets a folder ``nnUNetTrainer__<plan>__<configuration>`` for each configuration.

    Returns:
        What was written.

    Raises:
        AutosegError: if nnU-Net cannot do what a model does, the models do not belong together,
            or there is such a folder already.
    """
    sources = _with_previous(bundles)
    _check(sources)
    by_configuration: dict[str, list[_Source]] = {}
    for source in sources:
        by_configuration.setdefault(source.configuration, []).append(source)
    # A plan may have got further configurations since the first of them was trained.
    newest = max(sources, key=lambda source: len(source.model.plan.configurations))
    name = _PLAN_NAMES.get(newest.model.plan.name, newest.model.plan.name)
    targets = {key: folder / f"{TRAINER}__{name}__{key}" for key in by_configuration}
    for target in targets.values():
        if target.exists():
            remedy = "name another folder, or take it away"
            raise AutosegError("exists already", place=target, remedy=remedy)
    files = _side_files(newest, name)
    for key, members in by_configuration.items():
        with atomic.atomic_folder(targets[key]) as partial:
            _write_folder(partial, members, files)
    return ForNnunet(
        folders=tuple(targets.values()),
        folds=tuple(tuple(_fold(s.fold) for s in found) for found in by_configuration.values()),
        reads_previous=tuple(
            found[0].model.configuration.previous is not None for found in by_configuration.values()
        ),
        ending=files["dataset.json"]["file_ending"],
    )


# What is to be written


def _with_previous(bundles: Sequence[Path]) -> list[_Source]:
    """The models and all they build on, the latter first; each set of weights once."""
    found: dict[tuple[str, str], tuple[str, _Source]] = {}
    for path in bundles:
        for source in _chain(path):
            key = (source.configuration, source.fold)
            digest = atomic.digest(source.weights)
            if key in found and found[key][0] != digest:
                raise AutosegError(
                    f"there are two models of {source.configuration} {source.fold}: "
                    f"{found[key][1].weights} and {source.weights}",
                    place=path,
                    remedy="export one run, or one fold of the cascade, at a time",
                )
            found.setdefault(key, (digest, source))
    return [source for _, source in found.values()]


def _chain(path: Path) -> Iterator[_Source]:
    model = bundle.load_model(path)
    if len(model.members) != 1:
        raise AutosegError(
            f"holds {len(model.members)} sets of weights, where one is wanted",
            place=path,
            remedy="name the model of one fold",
        )
    for previous in model.previous:
        yield from _chain(path.parent / previous)
    yield _Source(model=model, bundle=path)


def _check(sources: Sequence[_Source]) -> None:
    first = sources[0]
    names = {source.configuration for source in sources}
    for source in sources:
        found = refusals(source.model)
        if found:
            raise AutosegError(
                "; ".join(found),
                place=source.model.label,
                remedy="such a model can be used with autoseg only",
            )
        _check_fold(source)
        if _essence(source.model, names) != _essence(first.model, names):
            raise AutosegError(
                f"was made with another plan or other labels than {first.model.label}",
                place=source.model.label,
                remedy="export them into different folders",
            )


def _check_fold(source: _Source) -> None:
    if source.fold != EVERYTHING and not source.fold.removeprefix("fold").isdigit():
        raise AutosegError(
            f"nnU-Net numbers its folds; '{source.fold}' is none", place=source.model.label
        )


def _essence(model: Model, names: Set[str]) -> tuple[object, ...]:
    """What models written together share: all that their predictions depend on."""
    common = names & model.plan.configurations.keys()
    planned = {name: _predicted(model, name) for name in common}
    return (model.task, model.plan.name, model.labels, model.channels, planned)


def _predicted(model: Model, configuration: str) -> tuple[object, ...]:
    planned = model.plan.configurations[configuration]
    return (model.plan.recipe(configuration), planned.patch_size, planned.network)


def _side_files(source: _Source, name: str) -> dict[str, Json]:
    """The JSON files of a model folder; more of them is known while the task is around."""
    fingerprint, num_cases, ending = _task_of(source)
    ending = file_ending(source.model, ending)
    return {
        "plans.json": plans_json(source.model, name, ending, fingerprint),
        "dataset.json": dataset_json(source.model, num_cases, ending),
        "dataset_fingerprint.json": fingerprint_json(source.model, fingerprint),
    }


def _task_of(source: _Source) -> tuple[Fingerprint | None, int | None, str | None]:
    """Measurements, number of cases and ending of images, where the model lies in its task."""
    parents = source.bundle.resolve().parents
    task = TaskFolder(parents[5]) if len(parents) > 5 else None
    if task is None or parents[4] != task.models or not task.exists:
        return None, None, None
    dataset = load_dataset(task)
    if dataset.labels != source.model.labels:
        return None, None, None
    ending = formats.suffix_of(dataset.cases[0].images[0]) if dataset.cases else None
    return known_fingerprint(task), len(dataset.cases), ending


# The files


def _write_folder(folder: Path, members: Sequence[_Source], files: Mapping[str, Json]) -> None:
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, indent=4, allow_nan=False) + "\n")
    for source in members:
        fold = folder / f"fold_{_fold(source.fold)}"
        fold.mkdir()
        torch.save(_checkpoint(source, files), fold / CHECKPOINT)


def _fold(name: str) -> str:
    return "all" if name == EVERYTHING else name.removeprefix("fold")


def _checkpoint(source: _Source, files: Mapping[str, Json]) -> Json:
    """What nnU-Net keeps of a training: plain values and tensors."""
    fold = _fold(source.fold)
    return {
        "network_weights": peer_weights(
            bundle.load_weights(source.weights), source.model.configuration.network
        ),
        "optimizer_state": None,
        "grad_scaler_state": None,
        "logging": {},
        "_best_ema": None,
        "current_epoch": source.model.training.last_epoch,
        "init_args": {
            "plans": files["plans.json"],
            "configuration": source.configuration,
            "fold": int(fold) if fold.isdigit() else fold,
            "dataset_json": files["dataset.json"],
        },
        "trainer_name": TRAINER,
        "inference_allowed_mirroring_axes": _mirror_axes(source.model),
    }


def _mirror_axes(model: Model) -> tuple[int, ...] | None:
    return model.training.mirror_axes or None
