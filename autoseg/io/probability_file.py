"""Probabilities of a case as a file, written slab by slab.

A zip of ``.npy`` arrays as ``numpy.load`` reads it, one per structure. All arrays grow at the same
time, which no zip library allows: each is compressed into a file of its own that nobody sees, and
in the end these streams are put one behind the other, with the headers of a zip around them.
"""

from __future__ import annotations

import io
import shutil
import struct
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from autoseg.io import atomic

SUFFIX = ".npz"
SCALE = 255
"""What a probability of 1 is stored as."""

_LEVEL = 4
_COPY_BYTES = 1 << 20
_VERSION, _DEFLATED, _IS_UTF8, _MIDNIGHT_1980 = 45, 8, 1 << 11, 0x210000
_IN_EXTRA, _ZIP64 = 0xFFFFFFFF, 1


@contextmanager
def writing_probabilities(
    path: Path, names: Sequence[str], shape: Sequence[int]
) -> Iterator[ProbabilitySink]:
    """Write the probabilities of a case; the file is there when the block ends well, and whole.

    Args:
        path: the file, ``.npz``.
        names: of the outputs, each the name of an array of the file.
        shape: of each array; the slabs are cut along its first axis, or lie one behind the other
            as its voxels do.

    Yields:
        What takes the slabs.

    Raises:
        AutosegError: if the file cannot be written.
        ValueError: if the slabs are not the whole of the arrays.
    """
    with ExitStack() as stack, atomic.atomic_path(path) as partial:
        files = [stack.enter_context(tempfile.TemporaryFile(dir=path.parent)) for _ in names]
        sink = ProbabilitySink([_Stream(n, f, shape) for n, f in zip(names, files, strict=True)])
        yield sink
        with partial.open("wb") as file:
            sink.assemble(file)


class ProbabilitySink:
    """Takes slabs of probabilities; made by ``writing_probabilities``.

    Args:
        streams: one per output.
    """

    def __init__(self, streams: Sequence[_Stream]) -> None:
        self._streams = streams

    def add(self, slab: npt.NDArray[np.float32]) -> None:
        """Take the next rows.

        Args:
            slab: float32 ``(outputs, rows, ...)``, 0 to 1.
        """
        for stream, values in zip(self._streams, slab, strict=True):
            stream.add(np.rint(values * SCALE).astype(np.uint8).tobytes())

    def watch(
        self, slabs: Iterable[tuple[slice, npt.NDArray[np.float32]]]
    ) -> Iterator[tuple[slice, npt.NDArray[np.float32]]]:
        """Take slabs while they pass by.

        Args:
            slabs: rows, and what ``add`` takes.

        Yields:
            The same.
        """
        for rows, slab in slabs:
            self.add(slab)
            yield rows, slab

    def assemble(self, file: IO[bytes]) -> None:
        """Put all streams into a zip.

        Raises:
            ValueError: if slabs are missing, or too many.
        """
        entries = [stream.finish() for stream in self._streams]
        directory: list[bytes] = []
        for stream, entry in zip(self._streams, entries, strict=True):
            directory.append(entry.in_directory(file.tell()))
            file.write(entry.header())
            stream.file.seek(0)
            shutil.copyfileobj(stream.file, file, _COPY_BYTES)
        start = file.tell()
        file.writelines(directory)
        file.write(_end(len(entries), file.tell() - start, start))


class _Stream:
    """One array on its way into a file of its own."""

    def __init__(self, name: str, file: IO[bytes], shape: Sequence[int]) -> None:
        self.file = file
        self._name = name
        self._deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
        self._crc = self._size = 0
        head = io.BytesIO()
        header = {"descr": "|u1", "fortran_order": False, "shape": tuple(shape)}
        np.lib.format.write_array_header_1_0(head, header)
        self._due = len(head.getvalue()) + int(np.prod(shape))
        self.add(head.getvalue())

    def add(self, content: bytes) -> None:
        self._crc = zlib.crc32(content, self._crc)
        self._size += len(content)
        self.file.write(self._deflate.compress(content))

    def finish(self) -> _Entry:
        if self._size != self._due:
            raise ValueError(f"{self._name}: {self._size} bytes of an array of {self._due}")
        self.file.write(self._deflate.flush())
        return _Entry(self._name, self._crc, self.file.tell(), self._size)


class _Entry:
    """What a zip says about one of its files, in the form for files of any size."""

    def __init__(self, name: str, crc: int, packed: int, size: int) -> None:
        self._name = f"{name}.npy".encode()
        self._crc, self._packed, self._size = crc, packed, size

    def header(self) -> bytes:
        """What stands before the file."""
        extra = struct.pack("<HHQQ", _ZIP64, 16, self._size, self._packed)
        fields = struct.pack("<4sH", b"PK\3\4", _VERSION) + self._common(len(extra))
        return fields + self._name + extra

    def in_directory(self, offset: int) -> bytes:
        """What stands in the list of all files."""
        extra = struct.pack("<HHQQQ", _ZIP64, 24, self._size, self._packed, offset)
        fields = struct.pack("<4sHH", b"PK\1\2", _VERSION, _VERSION) + self._common(len(extra))
        return fields + struct.pack("<HHHII", 0, 0, 0, 0, _IN_EXTRA) + self._name + extra

    def _common(self, extra: int) -> bytes:
        sizes = (self._crc, _IN_EXTRA, _IN_EXTRA, len(self._name), extra)
        return struct.pack("<HHIIIIHH", _IS_UTF8, _DEFLATED, _MIDNIGHT_1980, *sizes)


def _end(count: int, size: int, start: int) -> bytes:
    """The end of a zip, in the form for any number of files."""
    end = struct.pack(
        "<4sQHHIIQQQQ", b"PK\6\6", 44, _VERSION, _VERSION, 0, 0, count, count, size, start
    )
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, start + size, 1)
    short = min(count, 0xFFFF)
    last = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, short, short, _IN_EXTRA, _IN_EXTRA, 0)
    return end + locator + last
