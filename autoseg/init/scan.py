"""The images below a folder, by name."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from autoseg.errors import DataError
from autoseg.init.names import ImageFile
from autoseg.io import formats
from autoseg.io.readers.dicom_files import SUFFIXES, find_series
from autoseg.io.workspace import WORKSPACE_NAME


def find_images(root: Path) -> tuple[ImageFile, ...]:
    """Find every image file and every DICOM series at any depth.

    Hidden files and folders are left out, and workspaces of autoseg; links are followed once.

    Args:
        root: absolute folder.

    Returns:
        Sorted by path.

    Raises:
        DataError: if a folder cannot be listed, or there is no image.
    """
    files = list(_files(root))
    series = {folder.relative_to(root) for folder in find_series(root)}
    series -= _folders_of_volumes(files, series)
    found = [
        ImageFile(path=path, stem=formats.stem(path))
        for path in files
        if formats.is_image(path) and not (_is_dicom(path) and path.parent in series)
    ]
    found += [ImageFile(path=path, stem="") for path in series]
    if not found:
        raise _nothing(root, files)
    return tuple(sorted(found, key=lambda file: file.path))


def _files(root: Path) -> Iterator[Path]:
    """Files below a folder, relative to it."""
    seen: set[str] = set()

    def refuse(error: OSError) -> None:
        raise DataError(f"cannot be listed ({error.strerror})", place=error.filename) from error

    for folder, below, names in os.walk(root, followlinks=True, onerror=refuse):
        real = os.path.realpath(folder)
        is_known = real in seen
        seen.add(real)
        hidden = [name for name in below if not _is_shown(name) or name == WORKSPACE_NAME]
        below[:] = [] if is_known else sorted(set(below) - set(hidden))
        if not is_known:
            place = Path(folder).relative_to(root)
            yield from (place / name for name in sorted(names) if _is_shown(name))


def _is_shown(name: str) -> bool:
    return not name.startswith((".", "_"))


def _is_dicom(path: Path) -> bool:
    return path.name.lower().endswith(SUFFIXES)


def _folders_of_volumes(files: list[Path], series: set[Path]) -> set[Path]:
    """Folders whose DICOM files are a volume each: other images are named like most of them."""
    others = {formats.stem(f) for f in files if formats.is_image(f) and not _is_dicom(f)}
    names: dict[Path, list[str]] = {folder: [] for folder in series}
    for file in files:
        if _is_dicom(file) and file.parent in names:
            names[file.parent].append(formats.stem(file))
    return {
        folder
        for folder, stems in names.items()
        if stems and 2 * sum(stem in others for stem in stems) >= len(stems)
    }


def _nothing(root: Path, files: list[Path]) -> DataError:
    endings = Counter(path.suffix.lower() or "no ending" for path in files)
    seen = ", ".join(f"{count} {ending}" for ending, count in endings.most_common(4))
    return DataError(
        f"no images there (found {seen or 'no files'})",
        place=root,
        remedy=f"choose a folder with {', '.join(formats.suffixes())} files or DICOM series",
    )
