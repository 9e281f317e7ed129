"""Where a patch cannot tell what it shows: 3d_fullres beside 3d_lowres and the cascade.

usage: python tests/benchmarks/cascade.py [--steps 800] [--keep FOLDER]

Every image holds two blobs that look alike and, farther away than a patch of full resolution
reaches, a bright mark at the top or at the bottom. The blob on the mark's side is one structure,
the other blob the other. 3d_lowres sees the whole image, three times as coarse. All three are
trained for as many steps, and score the cases that fold 0 holds out.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from autoseg.core.geometry import Geometry
from autoseg.core.image import Image, LabelMap
from autoseg.io.images import write_image, write_labels

NUM_CASES = 48
SHAPE = (16, 96, 96)
NETWORK = {
    "architecture": "unet",
    "features_per_stage": [8, 16, 32, 48],
    "strides": [[1, 1, 1], [2, 2, 2], [2, 2, 2], [1, 2, 2]],
    "kernel_sizes": [[3, 3, 3]] * 4,
    "blocks_per_stage": [2, 2, 2, 2],
    "decoder_blocks_per_stage": [2, 2, 2],
}
CONFIGURATIONS = ("3d_lowres", "3d_fullres", "3d_cascade_fullres")
STEPS_PER_EPOCH = 100


def draw_case(number: int) -> tuple[Image, LabelMap]:
    """A mark on the left, at the top or at the bottom; a blob above the other on the right."""
    rng = np.random.default_rng(number)
    grid = np.indices(SHAPE).astype(np.float32)
    array, labels = np.zeros(SHAPE, np.float32), np.zeros(SHAPE, np.uint8)
    is_at_top = number % 2 == 0

    def ball(centre: tuple[float, float, float], radii: np.ndarray) -> np.ndarray:
        middle = np.array(centre) + rng.uniform(-4, 4, 3) * (0.5, 1, 1)
        offsets = (grid - middle[:, None, None, None]) / radii[:, None, None, None]
        return (offsets**2).sum(0) < 1

    array[ball((8, 12 if is_at_top else 84, 12), np.full(3, 7.0))] = 4
    for y, structure in ((30, 1 if is_at_top else 2), (66, 2 if is_at_top else 1)):
        blob = ball((8, y, 74), rng.uniform(4, 8, 3))
        array[blob], labels[blob] = 2, structure
    array += rng.normal(0, 0.7, SHAPE)
    geometry = Geometry(
        shape=SHAPE,
        spacing=(1.0, 1.0, 1.0),
        origin=(0.0, 0.0, 0.0),
        direction=tuple(map(tuple, np.eye(3).tolist())),
    )
    return Image(array=array[None], geometry=geometry), LabelMap(array=labels, geometry=geometry)


def write_dataset(folder: Path) -> None:
    """All cases, in the Decathlon layout."""
    names = [f"case_{number:02d}" for number in range(NUM_CASES)]
    for number, name in enumerate(names):
        image, labels = draw_case(number)
        write_image(folder / "imagesTr" / f"{name}.nii.gz", image)
        write_labels(folder / "labelsTr" / f"{name}.nii.gz", labels)
    files = [(f"./imagesTr/{n}.nii.gz", f"./labelsTr/{n}.nii.gz") for n in names]
    description = {
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "near the mark", "2": "far from it"},
        "training": [{"image": image, "label": label} for image, label in files],
    }
    (folder / "dataset.json").write_text(json.dumps(description))


def edit_plan(task: Path, steps: int) -> None:
    """Small networks, a small patch at full resolution, a coarse view of the whole; two folds."""
    path = task / "plans" / "default.json"
    plan = json.loads(path.read_text())
    full = plan["configurations"]["3d_fullres"]
    full["training"] |= {
        "epochs": steps // STEPS_PER_EPOCH,
        "steps_per_epoch": STEPS_PER_EPOCH,
        "validation_steps": 4,
        "optimizer": "adamw",
        "learning_rate": 2e-3,
    }
    full |= {"network": NETWORK, "patch_size": [8, 32, 32], "batch_size": 2}
    low = full | {"spacing": [3.0, 3.0, 3.0]}
    plan["configurations"] |= {
        "3d_lowres": low,
        "3d_cascade_fullres": full | {"previous": "3d_lowres"},
    }
    path.write_text(json.dumps(plan))
    splits = json.loads((task / "splits.json").read_text())
    names = [f"case_{number:02d}" for number in range(NUM_CASES)]
    first, second = names[: NUM_CASES // 2], names[NUM_CASES // 2 :]
    splits["folds"] = [
        {"train": second, "validation": first},
        {"train": first, "validation": second},
    ]
    (task / "splits.json").write_text(json.dumps(splits))


def run(folder: Path, steps: int) -> None:
    """Every command of the path, and the table."""

    def autoseg(*words: str) -> float:
        start = time.perf_counter()
        command = [sys.executable, "-m", "autoseg", *words, "-q"]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - start

    write_dataset(folder / "Task_Blobs")
    autoseg("plan", "Task_Blobs")
    task = folder / "autoseg_workspace" / "Task_Blobs"
    edit_plan(task, steps)
    autoseg("preprocess", *CONFIGURATIONS)
    print("| | near the mark | far from it | mean Dice | training |\n|---|---|---|---|---|")
    for name in CONFIGURATIONS:
        fold = "all" if name == "3d_lowres" else "fold0"
        took_s = autoseg("train", name, fold, "--device", "cpu", "--precision", "float32")
        report = task / "predictions" / "default" / name / "default" / "fold0" / "report.json"
        cases = json.loads(report.read_text())["cases"]
        dice = [
            float(np.mean([case["structures"][structure]["dice"] for case in cases]))
            for structure in ("near the mark", "far from it")
        ]
        folds = ", both folds" if name == "3d_lowres" else ""
        scores = " | ".join(f"{score:.3f}" for score in (*dice, float(np.mean(dice))))
        print(f"| {name} | {scores} | {took_s:.0f} s{folds} |", flush=True)


def main() -> None:
    """Run in a new folder, or in one that stays."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    os.environ.pop("AUTOSEG_WORKSPACE", None)
    if options.keep is not None:
        options.keep.mkdir(parents=True, exist_ok=True)
        run(options.keep, options.steps)
        return
    with tempfile.TemporaryDirectory() as folder:
        run(Path(folder), options.steps)


if __name__ == "__main__":
    main()
