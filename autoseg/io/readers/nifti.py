"""NIfTI: voxels through nibabel, geometry as ITK sees it.

ITK turns NaN into 0 and fills what a truncated file lacks, both silently, so it does not read
the voxels; nibabel mixes up the units of length, so it does not say where they lie unless ITK
refuses to, as it does for sheared grids.
"""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header
from nibabel.spatialimages import HeaderDataError

from autoseg.core.geometry import Geometry
from autoseg.errors import AutosegError, DataError
from autoseg.io.readers.base import SINGLE_SLICE_SPACING_MM, Reader
from autoseg.io.readers.itk import (
    NO_IMAGE,
    complex_numbers,
    geometry_of,
    make_geometry,
    read_header,
    to_itk,
    write_itk,
)
from autoseg.io.readers.zipped import incomplete, read_bytes, read_start

_HEADERS = {348: Nifti1Header, 540: Nifti2Header}
_LARGEST_HEADER_BYTES = 540
_MM_OF_UNIT = {"micron": 1e-3, "meter": 1e3}
_VECTOR_INTENTS = (1005, 1006, 1007)
_SHEAR_ITK_IGNORES = 1e-5
_LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


class NiftiReader(Reader):
    """NIfTI-1 and NIfTI-2 in one file, zipped or not; the fourth axis holds channels."""

    suffixes = (".nii.gz", ".nii")
    label_range = (-(2**63), 2**64 - 1)

    def read_geometry(self, path: Path) -> tuple[Geometry, int]:
        """Read the header: geometry and number of channels.

        Raises:
            DataError: if it is not readable.
        """
        header = _parse_header(path, read_start(path, _LARGEST_HEADER_BYTES))
        geometry = _geometry(path, header)
        return geometry, _num_channels(path, header, geometry)

    def read(self, path: Path) -> tuple[npt.NDArray[Any], Geometry]:
        """Read a file, unzipping it once.

        Returns:
            The voxels ``(channels, z, y, x)`` in the type of the file, or as floating-point
            numbers where the file scales them, and their geometry.

        Raises:
            DataError: if it is not readable, or incomplete.
        """
        content = read_bytes(path)
        header = _parse_header(path, content[:_LARGEST_HEADER_BYTES].tobytes())
        geometry = _geometry(path, header)
        num_channels = _num_channels(path, header, geometry)
        voxels = _scaled(_voxels(path, header, content), header)
        if header.get_data_dtype().fields is not None:
            voxels = np.moveaxis(voxels, -1, 0)
        return voxels.reshape(num_channels, *geometry.shape), geometry

    def write(self, path: Path, array: npt.NDArray[Any], geometry: Geometry) -> None:
        """Write numbers, zipped if the ending says so; a single slice of 999 mm becomes 2D.

        Args:
            path: the file.
            array: labels or one channel, ``(z, y, x)``.
            geometry: its geometry.

        Raises:
            AutosegError: if the file cannot be written.
        """
        self.refuse_values_it_cannot_hold(path, array)
        axes = np.asarray(geometry.direction)
        if np.allclose(axes.T @ axes, np.eye(3), rtol=0, atol=_SHEAR_ITK_IGNORES):
            write_itk(path, to_itk(array, geometry))
        else:
            _write_sheared(path, array, geometry)


NIFTI = NiftiReader()


def _parse_header(path: Path, start: bytes) -> Nifti1Header:
    for endianness in ("little", "big"):
        size = int.from_bytes(start[:4], endianness)
        if size in _HEADERS and len(start) >= size:
            # Without nibabel's own checks, which write to the terminal.
            header = _HEADERS[size](start[:size], endianness=endianness, check=False)
            if header["magic"].item()[:3] in (b"n+1", b"n+2"):
                return header
    raise DataError(f"cannot be read ({NO_IMAGE})", place=path)


def _shape(header: Nifti1Header) -> tuple[int, ...]:
    """Voxels per axis, x first, as far as the file uses its seven axes."""
    num_axes, *sizes = (int(size) for size in header["dim"])
    spatial, others = sizes[: min(num_axes, 3)], sizes[3 : max(num_axes, 3)]
    return (*spatial, *(max(size, 1) for size in others))


def _num_channels(path: Path, header: Nifti1Header, geometry: Geometry) -> int:
    shape = _shape(header)
    is_vector = int(header["intent_code"]) in _VECTOR_INTENTS
    if sum(size > 1 for size in shape[3:]) > 1 and not is_vector:
        raise DataError(
            f"has {len(shape)} dimensions",
            place=path,
            remedy="images have 2, 3 or, with channels, 4",
        )
    fields = _dtype(path, header).fields
    return prod(shape) // prod(geometry.shape) * (1 if fields is None else len(fields))


def _dtype(path: Path, header: Nifti1Header) -> np.dtype[Any]:
    try:
        dtype = np.dtype(header.get_data_dtype())
    except (HeaderDataError, KeyError, TypeError):
        dtype = np.dtype(np.void)
    if dtype.kind == "c":
        raise complex_numbers(path)
    if dtype.kind not in "iuf" and dtype.fields is None:
        code = int(header["datatype"])
        raise DataError(f"its voxels are no numbers (datatype {code})", place=path)
    return dtype


def _geometry(path: Path, header: Nifti1Header) -> Geometry:
    shape = _shape(header)
    if not 2 <= len(shape) <= 7 or min(shape) < 1:
        raise DataError(f"has the shape {shape}", place=path, remedy="images have 2 or 3 axes")
    try:
        return geometry_of(read_header(path, "NiftiImageIO"))
    except (RuntimeError, ValueError):
        return _geometry_of_affine(path, header, shape)


def _geometry_of_affine(path: Path, header: Nifti1Header, shape: tuple[int, ...]) -> Geometry:
    """A grid ITK refuses, most often because its axes are not at right angles."""
    unit = _MM_OF_UNIT.get(str(header.get_xyzt_units()[0]), 1.0)
    try:
        affine = _LPS_FROM_RAS @ _affine(header) * unit
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        direction = affine[:3, :3] / np.where(spacing > 0, spacing, 1.0)
        is_flat = len(shape) == 2
        return make_geometry(
            (1, *shape[::-1]) if is_flat else shape[2::-1],
            (SINGLE_SLICE_SPACING_MM if is_flat else spacing[2], spacing[1], spacing[0]),
            affine[2::-1, 3].tolist(),
            direction[::-1, ::-1],
        )
    except (ValueError, HeaderDataError) as error:
        raise DataError(f"says no position of its voxels ({error})", place=path) from error


def _affine(header: Nifti1Header) -> npt.NDArray[np.float64]:
    """RAS from x-y-z, in the unit of the file; with neither form as ITK takes it."""
    if int(header["sform_code"]) > 0:
        return np.asarray(header.get_sform(), dtype=np.float64)
    if int(header["qform_code"]) > 0:
        return np.asarray(header.get_qform(), dtype=np.float64)
    x, y, z = np.abs(header["pixdim"][1:4].astype(np.float64))
    return np.diag([-x, -y, z, 1.0])


def _voxels(path: Path, header: Nifti1Header, content: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
    """What is stored, last axis first; three or four bytes at the end of a coloured one."""
    dtype, shape = _dtype(path, header), _shape(header)[::-1]
    offset = max(int(header["vox_offset"]), int(header["sizeof_hdr"]))
    needed = offset + prod(shape) * dtype.itemsize
    if len(content) < needed:
        raise incomplete(path, len(content), needed)
    if dtype.fields is not None:
        return content[offset:needed].reshape(*shape, len(dtype.fields))
    voxels = np.ndarray(shape, dtype, buffer=content.data, offset=offset)
    return voxels.astype(dtype.newbyteorder("="), copy=False)


def _scaled(voxels: npt.NDArray[Any], header: Nifti1Header) -> npt.NDArray[Any]:
    """Apply slope and intercept, in single precision as ITK does where that holds the type."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    slope = slope if np.isfinite(slope) else 0.0
    intercept = intercept if np.isfinite(intercept) else 0.0
    if slope == 0 or (slope, intercept) == (1.0, 0.0) or header.get_data_dtype().fields is not None:
        return voxels
    scaled = voxels.astype(np.result_type(voxels.dtype, np.float32))
    with np.errstate(over="ignore", invalid="ignore"):
        scaled *= slope
        scaled += intercept
    return scaled


def _write_sheared(path: Path, array: npt.NDArray[Any], geometry: Geometry) -> None:
    """ITK writes the nearest grid with right angles instead."""
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(geometry.direction)[::-1, ::-1] * geometry.spacing[::-1]
    affine[:3, 3] = geometry.origin[::-1]
    is_slice = geometry.shape[0] == 1 and geometry.spacing[0] == SINGLE_SLICE_SPACING_MM
    voxels = array[0].T if is_slice else array.T
    affine = _LPS_FROM_RAS @ affine
    try:
        image = nibabel.Nifti1Image(voxels, affine, dtype=array.dtype)
        image.set_sform(affine, code=1)
        image.header.set_xyzt_units("mm")
        nibabel.save(image, path)
    except HeaderDataError as error:
        raise AutosegError(f"cannot be written ({error})", place=path) from error
