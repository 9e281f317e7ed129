"""Volumes and pictures through SimpleITK; here ITK's x-y-z order becomes ours."""

from __future__ import annotations

import gzip
import zlib
from math import prod
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk  # noqa: N813 - the name everybody knows

from autoseg.core.geometry import IDENTITY, Geometry, Matrix
from autoseg.errors import AutosegError, DataError
from autoseg.io.readers.base import SINGLE_SLICE_SPACING_MM, Reader

# ITK writes its warnings to the terminal from C++.
sitk.ProcessObject.SetGlobalWarningDisplay(False)

_NIFTI_HEADER_BYTES = 348


class ItkReader(Reader):
    """A format SimpleITK knows.

    Args:
        suffixes: endings of the files, lower case.
        has_physical_pixels: whether the files know the size of a voxel in mm; else it is 1 mm.
        label_range: smallest and largest value a label map of this format holds.
    """

    def __init__(
        self,
        suffixes: tuple[str, ...],
        *,
        has_physical_pixels: bool = True,
        label_range: tuple[int, int] = (-(2**31), 2**31 - 1),
    ) -> None:
        self.suffixes = suffixes
        self.has_physical_pixels = has_physical_pixels
        self.label_range = label_range

    def read_geometry(self, path: Path) -> tuple[Geometry, int]:
        """Read the header: geometry and number of channels.

        Raises:
            DataError: if it is not readable.
        """
        header = _open(path)
        return self._geometry(path, header), _num_channels(header)

    def read(self, path: Path) -> tuple[npt.NDArray[Any], Geometry]:
        """Read a file.

        Returns:
            The voxels ``(channels, z, y, x)`` in the type of the file, and their geometry.

        Raises:
            DataError: if it is not readable, or incomplete.
        """
        header = _open(path)
        geometry = self._geometry(path, header)
        if path.name.lower().endswith((".nii", ".nii.gz")):
            _refuse_incomplete_nifti(path, header)
        try:
            image = header.Execute()
        except RuntimeError as error:
            raise DataError(f"cannot be read ({_reason(error)})", place=path) from error
        array = sitk.GetArrayFromImage(image)
        if image.GetNumberOfComponentsPerPixel() > 1:
            array = np.moveaxis(array, -1, 0)
        return array.reshape(_num_channels(header), *geometry.shape), geometry

    def write(self, path: Path, array: npt.NDArray[Any], geometry: Geometry) -> None:
        """Write numbers, compressed; a single slice of 999 mm becomes a 2D file.

        Args:
            path: the file.
            array: labels or one channel, ``(z, y, x)``.
            geometry: its geometry.

        Raises:
            AutosegError: if the format cannot hold the values, or the file cannot be written.
        """
        self.refuse_values_it_cannot_hold(path, array)
        image = _to_itk(array, geometry)
        try:
            sitk.WriteImage(image, str(path), useCompression=True)
        except RuntimeError as error:
            raise AutosegError(f"cannot be written ({_reason(error)})", place=path) from error

    def _geometry(self, path: Path, header: sitk.ImageFileReader) -> Geometry:
        try:
            geometry = _from_itk(header)
        except ValueError as error:
            raise DataError(str(error), place=path) from error
        if self.has_physical_pixels:
            return geometry
        # The dots per inch of a picture say how it should be printed.
        z = SINGLE_SLICE_SPACING_MM if header.GetDimension() == 2 else 1.0
        return Geometry(shape=geometry.shape, spacing=(z, 1.0, 1.0))


VOLUMES = ItkReader((".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".gipl", ".gipl.gz"))
PICTURES = ItkReader((".png", ".tif", ".tiff"), has_physical_pixels=False, label_range=(0, 65535))
BITMAPS = ItkReader((".bmp",), has_physical_pixels=False, label_range=(0, 255))


def _open(path: Path) -> sitk.ImageFileReader:
    if not path.is_file():
        raise DataError("no such file", place=path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise DataError(f"cannot be read ({_reason(error)})", place=path) from error
    if reader.GetDimension() not in (2, 3, 4):
        raise DataError(
            f"has {reader.GetDimension()} dimensions",
            place=path,
            remedy="images have 2, 3 or, with channels, 4",
        )
    return reader


def _num_channels(header: sitk.ImageFileReader) -> int:
    volumes = header.GetSize()[3] if header.GetDimension() == 4 else 1
    return volumes * header.GetNumberOfComponents()


def _from_itk(header: sitk.ImageFileReader) -> Geometry:
    dimension = header.GetDimension()
    size, spacing, origin = header.GetSize(), header.GetSpacing(), header.GetOrigin()
    direction = np.asarray(header.GetDirection()).reshape(dimension, dimension)
    if dimension == 2:
        matrix = np.asarray(IDENTITY)
        matrix[1:, 1:] = direction[::-1, ::-1]
        shape = (1, size[1], size[0])
        return _geometry(
            shape, (SINGLE_SLICE_SPACING_MM, *spacing[::-1]), (0.0, *origin[::-1]), matrix
        )
    matrix = direction[:3, :3][::-1, ::-1]
    return _geometry(size[2::-1], spacing[2::-1], origin[2::-1], matrix)


def _geometry(
    shape: tuple[int, ...],
    spacing: tuple[float, ...],
    origin: tuple[float, ...],
    matrix: npt.NDArray[np.float64],
) -> Geometry:
    rows = tuple(tuple(float(value) for value in row) for row in matrix)
    return Geometry(
        shape=(shape[0], shape[1], shape[2]),
        spacing=(spacing[0], spacing[1], spacing[2]),
        origin=(origin[0], origin[1], origin[2]),
        direction=cast("Matrix", rows),
    )


def _to_itk(array: npt.NDArray[Any], geometry: Geometry) -> sitk.Image:
    direction = np.asarray(geometry.direction)[::-1, ::-1]
    spacing, origin = geometry.spacing[::-1], geometry.origin[::-1]
    if geometry.shape[0] == 1 and geometry.spacing[0] == SINGLE_SLICE_SPACING_MM:
        array, direction = array[0], direction[:2, :2]
        spacing, origin = spacing[:2], origin[:2]
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection(direction.ravel().tolist())
    return image


def _refuse_incomplete_nifti(path: Path, header: sitk.ImageFileReader) -> None:
    """ITK fills what a truncated or damaged NIfTI file lacks with zeros or noise, silently."""
    axes = range(1, int(header.GetMetaData("dim[0]")) + 1)
    values = prod(int(header.GetMetaData(f"dim[{axis}]")) for axis in axes)
    offset = max(int(float(header.GetMetaData("vox_offset"))), _NIFTI_HEADER_BYTES)
    needed = offset + values * int(header.GetMetaData("bitpix")) // 8
    is_zipped = path.name.lower().endswith(".gz")
    present = _unzipped_size(path) if is_zipped else path.stat().st_size
    if present < needed:
        raise DataError(
            f"incomplete: {present} of {needed} bytes", place=path, remedy="copy it again"
        )


def _unzipped_size(path: Path) -> int:
    size = 0
    try:
        with gzip.open(path) as file:
            while block := file.read(1 << 20):
                size += len(block)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"incomplete or damaged ({error})", place=path, remedy="copy it again"
        ) from None
    return size


def _reason(error: RuntimeError) -> str:
    """The last line of what ITK says: the others name its own source files."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines or "Unable to determine ImageIO" in lines[-1]:
        return "empty, damaged or of another format than its ending says"
    return lines[-1][:200]
