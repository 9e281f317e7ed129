"""Prepared cases of a data set: ours against those nnU-Net makes of the same files.

usage: python tests/interop/prepared_against_peer.py TASK --peer PEER/bin/python [--cases NAME ...]
       python tests/interop/prepared_against_peer.py --pair IMAGE LABELS --channel CT --peer ...
       [--configurations 2d 3d_fullres 3d_lowres] [--spacing Z Y X] [--coarser 1.5]
       [--workers 1] [--folder FOLDER]

TASK is in the Decathlon's layout, with images of one channel, or in nnU-Net's. PEER is a virtual
environment with nnunetv2. Our plan gets the axis order, spacings, normalization and foreground
intensities of nnU-Net's plan, so that nothing but preprocessing differs. --spacing (in the
plan's axis order) replaces the target spacing of both; where nnU-Net plans no 3d_lowres, both
get one that is --coarser than 3d_fullres. With --folder, what nnU-Net made is kept there, and a
further run with the same arguments compares with it.

Per case: shapes and cropping boxes are equal; image values differ by at most 1e-4 of their
channel's range; label maps are equal but for ties, voxels at which two labels' resized masks are
equal within 1e-6; as many foreground positions are kept of every structure, but for ties. The
exit code is 1 if a bound is broken.
"""

from __future__ import annotations

import argparse
import json
import pickle
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Self

import blosc2
import numpy as np
import numpy.typing as npt
from beside_peer import (
    CONFIGURATIONS,
    DATA_SET,
    Json,
    PeerFolders,
    adopt,
    our_command,
    peer_command,
    plan_with_peer,
    run,
    write_pair,
    write_raw,
)
from scipy.ndimage import map_coordinates

from autoseg.core.dataset import Dataset
from autoseg.imaging.boxes import nonzero_mask
from autoseg.imaging.prepare import OUTSIDE, Trace
from autoseg.io.case_store import CaseStore
from autoseg.io.images import read_image, read_labels
from autoseg.io.task import load_dataset, load_plan
from autoseg.io.workspace import TaskFolder

LARGEST_DIFFERENCE = 1e-4
TIE = 1e-6
SLAB = 16

Counts = dict[tuple[int, ...], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerCase:
    """A case as nnU-Net prepared it.

    Attributes:
        image: ``(channels, z, y, x)`` on disk.
        labels: ``(1, z, y, x)`` on disk.
        properties: what else it keeps.
    """

    image: Any
    labels: Any
    properties: Json

    @classmethod
    def open(cls, folder: Path, name: str) -> Self:
        """Open one of its cases."""
        return cls(
            image=blosc2.open(str(folder / f"{name}.b2nd"), mode="r"),
            labels=blosc2.open(str(folder / f"{name}_seg.b2nd"), mode="r"),
            properties=pickle.loads((folder / f"{name}.pkl").read_bytes()),
        )

    @property
    def box(self) -> tuple[tuple[int, int], ...]:
        """First voxel and one past the last along each axis, after the transpose."""
        low_high = self.properties["bbox_used_for_cropping"]
        return tuple((int(low), int(high)) for low, high in low_high)

    @property
    def positions(self) -> Counts:
        """How many positions it keeps of each structure, by its labels."""
        kept = self.properties["class_locations"]
        return {_as_key(labels): len(found) for labels, found in kept.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How the two sides' prepared cases compare.

    Attributes:
        name: the case.
        shape: voxels of nnU-Net's.
        same_grid: whether shapes and cropping boxes are equal.
        difference: largest of the image, as a fraction of the channel's range in the case.
        num_differing: voxels whose labels differ.
        num_wrong: those of them that are no ties.
        positions: by a structure's labels, how many more positions we keep.
    """

    name: str
    shape: tuple[int, ...]
    same_grid: bool
    difference: float = 0.0
    num_differing: int = 0
    num_wrong: int = 0
    positions: Mapping[tuple[int, ...], int]

    @property
    def same_positions(self) -> bool:
        """Whether as many are kept, but for labels that differ."""
        return all(abs(more) <= self.num_differing for more in self.positions.values())

    @property
    def is_fine(self) -> bool:
        """Whether no bound is broken."""
        is_close = self.difference <= LARGEST_DIFFERENCE
        return self.same_grid and is_close and self.num_wrong == 0 and self.same_positions

    def __str__(self) -> str:
        return (
            f"{self.name}: {'same grid' if self.same_grid else 'ANOTHER GRID'}, "
            f"image {self.difference:.1e}, {self.num_differing} labels differ, "
            f"{self.num_wrong} of them no ties, more positions {dict(self.positions)}"
        )


def compare_case(store: CaseStore, dataset: Dataset, peer_case: PeerCase, name: str) -> Outcome:
    """Compare a case.

    Args:
        store: our prepared cases.
        dataset: the raw ones.
        peer_case: nnU-Net's prepared case.
        name: the case.
    """
    info, shape = store.info(name), tuple(peer_case.labels.shape[1:])
    trace = Trace.from_json(info.trace)
    kept = dict(zip(_keys(dataset), info.position_counts, strict=True))
    theirs = peer_case.positions
    positions = {key: kept.get(key, 0) - theirs.get(key, 0) for key in {**kept, **theirs}}
    box = tuple(zip(trace.box.lower, trace.box.upper, strict=True))
    if tuple(info.shape) != shape or box != peer_case.box:
        return Outcome(name=name, shape=shape, same_grid=False, positions=positions)
    difference, differing = _compare_voxels(store, peer_case, name)
    return Outcome(
        name=name,
        shape=shape,
        same_grid=True,
        difference=difference,
        num_differing=len(differing),
        num_wrong=_num_wrong(differing, dataset, name, trace, shape) if len(differing) else 0,
        positions={key: more for key, more in positions.items() if more},
    )


def _keys(dataset: Dataset) -> list[tuple[int, ...]]:
    """Labels of each structure whose positions are kept, in the order of the store."""
    labels = dataset.labels
    keys = [_as_key(labels.indices_of(structure)) for structure in labels.structures]
    if labels.ignore is not None:
        keys.append((OUTSIDE, *range(labels.num_classes)))
    return keys


def _as_key(labels: int | Sequence[int]) -> tuple[int, ...]:
    return tuple(sorted(map(int, labels))) if isinstance(labels, Sequence) else (int(labels),)


def _compare_voxels(
    store: CaseStore, peer_case: PeerCase, name: str
) -> tuple[float, npt.NDArray[np.int64]]:
    """Slab by slab; the second are rows of z, y, x, our and their label where these differ."""
    num_channels, depth, *plane = peer_case.image.shape
    largest, low = np.zeros(num_channels), np.full(num_channels, np.inf)
    high, differing = -low, [np.empty((0, 5), dtype=np.int64)]
    for start in range(0, depth, SLAB):
        rows = slice(start, min(start + SLAB, depth))
        image, labels = store.read(name, (start, 0, 0), (rows.stop - start, *plane))
        peer_image, peer_labels = peer_case.image[:, rows], peer_case.labels[0, rows]
        axes = (1, 2, 3)
        largest = np.maximum(largest, np.abs(image - peer_image).max(axis=axes))
        low = np.minimum(low, peer_image.min(axis=axes))
        high = np.maximum(high, peer_image.max(axis=axes))
        where = np.nonzero(labels != peer_labels)
        found = np.stack([*where, labels[where], peer_labels[where]], axis=1, dtype=np.int64)
        found[:, 0] += start
        differing.append(found)
    # Where a channel is constant any difference is one too many.
    relative = largest / np.maximum(high - low, np.finfo(np.float32).tiny)
    return float(relative.max()), np.concatenate(differing)


def _num_wrong(
    differing: npt.NDArray[np.int64],
    dataset: Dataset,
    name: str,
    trace: Trace,
    shape: tuple[int, ...],
) -> int:
    """How many voxels that differ are no ties: one side's label is not a strongest one."""
    labels = _cropped_labels(dataset, name, trace)
    coarse = _coarse_axis(trace)
    coordinates: list[npt.NDArray[np.float64]] = []
    for axis, (size, new_size) in enumerate(zip(labels.shape, shape, strict=True)):
        position = (differing[:, axis] + 0.5) * (size / new_size) - 0.5
        coordinates.append(np.floor(position + 0.5) if axis == coarse else position)
    values = np.unique(labels)
    scores = np.stack(
        [
            map_coordinates(
                (labels == value).view(np.uint8), coordinates, float, order=1, mode="nearest"
            )
            for value in values
        ]
    )
    rows = np.arange(len(differing))
    chosen = np.stack([scores[np.searchsorted(values, side), rows] for side in differing.T[3:]])
    return int((chosen.min(axis=0) < scores.max(axis=0) - TIE).sum())


def _cropped_labels(dataset: Dataset, name: str, trace: Trace) -> npt.NDArray[np.int16]:
    """The label map before resampling."""
    case = dataset.case(name)
    labels = dataset.labels.to_indices(read_labels(dataset.label_path(case)).array)
    mask = nonzero_mask(read_image(dataset.image_paths(case)).array)
    outside = np.where((labels == 0) & ~mask, np.int16(OUTSIDE), labels)
    return outside.transpose(trace.transpose)[trace.box.slices]


def _coarse_axis(trace: Trace) -> int | None:
    """The axis nnU-Net does not interpolate along."""
    for spacing in (trace.cropped_spacing, trace.target_spacing):
        if max(spacing) / min(spacing) > 3:
            return spacing.index(max(spacing)) if spacing.count(max(spacing)) == 1 else None
    return None


# The two sides -------------------------------------------------------------------------------


def prepare_theirs(folders: PeerFolders, options: argparse.Namespace) -> Json:
    """Plan and preprocess with nnU-Net, unless that is done.

    Returns:
        Its plan.
    """
    if not folders.raw.is_dir():
        if options.pair:
            image, labels = options.pair
            write_pair(image, labels, options.channel, folders.raw)
        else:
            write_raw(options.task, folders.raw, options.cases)
    plan = plan_with_peer(options.peer, folders, options.workers)
    wished = _with_wishes(plan, options)
    folders.plan_file.write_text(json.dumps(wished))
    for name in options.configurations:
        done = folders.preprocessed / f"{name}.done"
        if not done.is_file():
            words = ("-c", name, "-np", str(options.workers))
            run(peer_command(options.peer, "nnUNetv2_preprocess", *words), folders)
            done.touch()
    return wished


def _with_wishes(plan: Json, options: argparse.Namespace) -> Json:
    """The plan with a 3d_lowres, and with the spacing that is asked for."""
    entries: Json = plan["configurations"]
    full = entries["3d_fullres"]
    if "3d_lowres" not in entries:
        coarse = [options.coarser * size for size in full["spacing"]]
        made = {"spacing": coarse, "data_identifier": "nnUNetPlans_3d_lowres"}
        entries = {**entries, "3d_lowres": {**full, **made}}
    if options.spacing:
        spacings = {
            "2d": options.spacing[1:],
            "3d_fullres": options.spacing,
            "3d_lowres": [options.coarser * size for size in options.spacing],
        }
        wished = {name: {**entries[name], "spacing": size} for name, size in spacings.items()}
        entries = {**entries, **wished}
    return {**plan, "configurations": entries}


def prepare_ours(
    folders: PeerFolders, peer_plan: Json, options: argparse.Namespace
) -> Iterator[tuple[str, CaseStore, Dataset]]:
    """Plan and preprocess with autoseg, by nnU-Net's decisions.

    Yields:
        Per configuration its name, the prepared cases and the raw ones.
    """
    workspace = folders.root / "ours"
    shutil.rmtree(workspace, ignore_errors=True)
    common = ("-w", str(workspace), "--workers", str(options.workers), "-q")
    run(our_command("plan", str(folders.raw), "--compatible", *common), folders)
    task = TaskFolder(workspace / DATA_SET)
    file = task.plan_file("default")
    adopted = adopt(json.loads(file.read_text()), peer_plan, options.configurations)
    file.write_text(json.dumps(adopted))
    run(our_command("preprocess", *options.configurations, *common), folders)
    plan, dataset = load_plan(task, "default"), load_dataset(task)
    for name in options.configurations:
        folder = task.prepared(plan.prepared_as(name), plan.recipe(name).key)
        yield name, CaseStore(folder), dataset


def compare(folders: PeerFolders, options: argparse.Namespace) -> bool:
    """Compare all cases and print a row per configuration.

    Returns:
        Whether no bound is broken.
    """
    peer_plan = prepare_theirs(folders, options)
    all_fine = True
    print("configuration | spacing | cases | Mvoxel | image | labels | no ties | positions | grids")
    for name, store, dataset in prepare_ours(folders, peer_plan, options):
        entry = peer_plan["configurations"][name]
        theirs = folders.preprocessed / entry["data_identifier"]
        outcomes = [
            compare_case(store, dataset, PeerCase.open(theirs, case), case)
            for case in store.names()
        ]
        print(_row(name, entry["spacing"], outcomes))
        missing = sorted({case.name for case in dataset.cases} - set(store.names()))
        for told in (*(f"{case}: not prepared" for case in missing), *_told(outcomes)):
            print(f"  {told}")
        all_fine &= not missing and all(outcome.is_fine for outcome in outcomes)
    return all_fine


def _row(name: str, spacing: Sequence[float], outcomes: Sequence[Outcome]) -> str:
    voxels = sum(prod(outcome.shape) for outcome in outcomes)
    cells = (
        name,
        " x ".join(f"{size:.4g}" for size in spacing),
        len(outcomes),
        f"{voxels / 1e6:.1f}",
        f"{max(outcome.difference for outcome in outcomes):.1e}",
        sum(outcome.num_differing for outcome in outcomes),
        sum(outcome.num_wrong for outcome in outcomes),
        f"{sum(not any(o.positions.values()) for o in outcomes)} equal",
        f"{sum(outcome.same_grid for outcome in outcomes)} equal",
    )
    return " | ".join(map(str, cells))


def _told(outcomes: Sequence[Outcome]) -> list[str]:
    """Cases to name: those that break a bound, and those with other numbers of positions."""
    return [str(o) for o in outcomes if not o.is_fine or any(o.positions.values())]


def main() -> None:
    """Compare one data set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("task", type=Path, nargs="?")
    parser.add_argument("--pair", type=Path, nargs=2, metavar=("IMAGE", "LABELS"))
    parser.add_argument("--channel", default="CT", help="of the pair")
    parser.add_argument("--peer", type=Path, required=True)
    parser.add_argument("--cases", nargs="+", default=[])
    parser.add_argument(
        "--configurations", nargs="+", choices=CONFIGURATIONS, default=CONFIGURATIONS
    )
    parser.add_argument("--spacing", type=float, nargs=3)
    parser.add_argument("--coarser", type=float, default=1.5)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    if (options.task is None) == (options.pair is None):
        parser.error("name a TASK or a --pair")
    with tempfile.TemporaryDirectory() as scratch:
        folders = PeerFolders((options.folder or Path(scratch)).resolve())
        raise SystemExit(not compare(folders, options))


if __name__ == "__main__":
    main()
