"""Where a TIFF, or a file beside it, says how large its voxels are."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from autoseg.core.geometry import Triple
from autoseg.errors import DataError

MM_OF_UNIT = {
    "m": 1e3,
    "cm": 10.0,
    "mm": 1.0,
    "µm": 1e-3,
    "um": 1e-3,
    "micron": 1e-3,
    "microns": 1e-3,
    "micrometer": 1e-3,
    "nm": 1e-6,
    "pm": 1e-9,
    "å": 1e-7,
    "inch": 25.4,
    "in": 25.4,
    "pt": 25.4 / 72,
}
"""Length in mm of the units OME and ImageJ write, lower case."""

_CHANNEL_NUMBER = re.compile(r"(.+)_\d{4}")
_OME_AXES = "ZYX"
_SIDE_FILE_FORM = 'hold {"spacing": [z, y, x]} in mm'


def side_file_spacing(path: Path, stem: str) -> Triple | None:
    """Spacing from ``<stem>.json`` beside an image, or from the file named after its case.

    Args:
        path: the image.
        stem: its name without the ending; ``_0000`` at its end may be missing in the side file's.

    Returns:
        ``(z, y, x)`` in mm; None if there is no side file.

    Raises:
        DataError: if it does not hold three positive numbers under ``spacing``.
    """
    match = _CHANNEL_NUMBER.fullmatch(stem)
    names = [stem] if match is None else [stem, match[1]]
    files = [path.with_name(f"{name}.json") for name in names]
    file = next((file for file in files if file.is_file()), None)
    return None if file is None else _read_side_file(file)


def _read_side_file(file: Path) -> Triple:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"not valid JSON ({error})", place=file) from error
    values = content.get("spacing") if isinstance(content, dict) else None
    if values is None:
        raise DataError("'spacing' is missing", place=file, remedy=_SIDE_FILE_FORM)
    is_triple = isinstance(values, list) and len(values) == 3
    if not is_triple or not all(_is_length(value) for value in values):
        raise DataError(
            f"'spacing' must be three positive numbers, found {json.dumps(values)}",
            place=file,
            remedy=_SIDE_FILE_FORM,
        )
    z, y, x = (float(value) for value in values)
    return z, y, x


def ome_spacing(xml: str, index: int, path: Path, stem: str) -> Triple | None:
    """Spacing from OME-XML.

    Args:
        xml: the description of the first page.
        index: which of the images of the file it is.
        path: the file, for the message.
        stem: its name without the ending.

    Returns:
        ``(z, y, x)`` in mm; None if no axis has one.

    Raises:
        DataError: if only some axes have one, or this is no XML.
    """
    try:
        root = ET.fromstring(xml)
    except ET.ParseError as error:
        raise DataError(f"its OME-XML is damaged ({error})", place=path) from error
    pixels = [element for element in root.iter() if element.tag.rpartition("}")[2] == "Pixels"]
    if index >= len(pixels):
        return None
    found = {axis: _ome_length(pixels[index], axis) for axis in _OME_AXES}
    missing = [f"PhysicalSize{axis}" for axis, length in found.items() if length is None]
    if len(missing) == len(found):
        return None
    if missing:
        raise DataError(
            f"its OME-XML has no {' and no '.join(missing)}",
            place=path,
            remedy=f'put {{"spacing": [z, y, x]}} in mm into {stem}.json beside it',
        )
    return found["Z"] or 0.0, found["Y"] or 0.0, found["X"] or 0.0


def _ome_length(pixels: ET.Element, axis: str) -> float | None:
    text = pixels.get(f"PhysicalSize{axis}", "")
    factor = _mm_of(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
    try:
        length = float(text) * (factor or math.nan)
    except ValueError:
        return None
    return length if _is_length(length) else None


def imagej_spacing(
    metadata: Mapping[str, Any],
    resolution_yx: tuple[float | None, float | None],
    resolution_unit: int,
) -> Triple | None:
    """Spacing of an ImageJ stack.

    ImageJ leaves ``spacing`` out where it is 1. Lengths without a unit are taken as mm, so that
    at least their ratio is right.

    Args:
        metadata: the keys of ImageJ's description.
        resolution_yx: pixels per unit along y and x, None where there is no such tag.
        resolution_unit: TIFF's ``ResolutionUnit``: 1 none, 2 inch, 3 cm.

    Returns:
        ``(z, y, x)`` in mm; None if it is not known.
    """
    factor = _mm_of(str(metadata.get("unit", "")))
    if factor is None and "spacing" not in metadata:
        return None  # what resolution there is, is for printing
    if factor is None:
        factor = {2: 25.4, 3: 10.0}.get(resolution_unit, 1.0)
    z = metadata.get("spacing", 1.0)
    y, x = (1 / value if value and _is_length(value) else 1.0 for value in resolution_yx)
    z = abs(z) if isinstance(z, int | float) and _is_length(abs(z)) else 1.0
    return z * factor, y * factor, x * factor


def _mm_of(unit: str) -> float | None:
    # ImageJ writes the sign for micro as an escape, and Unicode has two of them.
    plain = unit.replace("\\u00B5", "µ").replace("\u03bc", "µ").strip().lower()
    return MM_OF_UNIT.get(plain)


def _is_length(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and value > 0
