"""A toy data set on disk, and a workspace that has been through the first stages."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from autoseg.core.geometry import Geometry
from autoseg.core.image import Image, LabelMap
from autoseg.io.images import write_image, write_labels
from autoseg.io.workspace import TaskFolder, Workspace

NUM_CASES = 6


def toy_geometry(number: int) -> Geometry:
    """Oblique, flipped, anisotropic, off-origin, another size per case."""
    cos, sin = np.cos(0.2), np.sin(0.2)
    return Geometry(
        shape=(10 + number % 2, 24 + number, 20),
        spacing=(2.5, 1.25, 1.0 + 0.125 * (number % 3)),
        origin=(-40.0 + number, 12.5, 7.0),
        direction=((1.0, 0.0, 0.0), (0.0, -cos, sin), (0.0, sin, cos)),
    )


def toy_case(number: int) -> tuple[Image, LabelMap]:
    """A bright ball with a brighter core in noise."""
    geometry = toy_geometry(number)
    rng = np.random.default_rng(number)
    centre = np.array(geometry.shape) / 2 + rng.uniform(-1, 1, 3)
    axes = np.indices(geometry.shape).reshape(3, -1).T - centre
    distance = np.linalg.norm(axes * geometry.spacing, axis=1).reshape(geometry.shape)
    labels = (distance < 8).astype(np.uint8) + (distance < 4.5).astype(np.uint8)
    array = 100 + 80 * labels + rng.normal(0, 8, geometry.shape)
    image = Image(array=np.round(array)[np.newaxis].astype(np.float32), geometry=geometry)
    return image, LabelMap(array=labels, geometry=geometry)


def write_toy_dataset(folder: Path, num_cases: int = NUM_CASES) -> Path:
    """Write the toy data set in the Decathlon layout."""
    names = [f"ball_{number:02d}" for number in range(num_cases)]
    for number, name in enumerate(names):
        image, labels = toy_case(number)
        write_image(folder / "imagesTr" / f"{name}.nii.gz", image)
        write_labels(folder / "labelsTr" / f"{name}.nii.gz", labels)
    description = {
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "shell", "2": "core"},
        "training": [
            {"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"}
            for name in names
        ],
    }
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


@dataclass(frozen=True, kw_only=True)
class Toy:
    """The toy data set and its workspace."""

    raw: Path
    workspace: Workspace
    task: TaskFolder


def make_toy(folder: Path, num_cases: int = NUM_CASES) -> Toy:
    """Write, measure, plan and prepare the toy data set."""
    from autoseg.pipeline.data import plan_folder
    from autoseg.plan.planner import PlanRequest
    from autoseg.preprocess.stage import preprocess_task

    raw = write_toy_dataset(folder / "Task01_Ball", num_cases)
    workspace = Workspace(folder / "autoseg_workspace")
    planned = plan_folder(workspace, raw, PlanRequest(), workers=0)
    assert preprocess_task(planned.task, workers=0) == []
    return Toy(raw=raw, workspace=workspace, task=planned.task)


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    """Planned and prepared, to be read; a test that changes it makes its own."""
    return make_toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture
def phantom() -> SimpleNamespace:
    """Test case T of the reference: a wavy image with zero margins, a hole and a corner box."""
    z, y, x = np.meshgrid(*map(np.arange, (24, 40, 32)), indexing="ij")
    image = (100 * np.sin(0.3 * z + 0.2 * y) + 50 * np.cos(0.25 * x) + 10).astype(np.float32)
    image[:2] = 0
    image[:, :3] = 0
    image[10:12, 20:24, 10:14] = 0
    image[:6, :8, :8] = 0
    distance = (z - 12) ** 2 / 36 + (y - 22) ** 2 / 100 + (x - 16) ** 2 / 80
    labels = np.zeros(image.shape, dtype=np.int16)
    labels[distance < 1] = 1
    labels[distance < 0.25] = 2
    return SimpleNamespace(image=image[None], labels=labels)
