"""Short runs of a small network on the toy data set."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from conftest import Toy

from autoseg.io import bundle
from autoseg.io.fold_folder import FoldFolder
from autoseg.io.workspace import TaskFolder
from autoseg.networks import precision
from autoseg.train.inputs import TrainingChanges, TrainRequest

SHORT = {"epochs": 2, "steps_per_epoch": 3, "validation_steps": 1}


def small_task(toy: Toy, folder: Path, monkeypatch: pytest.MonkeyPatch) -> TaskFolder:
    """A copy of the toy task whose 2d network is small and whose epochs are short.

    Every probe takes as long as any other, so that two runs compute in the same layout.
    """
    monkeypatch.setattr(precision, "_seconds", lambda step: 1.0)
    shutil.copytree(toy.workspace.root, folder / "workspace")
    task = TaskFolder(folder / "workspace" / toy.task.name)
    plan = json.loads(task.plan_file("default").read_text())
    flat = plan["configurations"]["2d"]
    flat["network"]["features_per_stage"] = [4, 8, 16]
    flat["batch_size"] = 2
    flat["training"] |= SHORT
    task.plan_file("default").write_text(json.dumps(plan))
    return task


def request(**changes: object) -> TrainRequest:
    """A run of ``2d fold0`` on the CPU; keys are those of the request or of its changes."""
    fields = TrainingChanges.__dataclass_fields__
    options = {
        "configuration": "2d",
        "fold": "fold0",
        "device": "cpu",
        "precision": "float32",
        "workers": 0,
        "changes": TrainingChanges(**{k: v for k, v in changes.items() if k in fields}),
    }
    return TrainRequest(**(options | {k: v for k, v in changes.items() if k not in fields}))


def tick(monkeypatch: pytest.MonkeyPatch, module: ModuleType, tick_s: float = 1.0) -> None:
    """Give a module a clock of its own, which goes on by a tick whenever the module looks at it.

    The clock of everybody would go on whenever a thread of some library looks at it.
    """
    looks = itertools.count()
    own = SimpleNamespace(monotonic=lambda: tick_s * next(looks))
    monkeypatch.setattr(module, "time", own)


class InterruptAfter:
    """A progress that ends the training like a job's scheduler after some steps."""

    def __init__(self, steps: int) -> None:
        self._left = steps

    def __call__(self, done: int, total: int, note: str = "", **_: object) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGTERM)


def folder_of(task: TaskFolder, run: str = "default") -> FoldFolder:
    return task.fold_folder("default", "2d", run, "fold0")


def weights_of(task: TaskFolder, run: str = "default") -> dict[str, torch.Tensor]:
    return bundle.load_weights(folder_of(task, run).weights)


def rows_of(task: TaskFolder, run: str = "default") -> list[dict]:
    return [json.loads(line) for line in folder_of(task, run).history.read_text().splitlines()]


def assert_same_weights(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, weight in one.items():
        torch.testing.assert_close(weight, other[name], rtol=0, atol=0)


def differ(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return any(not torch.equal(weight, other[name]) for name, weight in one.items())
