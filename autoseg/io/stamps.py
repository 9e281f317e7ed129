"""What files looked like when they were read: how a change is noticed.

A folder that is an image, such as a DICOM series, counts as one file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from autoseg.core.fingerprint import FileStamp
from autoseg.io import atomic


def stamp(path: Path) -> FileStamp:
    """What a file or folder looks like now.

    Raises:
        OSError: if it cannot be read.
    """
    size_bytes, mtime_ns = _size_and_time(path)
    return FileStamp(size_bytes=size_bytes, mtime_ns=mtime_ns, digest=atomic.digest(path))


def are_unchanged(paths: Sequence[Path], seen: Sequence[FileStamp]) -> bool:
    """Whether files still have the content they had; one that is gone has changed."""
    return len(paths) == len(seen) and all(map(is_unchanged, paths, seen))


def is_unchanged(path: Path, seen: FileStamp) -> bool:
    """Whether a file still has the content it had.

    Size and time come first; the content is read only where the time alone differs.
    """
    try:
        size_bytes, mtime_ns = _size_and_time(path)
        if size_bytes != seen.size_bytes:
            return False
        return mtime_ns == seen.mtime_ns or atomic.digest(path) == seen.digest
    except OSError:
        return False


def size_bytes(path: Path) -> int:
    """Size of a file, or of all files of a folder.

    Raises:
        OSError: if it is not there.
    """
    return _size_and_time(path)[0]


def _size_and_time(path: Path) -> tuple[int, int]:
    files = atomic.files_of(path) if path.is_dir() else [path]
    found = [file.stat() for file in files]
    return sum(s.st_size for s in found), max((s.st_mtime_ns for s in found), default=0)
