"""Read random patches of prepared cases: autoseg against nnU-Net v2, both in turn.

usage: python tests/benchmarks/patches_against_peer.py --peer PEER_PYTHON [--rounds 3]

PEER_PYTHON is the interpreter of a virtual environment with nnunetv2. Both sides write the same
made-up arrays in their own way and read the same patches as their own training does, one thread
each. Warm: the files are in memory, and open if the reader keeps them so. Cold: they are closed and
dropped from memory, before each patch.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

OURS, THEIRS = "autoseg", "nnU-Net"
MODULES = {
    OURS: ["autoseg.io.case_store"],
    THEIRS: [
        "nnunetv2.training.dataloading.nnunet_dataset",
        "acvl_utils.cropping_and_padding.bounding_boxes",
    ],
}
Box = tuple[int, tuple[int, ...], tuple[int, ...]]  # number of the case, first voxel, size


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What is read.

    Attributes:
        shape: voxels of each case.
        patch: as it is in the plan: two or three sizes.
        num_cases: how many cases there are.
        num_patches: how many patches are read warm; a tenth of them cold.
        resampled: whether values are all different, as after resampling.
    """

    shape: tuple[int, int, int]
    patch: tuple[int, ...]
    num_cases: int
    num_patches: int
    resampled: bool


SCENES = {
    "128x128x128 of 160x512x512": Scene(
        shape=(160, 512, 512), patch=(128, 128, 128), num_cases=1, num_patches=60, resampled=True
    ),
    "512x512 slices of 96x512x512": Scene(
        shape=(96, 512, 512), patch=(512, 512), num_cases=1, num_patches=200, resampled=True
    ),
    "40x56x40 of 36x50x35, 50 cases": Scene(
        shape=(36, 50, 35), patch=(40, 56, 40), num_cases=50, num_patches=500, resampled=False
    ),
}


def main() -> None:
    """Run both sides in turn and print medians and ratios; or, as a child, one side."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--peer", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", nargs=3, metavar=("SIDE", "SCENE", "FOLDER"))
    options = parser.parse_args()
    if options.child:
        side, scene, folder = options.child
        print(json.dumps(_one_side(side, SCENES[scene], Path(folder))))
        return
    interpreters = {OURS: sys.executable, THEIRS: str(options.peer)}
    for name, scene in SCENES.items():
        with tempfile.TemporaryDirectory() as folder:
            _make_arrays(scene, Path(folder))
            rounds = [
                {side: _run(interpreters[side], side, name, folder) for side in (OURS, THEIRS)}
                for _ in range(options.rounds)
            ]
        _tell(name, rounds)


def _run(interpreter: str, side: str, scene: str, folder: str) -> dict[str, float]:
    command = [interpreter, str(Path(__file__)), "--child", side, scene, folder]
    environ = os.environ | {"OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    return json.loads(run.stdout.splitlines()[-1])


def _tell(name: str, rounds: list[dict[str, dict[str, float]]]) -> None:
    print(name)
    for figure in rounds[0][OURS]:
        ours, theirs = (median(r[side][figure] for r in rounds) for side in (OURS, THEIRS))
        print(f"  {figure}: {OURS} {ours:.1f}, {THEIRS} {theirs:.1f}, ratio {ours / theirs:.2f}")


def _make_arrays(scene: Scene, folder: Path) -> None:
    """Air, and a body with a soft pattern and noise, in which two structures lie."""
    rng = np.random.default_rng(0)
    z, y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in scene.shape)
    radius = (z[:, None, None] / 2) ** 2 + y[:, None] ** 2 + x**2
    for case in range(scene.num_cases):
        image = 0.4 * np.sin(9 * radius + case) + 0.3 * rng.normal(size=scene.shape)
        image = np.where(radius < 0.8, image, -2).astype(np.float32)
        if not scene.resampled:
            image = np.round(image * 40) / np.float32(40)
        labels = (radius < 0.1).astype(np.int16) + ((radius > 0.02) & (radius < 0.05))
        np.savez(folder / f"case_{case}.npz", image=image[None], labels=labels)


def _boxes(scene: Scene, num: int) -> list[Box]:
    """Patches like those of training: inside where they fit, else around the whole."""
    rng = np.random.default_rng(1)
    size = scene.patch if len(scene.patch) == 3 else (1, *scene.patch)
    rooms = [n - s for n, s in zip(scene.shape, size, strict=True)]
    lowers = [tuple(int(rng.integers(min(0, r), max(0, r) + 1)) for r in rooms) for _ in range(num)]
    return [(int(rng.integers(scene.num_cases)), lower, size) for lower in lowers]


def _one_side(side: str, scene: Scene, folder: Path) -> dict[str, float]:
    """Write, read cold, read warm."""
    for module in MODULES[side]:
        import_module(module)
    write, read = (_write_ours, _read_ours) if side == OURS else (_write_theirs, _read_theirs)
    store = folder / f"{side}-{os.getpid()}"
    store.mkdir()
    voxels, written_s = 0, 0.0
    for path in folder.glob("case_*.npz"):
        with np.load(path) as arrays:
            image, labels = arrays["image"], arrays["labels"]
        start = time.process_time()
        write(store, path.stem, image, labels, scene.patch)
        written_s += time.process_time() - start
        voxels += labels.size
    boxes = _boxes(scene, scene.num_patches)
    cold_s = _cold(read, store, boxes[: max(8, len(boxes) // 10)])
    wall_s, cpu_s = _warm(read, store, boxes)
    size = sum(path.stat().st_size for path in store.rglob("*") if path.is_file())
    return {
        "patches per second, warm": len(boxes) / wall_s,
        "patches per second of CPU time, warm": len(boxes) / cpu_s,
        "patches per second, cold": 1 / cold_s,
        "written, Mvoxel per second of CPU time": voxels / written_s / 1e6,
        "bits per voxel on disk": 8 * size / voxels,
    }


def _warm(read: Callable[[Path, Box], Any], store: Path, boxes: list[Box]) -> tuple[float, float]:
    for box in boxes:
        read(store, box)
    wall, cpu = time.perf_counter(), time.process_time()
    for box in boxes:
        read(store, box)
    return time.perf_counter() - wall, time.process_time() - cpu


def _cold(read: Callable[[Path, Box], Any], store: Path, boxes: list[Box]) -> float:
    """Median seconds, with all libraries loaded."""
    seconds = []
    for box in boxes:
        _forget(store)
        start = time.perf_counter()
        read(store, box)
        seconds.append(time.perf_counter() - start)
    return median(seconds)


def _forget(store: Path) -> None:
    if "autoseg" in sys.modules:  # what is mapped stays in memory
        from autoseg.io import case_store

        case_store._open_array.cache_clear()
        case_store._open_positions.cache_clear()
    gc.collect()
    for path in store.rglob("*"):
        if path.is_file():
            handle = os.open(path, os.O_RDONLY)
            os.fsync(handle)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(handle)


def _write_ours(
    store: Path, name: str, image: np.ndarray, labels: np.ndarray, patch: tuple[int, ...]
) -> None:
    from autoseg.io.case_store import CaseInfo, write_case

    positions = [np.flatnonzero(labels == label)[:10000] for label in (1, 2)]
    info = CaseInfo(
        name=name,
        source="",
        shape=(labels.shape[0], labels.shape[1], labels.shape[2]),
        trace={},
        position_counts=tuple(len(part) for part in positions),
        label_voxels=(0, 0),
    )
    write_case(store, name, [image], labels, positions, info, patch)


def _read_ours(store: Path, box: Box) -> object:
    from autoseg.io.case_store import CaseStore

    case, lower, size = box
    cases, name = CaseStore(store), f"case_{case}"
    return cases.read(name, lower, size), cases.positions(name, 1)


def _write_theirs(
    store: Path, name: str, image: np.ndarray, labels: np.ndarray, patch: tuple[int, ...]
) -> None:
    from nnunetv2.training.dataloading.nnunet_dataset import (
        comp_blosc2_params,
        nnUNetDatasetBlosc2,
    )

    blocks, chunks = comp_blosc2_params(image.shape, patch, image.itemsize)
    blocks_seg, chunks_seg = comp_blosc2_params(image.shape, patch, labels.itemsize)
    places = {label: np.argwhere(labels[None] == label)[:10000] for label in (1, 2)}
    nnUNetDatasetBlosc2.save_case(
        image,
        labels[None],
        {"class_locations": places},
        str(store / name),
        chunks=chunks,
        blocks=blocks,
        chunks_seg=chunks_seg,
        blocks_seg=blocks_seg,
    )


def _read_theirs(store: Path, box: Box) -> object:
    from acvl_utils.cropping_and_padding.bounding_boxes import crop_and_pad_nd
    from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2

    case, lower, size = box
    cases = nnUNetDatasetBlosc2(str(store), [f"case_{case}"])
    image, labels, _, properties = cases.load_case(f"case_{case}")
    sides = [[low, low + n] for low, n in zip(lower, size, strict=True)]
    patch = crop_and_pad_nd(image, sides, 0)
    labels_patch = crop_and_pad_nd(labels, sides, -1, cast_cropped_to=np.int16)
    return patch, labels_patch, properties["class_locations"]


if __name__ == "__main__":
    main()
