"""Surface distances beside those of the package surface-distance, by its authors.

Its surface elements are the same up to how patches of four and more corners that lie in no plane
are cut into triangles: ours is the cut of the smallest area, whatever the order of the axes, theirs
follows a table. Both are measured on smooth random shapes with random spacings, volumes and
pictures, and on label maps if some are named.

usage: python tests/interop/surfaces_against_package.py [--shapes 40] [LABELS.nii.gz ...]

The package is to be installed beside autoseg, or in an environment whose site-packages are named by
PYTHONPATH: pip install surface-distance
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from scipy import ndimage

from autoseg.evaluate.surface import compare_surfaces
from autoseg.io.images import read_labels

LARGEST = {"HD95 mm": np.inf, "ASSD mm": 0.02, "NSD": 0.005}
"""Largest differences that the cut into triangles explains."""

EQUAL_HD95 = 0.9
"""A percentile is one of the distances: where it falls between two, a hair decides."""


def ours(masks: tuple[np.ndarray, np.ndarray], spacing: tuple[float, ...], mm: float) -> list:
    """HD95, ASSD, NSD."""
    found = compare_surfaces(masks[0], masks[1], spacing, mm)
    return [found.hd95, found.assd, found.nsd]


def theirs(masks: tuple[np.ndarray, np.ndarray], spacing: tuple[float, ...], mm: float) -> list:
    """The same with the package; its mean distances of both directions weighed by their areas."""
    import surface_distance

    found = surface_distance.compute_surface_distances(masks[1], masks[0], spacing)
    means = surface_distance.compute_average_surface_distance(found)
    areas = (found["surfel_areas_gt"].sum(), found["surfel_areas_pred"].sum())
    return [
        surface_distance.compute_robust_hausdorff(found, 95),
        float(np.average(means, weights=areas)),
        surface_distance.compute_surface_dice_at_tolerance(found, mm),
    ]


def random_masks(seed: int) -> tuple[tuple[np.ndarray, np.ndarray], tuple[float, ...]]:
    """Two smooth shapes alike, and a spacing; every fourth pair is a picture."""
    rng = np.random.default_rng(seed)
    num_axes = 2 if seed % 4 == 3 else 3
    shape = rng.integers(20, 50, num_axes)
    noise = ndimage.gaussian_filter(rng.normal(size=shape), 3)
    change = ndimage.gaussian_filter(rng.normal(size=shape), 2)
    masks = (noise > noise.std() / 2, noise + 0.2 * change > noise.std() / 2)
    return masks, tuple(rng.uniform(0.5, 4, num_axes).round(2))


def bent(mask: np.ndarray, seed: int) -> np.ndarray:
    """A shape whose voxels are looked up a little beside their place."""
    rng = np.random.default_rng(seed)
    shifts = [ndimage.gaussian_filter(rng.normal(size=mask.shape), 4) for _ in range(3)]
    places = [p + s / s.std() for p, s in zip(np.indices(mask.shape), shifts, strict=True)]
    return ndimage.map_coordinates(mask.astype(np.uint8), places, order=0, mode="nearest") > 0


def main() -> int:
    """Print the largest differences; 1 if one is larger than the triangles explain."""
    parser = argparse.ArgumentParser()
    parser.add_argument("labels", type=Path, nargs="*")
    parser.add_argument("--shapes", type=int, default=40)
    options = parser.parse_args()
    try:
        import surface_distance  # noqa: F401
    except ImportError:
        print("skipped: surface-distance is not installed (pip install surface-distance)")
        return 0
    pairs = [random_masks(seed) for seed in range(options.shapes)]
    for path in options.labels:
        labels = read_labels(path)
        for value in np.unique(labels.array)[1:]:
            mask = labels.array == value
            pairs.append(((bent(mask, int(value)), mask), labels.geometry.spacing))
    pairs = [(masks, spacing) for masks, spacing in pairs if all(mask.any() for mask in masks)]
    rows = np.array(
        [(ours(m, s, 0.5 * max(s)), theirs(m, s, 0.5 * max(s))) for m, s in pairs], dtype=float
    )
    apart = np.abs(rows[:, 0] - rows[:, 1])
    for index, (name, largest) in enumerate(LARGEST.items()):
        print(
            f"{name}: {len(rows)} pairs, largest difference {apart[:, index].max():.2g} "
            f"(allowed {largest:g}), median {np.median(apart[:, index]):.2g}, "
            f"values {rows[:, 0, index].min():.3g} to {rows[:, 0, index].max():.3g}"
        )
    equal = float((apart[:, 0] < 1e-6).mean())
    print(f"HD95 equal in {equal:.0%} of the pairs (at least {EQUAL_HD95:.0%})")
    return int((apart.max(axis=0) > list(LARGEST.values())).any() or equal < EQUAL_HD95)


if __name__ == "__main__":
    sys.exit(main())
