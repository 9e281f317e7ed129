"""Training batches with the default augmentation: autoseg against nnU-Net v2, both in turn.

usage: python tests/benchmarks/batches_against_peer.py PEER_PYTHON [--rounds 3] [--only 2d]

PEER_PYTHON is the interpreter of a virtual environment with nnunetv2. Both sides read the same
generated cases, each from files that its own code wrote, and make batches in one process with
one thread. What counts is the CPU time of a batch, so that other work on the machine disturbs
little. The peer's deep supervision targets are left out, as autoseg makes them elsewhere.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from autoseg.train.batches import BatchSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A configuration and the cases it is timed with.

    Attributes:
        patch: voxels of a patch.
        batch: patches per batch.
        shape: voxels of the generated cases, about.
        cases: number of cases.
        batches: number of batches per round.
    """

    patch: tuple[int, ...]
    batch: int
    shape: tuple[int, int, int]
    cases: int
    batches: int


SETTINGS = {
    "hippocampus": Setting(patch=(40, 56, 40), batch=7, shape=(36, 50, 35), cases=30, batches=40),
    "128^3": Setting(patch=(128, 128, 128), batch=2, shape=(170, 230, 200), cases=6, batches=20),
    "2d": Setting(patch=(512, 512), batch=12, shape=(40, 512, 480), cases=6, batches=12),
}
STRUCTURES = 3
WARM_UP = 3


def main() -> None:
    """Run both sides in turn and print CPU time per batch, batches per second, and ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("peer", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=SETTINGS)
    parser.add_argument(
        "--time", choices=("ours", "peer"), help="what the script calls itself with"
    )
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    if options.time is not None:
        side = _ours if options.time == "ours" else _peer
        _time(side(options.folder, SETTINGS[options.only]), SETTINGS[options.only].batches)
        return
    for name in [options.only] if options.only else SETTINGS:
        with tempfile.TemporaryDirectory() as folder:
            write_arrays(Path(folder), SETTINGS[name])
            _compare(name, Path(folder), options.peer, options.rounds)


def _compare(name: str, folder: Path, peer: Path, rounds: int) -> None:
    taken: dict[str, list[float]] = {"ours": [], "peer": []}
    for _ in range(rounds):
        for side, python in (("ours", Path(sys.executable)), ("peer", peer)):
            taken[side].append(_run(python, peer, side, name, folder))
    ours, theirs = median(taken["ours"]), median(taken["peer"])
    print(
        f"{name}: autoseg {ours * 1e3:.1f} ms of CPU time per batch ({1 / ours:.1f} batches/s), "
        f"nnU-Net {theirs * 1e3:.1f} ms ({1 / theirs:.1f} batches/s), ratio {theirs / ours:.2f}",
        flush=True,
    )


def _run(python: Path, peer: Path, side: str, name: str, folder: Path) -> float:
    words = [str(python), __file__, str(peer), "--time", side, "--only", name]
    one_thread = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}
    done = subprocess.run(
        [*words, "--folder", str(folder)],
        env=os.environ | one_thread | {"nnUNet_compile": "false"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(done.stderr[-2000:])
    return float(json.loads(done.stdout.splitlines()[-1]))


def _time(make: Callable[[], Any], batches: int) -> None:
    """Print the CPU seconds of a batch."""
    for _ in range(WARM_UP):
        make()
    start_s = time.process_time()
    for _ in range(batches):
        make()
    print(json.dumps((time.process_time() - start_s) / batches))


def write_arrays(folder: Path, setting: Setting) -> None:
    """Smooth anatomy with noise, and nested structures, normalized as a plan would."""
    rng = np.random.default_rng(1)
    for number in range(setting.cases):
        shape = tuple(int(n * rng.uniform(0.9, 1.1)) for n in setting.shape)
        coarse = rng.standard_normal([max(2, n // 12) for n in shape], dtype=np.float32)
        anatomy = ndimage.zoom(
            coarse, [n / m for n, m in zip(shape, coarse.shape, strict=True)], order=1
        )
        labels = np.digitize(anatomy, (0.8, 1.2, 1.5)).astype(np.int16)
        noisy = anatomy + rng.normal(0, 0.1, anatomy.shape)
        image = (noisy - noisy.mean()) / noisy.std()
        np.save(folder / f"image_{number:02d}.npy", image.astype(np.float32))
        np.save(folder / f"labels_{number:02d}.npy", labels)


def _arrays(folder: Path) -> Iterator[tuple[str, np.ndarray, np.ndarray, list[np.ndarray]]]:
    """Name, image, labels and up to 10,000 positions of each structure."""
    rng = np.random.default_rng(2)
    for path in sorted(folder.glob("image_*.npy")):
        name = path.stem.removeprefix("image_")
        labels = np.load(folder / f"labels_{name}.npy")
        flat = [np.flatnonzero(labels == label) for label in range(1, STRUCTURES + 1)]
        chosen = [rng.permutation(found)[: max(10_000, len(found) // 100)] for found in flat]
        yield name, np.load(path), labels, chosen


def _ours(folder: Path, setting: Setting) -> Callable[[], Any]:
    from autoseg.train.batches import make_batch

    spec = our_spec(folder, setting)
    steps = iter(range(10**9))
    return lambda: make_batch(spec, 0, next(steps))


def our_spec(folder: Path, setting: Setting) -> BatchSpec:
    """Prepare the generated cases, once, and say how batches of them are drawn."""
    from autoseg.io.case_store import CaseInfo, CaseStore, write_case
    from autoseg.train.batches import BatchSpec

    store = folder / "ours"
    for name, image, labels, positions in [] if store.is_dir() else _arrays(folder):
        info = CaseInfo(
            name=name,
            source="generated",
            shape=labels.shape,
            trace={},
            position_counts=tuple(map(len, positions)),
            label_voxels=tuple(np.bincount(labels.ravel(), minlength=STRUCTURES + 1)[1:].tolist()),
        )
        write_case(store, name, [image[None]], labels, positions, info, setting.patch)
    return BatchSpec(
        folder=store,
        cases=tuple(CaseStore(store).names()),
        batch_size=setting.batch,
        patch_size=setting.patch,
        centre_on_annotated=False,
        foreground_fraction=0.33,
        augmentation="default",
        mirror_axes=tuple(range(len(setting.patch))),
        masked_channels=(),
        seed=int(time.time()),
        part="train",
    )


def _peer(folder: Path, setting: Setting) -> Callable[[], Any]:
    for name in ("raw", "preprocessed", "results"):
        os.environ[f"nnUNet_{name}"] = str(folder)
    import torch

    with contextlib.redirect_stdout(io.StringIO()):
        from nnunetv2.training.data_augmentation.compute_initial_patch_size import get_patch_size
        from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
        from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
        from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
        from nnunetv2.utilities.label_handling.label_handling import LabelManager
    torch.set_num_threads(1)
    store = folder / "peer"
    if not store.is_dir():
        _write_for_peer(folder, store, setting)
    patch = setting.patch
    angle = 30 if len(patch) == 3 else 180
    turn = (-math.radians(angle), math.radians(angle))
    names = ("background", *(f"s{label}" for label in range(1, STRUCTURES + 1)))
    loader = nnUNetDataLoader(
        nnUNetDatasetBlosc2(str(store)),
        setting.batch,
        get_patch_size(patch, turn, turn, turn, (0.85, 1.25)),
        patch,
        LabelManager({name: value for value, name in enumerate(names)}, None),
        oversample_foreground_percent=0.33,
        transforms=nnUNetTrainer.get_training_transforms(
            patch, turn, None, tuple(range(len(patch))), do_dummy_2d_data_aug=False
        ),
    )
    return lambda: next(loader)


def _write_for_peer(folder: Path, store: Path, setting: Setting) -> None:
    from nnunetv2.training.dataloading.nnunet_dataset import (
        comp_blosc2_params,
        nnUNetDatasetBlosc2,
    )

    store.mkdir()
    for name, image, labels, positions in _arrays(folder):
        places = {}
        for label, flat in enumerate(positions, 1):
            voxels = np.stack(np.unravel_index(flat, labels.shape), axis=1)
            places[label] = np.pad(voxels, ((0, 0), (1, 0)))
        blocks, chunks = comp_blosc2_params(image[None].shape, setting.patch, 4)
        blocks_labels, chunks_labels = comp_blosc2_params(image[None].shape, setting.patch, 1)
        nnUNetDatasetBlosc2.save_case(
            image[None],
            labels[None].astype(np.int8),
            {"class_locations": places},
            str(store / name),
            chunks=chunks,
            blocks=blocks,
            chunks_seg=chunks_labels,
            blocks_seg=blocks_labels,
        )


if __name__ == "__main__":
    main()
