"""Folds of small networks that were never trained, with the cases they held out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from conftest import Toy

from autoseg.core.model import Member, Model
from autoseg.core.plan import Plan
from autoseg.io import artifacts, bundle
from autoseg.io.fold_folder import FoldFolder
from autoseg.io.task import load_dataset
from autoseg.io.workspace import TaskFolder
from autoseg.networks.build import build_network

FLAT, FULL = "2d", "3d_fullres"
FIRST, SECOND = ("ball_00", "ball_01"), ("ball_03", "ball_05")
FOLDS = {"fold0": FIRST, "fold1": SECOND}


def task_of(toy: Toy, folder: Path) -> TaskFolder:
    """A workspace of its own for the toy data: small networks, no mirrors, two folds."""
    ignored = shutil.ignore_patterns("prepared")
    shutil.copytree(toy.workspace.root, folder / "workspace", ignore=ignored)
    task = TaskFolder(folder / "workspace" / toy.task.name)
    shrink(task)
    set_folds(task, FOLDS)
    return task


def shrink(task: TaskFolder) -> None:
    """Small networks, and no mirrors."""
    plan = json.loads(task.plan_file("default").read_text())
    for configuration in plan["configurations"].values():
        stages = len(configuration["network"]["features_per_stage"])
        configuration["network"]["features_per_stage"] = [4, 6, 8, 8, 8, 8, 8][:stages]
        configuration["training"]["mirror_axes"] = []
    task.plan_file("default").write_text(json.dumps(plan))


def set_folds(task: TaskFolder, held_out: Mapping[str, Sequence[str]]) -> None:
    """Fold the task so that each fold holds out some cases."""
    splits = json.loads(task.splits_file.read_text())
    names = [case.name for case in load_dataset(task).cases]
    splits["folds"] = [
        {"train": [n for n in names if n not in held], "validation": list(held)}
        for held in held_out.values()
    ]
    task.splits_file.write_text(json.dumps(splits))


def finish(
    task: TaskFolder,
    configuration: str,
    fold: str = "fold0",
    held_out: Sequence[str] = FIRST,
    *,
    run: str = "default",
    seed: int = 0,
) -> FoldFolder:
    """Leave a fold as training would, with weights drawn by a seed.

    A cascade brings along the same fold of its previous stage, which is there.
    """
    plan = artifacts.load(task.plan_file("default"), Plan)
    dataset = load_dataset(task)
    planned = plan.configurations[configuration]
    folder = task.fold_folder("default", configuration, run, fold)
    previous = ()
    if planned.previous is not None:
        before = task.fold_folder("default", planned.previous, run, fold).root
        shutil.copytree(before, folder.previous(fold))
        previous = (f"previous/{fold}/bundle.json",)
    model = Model(
        task=task.name,
        run=run,
        channels=plan.channels,
        labels=dataset.labels,
        plan=plan,
        training=planned.training,
        held_out=tuple(held_out),
        members=(Member(configuration=configuration, fold=fold, weights=folder.weights.name),),
        previous=previous,
        min_spacing=(2.5, 1.25, 1.0),
        max_spacing=(2.5, 1.25, 1.25),
        versions={},
    )
    bundle.save_model(folder.bundle, model)
    torch.manual_seed(seed)
    num_inputs = planned.num_inputs(plan.channels, dataset.labels)
    network = build_network(
        planned.network, num_inputs, dataset.labels.num_outputs, deep_supervision=False
    )
    bundle.save_weights(folder.weights, network.state_dict())
    return folder


def finish_all(task: TaskFolder, configurations: Sequence[str] = (FLAT, FULL)) -> None:
    """Both folds of some configurations."""
    for number, configuration in enumerate(configurations):
        for index, (fold, held) in enumerate(FOLDS.items()):
            finish(task, configuration, fold, held, seed=10 * number + index)
