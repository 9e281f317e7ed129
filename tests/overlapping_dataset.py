"""The toy data set with overlapping structures, or with little of it annotated."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from conftest import NUM_CASES, toy_case

from autoseg.core.image import LabelMap
from autoseg.io.images import write_image, write_labels
from autoseg.io.workspace import TaskFolder, Workspace
from autoseg.pipeline.data import plan_folder
from autoseg.plan.planner import PlanRequest
from autoseg.preprocess.stage import preprocess_task

Labels = npt.NDArray[np.uint8]
Annotate = Callable[[int, Labels], Labels]
Change = Callable[[npt.NDArray[np.float32], Labels], None]

IGNORE = 9
REGIONS = {"background": 0, "whole": [4, 7], "core": 7}
"""Labels and their values: the shell has the value 4, the core 7."""
SHELL_AND_CORE = {"background": 0, "shell": 4, "core": 7}

_VALUES = np.array([0, 4, 7], dtype=np.uint8)


def completely(number: int, labels: Labels) -> Labels:
    """All of each case is annotated."""
    del number
    return labels


def some_slices(number: int, labels: Labels) -> Labels:
    """Three slices of each case are annotated, the last one whole, for the scores."""
    if number == NUM_CASES - 1:
        return labels
    sparse = np.full_like(labels, IGNORE)
    for z in (1, 4 + number % 2, 8):
        sparse[z] = labels[z]
    return sparse


def prepared_task(
    folder: Path,
    declared: dict[str, int | list[int]],
    annotate: Annotate = completely,
    configuration: str = "2d",
    change: Change | None = None,
) -> TaskFolder:
    """Write, measure, plan and prepare the data set; its networks are small.

    Args:
        folder: for raw data and workspace.
        declared: ``labels`` of its description.
        annotate: makes the label map that is written from the true one, by number of the case.
        configuration: to prepare.
        change: changes each image in place, given its written labels.
    """
    raw = folder / "Task03_Overlap"
    for number in range(NUM_CASES):
        image, labels = toy_case(number)
        shown = annotate(number, _VALUES[labels.array])
        if change is not None:
            change(image.array[0], shown)
        write_image(raw / "imagesTr" / f"ball_{number}.nii.gz", image)
        map_ = LabelMap(array=shown, geometry=labels.geometry)
        write_labels(raw / "labelsTr" / f"ball_{number}.nii.gz", map_)
    pairs = [{part: f"{part}sTr/ball_{n}.nii.gz" for part in ("image", "label")} for n in range(6)]
    description = {
        "modality": {"0": "CT"},
        "labels": declared,
        "regions_class_order": [4, 7],
        "training": pairs,
    }
    (raw / "dataset.json").write_text(json.dumps(description))
    task = plan_folder(Workspace(folder / "workspace"), raw, PlanRequest(), workers=0).task
    plan = json.loads(task.plan_file("default").read_text())
    for planned in plan["configurations"].values():
        features = planned["network"]["features_per_stage"]
        planned["network"]["features_per_stage"] = [6 * 2**n for n in range(len(features))]
        planned["batch_size"] = 2
    task.plan_file("default").write_text(json.dumps(plan))
    assert preprocess_task(task, [configuration], workers=0) == []
    return task


def hold_out_last(task: TaskFolder) -> None:
    """One fold, which holds out the last case, annotated whole."""
    names = [f"ball_{n}" for n in range(NUM_CASES)]
    splits = json.loads(task.splits_file.read_text())
    splits["folds"] = [{"train": names[:-1], "validation": names[-1:]}]
    task.splits_file.write_text(json.dumps(splits))
