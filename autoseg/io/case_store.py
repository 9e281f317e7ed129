"""Prepared cases on disk: one patch is read without loading the volume.

A store is a folder with a ``manifest.json`` and a folder per case::

    <case>/image.b2nd       float32 (channels, z, y, x), Blosc2, chunks about the size of a patch
    <case>/labels.b2nd      int8 or int16 (1, z, y, x); -1 outside the non-zero region
    <case>/positions.npy    int32 or int64, flat indices of voxels of each structure in turn
    <case>/case.json        CaseInfo
"""

from __future__ import annotations

import hashlib
import io
import os
import threading
from collections.abc import Iterable, Sequence
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any, ClassVar, Self

import blosc2
import numpy as np
import numpy.typing as npt
from pydantic import Field

from autoseg.core.artifact import Artifact
from autoseg.core.fingerprint import CaseFingerprint
from autoseg.core.geometry import Shape
from autoseg.core.labels import LabelSpace
from autoseg.core.plan import Recipe
from autoseg.errors import ArtifactError, WorkspaceError
from autoseg.io import artifacts, atomic
from autoseg.io.chunked_arrays import open_array, read_box, slab_rows, write_array
from autoseg.io.fold_folder import check_name

__all__ = [
    "OUTSIDE",
    "CaseInfo",
    "CaseStore",
    "Manifest",
    "positions_dtype",
    "slab_rows",
    "source_of",
    "write_case",
]

OUTSIDE = -1
"""Label of voxels outside the non-zero region, and beyond the borders of a case."""

_MANIFEST = "manifest.json"
_IMAGE, _LABELS, _POSITIONS, _INFO = "image.b2nd", "labels.b2nd", "positions.npy", "case.json"
_ARRAYS = (_IMAGE, _LABELS, _POSITIONS)
_INT32_INDICES = 2**31
_OPEN_FILES = 128  # each holds a file handle; common limits are 256 and 1024 per process
_REMEDY = "run: autoseg preprocess"


class CaseInfo(Artifact):
    """What is known of a prepared case without its voxels: the content of ``case.json``.

    Attributes:
        name: the case.
        source: what it was prepared from, as ``source_of`` gives it.
        shape: voxels of the prepared case, ``(z, y, x)``.
        trace: how to undo the preparation, as ``imaging.prepare`` wrote it.
        position_counts: how many positions are stored of each structure.
        label_voxels: number of voxels of each index 1..n.
        file_bytes: size of each of its other files; ``write_case`` fills it in.
    """

    FORMAT: ClassVar[int] = 2
    format: int = 2
    name: str
    source: str
    shape: Shape
    trace: dict[str, Any]
    position_counts: tuple[int, ...]
    label_voxels: tuple[int, ...]
    file_bytes: dict[str, int] = Field(default_factory=dict)

    @classmethod
    def migrate(cls, data: dict[str, Any]) -> dict[str, Any] | None:
        """Nothing older can be lifted: it does not say what its labels mean."""
        del data
        return None


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

        What a killed writer left is removed, so call it before there are writers. A manifest that
        cannot be read, or tells of another recipe, is written anew.

        Raises:
            AutosegError: if the folder cannot be written.
        """
        atomic.remove_partial(folder)
        store = cls(folder)
        try:
            is_known = store.manifest.recipe == manifest.recipe
        except (WorkspaceError, ArtifactError):
            is_known = False
        if not is_known:
            artifacts.save(folder / _MANIFEST, manifest)
        return store

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
        return _load_info(path, _stamp(path))

    def is_current(self, name: str, source: str) -> bool:
        """Whether a case is there, whole, and need not be prepared again.

        Costs no more than looking at the sizes of its files.

        Args:
            name: the case.
            source: what it would be prepared from now, as ``source_of`` gives it.
        """
        try:
            info = self.info(name)
            sizes = {file: (self._case(name) / file).stat().st_size for file in _ARRAYS}
        except (WorkspaceError, ArtifactError, OSError):
            return False
        return info.source == source and info.file_bytes == sizes

    def size_bytes(self) -> int:
        """Bytes on disk of all cases; the files are not opened."""
        return sum(
            file.stat().st_size
            for case in _entries(self.folder)
            if case.is_dir() and not case.name.startswith(".")
            for file in _entries(case.path)
        )

    def shape(self, name: str) -> Shape:
        """Voxels of a case, ``(z, y, x)``.

        Raises:
            WorkspaceError: if the case is not in the store.
        """
        return self.info(name).shape

    def positions(self, name: str, structure: int) -> npt.NDArray[np.signedinteger]:
        """Where a structure is.

        Args:
            name: the case.
            structure: number of the structure, from 0, in the order they were written.

        Returns:
            Flat (C order) indices of some of its voxels, int32 in volumes of less than 2**31
            voxels, else int64; memory-mapped, read-only.

        Raises:
            WorkspaceError: if the case is not in the store.
            ArtifactError: if its files are damaged.
        """
        info = self.info(name)
        counts = info.position_counts
        if sum(counts) == 0:
            return np.empty(0, dtype=positions_dtype(info.shape))
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
        try:
            patch = read_box(image, lower, size, fill=0)
            labels_patch = read_box(labels, lower, size, fill=OUTSIDE)[0].astype(np.int16)
        except RuntimeError as error:
            raise _damaged(self._case(name)) from error
        return patch, labels_patch

    def _case(self, name: str) -> Path:
        return self.folder / check_name(name, "case")

    def _is_case(self, info: Path) -> bool:
        return not info.parent.name.startswith(".")

    def _open(self, name: str, file: str) -> blosc2.NDArray:
        path = self._case(name) / file
        # A handle's buffers belong to one thread.
        return _open_array(path, _stamp(path), threading.get_ident())


def source_of(measured: CaseFingerprint, labels: LabelSpace) -> str:
    """What a case is prepared from beside the recipe: the content of its files, and its labels.

    Segments are matched by the names of the structures, and positions are kept in their order.

    Args:
        measured: the case's measurements, which know its files.
        labels: what the label map means.

    Returns:
        16 hexadecimal digits.
    """
    structures = [(s.name.casefold(), sorted(s.values)) for s in labels.structures]
    meaning = repr((measured.source, labels.background, labels.ignore, structures))
    return hashlib.blake2b(meaning.encode(), digest_size=8).hexdigest()


def write_case(
    folder: Path,
    name: str,
    image: Iterable[npt.NDArray[np.float32]],
    labels: npt.NDArray[np.integer],
    positions: Sequence[npt.NDArray[np.integer]],
    info: CaseInfo,
    patch_size: Sequence[int],
) -> None:
    """Put a prepared case into a store, whole or not at all; an older one is replaced.

    The same case gives the same bytes, whatever the slabs.

    Args:
        folder: the store's folder.
        name: the case.
        image: consecutive slabs along z, float32 ``(channels, rows, y, x)``, of any thickness;
            least memory is used if they are as thick as ``slab_rows`` says.
        labels: integer, ``(z, y, x)``; stored in the smallest signed type that holds them.
        positions: flat indices of voxels, one array per structure.
        info: what else is known of the case; the sizes of files are filled in.
        patch_size: the patch in voxels, three sizes or (2D) two: chunks are made to fit it.

    Raises:
        AutosegError: if the case cannot be written.
        ValueError: if arrays and info do not fit each other.
    """
    _check(name, labels, positions, info)
    target = folder / check_name(name, "case")
    atomic.remove_folder(target)
    with atomic.atomic_folder(target) as partial:
        write_array(partial / _IMAGE, image, info.shape, np.float32, patch_size)
        kind = _smallest_signed(labels)
        write_array(partial / _LABELS, [labels[None]], info.shape, kind, patch_size)
        _write_positions(partial / _POSITIONS, positions, info.shape)
        sizes = {file.name: file.stat().st_size for file in sorted(partial.iterdir())}
        written = info.model_copy(update={"file_bytes": sizes})
        (partial / _INFO).write_text(artifacts.as_text(written), encoding="utf-8")


def _check(
    name: str,
    labels: npt.NDArray[np.integer],
    positions: Sequence[npt.NDArray[np.integer]],
    info: CaseInfo,
) -> None:
    if info.name != name:
        raise ValueError(f"info is of case '{info.name}', not '{name}'")
    if labels.shape != info.shape:
        raise ValueError(f"shapes differ: labels {labels.shape}, info {info.shape}")
    if tuple(len(part) for part in positions) != info.position_counts:
        raise ValueError("position_counts do not fit the positions")


def _smallest_signed(labels: npt.NDArray[np.integer]) -> np.dtype[np.signedinteger]:
    highest = max(int(labels.max()), -int(labels.min()))
    for kind in (np.int8, np.int16, np.int32):
        if highest <= np.iinfo(kind).max:
            return np.dtype(kind)
    raise ValueError(f"label {highest} is too large")


def positions_dtype(shape: Shape) -> np.dtype[np.signedinteger]:
    """How indices of the voxels of a case are stored: int32, or int64 if they do not fit."""
    return np.dtype(np.int32 if prod(shape) <= _INT32_INDICES else np.int64)


def _write_positions(
    path: Path, positions: Sequence[npt.NDArray[np.integer]], shape: Shape
) -> None:
    empty = np.empty(0, dtype=np.int64)
    # By way of memory, because numpy does not say why a file cannot be written.
    content = io.BytesIO()
    np.save(content, np.concatenate([empty, *positions]).astype(positions_dtype(shape)))
    path.write_bytes(content.getbuffer())


def _entries(folder: str | Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return list(entries)


def _damaged(case: Path) -> ArtifactError:
    return ArtifactError(
        "damaged prepared case", place=case, remedy="delete its folder and run: autoseg preprocess"
    )


def _stamp(path: Path) -> int:
    """Changes when a case is written anew, so that its old files are not used on."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        raise artifacts.missing(path, _REMEDY) from None


@lru_cache(maxsize=_OPEN_FILES)
def _open_array(path: Path, stamp: int, thread: int) -> blosc2.NDArray:  # noqa: ARG001
    try:
        return open_array(path)
    except RuntimeError as error:
        raise _damaged(path.parent) from error


@lru_cache(maxsize=_OPEN_FILES)
def _open_positions(path: Path, stamp: int) -> npt.NDArray[np.signedinteger]:  # noqa: ARG001
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        raise _damaged(path.parent) from error


@lru_cache(maxsize=4096)
def _load_info(path: Path, stamp: int) -> CaseInfo:  # noqa: ARG001
    return artifacts.load(path, CaseInfo, remedy=_REMEDY)
