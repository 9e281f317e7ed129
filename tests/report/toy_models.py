"""The toy task with folds that look trained: nothing is computed but scores."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
from conftest import Toy
from made_up import history

from autoseg.core.image import LabelMap
from autoseg.evaluate.pairs import Pair
from autoseg.evaluate.stage import Options, evaluate_pairs
from autoseg.io.images import read_labels, write_labels
from autoseg.io.task import load_dataset, load_splits
from autoseg.io.workspace import TaskFolder

METRICS = ("dice", "iou", "volume_error_ml", "nsd", "hd95")


def trained_toy(
    toy: Toy, folder: Path, folds: tuple[str, ...] = ("fold0", "fold1"), run: str = "default"
) -> TaskFolder:
    """A copy of the toy task with predictions that are a voxel off, and their scores."""
    workspace = folder / "workspace"
    if not workspace.exists():
        shutil.copytree(toy.workspace.root, workspace)
    task = TaskFolder(workspace / toy.task.name)
    dataset, splits = load_dataset(task), load_splits(task)
    for fold in folds:
        where = ("default", "2d", run, fold)
        place = task.fold_folder(*where)
        place.root.mkdir(parents=True)
        place.bundle.touch()
        place.weights.touch()
        place.history.write_text("".join(f"{json.dumps(row)}\n" for row in history(5)))
        pairs = []
        for name in splits.folds[splits.names.index(fold)].validation:
            reference = dataset.label_path(dataset.case(name))
            known = read_labels(reference)
            wrong = LabelMap(array=np.roll(known.array, 1, axis=2), geometry=known.geometry)
            prediction = task.predictions(*where) / f"{name}.nii.gz"
            write_labels(prediction, wrong)
            pairs.append(Pair(name=name, prediction=prediction, reference=reference))
        options = Options(metrics=METRICS, workers=0)
        evaluate_pairs(pairs, dataset.labels, task.report_file(*where), options=options)
    return task
