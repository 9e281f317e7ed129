"""What a previous stage predicts of cases it was not trained on, for a cascade to learn from.

A folder per set of weights, in it one per grid of prepared cases, in that one per case::

    <case>/labels.b2nd      uint8 or uint16 (1, z, y, x), Blosc2, on the grid of the prepared case
    <case>/case.json        PreviousInfo
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import blosc2
import numpy as np
import numpy.typing as npt

from autoseg.core.artifact import Artifact
from autoseg.core.geometry import Shape
from autoseg.core.labels import smallest_type
from autoseg.errors import ArtifactError, AutosegError
from autoseg.io import artifacts, atomic
from autoseg.io.chunked_arrays import open_array, read_box, write_array
from autoseg.io.fold_folder import check_name

_LABELS, _INFO = "labels.b2nd", "case.json"
_OPEN_FILES = 128
_AGAIN = "repeat the command, which names what makes it again"


class PreviousInfo(Artifact):
    """What is known of a prediction: the content of its ``case.json``.

    Attributes:
        name: the case.
        source: of the prepared case it belongs to, as ``source_of`` gives it.
        shape: voxels, ``(z, y, x)``, those of the prepared case.
        file_bytes: size of the labels' file.
    """

    name: str
    source: str
    shape: Shape
    file_bytes: int = 0


class PreviousStore:
    """Predictions by one set of weights on one grid.

    Cheap to make and to pickle: files are opened when they are needed, once per process and
    thread.

    Args:
        folder: where they lie.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __contains__(self, name: object) -> bool:
        """Whether there is a prediction of a case, of whatever it was made."""
        return isinstance(name, str) and (self._case(name) / _INFO).is_file()

    def is_current(self, name: str, source: str, shape: Shape | None = None) -> bool:
        """Whether the prediction of a case is there, whole, and of what the case is now.

        Args:
            name: the case.
            source: of the prepared case, as ``source_of`` gives it.
            shape: of the prepared case; None if that is not known.
        """
        try:
            info = artifacts.load(self._case(name) / _INFO, PreviousInfo)
            size = (self._case(name) / _LABELS).stat().st_size
        except (AutosegError, OSError):
            return False
        fits = shape is None or info.shape == tuple(shape)
        return info.source == source and fits and info.file_bytes == size

    def write(
        self,
        name: str,
        labels: npt.NDArray[np.integer],
        num_labels: int,
        source: str,
        patch_size: Sequence[int],
    ) -> None:
        """Keep the prediction of a case, whole or not at all; an older one is replaced.

        Args:
            name: the case.
            labels: indices 0..num_labels, ``(z, y, x)``; stored in the smallest type for them.
            num_labels: number of foreground labels there may be.
            source: of the prepared case, as ``source_of`` gives it.
            patch_size: the patch in voxels, three sizes or (2D) two: chunks are made to fit it.

        Raises:
            AutosegError: if it cannot be written.
        """
        target = self._case(name)
        z, y, x = labels.shape
        atomic.remove_folder(target)
        with atomic.atomic_folder(target) as partial:
            file = partial / _LABELS
            write_array(file, [labels[None]], (z, y, x), smallest_type([num_labels]), patch_size)
            size = file.stat().st_size
            info = PreviousInfo(name=name, source=source, shape=(z, y, x), file_bytes=size)
            (partial / _INFO).write_text(artifacts.as_text(info), encoding="utf-8")

    def read(self, name: str, lower: Sequence[int], size: Sequence[int]) -> npt.NDArray[np.int16]:
        """Read a box of a prediction, which may reach beyond its borders or lie wholly outside.

        Args:
            name: the case.
            lower: first voxel ``(z, y, x)``, may be negative.
            size: voxels ``(z, y, x)``.

        Returns:
            Label indices, int16 ``size``, 0 beyond the borders; a new array.

        Raises:
            WorkspaceError: if there is no prediction of the case.
            ArtifactError: if its file is damaged.
        """
        path = self._case(name) / _LABELS
        try:
            stamp = path.stat().st_mtime_ns
        except FileNotFoundError:
            raise artifacts.missing(path, _AGAIN) from None
        array = _open_labels(path, stamp, threading.get_ident())
        try:
            return read_box(array, lower, size, fill=0)[0].astype(np.int16)
        except RuntimeError as error:
            raise _damaged(path.parent) from error

    def _case(self, name: str) -> Path:
        return self.folder / check_name(name, "case")


@lru_cache(maxsize=_OPEN_FILES)
def _open_labels(path: Path, stamp: int, thread: int) -> blosc2.NDArray:  # noqa: ARG001
    try:
        return open_array(path)
    except RuntimeError as error:
        raise _damaged(path.parent) from error


def _damaged(case: Path) -> ArtifactError:
    finding = "damaged prediction of the previous stage"
    return ArtifactError(finding, place=case, remedy=f"delete its folder, then {_AGAIN}")
