"""Time and memory of autoseg preprocess, from a small case to a large one.

usage: python tests/benchmarks/preprocess_scaling.py [--megavoxels 1 5 25 100 200] [--rounds 3]

The cases of a data set are alike: a body with two organs and noise as in a CT, 2 x 0.8 x 0.8 mm,
prepared at 1 mm isotropic with that many voxels, by one worker; of small ones there are several, so
that there is something to measure. What a case of 0.02 Mvoxel takes, start-up, is subtracted: time
is per prepared voxel, memory above that of the interpreter with all libraries loaded, per voxel of
one case. Flat columns mean that both grow with the case and with nothing else.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from dataclasses import dataclass
from math import prod
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
from measuring import Figures, measure, medians

from autoseg.io.case_store import CaseStore
from autoseg.io.task import load_plan
from autoseg.io.workspace import TaskFolder

SPACING = np.array([2.0, 0.8, 0.8])
SMALLEST = 0.02
LEAST_MEGAVOXELS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What some cases of one size took.

    Attributes:
        num_cases: how many.
        raw_voxels: of the file of one.
        prepared_voxels: of one prepared case.
        figures: medians over the rounds.
    """

    num_cases: int
    raw_voxels: int
    prepared_voxels: int
    figures: Figures


def main() -> None:
    """Print a row per size."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--megavoxels", type=float, nargs="+", default=[1, 5, 25, 100, 200])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    least = measured(SMALLEST, 1, options.rounds)
    start = least.figures
    print(
        f"start-up: {start.wall_s:.2f} s, {start.cpu_s:.2f} s of CPU time, "
        f"{start.pss_bytes / 1e6:.0f} MB"
    )
    print(
        "cases | prepared Mvoxel | raw Mvoxel | s | CPU s | MB | ns/voxel | CPU ns/voxel | B/voxel"
    )
    for size in options.megavoxels:
        num_cases = max(1, round(LEAST_MEGAVOXELS / size))
        print(_row(measured(size, num_cases, options.rounds), start), flush=True)


def _row(case: Measured, start: Figures) -> str:
    figures, voxels = case.figures, case.prepared_voxels
    everything = voxels * case.num_cases
    cells = (
        f"{case.num_cases}",
        f"{voxels / 1e6:.1f}",
        f"{case.raw_voxels / 1e6:.1f}",
        f"{figures.wall_s:.2f}",
        f"{figures.cpu_s:.2f}",
        f"{(figures.pss_bytes - start.pss_bytes) / 1e6:.0f}",
        f"{1e9 * (figures.wall_s - start.wall_s) / everything:.0f}",
        f"{1e9 * (figures.cpu_s - start.cpu_s) / everything:.0f}",
        f"{(figures.pss_bytes - start.pss_bytes) / voxels:.1f}",
    )
    return " | ".join(cells)


def measured(megavoxels: float, num_cases: int, rounds: int) -> Measured:
    """Make cases, plan them, and measure their preprocessing.

    Args:
        megavoxels: of a prepared case, about.
        num_cases: how many.
        rounds: how often to measure.
    """
    edge = (1e6 * megavoxels / 100) ** (1 / 3)
    z, y, x = np.rint(np.array([4, 5, 5]) * edge / SPACING).astype(int).tolist()
    with tempfile.TemporaryDirectory() as scratch:
        raw, workspace = Path(scratch) / "Dataset001_Scaling", Path(scratch) / "workspace"
        write_cases((z, y, x), num_cases, raw)
        common = ("-w", str(workspace), "-q")
        autoseg = (sys.executable, "-m", "autoseg")
        measure([*autoseg, "plan", str(raw), "--spacing", "1,1,1", *common])
        task = TaskFolder(workspace / raw.name)
        plan = load_plan(task, "default")
        store = task.prepared(plan.prepared_as("3d_fullres"), plan.recipe("3d_fullres").key)
        figures: list[Figures] = []
        for _ in range(rounds):
            shutil.rmtree(store, ignore_errors=True)
            words = ("preprocess", "3d_fullres", "--workers", "1", *common)
            figures.append(measure([*autoseg, *words]))
        prepared = CaseStore(store)
        return Measured(
            num_cases=num_cases,
            raw_voxels=z * y * x,
            prepared_voxels=prod(prepared.shape(prepared.names()[0])),
            figures=medians(figures),
        )


def write_cases(shape: tuple[int, int, int], num_cases: int, raw: Path) -> None:
    """Write a data set in nnU-Net's layout, whose files autoseg reads as they are.

    Args:
        shape: voxels of each case, ``(z, y, x)``.
        num_cases: how many, which differ in their noise.
        raw: its folder.
    """
    for folder in ("imagesTr", "labelsTr"):
        (raw / folder).mkdir(parents=True)
    for number in range(num_cases):
        _write_case(shape, number, raw)
    description = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "organ": 1, "tumour": 2},
        "numTraining": num_cases,
        "file_ending": ".nii.gz",
    }
    (raw / "dataset.json").write_text(json.dumps(description))


def _write_case(shape: tuple[int, int, int], number: int, raw: Path) -> None:
    rng = np.random.default_rng(number)
    image, labels = np.empty(shape, np.int16), np.empty(shape, np.uint8)
    for z in range(shape[0]):
        image[z], labels[z] = _slice(z / shape[0], shape[1:], rng)
    affine = np.diag([*SPACING[::-1], 1.0])
    for file, array in (
        (f"imagesTr/case_{number:03d}_0000.nii.gz", image),
        (f"labelsTr/case_{number:03d}.nii.gz", labels),
    ):
        nib.save(nib.Nifti1Image(array.transpose(), affine), raw / file)


def _slice(
    height: float, shape: tuple[int, int], rng: np.random.Generator
) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.uint8]]:
    """Intensities in HU and labels of a slice, ``height`` (0..1) of the way up."""
    y, x = np.ogrid[-1 : 1 : 1j * shape[0], -1 : 1 : 1j * shape[1]]
    body = (y / 0.7) ** 2 + (x / 0.85) ** 2 < 1
    away = ((height - 0.5) / 0.35) ** 2
    organ = away + (y / 0.3) ** 2 + ((x - 0.3) / 0.25) ** 2 < 1
    tumour = 9 * away + ((y - 0.1) / 0.1) ** 2 + ((x - 0.3) / 0.1) ** 2 < 1
    labels = organ.astype(np.uint8) + (organ & tumour)
    values = np.where(body, 40.0, -1000.0)
    values[labels == 1], values[labels == 2] = 150.0, 90.0
    values += rng.normal(scale=12.0, size=shape)
    return np.rint(values).astype(np.int16), labels


if __name__ == "__main__":
    main()
