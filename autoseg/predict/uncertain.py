"""Maps of how undecided the networks were, beside the label maps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from autoseg.core.geometry import Geometry, Shape
from autoseg.core.image import Image
from autoseg.imaging.entropy import uncertainty
from autoseg.imaging.operators import Floats
from autoseg.io import atomic
from autoseg.io.formats import suffix_of
from autoseg.io.images import write_image

FOLDER = "uncertainty"
"""Beside the label maps: a folder of its own is never read as label maps or images."""

_HOLD_FRACTIONS = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd")
# Three digits are held and written: what nobody can tell apart compresses to a third.
_STEPS = 1000


class UncertaintyMap:
    """The entropy of probabilities that pass by slab by slab; see ``imaging.entropy``.

    Args:
        shape: of the raw grid.
        axis: of the raw grid, along which slabs are cut.
        has_regions: whether each output is a region by itself.
    """

    def __init__(self, shape: Shape, axis: int, has_regions: bool) -> None:
        self._array = np.zeros(shape, dtype=np.uint16)
        self._along = np.moveaxis(self._array, axis, 0)
        self._has_regions = has_regions

    def watch(self, slabs: Iterable[tuple[slice, Floats]]) -> Iterator[tuple[slice, Floats]]:
        """Look at probabilities.

        Args:
            slabs: rows, and float32 ``(outputs, rows, *others)``, the other axes in their order.

        Yields:
            The same.
        """
        for rows, slab in slabs:
            self._along[rows] = np.rint(uncertainty(slab, self._has_regions) * _STEPS)
            yield rows, slab
            del slab  # before the next is made

    def image(self, geometry: Geometry) -> Image:
        """The map so far, to three digits: 0 where all is certain, 1 where nothing is."""
        array = np.divide(self._array[None], _STEPS, dtype=np.float32)
        return Image(array=array, geometry=geometry)


def uncertainty_file(output: Path, name: str, image: Path) -> Path:
    """Where the map of a case goes: in the format of its image if that holds fractions.

    Args:
        output: folder of the label maps.
        name: the case.
        image: its first file.
    """
    suffix = suffix_of(image)
    is_own = suffix is not None and suffix.lower() in _HOLD_FRACTIONS
    return output / FOLDER / f"{name}_uncertainty{suffix if is_own else '.nii.gz'}"


def write_uncertainty(path: Path, doubts: Image) -> None:
    """Write a map, whole or not at all.

    Raises:
        AutosegError: if it cannot be written.
    """
    atomic.make_folder(path.parent)
    write_image(path, doubts)
