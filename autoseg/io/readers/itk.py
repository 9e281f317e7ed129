"""Volumes through SimpleITK; here ITK's x-y-z order becomes ours."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk  # noqa: N813 - the name everybody knows

from autoseg.core.geometry import IDENTITY, Geometry, Matrix
from autoseg.errors import AutosegError, DataError
from autoseg.io.readers.base import SINGLE_SLICE_SPACING_MM, Reader
from autoseg.io.readers.zipped import incomplete, read_bytes

# ITK writes its warnings to the terminal from C++.
sitk.ProcessObject.SetGlobalWarningDisplay(False)

NO_IMAGE = "empty, damaged or of another format than its ending says"
"""What a file is that no format recognizes."""

_HEADER_BYTES = 1 << 16
_DATA_FILE = re.compile(rb"^(?:ElementDataFile[ \t]*=|data ?file:)([^\r\n]*)", re.I | re.M)


class ItkReader(Reader):
    """A format SimpleITK knows.

    Args:
        suffixes: endings of the files, lower case.
        label_range: smallest and largest value a label map of this format holds.
    """

    def __init__(
        self,
        suffixes: tuple[str, ...],
        *,
        label_range: tuple[int, int] = (-(2**63), 2**64 - 1),
    ) -> None:
        self.suffixes = suffixes
        self.label_range = label_range

    def read_geometry(self, path: Path) -> tuple[Geometry, int]:
        """Read the header: geometry and number of channels.

        Raises:
            DataError: if it is not readable.
        """
        header = open_image(path)
        return self._geometry(path, header), _num_channels(header)

    def read(self, path: Path) -> tuple[npt.NDArray[Any], Geometry]:
        """Read a file.

        Returns:
            The voxels ``(channels, z, y, x)`` in the type of the file, and their geometry.

        Raises:
            DataError: if it is not readable, or incomplete.
        """
        header = open_image(path)
        geometry = self._geometry(path, header)
        try:
            image = header.Execute()
        except RuntimeError as error:
            raise _unreadable(path, error) from error
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
        write_itk(path, self._to_itk(array, geometry))

    def _to_itk(self, array: npt.NDArray[Any], geometry: Geometry) -> sitk.Image:
        return to_itk(array, geometry)

    def _geometry(self, path: Path, header: sitk.ImageFileReader) -> Geometry:
        try:
            return geometry_of(header)
        except ValueError as error:
            raise DataError(str(error), place=path) from error


class DetachableReader(ItkReader):
    """NRRD and MetaImage, whose voxels may lie in a file beside the header."""

    def label_suffix(self, path: Path) -> str | None:
        """Ending of the label map of an image: that of the format in one file."""
        suffix = super().label_suffix(path)
        return None if suffix is None else _IN_ONE_FILE.get(suffix, suffix)

    def write(self, path: Path, array: npt.NDArray[Any], geometry: Geometry) -> None:
        """Write numbers, compressed, header and voxels in one file whatever its ending.

        ITK would write two for ``.mhd`` and ``.nhdr``, and two do not appear whole or not at all;
        the formats allow either.

        Raises:
            AutosegError: if the format cannot hold the values, or the file cannot be written.
        """
        suffix = self.label_suffix(path)
        if suffix is None or path.name.lower().endswith(suffix):
            super().write(path, array, geometry)
            return
        joined = path.with_name(f"{path.name}{suffix}")
        try:
            super().write(joined, array, geometry)
            joined.replace(path)
        finally:
            joined.unlink(missing_ok=True)


class GiplReader(ItkReader):
    """GIPL: always 3D, upright and of integers up to 16 bits; the header has no direction."""

    def read(self, path: Path) -> tuple[npt.NDArray[Any], Geometry]:
        """Read a file.

        Returns:
            The voxels ``(channels, z, y, x)`` in the type of the file, and their geometry.

        Raises:
            DataError: if it is not readable, or incomplete.
        """
        array, geometry = super().read(path)
        # ITK fills what is missing, silently.
        present, needed = len(read_bytes(path)), _GIPL_HEADER_BYTES + array.nbytes
        if present < needed:
            raise incomplete(path, present, needed)
        return array, geometry

    def write(self, path: Path, array: npt.NDArray[Any], geometry: Geometry) -> None:
        """Write numbers, compressed where the ending says so.

        Raises:
            AutosegError: if the format cannot hold the values or the direction, or the file
                cannot be written.
        """
        if not np.allclose(geometry.direction, IDENTITY, rtol=0, atol=1e-6):
            raise AutosegError(
                "this format holds no direction, and this image is turned or flipped",
                place=path,
                remedy="write another format, such as .nii.gz",
            )
        super().write(path, array, geometry)

    def _to_itk(self, array: npt.NDArray[Any], geometry: Geometry) -> sitk.Image:
        return volume_to_itk(array, geometry)


_GIPL_HEADER_BYTES = 256
_IO_OF_ENDING = {".mha": "MetaImageIO", ".mhd": "MetaImageIO", ".gipl": "GiplImageIO"}
_IN_ONE_FILE = {".mhd": ".mha", ".nhdr": ".nrrd"}

VOLUMES = DetachableReader((".nrrd", ".nhdr", ".mha", ".mhd"))
GIPL = GiplReader((".gipl", ".gipl.gz"), label_range=(-(2**15), 2**16 - 1))


def read_header(path: Path, image_io: str = "") -> sitk.ImageFileReader:
    """Read what ITK finds in the header of a file.

    Args:
        path: the file.
        image_io: ITK's name of the format; it tries all formats otherwise.

    Raises:
        RuntimeError: if ITK refuses it.
    """
    reader = sitk.ImageFileReader()
    reader.SetImageIO(image_io)
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    return reader


def geometry_of(header: sitk.ImageFileReader | sitk.Image) -> Geometry:
    """The grid of the first axes of a file: two, which become one slice of 999 mm, or three.

    Raises:
        ValueError: if the grid is no grid: a spacing of 0, a singular direction.
    """
    dimension = header.GetDimension()
    size, spacing, origin = header.GetSize(), header.GetSpacing(), header.GetOrigin()
    direction = np.asarray(header.GetDirection()).reshape(dimension, dimension)
    if dimension == 2:
        matrix = np.asarray(IDENTITY)
        matrix[1:, 1:] = direction[::-1, ::-1]
        shape = (1, size[1], size[0])
        return make_geometry(
            shape, (SINGLE_SLICE_SPACING_MM, *spacing[::-1]), (0.0, *origin[::-1]), matrix
        )
    matrix = direction[:3, :3][::-1, ::-1]
    return make_geometry(size[2::-1], spacing[2::-1], origin[2::-1], matrix)


def make_geometry(
    shape: Sequence[int],
    spacing: Sequence[float],
    origin: Sequence[float],
    matrix: npt.NDArray[np.float64],
) -> Geometry:
    """A geometry of numbers that came out of a file.

    Args:
        shape: voxels, ``(z, y, x)``.
        spacing: mm, in that order.
        origin: LPS mm, in that order.
        matrix: direction, rows are world axes.

    Raises:
        ValueError: if it is no grid: a spacing of 0, a singular direction.
    """
    rows = tuple(tuple(float(value) for value in row) for row in matrix)
    return Geometry(
        shape=(shape[0], shape[1], shape[2]),
        spacing=(float(spacing[0]), float(spacing[1]), float(spacing[2])),
        origin=(float(origin[0]), float(origin[1]), float(origin[2])),
        direction=cast("Matrix", rows),
    )


def to_itk(array: npt.NDArray[Any], geometry: Geometry) -> sitk.Image:
    """An image of ITK; a single slice of 999 mm becomes a 2D one.

    Args:
        array: numbers, ``(z, y, x)``.
        geometry: its grid.
    """
    image = volume_to_itk(array, geometry)
    is_slice = geometry.shape[0] == 1 and geometry.spacing[0] == SINGLE_SLICE_SPACING_MM
    if not is_slice:
        return image
    flat = sitk.GetImageFromArray(array[0])
    flat.SetSpacing(image.GetSpacing()[:2])
    flat.SetOrigin(image.GetOrigin()[:2])
    flat.SetDirection(np.reshape(image.GetDirection(), (3, 3))[:2, :2].ravel().tolist())
    return flat


def volume_to_itk(array: npt.NDArray[Any], geometry: Geometry) -> sitk.Image:
    """An image of ITK that has three dimensions, whatever its number of slices.

    Args:
        array: numbers, ``(z, y, x)``.
        geometry: its grid.
    """
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(geometry.spacing[::-1])
    image.SetOrigin(geometry.origin[::-1])
    image.SetDirection(np.asarray(geometry.direction)[::-1, ::-1].ravel().tolist())
    return image


def write_itk(path: Path, image: sitk.Image) -> None:
    """Write an image of ITK, compressed where the format can be.

    Raises:
        AutosegError: if it cannot be written.
    """
    try:
        sitk.WriteImage(image, str(path), useCompression=True)
    except RuntimeError as error:
        raise AutosegError(f"cannot be written ({reason_of(error)})", place=path) from error


def complex_numbers(path: Path) -> DataError:
    """The error for an image of complex numbers."""
    return DataError(
        "its voxels are complex numbers", place=path, remedy="store their magnitude instead"
    )


def open_image(path: Path) -> sitk.ImageFileReader:
    """Read the header of an image of two to four dimensions.

    Raises:
        DataError: if it is not readable, or its voxels are complex numbers.
    """
    if not path.is_file():
        raise DataError("no such file", place=path)
    try:
        header = read_header(path, _image_io(path))
    except RuntimeError as error:
        raise _unreadable(path, error) from error
    if header.GetDimension() not in (2, 3, 4):
        raise DataError(
            f"has {header.GetDimension()} dimensions",
            place=path,
            remedy="images have 2, 3 or, with channels, 4",
        )
    if "complex" in sitk.GetPixelIDValueAsString(header.GetPixelID()):
        raise complex_numbers(path)
    return header


def _image_io(path: Path) -> str:
    """ITK tells these formats by their endings, and knows them in lower case only."""
    return "" if path.suffix.islower() else _IO_OF_ENDING.get(path.suffix.lower(), "")


def _num_channels(header: sitk.ImageFileReader) -> int:
    volumes = header.GetSize()[3] if header.GetDimension() == 4 else 1
    return volumes * header.GetNumberOfComponents()


def _unreadable(path: Path, error: RuntimeError) -> DataError:
    data_file = _data_file(path)
    if data_file is not None and not data_file.is_file():
        return DataError(
            f"its voxels are in {data_file.name}, which is missing",
            place=path,
            remedy=f"put {data_file.name} into the folder of the header",
        )
    # MetaIO names the last error of the operating system, which is another one.
    is_meta = "MetaImageIO" in str(error)
    reason = "its voxels are incomplete or damaged" if is_meta else reason_of(error)
    return DataError(f"cannot be read ({reason})", place=path)


def _data_file(path: Path) -> Path | None:
    """The file with the voxels of a detached header, where the header names one."""
    if not path.name.lower().endswith(tuple(_IN_ONE_FILE)):
        return None
    with path.open("rb") as file:
        found = _DATA_FILE.search(file.read(_HEADER_BYTES))
    name = "" if found is None else found[1].decode(errors="replace").strip()
    is_list = name.upper().startswith(("LOCAL", "LIST")) or "%" in name
    return None if not name or is_list else path.parent / name


def reason_of(error: RuntimeError) -> str:
    """The last line of what ITK says: the others name its own source files."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines or "Unable to determine ImageIO" in lines[-1]:
        return NO_IMAGE
    return lines[-1][:200]
