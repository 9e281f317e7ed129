"""Probabilities of a case as a file, written slab by slab.

A zip of ``.npy`` arrays as ``numpy.load`` reads it, one per structure. All arrays grow at the same
time, which no zip library allows: each is compressed into a file of its own that nobody sees, and
in the end these streams are put one behind the other, with the headers of a zip around them.

Slabs that are cut along another axis than the arrays grow along wait in one more such file, in
pieces from which rows of the arrays are put together: main memory never holds more than a slab.
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
_QUICK_LEVEL = 1  # of what is read again soon
_MOST_VALUES = 1 << 25  # of all outputs, in the rows that are put together at once
_VERSION, _DEFLATED, _IS_UTF8, _MIDNIGHT_1980 = 45, 8, 1 << 11, 0x210000
_IN_EXTRA, _ZIP64 = 0xFFFFFFFF, 1


@contextmanager
def writing_probabilities(
    path: Path, names: Sequence[str], shape: Sequence[int], axis: int = 0
) -> Iterator[ProbabilitySink]:
    """Write the probabilities of a case; the file is there when the block ends well, and whole.

    Args:
        path: the file, ``.npz``.
        names: of the outputs, each the name of an array of the file.
        shape: of each array, ``(z, y, x)``, or ``(y, x)`` of a single slice.
        axis: of ``(z, y, x)``, along which slabs are cut. Along another than the first they wait
            in a file beside, compressed.

    Yields:
        What takes the slabs.

    Raises:
        AutosegError: if the file cannot be written.
        ValueError: if the slabs are not the whole of the arrays.
    """
    with ExitStack() as stack, atomic.atomic_path(path) as partial:
        files = [stack.enter_context(tempfile.TemporaryFile(dir=path.parent)) for _ in names]
        streams = [_Stream(n, f, shape) for n, f in zip(names, files, strict=True)]
        waiting = None
        if axis != 0:
            file = stack.enter_context(tempfile.TemporaryFile(dir=path.parent))
            waiting = _Waiting(file, _in_3d(shape), len(names), axis)
        sink = ProbabilitySink(streams, waiting)
        yield sink
        with partial.open("wb") as file:
            sink.assemble(file)


class ProbabilitySink:
    """Takes slabs of probabilities; made by ``writing_probabilities``.

    Args:
        streams: one per output.
        waiting: where slabs wait that are not cut along the first axis; None if they are.
    """

    def __init__(self, streams: Sequence[_Stream], waiting: _Waiting | None = None) -> None:
        self._streams = streams
        self._waiting = waiting

    def add(self, slab: npt.NDArray[np.float32]) -> None:
        """Take the next rows.

        Args:
            slab: float32 ``(outputs, rows, *others)``, 0 to 1; the other axes in their order.
        """
        if self._waiting is not None:
            self._waiting.add(np.stack([_rounded(values) for values in slab]))
        else:
            self._pass_on(_rounded(values) for values in slab)

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
            del slab  # before the next is made

    def assemble(self, file: IO[bytes]) -> None:
        """Put all streams into a zip.

        Raises:
            ValueError: if slabs are missing, or too many.
        """
        for rows in self._waiting.rows() if self._waiting is not None else ():
            self._pass_on(rows)
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

    def _pass_on(self, rows: Iterable[npt.NDArray[np.uint8]]) -> None:
        """Hand the next rows of each array to its stream."""
        for stream, values in zip(self._streams, rows, strict=True):
            stream.add(values.tobytes())


def _in_3d(shape: Sequence[int]) -> tuple[int, int, int]:
    z, y, x = (1,) * (3 - len(shape)) + tuple(shape)
    return z, y, x


def _rounded(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    return np.rint(values * SCALE).astype(np.uint8)


class _Waiting:
    """Slabs along another axis, until they can be read along the first.

    Each is laid down in pieces of a few rows of the first axis; what belongs to the same rows is
    put together when all are there.

    Args:
        file: holds the pieces.
        shape: of an output, ``(z, y, x)``.
        num_outputs: of a slab.
        axis: along which slabs are cut, 1 or 2.
    """

    def __init__(
        self, file: IO[bytes], shape: tuple[int, int, int], num_outputs: int, axis: int
    ) -> None:
        self._file = file
        self._axis = axis + 1  # of what has outputs
        self._thickness = max(1, _MOST_VALUES // (num_outputs * shape[1] * shape[2]))
        self._starts = range(0, shape[0], self._thickness)
        self._pieces: list[list[tuple[int, int, tuple[int, ...]]]] = [[] for _ in self._starts]

    def add(self, slab: npt.NDArray[np.uint8]) -> None:
        """Take the next slab, ``(outputs, rows, *others)``."""
        turned = np.moveaxis(slab, 1, self._axis)
        for start, pieces in zip(self._starts, self._pieces, strict=True):
            rows = turned[:, start : start + self._thickness]
            packed = zlib.compress(rows.tobytes(), _QUICK_LEVEL)
            pieces.append((self._file.tell(), len(packed), rows.shape))
            self._file.write(packed)

    def rows(self) -> Iterator[npt.NDArray[np.uint8]]:
        """All of them again, ``(outputs, rows, y, x)``."""
        for pieces in filter(None, self._pieces):
            yield np.concatenate([self._read(*piece) for piece in pieces], axis=self._axis)

    def _read(self, start: int, size: int, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
        self._file.seek(start)
        content = zlib.decompress(self._file.read(size))
        return np.frombuffer(content, dtype=np.uint8).reshape(shape)


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
