"""Zip files whose entries lie there as they are, aligned, and nothing beside them.

Any tool opens what is written here. Read is only what is written here: no compression, no
encryption, no folders or links, one entry after the other without a gap.
"""

from __future__ import annotations

import re
import shutil
import stat
import struct
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from autoseg.errors import ArtifactError
from autoseg.io.zip_damage import ZIP_DAMAGE, is_damage

ALIGNMENT = 64
"""Entries begin at multiples of so many bytes: whatever is in them can be mapped."""

REMEDY = "get it anew from where it was made"

ZIP_SIGNATURE = b"PK\3\4"
"""What a zip file begins with."""

_LARGEST_DIRECTORY = 4 << 20
_EPOCH = (1980, 1, 1, 0, 0, 0)
_REGULAR_FILE = (stat.S_IFREG | 0o644) << 16
_UTF8 = 0x800

# Sizes and positions in the format's own records; see APPNOTE.TXT 4.3 and 4.5.
_END = struct.Struct("<4s4H2LH")
_LOCATOR = struct.Struct("<4sLQL")
_END_64 = struct.Struct("<4sQ2H2L4Q")
_LOCAL = struct.Struct("<4s5H3L2H")
_PADDING = struct.Struct("<3H")
_PADDING_ID = 0xD935
_EXTRA_64 = 20

_NAME = re.compile(r"(?:[A-Za-z0-9_-]+/)*[A-Za-z0-9_-]+\.(?:json|safetensors)")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEntry:
    """Where an entry lies.

    Attributes:
        name: with ``/`` between folders.
        start: first byte of its content in the file.
        size: of its content, in bytes.
        crc: the CRC-32 its content should have.
    """

    name: str
    start: int
    size: int
    crc: int


def write_entries(path: Path, entries: Sequence[tuple[str, bytes | Path]]) -> None:
    """Write a zip file; the same entries give the same bytes.

    Args:
        path: the file, written in place.
        entries: names and contents, in their order; a path stands for a file's content.

    Raises:
        OSError: if it cannot be written.
    """
    with path.open("wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, content in entries:
            size = content.stat().st_size if isinstance(content, Path) else len(content)
            info = zipfile.ZipInfo(name, _EPOCH)
            info.create_system, info.external_attr = 3, _REGULAR_FILE
            info.file_size = size
            is_large = size * 1.05 > zipfile.ZIP64_LIMIT
            header = _LOCAL.size + len(name) + _EXTRA_64 * is_large
            info.extra = _padding(file.tell() + header)
            with archive.open(info, "w", force_zip64=is_large) as target:
                if isinstance(content, bytes):
                    target.write(content)
                else:
                    with content.open("rb") as source:
                        shutil.copyfileobj(source, target, 1 << 20)


def _padding(position: int) -> bytes:
    """An extra field after which the content begins at a multiple of the alignment."""
    count = -(position + _PADDING.size) % ALIGNMENT
    return _PADDING.pack(_PADDING_ID, 2 + count, ALIGNMENT) + bytes(count)


def read_entries(path: Path) -> list[StoredEntry]:
    """Find the entries of a zip file, and refuse one that is not as ``write_entries`` leaves it.

    Contents are not looked at.

    Raises:
        ArtifactError: if it is no zip file, damaged, or made to do harm.
        OSError: if it cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file, _explained(path):
        offset, length = _directory(file, size)
        if length > _LARGEST_DIRECTORY:
            raise ArtifactError(f"its table of contents has {length} bytes")
        with zipfile.ZipFile(file) as archive:
            found = archive.infolist()
        entries: dict[str, StoredEntry] = {}
        end = 0
        for info in found:
            _check(info)
            if info.orig_filename in entries:
                raise ArtifactError(f"entry {info.orig_filename!r} is there twice")
            entry = _locate(file, info, end)
            entries[entry.name] = entry
            end = entry.start + entry.size
        if end != offset:
            raise ArtifactError("holds bytes that belong to no entry")
    return list(entries.values())


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Give every finding of the block its place and remedy."""
    try:
        yield
    except ArtifactError as error:
        raise ArtifactError(error.finding, place=path, remedy=REMEDY) from error.__cause__
    except (*ZIP_DAMAGE, OSError) as error:
        if isinstance(error, OSError) and not is_damage(error):
            raise
        raise ArtifactError("damaged, or not a model file", place=path, remedy=REMEDY) from error


def _directory(file: IO[bytes], size: int) -> tuple[int, int]:
    """Position and length of the table of contents, which ends the file."""
    if size < _END.size:
        raise ArtifactError("cut off, or not a model file")
    tail = _END.size
    fields = _read(file, _END, size - tail)
    signature, count, length, offset, comment = fields[0], fields[4], *fields[5:]
    if signature != b"PK\5\6" or comment:
        raise ArtifactError("cut off, or not a model file")
    if count == 0xFFFF or 0xFFFFFFFF in (length, offset):
        tail += _LOCATOR.size + _END_64.size
        length, offset = _read(file, _END_64, size - tail)[-2:] if size >= tail else (0, 0)
    if offset + length + tail != size:
        raise ArtifactError("cut off, or not a model file")
    return offset, length


def _read(file: IO[bytes], record: struct.Struct, position: int) -> tuple[int, ...]:
    file.seek(position)
    return record.unpack(file.read(record.size))


def _check(info: zipfile.ZipInfo) -> None:
    """Refuse an entry that this module would not have written."""
    name = info.orig_filename
    parts = name.replace("\\", "/").split("/")
    if ".." in parts or name.startswith(("/", "\\")) or "\\" in name or ":" in name:
        raise ArtifactError(f"entry {name!r} would lie outside the file's own folder")
    if name.lower().endswith((".pkl", ".pickle", ".pt", ".pth")):
        raise ArtifactError(f"entry {name!r} is a pickle, which could run code")
    mode = info.external_attr >> 16
    if stat.S_ISLNK(mode):
        raise ArtifactError(f"entry {name!r} is a link")
    if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
        raise ArtifactError(f"entry {name!r} is compressed")
    if not _NAME.fullmatch(name) or stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        raise ArtifactError(f"entry {name!r} is neither JSON nor safetensors")
    if info.flag_bits & ~_UTF8:
        raise ArtifactError(f"entry {name!r} is encrypted or of unknown size")


def _locate(file: IO[bytes], info: zipfile.ZipInfo, expected: int) -> StoredEntry:
    """Where the content of an entry lies, which must follow the one before."""
    name = info.orig_filename
    if info.header_offset != expected:
        raise ArtifactError(f"entry {name!r} does not follow the one before")
    fields = _read(file, _LOCAL, expected)
    length, extra = fields[-2:]
    found = fields[0], fields[3], file.read(length)
    if found != (ZIP_SIGNATURE, zipfile.ZIP_STORED, name.encode()):
        raise ArtifactError(f"entry {name!r} is called otherwise where its content lies")
    start = expected + _LOCAL.size + length + extra
    return StoredEntry(name=name, start=start, size=info.file_size, crc=info.CRC)
