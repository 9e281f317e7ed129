"""Which files are images, and who reads them."""

from __future__ import annotations

from pathlib import Path

from autoseg.errors import DataError
from autoseg.io.readers.base import Reader
from autoseg.registry import Registry

READERS: Registry[Reader] = Registry("reader")
READERS.add("nifti", "autoseg.io.readers.nifti:NIFTI")
READERS.add("volumes", "autoseg.io.readers.itk:VOLUMES")
READERS.add("segmentation", "autoseg.io.readers.segmentation:SEGMENTATION")
READERS.add("gipl", "autoseg.io.readers.itk:GIPL")
READERS.add("pictures", "autoseg.io.readers.pictures:PICTURES")
READERS.add("tiff", "autoseg.io.readers.tiff:TIFF")
READERS.add("dicom", "autoseg.io.readers.dicom:DICOM")


def reader_of(path: Path) -> Reader:
    """The reader of a file or folder.

    Raises:
        DataError: if there is none.
    """
    suffix = suffix_of(path)
    for name in READERS:
        reader = READERS.get(name)
        is_its = (
            reader.reads(path)
            if path.is_dir()
            else suffix is not None and (suffix.lower() in reader.suffixes)
        )
        if is_its:
            return reader
    raise DataError(
        "not an image format autoseg knows",
        place=path,
        remedy=f"use one of {', '.join(suffixes())}, or a folder with one DICOM series",
    )


def suffixes() -> tuple[str, ...]:
    """All endings of image files, lower case."""
    return tuple(suffix for name in READERS for suffix in READERS.get(name).suffixes)


def is_image(path: Path) -> bool:
    """Whether a name has the ending of an image file and is not hidden (``.`` or ``_``)."""
    return not path.name.startswith((".", "_")) and suffix_of(path) is not None


def is_series(path: Path) -> bool:
    """Whether a path is a folder that is an image, such as a DICOM series."""
    if path.name.startswith((".", "_")) or not path.is_dir():
        return False
    readers = (READERS.get(name) for name in READERS)
    return any(reader.reads(path) for reader in readers if reader.reads_folders)


def suffix_of(path: Path) -> str | None:
    """The ending of an image file's name as it is written there, or None."""
    name = path.name.lower()
    matches = [suffix for suffix in suffixes() if name.endswith(suffix) and name != suffix]
    return path.name[-max(map(len, matches)) :] if matches else None


def stem(path: Path) -> str:
    """The name of an image file without its ending: ``a.b.nii.gz`` is ``a.b``.

    A folder's name, such as that of a DICOM series, has no ending.
    """
    suffix = suffix_of(path)
    if suffix is not None:
        return path.name[: -len(suffix)]
    return path.name if path.is_dir() else path.stem


def label_suffix(path: Path, lowest: int, highest: int) -> str:
    """Ending of the label map of an image: its own if that format holds it, else NIfTI's.

    Args:
        path: the image.
        lowest: smallest value the label map may hold.
        highest: largest value it may hold.
    """
    reader = reader_of(path)
    suffix = reader.label_suffix(path)
    if suffix is None:
        return ".nii.gz"
    least, most = reader.label_range_of(suffix)
    return suffix if least <= lowest and highest <= most else ".nii.gz"
