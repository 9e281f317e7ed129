"""TIFF: pictures, stacks, OME-TIFF and ImageJ's hyperstacks."""

from __future__ import annotations

import logging
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from autoseg.core.geometry import IDENTITY, Geometry, Triple
from autoseg.core.labels import LabelSpace
from autoseg.errors import AutosegError, DataError
from autoseg.io import atomic
from autoseg.io.readers import colours, tiff_spacing
from autoseg.io.readers.base import SINGLE_SLICE_SPACING_MM, Reader
from autoseg.io.readers.tiff_pages import Pages, find_pages
from autoseg.io.readers.tiff_plain import lossy_labels, read_plain, write_plain
from autoseg.io.readers.tiff_structure import refuse_incomplete

if TYPE_CHECKING:
    import tifffile

    from autoseg.io.readers.tiff_plain import Plain

logger = logging.getLogger(__name__)
# What is wrong with a file is said in our words, once.
logging.getLogger("tifffile").setLevel(logging.CRITICAL + 1)

_OME_SUFFIXES = (".ome.tiff", ".ome.tif")
_NO_SPACING = (1.0, 1.0, 1.0)
_IMAGEJ_TYPES = ("u1", "u2", "f4")
_DAMAGE = (
    ValueError,
    OSError,
    RuntimeError,
    LookupError,
    TypeError,
    struct.error,
    zlib.error,
    MemoryError,
)


class TiffReader(Reader):
    """TIFF files; through tifffile, but plain pictures are read without it.

    Pages are slices unless the file says that they are channels. There are colours only where
    the file says so, never because an axis has three elements. Transparency is left out.
    """

    suffixes = (*_OME_SUFFIXES, ".tiff", ".tif")

    def read_geometry(self, path: Path) -> tuple[Geometry, int]:
        """Read the header: geometry and number of channels.

        Raises:
            AutosegError: if it takes tifffile, and that is not installed.
            DataError: if it is not readable.
        """
        refuse_incomplete(path)
        if not _has_tifffile():
            array, table = _read_plain_or_refuse(path)
            shown = array if table is None else colours.coloured(array[0], table)
            return _flat(array.shape[-2:]), len(shown)
        with _opened(path) as (file, pages):
            return _geometry(file, pages, path), pages.num_channels

    def read(self, path: Path) -> tuple[npt.NDArray[Any], Geometry]:
        """Read an image.

        Returns:
            ``(channels, z, y, x)`` in the type of the file, and the geometry: 999 mm between the
            slices of a 2D image, which has 1 mm pixels; for volumes what the file beside it,
            OME-XML or ImageJ's description say, else 1 mm.

        Raises:
            AutosegError: if it takes tifffile, and that is not installed.
            DataError: if it is not readable, incomplete, a time series, or compressed in a way
                that takes another package.
        """
        array, table, geometry = _read(path)
        if table is not None:
            array = colours.coloured(array[0, 0], table)[:, np.newaxis]
        return array, geometry

    def read_labels(
        self, path: Path, labels: LabelSpace | None
    ) -> tuple[npt.NDArray[Any], Geometry]:
        """Read a label map: its numbers or, where there is a palette, the indices.

        Args:
            path: the file.
            labels: not needed.

        Returns:
            File values ``(z, y, x)`` in the type of the file, and their geometry.

        Raises:
            AutosegError: as for ``read``.
            DataError: as for ``read``, and if it holds colours or is compressed with loss.
        """
        del labels
        array, table, geometry = _read(path, is_label_map=True)
        if table is not None:
            return colours.indexed_labels(array[0, 0], table)[np.newaxis], geometry
        return colours.grey_labels(array, path), geometry

    def write(self, path: Path, array: npt.NDArray[Any], geometry: Geometry) -> None:
        """Write a label map or a channel, compressed.

        A volume becomes an ImageJ stack or, where its numbers or its name ask for it, an
        OME-TIFF; both keep the spacing.

        Args:
            path: the file.
            array: numbers, ``(z, y, x)``.
            geometry: its geometry, with origin 0 and no rotation; a single slice of 999 mm
                becomes a 2D picture.

        Raises:
            AutosegError: if the geometry or the values cannot be kept, or the file cannot be
                written; if it takes tifffile, and that is not installed.
        """
        self.refuse_values_it_cannot_hold(path, array)
        _refuse_place(path, geometry)
        is_flat = geometry.shape[0] == 1
        if not _has_tifffile():
            if not (is_flat and write_plain(path, array[0])):
                raise _needs_tifffile(path)
            return
        options = {} if is_flat else _volume_options(path, array.dtype, geometry.spacing)
        with atomic.writing(path):
            import tifffile

            tifffile.imwrite(
                path,
                array[0] if is_flat else array,
                photometric="minisblack",
                compression="zlib",
                **options,
            )


TIFF = TiffReader()


def _read(
    path: Path, *, is_label_map: bool = False
) -> tuple[npt.NDArray[Any], npt.NDArray[np.uint8] | None, Geometry]:
    """Voxels ``(channels, z, y, x)``, the palette if they are its indices, and the geometry."""
    refuse_incomplete(path)
    if not _has_tifffile():
        array, table = _read_plain_or_refuse(path, is_label_map)
        return array[:, np.newaxis], table, _flat(array.shape[-2:])
    with _opened(path) as (file, pages):
        if is_label_map and pages.is_lossy:
            raise lossy_labels(path)
        geometry = _geometry(file, pages, path)
        try:
            array = pages.pixels(path)
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            plain = read_plain(path)
            if plain is None:
                raise _needs_codec(path, str(error)) from error
            array = plain[0][:, np.newaxis]
    return array, pages.palette, geometry


def _has_tifffile() -> bool:
    try:
        import tifffile  # noqa: F401 - only whether it is there
    except ImportError:
        return False
    return True


def _needs_tifffile(path: Path) -> AutosegError:
    return AutosegError(
        "stacks and other than plain TIFF pictures need tifffile, which is not installed",
        place=path,
        remedy='pip install "autoseg[micro]"',
    )


def _needs_codec(path: Path, reason: str) -> DataError:
    match = re.search(r"<[A-Z]+\.(\w+)", reason)
    name = match[1] if match else "a method tifffile does not know"
    return DataError(
        f"compressed with {name}, which takes another package",
        place=path,
        remedy="pip install imagecodecs",
    )


def _read_plain_or_refuse(path: Path, is_label_map: bool = False) -> Plain:
    plain = read_plain(path, is_label_map)
    if plain is None:
        raise _needs_tifffile(path)
    return plain


@contextmanager
def _opened(path: Path) -> Iterator[tuple[tifffile.TiffFile, Pages]]:
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            yield file, find_pages(file, path)
    except _DAMAGE as error:
        raise DataError(
            f"incomplete or damaged ({error})", place=path, remedy="copy it again"
        ) from error


def _flat(shape: tuple[int, ...]) -> Geometry:
    return Geometry(shape=(1, shape[0], shape[1]), spacing=(SINGLE_SLICE_SPACING_MM, 1.0, 1.0))


def _geometry(file: tifffile.TiffFile, pages: Pages, path: Path) -> Geometry:
    if not pages.is_volume:
        return _flat(pages.zyx[1:])
    return Geometry(shape=pages.zyx, spacing=_spacing(file, pages, path))


def _spacing(file: tifffile.TiffFile, pages: Pages, path: Path) -> Triple:
    suffix = next(s for s in TIFF.suffixes if path.name.lower().endswith(s))
    stem = path.name[: -len(suffix)]
    found = tiff_spacing.side_file_spacing(path, stem)
    if found is None and file.ome_metadata:
        found = tiff_spacing.ome_spacing(file.ome_metadata, pages.index, path, stem)
    elif found is None and file.imagej_metadata:
        tags = file.pages.first.tags
        resolution = [tags.valueof(name) for name in ("YResolution", "XResolution")]
        y, x = (None if not r or not r[1] else r[0] / r[1] for r in resolution)
        unit = int(tags.valueof("ResolutionUnit", 1))
        found = tiff_spacing.imagej_spacing(file.imagej_metadata, (y, x), unit)
    if found is None:
        logger.debug("%s: no spacing found, taken as 1 mm", path)
    return found or _NO_SPACING


def _refuse_place(path: Path, geometry: Geometry) -> None:
    remedy = "write another format, such as .nii.gz"
    if geometry.origin != (0.0, 0.0, 0.0) or geometry.direction != IDENTITY:
        raise AutosegError("a TIFF holds no origin and no direction", place=path, remedy=remedy)
    if geometry.shape[0] == 1 and geometry.spacing[0] != SINGLE_SLICE_SPACING_MM:
        raise AutosegError(
            f"a TIFF of one slice holds no slice thickness ({geometry.spacing[0]:g} mm)",
            place=path,
            remedy=remedy,
        )


def _volume_options(path: Path, dtype: np.dtype[Any], spacing: Triple) -> dict[str, Any]:
    z, y, x = spacing
    is_ome = path.name.lower().endswith(_OME_SUFFIXES)
    if dtype.str[1:] in _IMAGEJ_TYPES and not is_ome:
        return {
            "imagej": True,
            "resolution": (1 / x, 1 / y),
            "resolutionunit": "NONE",
            "metadata": {"axes": "ZYX", "spacing": z, "unit": "mm"},
        }
    sizes = {f"PhysicalSize{axis}": size for axis, size in zip("ZYX", spacing, strict=True)}
    units = {f"{key}Unit": "mm" for key in sizes}
    return {"ome": True, "metadata": {"axes": "ZYX", **sizes, **units}}
