"""2D TIFF pictures through Pillow: without tifffile, or where that cannot decompress."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from autoseg.errors import DataError
from autoseg.io import atomic
from autoseg.io.readers import colours, pillow

_BITS, _PHOTOMETRIC, _DESCRIPTION, _ORIENTATION, _FORMAT = 258, 262, 270, 274, 339
_WHITE_IS_ZERO = 0
_UNSIGNED, _SIGNED, _FLOAT = 1, 2, 3
_READ_AS = {
    "1": (_UNSIGNED, 1),
    "L": (_UNSIGNED, 8),
    "P": (_UNSIGNED, 8),
    "RGB": (_UNSIGNED, 8),
    "RGBA": (_UNSIGNED, 8),
    "I;16": (_UNSIGNED, 16),
    "I;16B": (_UNSIGNED, 16),
    "I": (_SIGNED, 32),
    "F": (_FLOAT, 32),
}
"""By Pillow's mode, the sample format and bits of the files it reads without loss."""

Plain = tuple[npt.NDArray[Any], npt.NDArray[np.uint8] | None]
"""Pixels ``(channels, y, x)``, and the palette ``(entries, 3)`` if they are its indices."""


def read_plain(path: Path, is_label_map: bool = False) -> Plain | None:
    """Read a picture of one page, in grey, RGB or with a palette.

    Args:
        path: the file.
        is_label_map: whether its values are labels.

    Returns:
        Its pixels; None if the file is more than Pillow reads without loss.

    Raises:
        DataError: if it is not readable or incomplete, or blurs labels.
    """
    try:
        return _read(path, is_label_map)
    except DataError as error:
        if isinstance(error.__cause__, UnidentifiedImageError):
            return None  # a kind of TIFF that Pillow does not know
        raise


def _read(path: Path, is_label_map: bool) -> Plain | None:
    with pillow.opened(path, ("TIFF",)) as image:
        if not _is_plain(image):
            return None
        if is_label_map and image.info.get("compression") == "jpeg":
            raise lossy_labels(path)
        table = pillow.palette(image) if image.mode == "P" else None
        is_inverted = _tag(image, _PHOTOMETRIC) == _WHITE_IS_ZERO and image.mode in ("1", "L")
        array = colours.numbers_of(np.asarray(image))
    if is_inverted:
        array = 255 - array  # Pillow shows it; the values are meant
    array = array.reshape(*array.shape[:2], -1)
    if array.shape[-1] == 4:
        colours.tell_transparency(array[..., 3], path)
    return np.moveaxis(array[..., :3], -1, 0), table


def lossy_labels(path: Path) -> DataError:
    """The error for labels that are compressed as photographs are."""
    return DataError(
        "its compression blurs label values",
        place=path,
        remedy="export the labels without loss, as PNG or with deflate compression",
    )


def write_plain(path: Path, array: npt.NDArray[Any]) -> bool:
    """Write a 2D picture of whole numbers from 0 to 65535, compressed.

    Args:
        path: the file.
        array: ``(y, x)``.

    Returns:
        Whether it could be; nothing is written otherwise.

    Raises:
        AutosegError: if the file cannot be written.
    """
    if array.dtype not in (np.uint8, np.uint16):
        return False
    with atomic.writing(path):
        Image.fromarray(array).save(path, format="TIFF", compression="tiff_adobe_deflate")
    return True


def _is_plain(image: Image.Image) -> bool:
    if image.mode not in _READ_AS or getattr(image, "n_frames", 1) > 1:
        return False
    # ImageJ keeps the pages of a large stack behind the first, without saying so elsewhere.
    pages = re.search(r"^images=(\d+)", str(_tag(image, _DESCRIPTION) or ""), re.MULTILINE)
    is_single = pages is None or int(pages[1]) == 1
    sample_format, num_bits = _READ_AS[image.mode]
    bits, formats = _tag(image, _BITS) or (1,), _tag(image, _FORMAT) or (_UNSIGNED,)
    is_lossless = max(bits) <= num_bits and set(formats) == {sample_format}
    return is_single and is_lossless and _tag(image, _ORIENTATION) in (None, 1)


def _tag(image: Image.Image, number: int) -> Any:  # noqa: ANN401 - what Pillow makes of it
    return getattr(image, "tag_v2", {}).get(number)
