"""Writes that appear whole or not at all, locks between commands, content hashes."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import secrets
import shutil
import socket
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import IO

from autoseg.errors import AutosegError

logger = logging.getLogger(__name__)

_PARTIAL = ".partial-"
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_RETRY_S = 0.02
_NO_FOLDER = (errno.ENOTDIR, errno.EEXIST)


@contextlib.contextmanager
def writing(place: Path) -> Iterator[None]:
    """Turn an operating system's refusal to write into words a user can act on.

    Args:
        place: file or folder that is written inside the ``with`` block.

    Raises:
        AutosegError: for any ``OSError`` of the block: a full disk, a read-only folder, a file
            where a folder should be.
    """
    try:
        yield
    except OSError as error:
        raise _refusal(place, error) from error


def make_folder(path: Path) -> Path:
    """Create a folder and its parents, unless they exist.

    Returns:
        The folder.

    Raises:
        AutosegError: if it cannot be created.
    """
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
    return path


@contextlib.contextmanager
def atomic_path(path: Path, *, flush: bool = True) -> Iterator[Path]:
    """Write a file beside its place and move it there when it is complete.

    Missing parent folders are created. If the block fails, the old file stays as it was.

    Args:
        path: the file to appear.
        flush: wait until the disk has it. Without, a machine that loses power may leave the file
            damaged: for many small files whose readers notice.

    Yields:
        A path in the same folder with the same ending, to write to.

    Raises:
        AutosegError: if the file cannot be written; one of the block names the file instead of the
            path to write to.
    """
    make_folder(path.parent)
    partial = _partial_of(path)
    try:
        with writing(path):
            yield partial
            if flush:
                _flush(partial)
            partial.replace(path)
            if flush:
                _flush_folder(path.parent)
    except AutosegError as error:
        # Nobody knows the other name, also where it is only a part of the place.
        error.place = error.place and error.place.replace(partial.name, path.name)
        raise
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Fill a folder beside its place and move it there when it is complete.

    Whatever happens, the power failing included, it is there whole or not at all.

    Args:
        path: the folder to appear; must not exist.

    Yields:
        An empty folder to fill.

    Raises:
        AutosegError: if it cannot be written, or something of that name exists.
    """
    if path.exists():
        raise AutosegError("exists already", place=path)
    make_folder(path.parent)
    partial = make_folder(_partial_of(path))
    try:
        with writing(path):
            yield partial
            _flush_all([partial, *partial.rglob("*")])
            partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def remove_folder(path: Path) -> None:
    """Remove a folder so that nobody meets it half removed; a missing one is fine.

    Raises:
        AutosegError: if it cannot be removed.
    """
    with writing(path), contextlib.suppress(FileNotFoundError):
        shutil.rmtree(path.rename(_partial_of(path)))


def remove_partial(folder: Path) -> None:
    """Remove what killed writers left in a folder.

    Call it only while nobody else writes there: under the folder's lock.

    Args:
        folder: looked at without its sub-folders; may be missing.
    """
    for leftover in folder.glob(f"{_PARTIAL}*"):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file, whole or not at all.

    Raises:
        AutosegError: if it cannot be written.
    """
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all.

    Raises:
        AutosegError: if it cannot be written.
    """
    with atomic_path(path) as partial:
        partial.write_bytes(content)


@contextlib.contextmanager
def lock(path: Path, patience_s: float = 0.0) -> Iterator[None]:
    """Keep other autoseg commands out while the block runs.

    The operating system drops the lock when its holder dies, however that happens. Where a file
    system knows no locks the block runs without one.

    Args:
        path: the lock file, which stays behind; parents are created.
        patience_s: how long to wait for another process.

    Raises:
        AutosegError: if another process holds the lock, whom the message names, or if the file
            cannot be written.
    """
    make_folder(path.parent)
    with writing(path):
        file = path.open("a+b", buffering=0)
    with file:
        _acquire(file, path, patience_s)
        with writing(path):
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
        try:
            yield
        finally:
            file.truncate(0)


def digest(path: Path) -> str:
    """Hash the content of a file, or names and content of all files of a folder.

    Returns:
        16 hexadecimal digits (BLAKE2b, 64 bits).

    Raises:
        OSError: if it cannot be read.
    """
    if path.is_dir():
        parts = [f"{file.relative_to(path).as_posix()}\0{digest(file)}" for file in files_of(path)]
        return hashlib.blake2b("\n".join(parts).encode(), digest_size=8).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=8)).hexdigest()


def files_of(folder: Path) -> list[Path]:
    """All files of a folder and of those below it, sorted; hidden files are left out."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in found if not path.name.startswith("."))


def _refusal(place: Path, error: OSError) -> AutosegError:
    if error.errno in _NO_SPACE:
        return AutosegError(
            "no space left to write", place=place, remedy="free some or choose another disk"
        )
    if error.errno in _NO_FOLDER:
        blocking = next((p for p in (place, *place.parents) if p.is_file()), place)
        return AutosegError(
            f"cannot be written, {blocking} is a file", place=place, remedy="choose another folder"
        )
    reason = (error.strerror or str(error)).lower()
    return AutosegError(
        f"cannot be written ({reason})", place=place, remedy="choose a folder you may write to"
    )


def _partial_of(path: Path) -> Path:
    # The name keeps its ending because image writers choose the format by it.
    return path.with_name(f"{_PARTIAL}{os.getpid()}-{secrets.token_hex(4)}-{path.name}")


def _flush_all(paths: Sequence[Path]) -> None:
    """Flush files and folders at the same time: the disk then does it about once for all."""
    flushed = _flushers(os.getpid()).map(
        lambda path: _flush_folder(path) if path.is_dir() else _flush(path), paths
    )
    for _ in flushed:
        pass


@lru_cache(maxsize=1)
def _flushers(process: int) -> ThreadPoolExecutor:  # noqa: ARG001 a fork has no threads
    return ThreadPoolExecutor(8, thread_name_prefix="flush")


def _flush(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _flush_folder(path: Path) -> None:
    # Not every file system (and no Windows) lets a folder be flushed.
    with contextlib.suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _acquire(file: IO[bytes], path: Path, patience_s: float) -> None:
    until = time.monotonic() + patience_s
    while not _is_acquired(file, path):
        if time.monotonic() >= until:
            file.seek(0)
            holder = file.read().decode(errors="replace") or "another process"
            raise AutosegError(
                f"in use by {holder}", place=path.parent, remedy="wait until it has finished"
            )
        time.sleep(_RETRY_S)


def _is_acquired(file: IO[bytes], path: Path) -> bool:
    """Whether the lock is ours now, or there are none on this file system."""
    try:
        _lock_file(file)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES, errno.EWOULDBLOCK, errno.EDEADLK):
            return False
        logger.debug("%s: file system without locks (%s)", path, error)
    return True


try:
    import fcntl

    def _lock_file(file: IO[bytes]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

except ImportError:  # Windows
    import msvcrt

    _FAR = 1 << 30  # a locked byte cannot be read there; the holder's name must stay readable

    def _lock_file(file: IO[bytes]) -> None:
        file.seek(_FAR)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
