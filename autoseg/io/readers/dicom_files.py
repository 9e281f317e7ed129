"""Which files and folders are DICOM, and what kind of object a file holds.

Names say nothing here: scanners and archives write slices with any ending or none.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path

from autoseg.errors import DataError

SUFFIXES = (".dcm", ".dicom", ".ima")
"""Endings a DICOM file may have, lower case."""

_MAGIC, _MAGIC_OFFSET = b"DICM", 128
_HEAD_BYTES = 1024
_NUM_FILES_TO_LOOK_AT = 8
_LONG_VRS = (b"OB", b"OW", b"SQ", b"UN", b"UT")
_MEDIA_STORAGE = (0x0002, 0x0002)
_STORAGE = "1.2.840.10008.5.1.4.1.1."
_OTHER_OBJECTS = {
    "4.2": "spectroscopy",
    "481.2": "RTDOSE",
    "481.3": "RTSTRUCT",
    "481.5": "RTPLAN",
    "481.": "radiotherapy object",
    "66.4": "SEG",
    "66.": "spatial registration",
    "66": "raw data",
    "67": "real world value mapping",
    "88.": "SR",
    "11.": "presentation state",
    "9.": "waveform",
    "104.": "document",
}
_RT_IMAGE = "481.1"
_OTHER_CLASSES = {
    "1.2.840.10008.1.3.10": "DICOMDIR",
    "1.3.12.2.1107.5.9.1": "report of a Siemens scanner",
}


def holds_dicom(folder: Path) -> bool:
    """Whether a folder holds DICOM files, judged by its first few.

    Files with an ending of DICOM or with none are looked at before others.
    """
    names = sorted(file.name for file in _files(folder))
    likely = sorted(names, key=lambda name: not _may_be_dicom(name))
    return any(object_class(folder / name) is not None for name in likely[:_NUM_FILES_TO_LOOK_AT])


def dicom_files(folder: Path) -> list[Path]:
    """The DICOM files of a folder, sorted by name; DICOMDIR, hidden and other files left out.

    A file that has an ending of DICOM counts whatever it holds: it may be damaged.
    """
    return sorted(
        file
        for file in _files(folder)
        if file.name.lower().endswith(SUFFIXES) or object_class(file) is not None
    )


def find_series(folder: Path) -> list[Path]:
    """Find all folders with DICOM images at any depth, such as those of patients and studies.

    Folders that hold other DICOM objects only (contours, reports) are left out, hidden ones are
    not entered; one that links make appear twice is found once.

    Args:
        folder: where to start; it may be a series itself.

    Returns:
        The folders, sorted.

    Raises:
        DataError: if a folder cannot be listed.
    """
    found: list[Path] = []
    seen: set[Path] = set()
    waiting = [folder]
    while waiting:
        current = waiting.pop()
        if (real := current.resolve()) in seen:
            continue
        seen.add(real)
        if any(_is_image(file) for file in _files(current)):
            found.append(current)
        # Real folders come off the pile before links to them.
        children = sorted(_folders(current), key=lambda child: (not child.is_symlink(), child))
        waiting.extend(children)
    return sorted(found)


def object_class(path: Path) -> str | None:
    """The SOP class of a DICOM file by its preamble; None if it is no DICOM file.

    Returns:
        The UID, empty if the file does not say.

    Raises:
        DataError: if it cannot be opened.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise DataError(f"cannot be opened ({error.strerror})", place=path) from error
    start = _MAGIC_OFFSET + len(_MAGIC)
    return _media_storage(head, start) if head[_MAGIC_OFFSET:start] == _MAGIC else None


def other_object(uid: str) -> str | None:
    """What a SOP class is if it is no image of a patient, such as ``"RTSTRUCT"``; else None."""
    kind = uid.removeprefix(_STORAGE)
    if kind in (uid, _RT_IMAGE):
        return _OTHER_CLASSES.get(uid)
    return next((name for prefix, name in _OTHER_OBJECTS.items() if _begins(kind, prefix)), None)


def _begins(kind: str, prefix: str) -> bool:
    return kind == prefix or kind.startswith(prefix if prefix.endswith(".") else prefix + ".")


def _media_storage(head: bytes, at: int) -> str:
    """The SOP class in the file meta group, which is always explicit and little-endian."""
    while at + 12 <= len(head):
        group, element, vr, length = struct.unpack_from("<HH2sH", head, at)
        at += 8
        if group != _MEDIA_STORAGE[0]:
            break
        if vr in _LONG_VRS:
            (length,) = struct.unpack_from("<I", head, at)
            at += 4
        if (group, element) == _MEDIA_STORAGE:
            return head[at : at + length].decode("ascii", "replace").strip("\0 ")
        at += length
    return ""


def _is_image(file: Path) -> bool:
    uid = object_class(file)
    return uid is not None and other_object(uid) is None


def _may_be_dicom(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) or "." not in name


def _files(folder: Path) -> Iterator[Path]:
    for entry in _entries(folder):
        if entry.is_file() and entry.name.upper() != "DICOMDIR":
            yield Path(entry.path)


def _folders(folder: Path) -> Iterator[Path]:
    return (Path(entry.path) for entry in _entries(folder) if entry.is_dir())


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith((".", "_"))]
    except OSError as error:
        raise DataError(f"cannot be listed ({error.strerror})", place=folder) from error
