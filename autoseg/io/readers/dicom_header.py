"""What the header of a DICOM file says, through SimpleITK (GDCM)."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk  # noqa: N813 - the name everybody knows

from autoseg.errors import DataError
from autoseg.io.readers.dicom_frames import Frame, read_frames
from autoseg.io.readers.dicom_stack import Plane

# ITK writes its warnings to the terminal from C++.
sitk.ProcessObject.SetGlobalWarningDisplay(False)

_STDERR = 2
_one_at_a_time = threading.Lock()

_SERIES, _INSTANCE, _MODALITY = "0020|000e", "0008|0018", "0008|0060"
_DESCRIPTION, _PATIENT, _NUM_FRAMES = "0008|103e", "0010|0020", "0028|0008"
_POSITION, _ORIENTATION, _TILT = "0020|0032", "0020|0037", "0018|1120"
_PIXEL_SPACINGS = ("0028|0030", "0018|1164", "0018|2010")
"""In the patient, at the detector, of a film that was scanned: the first that is given counts."""
_BETWEEN, _THICKNESS = "0018|0088", "0018|0050"
_INTEGER_TYPES = {
    sitk.sitkUInt8: np.uint8,
    sitk.sitkInt8: np.int8,
    sitk.sitkUInt16: np.uint16,
    sitk.sitkInt16: np.int16,
    sitk.sitkUInt32: np.uint32,
    sitk.sitkInt32: np.int32,
    sitk.sitkVectorUInt8: np.uint8,
    sitk.sitkVectorUInt16: np.uint16,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DicomFile:
    """A DICOM file with an image: one slice, or the frames of a volume.

    Attributes:
        path: the file.
        series: SeriesInstanceUID.
        instance: SOPInstanceUID; only copies of a file share it.
        description: the series', as its operator named it; may be empty.
        modality: such as ``"CT"``.
        size: rows and columns.
        num_channels: three for colours.
        dtype: of the voxels, rescaled: float32, or the integer type ITK finds.
        planes: where each slice or frame lies, in the order of the file.
        rescales: slope and intercept of each frame if they differ, else empty.
    """

    path: Path
    series: str
    instance: str
    description: str
    modality: str
    size: tuple[int, int]
    num_channels: int
    dtype: np.dtype[Any]
    planes: tuple[Plane, ...]
    rescales: tuple[tuple[float, float], ...]


def read_header(path: Path) -> DicomFile:
    """Read the header of a DICOM image.

    Raises:
        DataError: if it cannot be read, holds no image, or a value in it makes no sense.
    """
    header = _open(path)
    planes, rescales = _slice_or_frames(header, path)
    columns, rows = header.GetSize()[:2]
    pixel_id = header.GetPixelID()
    return DicomFile(
        path=path,
        series=_text(header, _SERIES),
        instance=_text(header, _INSTANCE),
        description=_text(header, _DESCRIPTION),
        modality=_text(header, _MODALITY),
        size=(rows, columns),
        num_channels=header.GetNumberOfComponents(),
        dtype=np.dtype(np.float32 if rescales else _INTEGER_TYPES.get(pixel_id, np.float32)),
        planes=planes,
        rescales=rescales,
    )


def read_voxels(file: DicomFile, out: npt.NDArray[Any]) -> None:
    """Read the voxels of a file, rescaled as its header says.

    Args:
        file: its header.
        out: where to put them, ``(channels, frames, y, x)``, of a type that holds the file's.

    Raises:
        DataError: if they cannot be read.
    """
    try:
        with _quiet():
            image = _reader(file.path).Execute()
    except RuntimeError as error:
        raise _unreadable(file.path) from error
    # A view spares a copy; it lives no longer than the image.
    voxels = sitk.GetArrayViewFromImage(image)
    if file.num_channels > 1:
        voxels = np.moveaxis(voxels, -1, 0)
    voxels = voxels.reshape(out.shape)
    out[...] = _rescale_frames(voxels, file.rescales) if file.rescales else voxels


def read_patient_id(path: Path) -> str | None:
    """The PatientID of a DICOM image, or None if it has none.

    Raises:
        DataError: if it cannot be read.
    """
    return _text(_open(path), _PATIENT) or None


def _open(path: Path) -> sitk.ImageFileReader:
    header = _reader(path)
    try:
        with _quiet():
            header.ReadImageInformation()
    except RuntimeError as error:
        raise _unreadable(path) from error
    return header


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the codecs of GDCM from writing to the terminal, which they do from C.

    They try one decoder after the other and complain even where the last succeeds.
    """
    with _one_at_a_time, Path(os.devnull).open("wb") as nowhere:
        try:
            terminal = os.dup(_STDERR)
        except OSError:  # a program without a terminal may have closed it
            yield
            return
        os.dup2(nowhere.fileno(), _STDERR)
        try:
            yield
        finally:
            os.dup2(terminal, _STDERR)
            os.close(terminal)


def _reader(path: Path) -> sitk.ImageFileReader:
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    return reader


def _unreadable(path: Path) -> DataError:
    return DataError(
        "cannot be read (truncated, damaged or no DICOM image)", place=path, remedy="copy it again"
    )


def _text(header: sitk.ImageFileReader, key: str) -> str:
    if not header.HasMetaDataKey(key):
        return ""
    raw = header.GetMetaData(key).encode("utf-8", "surrogateescape")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    return text.strip("\0 ")


def _numbers(text: str, count: int, what: str, path: Path) -> tuple[float, ...] | None:
    """Numbers separated by backslashes; None for an empty text."""
    if not text:
        return None
    try:
        numbers = tuple(float(part) for part in text.split("\\"))
    except ValueError:
        numbers = ()
    if len(numbers) < count or not np.isfinite(numbers).all():
        raise DataError(
            f"{what} is '{text[:60]}', not {count} number{'s' if count > 1 else ''}",
            place=path,
            remedy="export it again",
        )
    return numbers[:count]


def _number(text: str, what: str, path: Path) -> float | None:
    numbers = _numbers(text, 1, what, path)
    return None if numbers is None else numbers[0]


def _slice_or_frames(
    header: sitk.ImageFileReader, path: Path
) -> tuple[tuple[Plane, ...], tuple[tuple[float, float], ...]]:
    num_frames = int(_number(_text(header, _NUM_FRAMES), "NumberOfFrames", path) or 1)
    if num_frames == 1 and _text(header, _POSITION):
        return (_slice(header, path),), ()
    frames = read_frames(path)
    if len(frames) != num_frames:
        # Not enhanced: at best it says where it begins.
        plane = _slice(header, path)
        return (plane,) * num_frames, ()
    planes = tuple(_frame_plane(frame, path) for frame in frames)
    rescales = tuple(
        (
            _number(frame.slope or "1", "RescaleSlope", path) or 1.0,
            _number(frame.intercept or "0", "RescaleIntercept", path) or 0.0,
        )
        for frame in frames
    )
    return planes, rescales if len(set(rescales)) > 1 else ()


def _slice(header: sitk.ImageFileReader, path: Path) -> Plane:
    spacings = (_text(header, key) for key in _PIXEL_SPACINGS)
    between = _number(_text(header, _BETWEEN), "SpacingBetweenSlices", path)
    return Plane(
        position=_numbers(_text(header, _POSITION), 3, "ImagePositionPatient", path),
        orientation=_numbers(_text(header, _ORIENTATION), 6, "ImageOrientationPatient", path),
        pixel_spacing=_numbers(next(filter(None, spacings), ""), 2, "PixelSpacing", path),
        thickness=_distance(between, _text(header, _THICKNESS), path),
        tilt=_number(_text(header, _TILT), "GantryDetectorTilt", path),
    )


def _frame_plane(frame: Frame, path: Path) -> Plane:
    between = _number(frame.between, "SpacingBetweenSlices", path)
    return Plane(
        position=_numbers(frame.position, 3, "ImagePositionPatient", path),
        orientation=_numbers(frame.orientation, 6, "ImageOrientationPatient", path),
        pixel_spacing=_numbers(frame.pixel_spacing, 2, "PixelSpacing", path),
        thickness=_distance(between, frame.thickness, path),
        tilt=None,
    )


def _distance(between: float | None, thickness: str, path: Path) -> float | None:
    """Distance of slices, else their thickness; some scanners give a negative distance or 0."""
    distance = abs(between or _number(thickness, "SliceThickness", path) or 0.0)
    return distance or None


def _rescale_frames(
    voxels: npt.NDArray[Any], rescales: tuple[tuple[float, float], ...]
) -> npt.NDArray[np.float64]:
    """Each frame by its own slope: ITK applies the first frame's to all."""
    slope, intercept = np.asarray(rescales).T[:, :, np.newaxis, np.newaxis]
    stored = (voxels - intercept[0]) / slope[0]
    return stored * slope + intercept
