"""Arrays on disk in compressed chunks: written slab by slab, read box by box.

A file is a Blosc2 array. The same voxels always give the same bytes, whatever the slabs they come
in: chunks are written in the order of their rows along z, and what fills them up is 0.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, cast

import blosc2
import numpy as np
import numpy.typing as npt

from autoseg.core.geometry import Shape

Voxels = npt.NDArray[Any]

_BLOCK_BYTES = 128 * 1024
_CHUNK_BYTES = 6 * 1024 * 1024

# Measured on one core, float32. Resampled CT: LZ4 writes ten times as fast as LZ4HC at level 5
# (0.96 against 0.10 GB/s) for 5 % more bytes, and both are read at the same speed; Zstandard needs
# 10 % less than LZ4, but twice the time to read; shuffling bits instead of bytes saves nothing.
# Where nothing was resampled values repeat: then whole words, LZ4HC at level 1, need 0.5 to 0.7 of
# the bytes, at 0.2 GB/s. Labels repeat anyway, and no setting writes or reads them slowly.
_SMOOTH: dict[str, Any] = {
    "codec": blosc2.Codec.LZ4,
    "clevel": 5,
    "filters": [blosc2.Filter.SHUFFLE],
    "nthreads": 1,
}
_REPEATING: dict[str, Any] = {
    "codec": blosc2.Codec.LZ4HC,
    "clevel": 1,
    "filters": [blosc2.Filter.NOFILTER],
    "nthreads": 1,
}
_SAMPLE_VOXELS = 16 * 1024
_CLEARLY_FEWER = 0.9  # smaller gains are not worth the slower writing


def chunking(shape: Sequence[int], patch: Sequence[int], itemsize: int) -> tuple[Shape, Shape]:
    """Choose the sizes in which an array is compressed and read.

    A block (at most 128 KiB, what fits a core's cache) is what is decompressed at least; a
    chunk (at most 6 MiB) is a row of blocks about 1.5 patches long.

    Args:
        shape: voxels ``(z, y, x)``.
        patch: patch in voxels, three sizes or (2D) two.
        itemsize: bytes per voxel.

    Returns:
        Block and chunk in voxels, ``(z, y, x)``.
    """
    is_2d = len(patch) == 2
    patch = (1, *patch) if is_2d else tuple(patch)
    reach = [max(1, min(n, int(1.5 * p))) for n, p in zip(shape, patch, strict=True)]
    block = [min(1 << (p - 1).bit_length(), n) for n, p in zip(shape, patch, strict=True)]
    while prod(block) * itemsize > _BLOCK_BYTES:
        axis = max((a for a in range(3) if block[a] > 1), key=lambda a: (block[a] / reach[a], a))
        block[axis] = 1 << ((block[axis] - 1).bit_length() - 1)
    chunk = list(block)
    while axes := _growing_axes(chunk, block, reach, patch, itemsize):
        axis = min(axes, key=lambda a: (chunk[a] / reach[a], -shape[a], a))
        chunk[axis] = min(chunk[axis] + block[axis], reach[axis])
    # Blocks share a chunk evenly: what they hold beyond it is written and read for nothing.
    block = [-(-c // -(-c // b)) for b, c in zip(block, chunk, strict=True)]
    return (block[0], block[1], block[2]), (chunk[0], chunk[1], chunk[2])


def slab_rows(shape: Shape, patch_size: Sequence[int], itemsize: int = 4) -> int:
    """How thick slabs are best: a row of chunks, which is then written without a copy.

    Args:
        shape: voxels ``(z, y, x)``.
        patch_size: three sizes or (2D) two.
        itemsize: bytes per voxel.
    """
    return chunking(shape, patch_size, itemsize)[1][0]


def write_array(
    path: Path,
    slabs: Iterable[Voxels],
    shape: Shape,
    dtype: npt.DTypeLike,
    patch_size: Sequence[int],
) -> None:
    """Write an array as its slabs come; no more than a row of chunks is held of them.

    Args:
        path: the file, which must not exist.
        slabs: consecutive parts along z, ``(channels, rows, y, x)``, of any thickness.
        shape: voxels ``(z, y, x)`` of the whole.
        dtype: how voxels are stored.
        patch_size: three sizes or (2D) two; chunks are made to fit it.

    Raises:
        OSError: if there is no room, or the file cannot be written.
        ValueError: if the slabs do not add up to the shape.
    """
    dtype = np.dtype(dtype)
    layout = _Layout(shape, *chunking(shape, patch_size, dtype.itemsize))
    target: blosc2.NDArray | None = None
    for index, row in enumerate(_in_rows(slabs, shape, layout.chunk[0])):
        if target is None:
            target = _create(path, row, dtype, layout)
        for number, part in _chunks_of(row, index, layout):
            _put(path, target, number, _as_blocks(part, dtype, layout))
    _see_that_it_is_whole(path)


def open_array(path: Path) -> blosc2.NDArray:
    """Open a file for reading; its voxels are read when they are asked for.

    Raises:
        RuntimeError: if it is damaged.
    """
    options: dict[str, Any] = {"dparams": blosc2.DParams(nthreads=1)}
    if sys.platform != "win32":
        options["mmap_mode"] = "r"
    array = cast("Any", blosc2.open)(str(path), mode="r", **options)
    assert isinstance(array, blosc2.NDArray)
    return array


def read_box(array: blosc2.NDArray, lower: Sequence[int], size: Sequence[int], fill: int) -> Voxels:
    """Read a box, which may reach beyond the borders or lie wholly outside.

    Args:
        array: ``(channels, z, y, x)``, as ``open_array`` gives it.
        lower: first voxel ``(z, y, x)``, may be negative.
        size: voxels ``(z, y, x)``.
        fill: the value beyond the borders.

    Returns:
        A new array, ``(channels, *size)``.

    Raises:
        RuntimeError: if the file is damaged.
    """
    source, target = _overlap(array.shape[1:], lower, size)
    if any(part.start >= part.stop for part in source):
        return np.full((array.shape[0], *size), fill, dtype=array.dtype)
    inside = cast("Voxels", array[(slice(None), *source)])
    if inside.shape[1:] == tuple(size):
        return inside
    box = np.full((array.shape[0], *size), fill, dtype=array.dtype)
    box[(slice(None), *target)] = inside
    return box


@dataclass(frozen=True, slots=True)
class _Layout:
    """How the voxels of a channel lie in blocks and chunks, all ``(z, y, x)``."""

    shape: Shape
    block: Shape
    chunk: Shape

    @property
    def num_chunks(self) -> Shape:
        z, y, x = (-(-n // c) for n, c in zip(self.shape, self.chunk, strict=True))
        return z, y, x

    @property
    def num_blocks(self) -> Shape:
        """Blocks of a chunk."""
        z, y, x = (-(-c // b) for c, b in zip(self.chunk, self.block, strict=True))
        return z, y, x


def _growing_axes(
    chunk: list[int], block: list[int], reach: list[int], patch: tuple[int, ...], itemsize: int
) -> list[int]:
    def fits(axis: int) -> bool:
        grown = min(chunk[axis] + block[axis], reach[axis])
        return prod(chunk) // chunk[axis] * grown * itemsize <= _CHUNK_BYTES

    return [a for a in range(3) if patch[a] > 1 and chunk[a] < reach[a] and fits(a)]


def _overlap(
    shape: Sequence[int], lower: Sequence[int], size: Sequence[int]
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """The part of a box that lies inside an array: where in the array, where in the box."""
    bounds = [
        (max(0, first), min(n, first + extent), first)
        for n, first, extent in zip(shape, lower, size, strict=True)
    ]
    source = tuple(slice(begin, end) for begin, end, _ in bounds)
    target = tuple(slice(begin - first, end - first) for begin, end, first in bounds)
    return source, target


def _in_rows(slabs: Iterable[Voxels], shape: Shape, thickness: int) -> Iterator[Voxels]:
    """Cut consecutive slabs anew, each as thick as a chunk; the last may be thinner.

    A slab that is as thick, and lies where a chunk does, is passed on as it is.
    """
    done, waiting = 0, list[Voxels]()
    for slab in _checked(slabs, shape):
        start = 0
        while start < slab.shape[1]:
            stop = min(slab.shape[1], start + thickness - done % thickness)
            waiting.append(slab[:, start:stop])
            done, start = done + stop - start, stop
            if done % thickness == 0 or done == shape[0]:
                yield waiting[0] if len(waiting) == 1 else np.concatenate(waiting, axis=1)
                waiting.clear()


def _checked(slabs: Iterable[Voxels], shape: Shape) -> Iterator[Voxels]:
    """The slabs, as far as they fit each other and the shape, and in the end add up to it."""
    done, channels = 0, 0
    for slab in slabs:
        channels = channels or slab.shape[0]
        if slab.shape != (channels, slab.shape[1], *shape[1:]) or done + slab.shape[1] > shape[0]:
            raise ValueError(f"shapes differ: slab {slab.shape} after {done} rows of {shape}")
        done += slab.shape[1]
        yield slab
    if done != shape[0]:
        raise ValueError(f"shapes differ: slabs end after {done} rows of {shape}")


def _chunks_of(row: Voxels, index: int, layout: _Layout) -> Iterator[tuple[int, Voxels]]:
    """Number and voxels of the chunks of one row (along z) of chunks."""
    grid = (row.shape[0], *layout.num_chunks)
    _, height, width = layout.chunk
    for channel, j, i in np.ndindex(row.shape[0], *grid[2:]):
        part = row[channel, :, j * height : (j + 1) * height, i * width : (i + 1) * width]
        yield int(np.ravel_multi_index((channel, index, j, i), grid)), part


def _as_blocks(part: Voxels, dtype: np.dtype[Any], layout: _Layout) -> Voxels:
    """A chunk as it is stored: block after block, 0 beyond the borders of the array."""
    count, block = layout.num_blocks, layout.block
    size = tuple(c * b for c, b in zip(count, block, strict=True))
    if part.shape != size:
        whole = np.zeros(size, dtype=dtype)
        whole[tuple(slice(n) for n in part.shape)] = part
        part = whole
    split = part.reshape(count[0], block[0], count[1], block[1], count[2], block[2])
    return np.ascontiguousarray(split.transpose(0, 2, 4, 1, 3, 5), dtype=dtype)


def _create(path: Path, row: Voxels, dtype: np.dtype[Any], layout: _Layout) -> blosc2.NDArray:
    settings = _settings(_sample(row, dtype, layout.block))
    try:
        array = blosc2.zeros(
            (row.shape[0], *layout.shape),
            dtype=dtype,
            urlpath=str(path),
            mode="w",
            chunks=(1, *layout.chunk),
            blocks=(1, *layout.block),
            cparams=blosc2.CParams(**settings),
        )
    except RuntimeError as error:
        raise _reason(path, _BLOCK_BYTES) from error
    assert isinstance(array, blosc2.NDArray)
    return array


def _sample(row: Voxels, dtype: np.dtype[Any], block: Shape) -> Voxels:
    """Some voxels of the first channel, from the middle."""
    corner = [max(0, (n - b) // 2) for n, b in zip(row.shape[1:], block, strict=True)]
    box = tuple(slice(low, low + b) for low, b in zip(corner, block, strict=True))
    return row[0][box].astype(dtype).ravel()[:_SAMPLE_VOXELS]


def _settings(sample: Voxels) -> dict[str, Any]:
    """How an array is best compressed, by what becomes of a part of it."""
    if sample.dtype.kind != "f":
        return _REPEATING
    compress = cast("Any", blosc2.compress2)
    smooth, repeating = (
        len(compress(sample, typesize=sample.itemsize, **settings))
        for settings in (_SMOOTH, _REPEATING)
    )
    return _REPEATING if repeating < _CLEARLY_FEWER * smooth else _SMOOTH


def _put(path: Path, target: blosc2.NDArray, number: int, blocks: Voxels) -> None:
    try:
        cast("Any", target.schunk).update_data(number, blocks, copy=False)
    except RuntimeError as error:
        raise _reason(path, blocks.nbytes) from error


def _see_that_it_is_whole(path: Path) -> None:
    """The last bytes of a file are written when it is closed, which nobody reports."""
    try:
        open_array(path)
    except RuntimeError as error:
        raise _reason(path, _CHUNK_BYTES) from error


def _reason(path: Path, num_bytes: int) -> OSError:
    """Why a file could not be written, which Blosc2 does not tell: write some more to it."""
    try:
        with path.open("ab") as file:
            file.write(bytes(num_bytes))
            os.fsync(file.fileno())
    except OSError as error:
        return error
    return OSError(errno.EIO, os.strerror(errno.EIO))
