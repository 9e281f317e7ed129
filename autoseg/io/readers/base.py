"""What a reader of image files can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from autoseg.core.geometry import Geometry
from autoseg.core.labels import LabelSpace
from autoseg.errors import AutosegError, DataError

SINGLE_SLICE_SPACING_MM = 999.0
"""Spacing of the only slice of a 2D image."""


class Reader(ABC):
    """Reads and writes the files of some formats; here a format's conventions become ours.

    Attributes:
        suffixes: endings of the files, lower case, with the dot.
        label_range: smallest and largest value a label map of this format holds.
        reads_folders: whether a folder can be an image.
        can_write: whether files of these formats are written too.
    """

    suffixes: tuple[str, ...]
    label_range: tuple[int, int] = (-(2**31), 2**32 - 1)
    reads_folders: ClassVar[bool] = False
    can_write: ClassVar[bool] = True

    def reads(self, path: Path) -> bool:
        """Whether something on the disk is an image of these formats, judged by its name.

        Readers of formats that are folders override this and look inside.
        """
        name = path.name.lower()
        return any(name.endswith(suffix) and name != suffix for suffix in self.suffixes)

    @abstractmethod
    def read_geometry(self, path: Path) -> tuple[Geometry, int]:
        """Read the header: geometry and number of channels.

        Raises:
            DataError: if it is not readable.
        """

    @abstractmethod
    def read(self, path: Path) -> tuple[npt.NDArray[Any], Geometry]:
        """Read an image.

        Returns:
            The voxels ``(channels, z, y, x)`` in the type of the file, NaN and infinite values
            as they are, and their geometry.

        Raises:
            DataError: if it is not readable, or incomplete.
        """

    def read_labels(
        self, path: Path, labels: LabelSpace | None
    ) -> tuple[npt.NDArray[Any], Geometry]:
        """Read a label map.

        Args:
            path: the file.
            labels: what is declared; formats that name their segments number them by it.

        Returns:
            File values ``(z, y, x)`` in the type of the file, and their geometry.

        Raises:
            DataError: if it is not readable, incomplete, or has several channels that differ.
        """
        del labels
        array, geometry = self.read(path)
        # A grey picture may be stored as three equal colours.
        if any(not np.array_equal(channel, array[0]) for channel in array[1:]):
            raise DataError(f"a label map has one channel, this has {len(array)}", place=path)
        return array[0], geometry

    @abstractmethod
    def write(self, path: Path, array: npt.NDArray[Any], geometry: Geometry) -> None:
        """Write a label map or a channel of an image, compressed where the format can be.

        Args:
            path: the file.
            array: numbers, ``(z, y, x)``.
            geometry: its geometry; a single slice of 999 mm becomes a 2D file.

        Raises:
            AutosegError: if the format cannot hold the values, or the file cannot be written.
        """

    def label_suffix(self, path: Path) -> str | None:
        """Ending of the label map of an image; None if this format cannot hold one.

        Args:
            path: an image of this reader.
        """
        name = path.name.lower()
        return max((s for s in self.suffixes if name.endswith(s)), key=len, default=None)

    def label_range_of(self, name: str) -> tuple[int, int]:
        """Smallest and largest value a label map holds.

        Args:
            name: name or ending of its file.
        """
        del name
        return self.label_range

    def refuse_values_it_cannot_hold(self, path: Path, array: npt.NDArray[Any]) -> None:
        """Refuse whole numbers outside ``label_range_of`` the file.

        Raises:
            AutosegError: if there are any.
        """
        lowest, highest = self.label_range_of(path.name)
        is_integer = np.issubdtype(array.dtype, np.integer)
        if is_integer and (array.min() < lowest or array.max() > highest):
            raise AutosegError(
                f"this format holds label values {lowest}..{highest} only",
                place=path,
                remedy="write another format, such as .nii.gz",
            )
