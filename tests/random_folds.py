"""Folds with random weights, of a toy task with a cascade in its plan."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from conftest import Toy

from autoseg.core.model import Member, Model
from autoseg.io import bundle
from autoseg.io.task import load_dataset, load_fingerprint, load_plan
from autoseg.io.workspace import TaskFolder
from autoseg.networks.build import build_network

FULL, CASCADE, LOW = "3d_fullres", "3d_cascade_fullres", "3d_lowres"


def small_cascade_task(toy: Toy, folder: Path) -> TaskFolder:
    """A copy of the toy task whose 3D networks are small, with a cascade in its plan."""
    shutil.copytree(toy.workspace.root, folder / "workspace")
    task = TaskFolder(folder / "workspace" / toy.task.name)
    file = task.plan_file("default")
    plan = json.loads(file.read_text())
    full = plan["configurations"][FULL]
    full["network"]["features_per_stage"] = [2, 3, 4]
    low = full | {"spacing": [4.0, 2.5, 2.0]}
    plan["configurations"] |= {LOW: low, CASCADE: full | {"previous": LOW}}
    file.write_text(json.dumps(plan))
    return task


def make_fold(task, configuration=FULL, fold="fold0", seed=0, previous=(), **changes):
    """A model file with random weights."""
    plan, dataset = load_plan(task, "default"), load_dataset(task)
    fingerprint = load_fingerprint(task)
    planned = plan.configurations[configuration]
    folder = task.fold_folder("default", configuration, changes.pop("run", "default"), fold)
    model = Model(
        task=task.name,
        run=folder.run,
        channels=dataset.channels,
        labels=dataset.labels,
        plan=plan,
        training=planned.training.model_copy(update={"mirror_axes": (0, 2)}),
        held_out=(),
        members=(Member(configuration=configuration, fold=fold, weights="weights.safetensors"),),
        previous=tuple(f"previous/{path.parent.name}/bundle.json" for path in previous),
        min_spacing=fingerprint.min_spacing,
        max_spacing=fingerprint.max_spacing,
        versions={},
    ).model_copy(update=changes)
    torch.manual_seed(seed)
    inputs = planned.num_inputs(model.channels, model.labels)
    network = build_network(planned.network, inputs, dataset.labels.num_outputs, True)
    bundle.save_weights(folder.weights, network.state_dict())
    for path in previous:
        shutil.copytree(path.parent, folder.previous(path.parent.name))
    bundle.save_model(folder.bundle, model)
    return folder.bundle
