"""Bytes of files that may be zipped: checked to their end, unzipped once."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from autoseg.errors import DataError

_GZIP_START = b"\x1f\x8b"
_GZIP_WINDOW = 31
_CHUNK_BYTES = 1 << 18
_PIECE_BYTES = 1 << 20


def read_start(path: Path, num_bytes: int) -> bytes:
    """Read the first bytes of a file, unzipped if it is zipped, whatever its ending says.

    Returns:
        As many as there are, at most ``num_bytes``.

    Raises:
        DataError: if there is no such file, or it cannot be unzipped so far.
    """
    if not _is_zipped(path):
        with path.open("rb") as file:
            return file.read(num_bytes)
    try:
        with gzip.open(path) as unzipped:
            return unzipped.read(num_bytes)
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(path, error) from None


def read_bytes(path: Path) -> npt.NDArray[np.uint8]:
    """Read all bytes of a file, unzipped if it is zipped, whatever its ending says.

    Raises:
        DataError: if there is no such file, or what is zipped is incomplete or damaged.
    """
    is_zipped = _is_zipped(path)
    with path.open("rb") as file:
        if not is_zipped:
            return np.fromfile(file, dtype=np.uint8)
        try:
            return np.frombuffer(_unzip(file), dtype=np.uint8)
        except (EOFError, zlib.error) as error:
            raise _damaged(path, error) from None


def incomplete(path: Path, present: int, needed: int) -> DataError:
    """The error for a file that holds fewer bytes than its header says."""
    return DataError(f"incomplete: {present} of {needed} bytes", place=path, remedy="copy it again")


def _is_zipped(path: Path) -> bool:
    if not path.is_file():
        raise DataError("no such file", place=path)
    with path.open("rb") as file:
        return file.read(len(_GZIP_START)) == _GZIP_START


def _unzip(file: IO[bytes]) -> bytearray:
    """Unzip all parts of a file, in small pieces; zlib checks the sum at the end of each part.

    The gzip module copies everything several times.
    """
    content, part, pending = bytearray(), zlib.decompressobj(_GZIP_WINDOW), b""
    while pending := pending or file.read(_CHUNK_BYTES):
        if part.eof:
            # Zeros may fill up the last block of a tape or a disk.
            pending = pending.lstrip(b"\0")
            part = zlib.decompressobj(_GZIP_WINDOW) if pending else part
        if pending:
            content += part.decompress(pending, _PIECE_BYTES)
            pending = part.unconsumed_tail or part.unused_data
    if not part.eof:
        raise EOFError("it ends too early")
    return content


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(f"incomplete or damaged ({error})", place=path, remedy="copy it again")
