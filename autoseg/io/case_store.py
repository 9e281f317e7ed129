"""Prepared cases on disk: one patch is read without loading the volume.

A store is a folder with a ``manifest.json`` and a folder per case::

    <case>/image.b2nd       float32 (channels, z, y, x), Blosc2, chunks about the size of a patch
    <case>/labels.b2nd      int8 or int16 (z, y, x); -1 outside the non-zero region
    <case>/positions.npy    flat indices of voxels of each structure, one after the other
    <case>/case.json        CaseInfo
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any, Self, cast

import blosc2
import numpy as np
import numpy.typing as npt

from autoseg.core.artifact import Artifact
from autoseg.core.geometry import Shape
from autoseg.core.plan import Recipe
from autoseg.errors import ArtifactError, AutosegError
from autoseg.io import artifacts, atomic
from autoseg.io.workspace import check_name

OUTSIDE = -1
"""Label of voxels outside the non-zero region, and beyond the borders of a case."""

_MANIFEST = "manifest.json"
_IMAGE, _LABELS, _POSITIONS, _INFO = "image.b2nd", "labels.b2nd", "positions.npy", "case.json"
_BLOCK_BYTES = 128 * 1024
_CHUNK_BYTES = 6 * 1024 * 1024
_OPEN_FILES = 128  # each holds a file handle; common limits are 256 and 1024 per process
_REMEDY = "run: autoseg preprocess"

Triplet = tuple[int, int, int]


class CaseInfo(Artifact):
    """What is known of a prepared case without its voxels: the content of ``case.json``.

    Attributes:
        name: the case.
        source: digest of the raw files it was prepared from.
        shape: voxels of the prepared case, ``(z, y, x)``.
        trace: how to undo the preparation, as ``imaging.prepare`` wrote it.
        position_counts: how many positions are stored of each structure.
        label_voxels: number of voxels of each index 1..n.
    """

    name: str
    source: str
    shape: Shape
    trace: dict[str, Any]
    position_counts: tuple[int, ...]
    label_voxels: tuple[int, ...]


class Manifest(Artifact):
    """What all cases of a store have in common: the content of ``manifest.json``.

    Attributes:
        configuration: the configuration they were first prepared for.
        recipe: how they were prepared.
    """

    configuration: str
    recipe: Recipe


class CaseStore:
    """Prepared cases of one recipe.

    Cheap to make and to pickle: files are opened when they are needed, once per process and
    thread.

    Args:
        folder: where the cases lie.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def create(cls, folder: Path, manifest: Manifest) -> Self:
        """Make a store, or go on with the one that is there.

        What a killed writer left is removed, so call it before there are writers.

        Raises:
            AutosegError: if the folder cannot be written.
        """
        atomic.remove_partial(folder)
        if not (folder / _MANIFEST).is_file():
            artifacts.save(folder / _MANIFEST, manifest)
        return cls(folder)

    @property
    def manifest(self) -> Manifest:
        """What the cases have in common.

        Raises:
            WorkspaceError: if there is no store here.
        """
        return artifacts.load(self.folder / _MANIFEST, Manifest, remedy=_REMEDY)

    def names(self) -> list[str]:
        """Names of the cases, sorted."""
        return sorted(p.parent.name for p in self.folder.glob(f"*/{_INFO}") if self._is_case(p))

    def __contains__(self, name: object) -> bool:
        """Whether a case is in the store."""
        return isinstance(name, str) and (self._case(name) / _INFO).is_file()

    def info(self, name: str) -> CaseInfo:
        """What is known of a case.

        Raises:
            WorkspaceError: if the case is not in the store.
        """
        path = self._case(name) / _INFO
        if not path.is_file():
            raise artifacts.missing(path, _REMEDY)
        return _load_info(path, _stamp(path))

    def shape(self, name: str) -> Shape:
        """Voxels of a case, ``(z, y, x)``.

        Raises:
            WorkspaceError: if the case is not in the store.
        """
        return self.info(name).shape

    def positions(self, name: str, structure: int) -> npt.NDArray[np.int64]:
        """Where a structure is.

        Args:
            name: the case.
            structure: number of the structure, from 0, in the order they were written.

        Returns:
            Flat (C order) indices of some of its voxels, int64; memory-mapped, read-only.

        Raises:
            WorkspaceError: if the case is not in the store.
        """
        counts = self.info(name).position_counts
        if sum(counts) == 0:
            return np.empty(0, dtype=np.int64)
        path = self._case(name) / _POSITIONS
        first = sum(counts[:structure])
        return _open_positions(path, _stamp(path))[first : first + counts[structure]]

    def read(
        self, name: str, lower: Sequence[int], size: Sequence[int]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int16]]:
        """Read a box of a case, which may reach beyond its borders or lie wholly outside.

        Args:
            name: the case.
            lower: first voxel ``(z, y, x)``, may be negative.
            size: voxels ``(z, y, x)``.

        Returns:
            The image, float32 ``(channels, *size)``, 0 beyond the borders, and the labels,
            int16 ``size``, -1 beyond the borders; new arrays.

        Raises:
            WorkspaceError: if the case is not in the store.
            ArtifactError: if its files are damaged.
        """
        image, labels = self._open(name, _IMAGE), self._open(name, _LABELS)
        patch = np.zeros((image.shape[0], *size), dtype=np.float32)
        labels_patch = np.full(tuple(size), OUTSIDE, dtype=np.int16)
        source, target = _overlap(labels.shape, lower, size)
        if all(part.start < part.stop for part in source):
            try:
                patch[(slice(None), *target)] = image[(slice(None), *source)]
                labels_patch[target] = labels[source]
            except RuntimeError as error:
                raise _damaged(self._case(name)) from error
        return patch, labels_patch

    def _case(self, name: str) -> Path:
        return self.folder / check_name(name, "case")

    def _is_case(self, info: Path) -> bool:
        return not info.parent.name.startswith(".")

    def _open(self, name: str, file: str) -> blosc2.NDArray:
        path = self._case(name) / file
        if not path.is_file():
            raise artifacts.missing(path, _REMEDY)
        # A handle's buffers belong to one thread.
        return _open_array(path, _stamp(path), threading.get_ident())


def write_case(
    folder: Path,
    name: str,
    image: npt.NDArray[np.float32],
    labels: npt.NDArray[np.integer],
    positions: Sequence[npt.NDArray[np.integer]],
    info: CaseInfo,
    patch_size: Sequence[int],
) -> None:
    """Put a prepared case into a store, whole or not at all; an older one is replaced.

    Args:
        folder: the store's folder.
        name: the case.
        image: float32, ``(channels, z, y, x)``.
        labels: integer, ``(z, y, x)``; stored in the smallest signed type that holds them.
        positions: flat indices of voxels, one array per structure.
        info: what else is known of the case.
        patch_size: the patch in voxels, three sizes or (2D) two: chunks are made to fit it.

    Raises:
        AutosegError: if the case cannot be written.
        ValueError: if arrays and info do not fit each other.
    """
    _check(name, image, labels, positions, info)
    target = folder / check_name(name, "case")
    atomic.remove_folder(target)
    with atomic.atomic_folder(target) as partial:
        _write_array(partial / _IMAGE, image.astype(np.float32, copy=False), patch_size)
        _write_array(partial / _LABELS, _smallest_signed(labels), patch_size)
        empty = np.empty(0, dtype=np.int64)
        np.save(partial / _POSITIONS, np.concatenate([empty, *positions]).astype(np.int64))
        artifacts.save(partial / _INFO, info)


def chunking(shape: Sequence[int], patch: Sequence[int], itemsize: int) -> tuple[Triplet, Triplet]:
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
    return (block[0], block[1], block[2]), (chunk[0], chunk[1], chunk[2])


def _growing_axes(
    chunk: list[int], block: list[int], reach: list[int], patch: tuple[int, ...], itemsize: int
) -> list[int]:
    def fits(axis: int) -> bool:
        grown = min(chunk[axis] + block[axis], reach[axis])
        return prod(chunk) // chunk[axis] * grown * itemsize <= _CHUNK_BYTES

    return [a for a in range(3) if patch[a] > 1 and chunk[a] < reach[a] and fits(a)]


def _check(
    name: str,
    image: npt.NDArray[np.float32],
    labels: npt.NDArray[np.integer],
    positions: Sequence[npt.NDArray[np.integer]],
    info: CaseInfo,
) -> None:
    if info.name != name:
        raise ValueError(f"info is of case '{info.name}', not '{name}'")
    if image.ndim != 4 or not image.shape[1:] == labels.shape == info.shape:
        raise ValueError(f"shapes differ: {image.shape}, {labels.shape} and {info.shape}")
    if tuple(len(part) for part in positions) != info.position_counts:
        raise ValueError("position_counts do not fit the positions")


def _smallest_signed(labels: npt.NDArray[np.integer]) -> npt.NDArray[np.signedinteger]:
    highest = max(int(labels.max()), -int(labels.min()))
    for dtype in (np.int8, np.int16, np.int32):
        if highest <= np.iinfo(dtype).max:
            return labels.astype(dtype, copy=False)
    raise ValueError(f"label {highest} is too large")


def _write_array(path: Path, array: npt.NDArray[Any], patch_size: Sequence[int]) -> None:
    channels = (1,) * (array.ndim - 3)
    block, chunk = chunking(array.shape[-3:], patch_size, array.itemsize)
    parameters = blosc2.CParams(
        codec=blosc2.Codec.LZ4HC, clevel=5, filters=[blosc2.Filter.SHUFFLE], nthreads=1
    )
    contiguous: Any = np.ascontiguousarray(array)
    try:
        blosc2.asarray(
            contiguous,
            urlpath=str(path),
            mode="w",
            chunks=(*channels, *chunk),
            blocks=(*channels, *block),
            cparams=parameters,
        )
    except RuntimeError as error:
        raise AutosegError(
            "the case cannot be written", place=path.parent.parent, remedy="is the disk full?"
        ) from error


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


def _damaged(case: Path) -> ArtifactError:
    return ArtifactError(
        "damaged prepared case", place=case, remedy="delete its folder and run: autoseg preprocess"
    )


def _stamp(path: Path) -> int:
    """Changes when a case is written anew, so that its old files are not used on."""
    return path.stat().st_mtime_ns


@lru_cache(maxsize=_OPEN_FILES)
def _open_array(path: Path, stamp: int, thread: int) -> blosc2.NDArray:  # noqa: ARG001
    options: dict[str, Any] = {"dparams": blosc2.DParams(nthreads=1)}
    if sys.platform != "win32":
        options["mmap_mode"] = "r"
    try:
        array = cast("Any", blosc2.open)(str(path), mode="r", **options)
    except RuntimeError as error:
        raise _damaged(path.parent) from error
    assert isinstance(array, blosc2.NDArray)
    return array


@lru_cache(maxsize=_OPEN_FILES)
def _open_positions(path: Path, stamp: int) -> npt.NDArray[np.int64]:  # noqa: ARG001
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        raise _damaged(path.parent) from error


@lru_cache(maxsize=4096)
def _load_info(path: Path, stamp: int) -> CaseInfo:  # noqa: ARG001
    return artifacts.load(path, CaseInfo)
