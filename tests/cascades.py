"""A toy task with a small cascade: 3d_lowres sees it coarser, two folds hold out every case."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from conftest import Toy

from autoseg.io.workspace import TaskFolder
from autoseg.pipeline.training import train_and_validate
from autoseg.preprocess.stage import preprocess_task
from autoseg.train.inputs import TrainingChanges, TrainRequest

LOWRES, CASCADE = "3d_lowres", "3d_cascade_fullres"
FIRST, SECOND = ["ball_00", "ball_01", "ball_02"], ["ball_03", "ball_04", "ball_05"]
QUICK = {"epochs": 1, "steps_per_epoch": 2, "validation_steps": 1}


def request(configuration: str, fold: str = "fold0", **others: object) -> TrainRequest:
    """A short run on the CPU; keys are those of the request or of its changes."""
    fields = TrainingChanges.__dataclass_fields__
    changes = TrainingChanges(**QUICK | {k: v for k, v in others.items() if k in fields})
    options = {"device": "cpu", "precision": "float32", "workers": 0, "changes": changes}
    options |= {k: v for k, v in others.items() if k not in fields}
    return TrainRequest(configuration=configuration, fold=fold, **options)


def cascade_task(toy: Toy, folder: Path) -> TaskFolder:
    """A copy of the toy task with a cascade in its plan, planned and prepared."""
    shutil.copytree(toy.workspace.root, folder / "workspace")
    task = TaskFolder(folder / "workspace" / toy.task.name)
    add_cascade(task, FIRST, SECOND)
    return task


def add_cascade(task: TaskFolder, first: list[str], second: list[str]) -> None:
    """Plan and prepare a small cascade whose folds hold out some cases or the others."""
    plan = json.loads(task.plan_file("default").read_text())
    full = plan["configurations"]["3d_fullres"]
    full["network"]["features_per_stage"] = [4, 6, 8]
    low = full | {"spacing": [4.0, 2.5, 2.0], "patch_size": [8, 16, 12]}
    plan["configurations"] |= {LOWRES: low, CASCADE: full | {"previous": LOWRES}}
    task.plan_file("default").write_text(json.dumps(plan))
    splits = json.loads(task.splits_file.read_text())
    splits["folds"] = [
        {"train": second, "validation": first},
        {"train": first, "validation": second},
    ]
    task.splits_file.write_text(json.dumps(splits))
    assert preprocess_task(task, [LOWRES, CASCADE], workers=0) == []


def train_both_stages(task: TaskFolder) -> None:
    """Both folds of 3d_lowres, then the first of the cascade."""
    for fold in ("fold0", "fold1"):
        train_and_validate(task, request(LOWRES, fold, learning_rate=0.05, steps_per_epoch=6))
    train_and_validate(task, request(CASCADE))
