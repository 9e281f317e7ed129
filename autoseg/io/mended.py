"""What ``autoseg check --mend`` did: mended copies of raw files, and cases left out.

Raw data stay as they are. A mended copy lies in the workspace and takes the place of its raw
file as long as no file of the case has changed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from autoseg.core.artifact import Artifact, Frozen
from autoseg.core.dataset import Dataset, Split
from autoseg.core.fingerprint import FileStamp
from autoseg.core.geometry import Geometry
from autoseg.core.problem import Problem
from autoseg.io import artifacts, atomic, stamps
from autoseg.io.formats import reader_of
from autoseg.io.workspace import TaskFolder

logger = logging.getLogger(__name__)


class Source(Frozen):
    """A raw file, and what it looked like.

    Attributes:
        path: absolute.
        stamp: size, time and hash.
    """

    path: Path
    stamp: FileStamp


class MendedFile(Frozen):
    """A raw file whose place is taken by mended copies.

    Attributes:
        raw: absolute path of the raw file.
        copies: names in the folder of mended copies, one per channel the file holds.
        done: what was done, such as ``"geometry=copy"``, in order.
        sources: all raw files of the case; the copies hold while none of them changes.
    """

    raw: Path
    copies: tuple[str, ...]
    done: tuple[str, ...]
    sources: tuple[Source, ...]


class LeftOut(Frozen):
    """A case the user goes on without.

    Attributes:
        case: its name.
        kind: of the problem, as in ``problem.KINDS``.
        finding: what the problem was.
        sources: its raw files; it stays left out while none of them changes. None if the case
            was incomplete; it stays left out while it is.
    """

    case: str
    kind: str
    finding: str
    sources: tuple[Source, ...] | None = None


class Mends(Artifact):
    """All that was mended in a data set: the content of ``mended.json``.

    Attributes:
        files: raw files with mended copies.
        left_out: cases that are not used.
    """

    files: tuple[MendedFile, ...] = ()
    left_out: tuple[LeftOut, ...] = ()

    def of(self, raw: Path) -> MendedFile | None:
        """The mended copies of a raw file, if it has any."""
        return next((file for file in self.files if file.raw == raw), None)


def sources_of(paths: Iterable[Path]) -> tuple[Source, ...]:
    """Note what raw files look like now; those that cannot be read are left out."""
    found: list[Source] = []
    for path in paths:
        try:
            found.append(Source(path=path, stamp=stamps.stamp(path)))
        except OSError:
            continue
    return tuple(found)


def load_mends(task: TaskFolder) -> Mends:
    """Load what was mended and still holds.

    What concerns files that have changed since is left out, and said so.

    Raises:
        ArtifactError: if the file is broken.
    """
    try:
        mends = artifacts.load(task.mended_file, Mends)
    except FileNotFoundError:
        return Mends()
    files = tuple(file for file in mends.files if _hold(file.sources) and _exist(task, file))
    left_out = tuple(entry for entry in mends.left_out if _hold(entry.sources or ()))
    stale = len(mends.files) + len(mends.left_out) - len(files) - len(left_out)
    if stale:
        logger.warning(
            "%d mends of %s hold no more, because the raw files have changed: they are ignored",
            stale,
            task.name,
        )
    return Mends(files=files, left_out=left_out)


def save_mends(task: TaskFolder, mends: Mends) -> None:
    """Write what was mended.

    Raises:
        AutosegError: if it cannot be written.
    """
    artifacts.save(task.mended_file, mends)


def put_in_place(dataset: Dataset, mends: Mends, folder: Path) -> Dataset:
    """Let the cases of a data set point to their mended copies, and leave out what is left out.

    Args:
        dataset: as its layout says.
        mends: what was mended.
        folder: where the mended copies lie.
    """
    gone = left_out_names(dataset, mends)
    copies = {file.raw: tuple(folder / name for name in file.copies) for file in mends.files}

    def mended(paths: Sequence[Path]) -> tuple[Path, ...]:
        return tuple(new for path in paths for new in copies.get(dataset.root / path, (path,)))

    cases = [
        case.model_copy(update={"images": mended(case.images), "label": mended((case.label,))[0]})
        for case in dataset.cases
        if case.name not in gone
    ]
    folds = None if dataset.folds is None else tuple(_without(f, gone) for f in dataset.folds)
    return dataset.model_copy(update={"cases": tuple(cases), "folds": folds})


def left_out_names(dataset: Dataset, mends: Mends) -> set[str]:
    """Names of the cases left out: an incomplete one that is complete now is none of them."""
    complete = {case.name for case in dataset.cases}
    return {
        entry.case
        for entry in mends.left_out
        if entry.sources is not None or entry.case not in complete
    }


def without_left_out(problems: Iterable[Problem], names: set[str]) -> tuple[Problem, ...]:
    """The problems of the cases that are used."""
    return tuple(problem for problem in problems if problem.case not in names)


def write_copy(path: Path, array: npt.NDArray[Any], geometry: Geometry) -> None:
    """Write a mended copy, whole or not at all.

    Args:
        path: the NIfTI file.
        array: a channel or a label map, ``(z, y, x)``; whole numbers are written in the smallest
            type that holds them.
        geometry: where it lies.

    Raises:
        AutosegError: if it cannot be written.
    """
    with np.errstate(invalid="ignore"):
        is_whole = bool(np.isfinite(array).all()) and np.array_equal(np.rint(array), array)
    if is_whole and np.abs(array).max() < 2**31:
        low, high = int(array.min()), int(array.max())
        # A signed type that holds -high - 1 holds high as well.
        array = array.astype(np.min_scalar_type(high if low >= 0 else min(low, -high - 1)))
    with atomic.atomic_path(path) as partial:
        reader_of(path).write(partial, array, geometry)


def _without(fold: Split, gone: set[str]) -> Split:
    return Split(
        train=tuple(name for name in fold.train if name not in gone),
        validation=tuple(name for name in fold.validation if name not in gone),
    )


def _hold(sources: Sequence[Source]) -> bool:
    return all(stamps.is_unchanged(source.path, source.stamp) for source in sources)


def _exist(task: TaskFolder, file: MendedFile) -> bool:
    return all((task.mended / name).is_file() for name in file.copies)
