"""Where the frames of an enhanced multi-frame DICOM file lie.

ITK says no more of these files than an origin and a spacing, and those are wrong if the frames
are stored in falling or any other order, hold several time points or are sheared. So their
functional groups are read here, through pydicom.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from autoseg.errors import AutosegError, DataError

_SHARED, _PER_FRAME = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"
_MEASURES, _RESCALE = "PixelMeasuresSequence", "PixelValueTransformationSequence"


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What the functional groups say of a frame; empty is not said.

    Attributes:
        position, orientation, pixel_spacing, between, thickness, intercept, slope: the texts of
            the file, numbers separated by a backslash.
    """

    position: str
    orientation: str
    pixel_spacing: str
    between: str
    thickness: str
    intercept: str
    slope: str


def read_frames(path: Path) -> list[Frame]:
    """Read what an enhanced multi-frame file says of each frame, in the order of the file.

    Args:
        path: a DICOM file.

    Returns:
        One entry per frame; none if the file has no functional groups.

    Raises:
        DataError: if the file is damaged.
        AutosegError: if pydicom is not installed.
    """
    try:
        import pydicom
    except ImportError as error:
        raise AutosegError(
            "DICOM files with several frames need pydicom",
            place=path,
            remedy='pip install "autoseg[dicom]"',
        ) from error
    try:
        # What pydicom finds unusual in a file is not the user's business here.
        with warnings.catch_warnings(action="ignore"):
            data = pydicom.dcmread(
                path, stop_before_pixels=True, specific_tags=[_SHARED, _PER_FRAME]
            )
            shared = next(iter(data.get(_SHARED) or ()), None)
            return [_frame(shared, own) for own in data.get(_PER_FRAME) or ()]
    except Exception as error:  # a damaged file makes pydicom raise almost anything
        raise DataError(
            "the positions of its frames cannot be read",
            place=path,
            remedy="convert it to NIfTI, for instance with dcm2niix",
        ) from error


def _frame(shared: Any, own: Any) -> Frame:  # noqa: ANN401 - pydicom's data sets are untyped
    def text(group: str, name: str) -> str:
        # A frame's own word counts before the one for all frames.
        for groups in (own, shared):
            items = groups.get(group) if groups is not None else None
            if items:
                return _text(items[0].get(name))
        return ""

    return Frame(
        position=text("PlanePositionSequence", "ImagePositionPatient"),
        orientation=text("PlaneOrientationSequence", "ImageOrientationPatient"),
        pixel_spacing=text(_MEASURES, "PixelSpacing"),
        between=text(_MEASURES, "SpacingBetweenSlices"),
        thickness=text(_MEASURES, "SliceThickness"),
        intercept=text(_RESCALE, "RescaleIntercept"),
        slope=text(_RESCALE, "RescaleSlope"),
    )


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, Iterable) and not isinstance(value, str):
        return "\\".join(str(part) for part in cast("Iterable[object]", value))
    return str(value)
