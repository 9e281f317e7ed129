"""Finished folds whose small networks were never trained: quick to make, and each another one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from conftest import Toy

from autoseg.core.metrics import CaseScores, Report, Scores
from autoseg.core.model import Member, Model
from autoseg.core.plan import Plan
from autoseg.io import artifacts, bundle
from autoseg.io.fold_folder import FoldFolder
from autoseg.io.task import load_dataset
from autoseg.io.workspace import TaskFolder
from autoseg.networks.build import build_network


def untrained_task(toy: Toy, folder: Path) -> TaskFolder:
    """A copy of the toy task whose networks are small."""
    shutil.copytree(toy.workspace.root, folder / "workspace", ignore=_prepared)
    task = TaskFolder(folder / "workspace" / toy.task.name)
    plan = json.loads(task.plan_file("default").read_text())
    for configuration in plan["configurations"].values():
        stages = len(configuration["network"]["features_per_stage"])
        configuration["network"]["features_per_stage"] = [2, 3, 4, 4, 4, 4, 4][:stages]
        configuration["training"]["mirror_axes"] = [0]
    plan["configurations"]["3d_fullres"]["patch_size"] = [8, 16, 12]
    task.plan_file("default").write_text(json.dumps(plan))
    return task


def _prepared(folder: str, names: list[str]) -> list[str]:
    return ["prepared"] if "prepared" in names else []


def finish_fold(
    task: TaskFolder, configuration: str, fold: str = "fold0", run: str = "default", seed: int = 0
) -> FoldFolder:
    """Leave a fold as training would, with weights drawn by a seed."""
    plan = artifacts.load(task.plan_file("default"), Plan)
    dataset = load_dataset(task)
    planned = plan.configurations[configuration]
    folder = task.fold_folder("default", configuration, run, fold)
    model = Model(
        task=task.name,
        run=run,
        channels=plan.channels,
        labels=dataset.labels,
        plan=plan,
        training=planned.training,
        held_out=("ball_00",),
        members=(Member(configuration=configuration, fold=fold, weights=folder.weights.name),),
        min_spacing=(2.5, 1.25, 1.0),
        max_spacing=(2.5, 1.25, 1.25),
        versions={},
    )
    bundle.save_model(folder.bundle, model)
    torch.manual_seed(seed)
    network = build_network(planned.network, 1, dataset.labels.num_outputs, deep_supervision=False)
    bundle.save_weights(folder.weights, network.state_dict())
    return folder


def score_fold(task: TaskFolder, configuration: str, fold: str, dice: float) -> None:
    """Leave a fold's report, of one case with that Dice."""
    structures = tuple(structure.name for structure in load_dataset(task).labels.structures)
    scores = Scores(true_positives=1, false_positives=1, false_negatives=1, dice=dice, iou=dice / 2)
    report = Report(
        predictions="there",
        references="here",
        structures=structures,
        cases=(CaseScores(name="ball_00", structures=dict.fromkeys(structures, scores)),),
    )
    artifacts.save(task.report_file("default", configuration, "default", fold), report)
