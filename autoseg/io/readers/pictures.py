"""2D pictures: PNG, BMP and JPEG."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk  # noqa: N813 - the name everybody knows
from PIL import Image

from autoseg.core.geometry import Geometry
from autoseg.core.labels import LabelSpace
from autoseg.errors import AutosegError, DataError
from autoseg.io import atomic
from autoseg.io.readers import colours, pillow
from autoseg.io.readers.base import SINGLE_SLICE_SPACING_MM, Reader

_LOSSY_SUFFIXES = (".jpg", ".jpeg")
_LOSSY_FORMATS = ("JPEG", "MPO")
_FORMATS = ("PNG", "BMP", "JPEG")
_GREY_MODES = ("1", "L", "LA", "I", "I;16", "I;16B")
_DEEP_GREY_ALPHA = "LA;16B"
_READ_MODES = (*_GREY_MODES, "RGB", "RGBA")


class PictureReader(Reader):
    """Pictures without a place in the world: pixels are 1 mm wide, dots per inch do not count.

    Grey pictures have one channel, colour pictures three. Transparency is left out. Black and
    white are 0 and 255, of one bit too. A photograph is turned as its camera says. In label
    maps, values are greys or, where there is a palette, indices.
    """

    suffixes = (".png", ".bmp", *_LOSSY_SUFFIXES)
    label_range = (0, 65535)

    def read_geometry(self, path: Path) -> tuple[Geometry, int]:
        """Read the header: geometry and number of channels.

        Raises:
            DataError: if it is not readable.
        """
        with _opened(path) as image:
            return _geometry(image), _num_channels(image)

    def read(self, path: Path) -> tuple[npt.NDArray[Any], Geometry]:
        """Read a picture as it is shown.

        Returns:
            uint8 or uint16 ``(channels, 1, y, x)`` and the geometry.

        Raises:
            DataError: if it is not readable, or incomplete.
        """
        with _opened(path) as image:
            geometry = _geometry(image)
            return _shown(image, path)[:, np.newaxis], geometry

    def read_labels(
        self, path: Path, labels: LabelSpace | None
    ) -> tuple[npt.NDArray[Any], Geometry]:
        """Read a label map: greys, or the indices of a palette.

        Args:
            path: the file.
            labels: not needed.

        Returns:
            uint8 or uint16 ``(1, y, x)`` and the geometry.

        Raises:
            DataError: if it is not readable, incomplete, a JPEG whatever its name says, or holds
                colours without a palette.
        """
        del labels
        with _opened(path) as image:
            if image.format in _LOSSY_FORMATS:
                raise DataError(
                    "a JPEG blurs label values", place=path, remedy="export the labels as PNG"
                )
            geometry = _geometry(image)
            if image.mode == "P":
                table = pillow.palette(image)
                values = colours.indexed_labels(np.asarray(image), table)
            else:
                values = colours.grey_labels(_shown(image, path), path)
        return values[np.newaxis], geometry

    def write(self, path: Path, array: npt.NDArray[Any], geometry: Geometry) -> None:
        """Write whole numbers of one slice: PNG 0..65535, compressed; BMP 0..255.

        Args:
            path: the file.
            array: labels or one channel, ``(1, y, x)``.
            geometry: its geometry, of which the file keeps the shape only.

        Raises:
            AutosegError: if the format cannot hold the values or more than one slice, or the
                file cannot be written.
        """
        remedy = "write another format, such as .nii.gz"
        if path.suffix.lower() in _LOSSY_SUFFIXES:
            raise AutosegError(
                "a JPEG blurs values and is not written", place=path, remedy="write .png"
            )
        if geometry.shape[0] > 1:
            raise AutosegError(
                f"a picture holds one slice, not {geometry.shape[0]}", place=path, remedy=remedy
            )
        whole = np.rint(array).astype(np.int64)
        if not np.array_equal(whole, array):
            raise AutosegError("a picture holds whole numbers only", place=path, remedy=remedy)
        self.refuse_values_it_cannot_hold(path, whole)
        stored = whole[0].astype(np.uint8 if whole.max() < 256 else np.uint16)
        with atomic.writing(path):
            Image.fromarray(stored).save(path)

    def label_suffix(self, path: Path) -> str:
        """Ending of the label map of a picture: its own, or PNG's for JPEG.

        Args:
            path: an image of this reader.
        """
        return ".bmp" if path.name.lower().endswith(".bmp") else ".png"

    def label_range_of(self, name: str) -> tuple[int, int]:
        """Smallest and largest value a label map of this name holds."""
        return (0, 255) if name.lower().endswith(".bmp") else self.label_range


PICTURES = PictureReader()


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    with pillow.opened(path, _FORMATS) as image:
        _refuse_misread_bitmap(image, path)
        yield image


def _refuse_misread_bitmap(image: Image.Image, path: Path) -> None:
    """Pillow takes bitmaps with few greys in their palette for ones with fewer bits."""
    if image.format != "BMP" or image.mode not in ("1", "L"):
        return
    with path.open("rb") as file:
        header = file.read(30)
    # The header of OS/2 is the shorter one.
    num_bits = header[24] if header[14] == 12 else header[28]
    if num_bits != (1 if image.mode == "1" else 8):
        raise DataError(
            f"a palette of {'two' if image.mode == '1' else 'few'} greys at {num_bits} bits a "
            "pixel is not read",
            place=path,
            remedy="save it as PNG",
        )


def _orientation(image: Image.Image) -> int:
    """How a photograph must be turned: annotators draw on what they are shown."""
    return pillow.orientation(image) if image.format in _LOSSY_FORMATS else 1


def _geometry(image: Image.Image) -> Geometry:
    width, height = image.size
    if _orientation(image) in colours.SWAPPED_ORIENTATIONS:
        width, height = height, width
    return Geometry(shape=(1, height, width), spacing=(SINGLE_SLICE_SPACING_MM, 1.0, 1.0))


def _num_channels(image: Image.Image) -> int:
    if image.mode == "P":
        return 1 if colours.is_grey(pillow.palette(image)) else 3
    return 1 if image.mode in _GREY_MODES or _stored_as(image) == _DEEP_GREY_ALPHA else 3


def _shown(image: Image.Image, path: Path) -> npt.NDArray[Any]:
    """The channels ``(channels, y, x)`` as users see them."""
    if image.mode == "P":
        table = pillow.palette(image)
        return colours.coloured(np.asarray(image), table)
    num_channels = _num_channels(image)
    array = _deep_pixels(image, path) if _is_deep(image) else _pixels(image)
    if array.shape[-1] > num_channels:
        colours.tell_transparency(array[..., -1], path)
    channels = np.moveaxis(array[..., :num_channels], -1, 0)
    return colours.upright(channels, _orientation(image))


def _pixels(image: Image.Image) -> npt.NDArray[Any]:
    """``(y, x, channels)``."""
    plain = image if image.mode in _READ_MODES else image.convert("RGB")
    array = colours.numbers_of(np.asarray(plain))
    # Older versions of Pillow hold 16 bits in 32.
    array = array.astype(np.uint16) if array.dtype == np.int32 else array
    return array.reshape(*array.shape[:2], -1)


def _is_deep(image: Image.Image) -> bool:
    """Whether a PNG has several channels of 16 bits, which Pillow would cut to 8."""
    return image.mode in ("LA", "RGB", "RGBA") and _stored_as(image).endswith(";16B")


def _stored_as(image: Image.Image) -> str:
    """Pillow's name of how the pixels of a PNG are stored; empty for other formats."""
    tiles = getattr(image, "tile", None)
    return str(tiles[0][3]) if image.format == "PNG" and tiles else ""


def _deep_pixels(image: Image.Image, path: Path) -> npt.NDArray[Any]:
    """``(y, x, channels)`` of 16 bits."""
    if _stored_as(image) == _DEEP_GREY_ALPHA:
        return _deep_grey_alpha(path)
    image.load()  # tells damage; ITK prints it, too
    try:
        return sitk.GetArrayFromImage(sitk.ReadImage(str(path), imageIO="PNGImageIO"))
    except RuntimeError as error:
        raise OSError("broken data stream") from error


def _deep_grey_alpha(path: Path) -> npt.NDArray[np.uint16]:
    """``(y, x, 2)`` of 16 bits, which ITK does not read either.

    They are stored as red, green, blue and alpha of 8 bits are: only the header says otherwise.
    """
    content = bytearray(path.read_bytes())
    content[24:26] = bytes((8, 6))
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
        pairs = np.ascontiguousarray(np.asarray(image)).view(">u2")
    return colours.numbers_of(pairs)
