"""The names in folders, each folder listed once however often it is asked about."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from autoseg.errors import DataError
from autoseg.io import formats


@dataclass(frozen=True, slots=True)
class ImageName:
    """The name of an image file, or of a folder that is one.

    Attributes:
        name: as the disk has it.
        stem: without its ending.
        suffix: the ending as it is written; empty for a folder.
    """

    name: str
    stem: str
    suffix: str


@dataclass(frozen=True, slots=True)
class _Listing:
    files: frozenset[str]
    folders: frozenset[str]
    images: tuple[ImageName, ...]


class FolderTree:
    """A folder and all below and beside it, looked at as far as it is asked for.

    No file is opened and no file asked for its size, so that large data sets on slow disks are
    surveyed by listing their folders.

    Args:
        root: what relative paths mean.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._listings: dict[str, _Listing] = {}
        self._suffixes = tuple(sorted(formats.suffixes(), key=len, reverse=True))

    def has(self, path: Path) -> bool:
        """Whether there is a file or folder.

        Raises:
            DataError: if the folder it lies in cannot be listed; so everywhere here.
        """
        folder, name = os.path.split(self.root / path)
        listing = self._listing(folder)
        return name in listing.files or name in listing.folders

    def folders(self, folder: str = "") -> list[str]:
        """Names of the folders in a folder, sorted, hidden ones left out."""
        return sorted(filter(is_shown, self._listing(self._absolute(folder)).folders))

    def images(self, folder: str = "") -> tuple[ImageName, ...]:
        """The image files in a folder, sorted by name, hidden ones left out."""
        return self._listing(self._absolute(folder)).images

    def has_folder(self, name: str) -> bool:
        """Whether there is a folder of that name in the root."""
        return name in self._listing(str(self.root)).folders

    def has_file(self, name: str) -> bool:
        """Whether there is a file of that name in the root."""
        return name in self._listing(str(self.root)).files

    def _absolute(self, folder: str) -> str:
        return f"{self.root}{os.sep}{folder}" if folder else str(self.root)

    def _image(self, name: str) -> ImageName | None:
        lower = name.lower()
        if not lower.endswith(self._suffixes):
            return None
        length = next(len(suffix) for suffix in self._suffixes if lower.endswith(suffix))
        return ImageName(name, name[:-length], name[-length:])

    def _listing(self, folder: str) -> _Listing:
        if folder not in self._listings:
            files, folders = _names_in(folder)
            _refuse_undecodable([*files, *folders], folder)
            images = (self._image(name) for name in sorted(filter(is_shown, files)))
            self._listings[folder] = _Listing(
                files=frozenset(files),
                folders=frozenset(folders),
                images=tuple(image for image in images if image is not None),
            )
        return self._listings[folder]


def is_shown(name: str) -> bool:
    """Whether a name is looked at: those that begin with ``.`` or ``_`` are not."""
    return not name.startswith((".", "_"))


def _names_in(folder: str) -> tuple[list[str], list[str]]:
    """Names of the files and of the folders in a folder; none if it is not there."""
    files: list[str] = []
    folders: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir():
                    folders.append(entry.name)
                elif entry.is_file():
                    files.append(entry.name)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        pass  # a name no file can have is a ValueError
    except OSError as error:
        raise DataError(f"cannot be listed ({error.strerror})", place=folder) from error
    return files, folders


def _refuse_undecodable(names: Sequence[str], folder: str) -> None:
    """Archives made elsewhere may leave names that no JSON file can hold."""
    for name in filter(is_shown, names):
        try:
            name.encode()
        except UnicodeEncodeError:
            raise DataError(
                f"the name {name!a} is not in UTF-8", place=folder, remedy="rename it"
            ) from None
