"""What scoring a large label map with many structures takes: time and memory of the command.

The label map of a chest CT with 61 organs, enlarged four times (nearest), against a copy whose
organs are bent by a smooth random displacement: surfaces of every organ lie apart, as those of a
real prediction do. Both are written as files, and ``autoseg evaluate`` scores them.

usage: python tests/benchmarks/evaluate_organs.py ORGANS.nii.gz [--factor 4] [--metrics NAMES]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from measuring import measure
from scipy import ndimage

from autoseg.core.geometry import Geometry
from autoseg.core.image import LabelMap
from autoseg.io.images import read_labels, write_labels

SMOOTH_VOX = 6.0
BENT_VOX = 0.7


def bent(array: np.ndarray, seed: int = 0) -> np.ndarray:
    """A label map whose voxels are looked up a little beside their place."""
    rng = np.random.default_rng(seed)
    places = np.indices(array.shape).astype(np.float32)
    for axis in range(3):
        shift = ndimage.gaussian_filter(rng.normal(size=array.shape), SMOOTH_VOX)
        places[axis] += BENT_VOX / shift.std() * shift
    return ndimage.map_coordinates(array, places, order=0, mode="nearest")


def enlarged(labels: LabelMap, factor: int) -> LabelMap:
    """Every voxel as a cube of smaller ones."""
    array = labels.array
    for axis in range(3):
        array = array.repeat(factor, axis=axis)
    z, y, x = (step / factor for step in labels.geometry.spacing)
    return LabelMap(array=array, geometry=Geometry(shape=array.shape, spacing=(z, y, x)))


def main() -> None:
    """Write both label maps, score them in a process of its own, print what it took."""
    parser = argparse.ArgumentParser()
    parser.add_argument("organs", type=Path)
    parser.add_argument("--factor", type=int, default=4)
    parser.add_argument("--metrics", default=None)
    options = parser.parse_args()
    reference = read_labels(options.organs)
    prediction = LabelMap(array=bent(reference.array.astype(np.uint8)), geometry=reference.geometry)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name, labels in (("references", reference), ("predictions", prediction)):
            write_labels(root / name / "chest.nii.gz", enlarged(labels, options.factor))
        command = [sys.executable, "-m", "autoseg", "evaluate", "-w", "none", "-q"]
        chosen = [] if options.metrics is None else ["--metrics", options.metrics]
        figures = measure([*command, *chosen, "predictions", "references"], cwd=root)
    print(
        f"{len(np.unique(reference.array)) - 1} structures, "
        f"{reference.array.size * options.factor**3 / 1e6:.0f} million voxels: "
        f"{figures.wall_s:.1f} s ({figures.cpu_s:.1f} s of processor time), "
        f"peak {figures.pss_bytes / 1e9:.2f} GB"
    )


if __name__ == "__main__":
    main()
