"""Files opened with Pillow: of any size, with damage named."""

from __future__ import annotations

import struct
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from autoseg.errors import DataError
from autoseg.io.readers.itk import NO_IMAGE

_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, MemoryError)
_ORIENTATION_TAG = 0x0112
_opening = threading.Lock()


@contextmanager
def opened(path: Path, kinds: Sequence[str]) -> Iterator[Image.Image]:
    """Open a picture by its content, whatever its name says.

    Args:
        path: the file.
        kinds: Pillow's names of the formats to try.

    Yields:
        The picture, its pixels not loaded yet; its use is in the ``with`` block.

    Raises:
        DataError: if it is not readable or incomplete.
    """
    if not path.is_file():
        raise DataError("no such file", place=path)
    try:
        with _open(path, kinds) as image:
            yield image
    except UnidentifiedImageError as error:
        raise DataError(
            f"cannot be read ({NO_IMAGE})",
            place=path,
        ) from error
    except _DAMAGE as error:
        raise DataError(
            f"incomplete or damaged ({error})", place=path, remedy="copy it again"
        ) from error


def orientation(image: Image.Image) -> int:
    """How EXIF says a photograph must be turned to be seen upright, 1 to 8; 1 for not at all."""
    with _opening, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about tags that nobody here reads
        try:
            found = int(image.getexif().get(_ORIENTATION_TAG, 1))
        except (*_DAMAGE, TypeError, KeyError):
            return 1
    return found if 1 <= found <= 8 else 1


def palette(image: Image.Image) -> npt.NDArray[np.uint8]:
    """The colours ``(entries, 3)`` of a picture that is opened but not loaded."""
    assert image.palette is not None
    order, content = image.palette.getdata()
    if order == "RGB;L":  # TIFF: all reds first
        return np.frombuffer(content, np.uint8).reshape(3, -1).T
    num_entries = len(content) // len(order)
    entries = np.frombuffer(content, np.uint8, num_entries * len(order))
    return entries.reshape(num_entries, -1)[:, [order.index(colour) for colour in "RGB"]]


def _open(path: Path, kinds: Sequence[str]) -> Image.Image:
    """Open a file without the limit of pixels.

    Pillow takes large pictures, as pathology has them, for attacks. The limit is global, and
    looked at only while a file is opened.
    """
    with _opening, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about tags that nobody here reads
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(path, formats=list(kinds))
        finally:
            Image.MAX_IMAGE_PIXELS = limit
