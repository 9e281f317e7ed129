"""NIfTI files whose header gives a voxel no size, read with one that the user gives."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
from nibabel.nifti1 import Nifti1Header
from nibabel.spatialimages import HeaderDataError

from autoseg.core.geometry import Geometry, Triple
from autoseg.errors import DataError
from autoseg.io.formats import reader_of

_HEADER_BYTES = 348
_GZIP_START = b"\x1f\x8b"


def read_with_spacing(path: Path, spacing: Triple) -> tuple[npt.NDArray[Any], Geometry]:
    """Read a NIfTI-1 file as if its header gave another voxel size.

    Directions and origin are kept where the header has them.

    Args:
        path: the file.
        spacing: mm, ``(z, y, x)``.

    Returns:
        As ``Reader.read``.

    Raises:
        DataError: if it is no such file, or nothing but its voxel size is wrong.
    """
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if content.startswith(_GZIP_START) else content
        header = Nifti1Header.from_fileobj(io.BytesIO(content), check=False)
    except (OSError, EOFError, HeaderDataError) as error:
        raise DataError(f"cannot be read as NIfTI ({error})", place=path) from error
    _respace(header, np.asarray(spacing[::-1]))
    with TemporaryDirectory(prefix="autoseg_") as folder:
        copy = Path(folder, "respaced.nii")
        copy.write_bytes(header.binaryblock + content[_HEADER_BYTES:])
        return reader_of(copy).read(copy)


def _respace(header: Nifti1Header, spacing: npt.NDArray[np.float64]) -> None:
    """Set the size of a voxel; arrays in the file's order x, y, z."""
    header["pixdim"][1:4] = spacing
    if int(header["sform_code"]) > 0:
        sform = np.nan_to_num(np.asarray(header.get_sform(), dtype=np.float64))
        sform[:3, :3] = _directions(sform[:3, :3]) * spacing
        for row, name in enumerate(("srow_x", "srow_y", "srow_z")):
            header[name][:] = sform[row]


def _directions(columns: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Unit vectors of the axes; one without a length is at right angles to the others."""
    lengths = np.linalg.norm(columns, axis=0)
    units = columns / np.where(lengths > 0, lengths, 1)
    (lost,) = np.nonzero(lengths == 0)
    if len(lost) > 1:
        return np.eye(3)
    for axis in lost:
        units[:, axis] = np.cross(units[:, (axis + 1) % 3], units[:, (axis + 2) % 3])
    return units
