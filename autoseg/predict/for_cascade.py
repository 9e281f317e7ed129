"""Predictions that a cascade learns from: of held-out cases, on the grid of prepared ones."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from autoseg.core.fingerprint import FileStamp
from autoseg.core.plan import Recipe
from autoseg.core.progress import Progress, silent
from autoseg.errors import AutosegError, DataError
from autoseg.imaging.decide import Labels
from autoseg.imaging.prepare import trace_of
from autoseg.io import atomic
from autoseg.io.images import read_image
from autoseg.io.previous_store import PreviousStore
from autoseg.io.stamps import is_unchanged
from autoseg.predict.predictor import Predictor

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """A case to predict.

    Attributes:
        name: the case.
        images: its raw files.
        measured: what these looked like when they were measured.
        source: of its prepared case, as ``source_of`` gives it.
    """

    name: str
    images: tuple[Path, ...]
    measured: tuple[FileStamp, ...]
    source: str


def missing_in(folder: Path, cases: Sequence[HeldOut]) -> list[HeldOut]:
    """Those of some cases whose predictions are not there, or not of what the case is now.

    Args:
        folder: of the predictions on one grid.
        cases: all there should be.
    """
    store = PreviousStore(folder)
    return [case for case in cases if not store.is_current(case.name, case.source)]


def predict_for_cascade(
    predictor: Predictor,
    cases: Sequence[HeldOut],
    recipe: Recipe,
    patch_size: Sequence[int],
    folder: Path,
    progress: Progress = silent,
) -> list[str]:
    """Predict cases on the grid of a cascade and keep what the cascade is to see of them.

    Args:
        predictor: the previous stage, which has not seen the cases.
        cases: what to predict.
        recipe: how the cascade's cases are prepared.
        patch_size: of the cascade.
        folder: where the predictions go, each whole or not at all.
        progress: called after each case.

    Returns:
        What failed, a line per case; one that cannot be read does not stop the others.

    Raises:
        AutosegError: if the folder cannot be written, or another command writes there.
    """
    failures: list[str] = []
    num_labels = predictor.labels.num_classes - 1
    atomic.make_folder(folder)
    with atomic.lock(folder.with_name(f".{folder.name}.lock")):
        atomic.remove_partial(folder)
        store = PreviousStore(folder)
        progress(0, len(cases))
        for number, case in enumerate(cases, start=1):
            try:
                indices = _predict(predictor, case, recipe)
                store.write(case.name, indices, num_labels, case.source, patch_size)
            except AutosegError as error:
                failures.append(f"{case.name}: {error}")
            except Exception as error:
                # Whatever one case does, the others go on.
                logger.debug("%s failed", case.name, exc_info=True)
                reason = " ".join(f"{type(error).__name__}: {error}".split())
                failures.append(f"{case.name}: {reason}")
            progress(number, len(cases), case.name)
    return failures


def _predict(predictor: Predictor, case: HeldOut, recipe: Recipe) -> Labels:
    image = read_image(case.images)
    for path, seen in zip(case.images, case.measured, strict=True):
        # The prediction would be taken for one of the file that was prepared.
        if not is_unchanged(path, seen):
            raise DataError(
                "has changed since it was measured", place=path, remedy="run: autoseg plan TASK"
            )
    grid = trace_of(image.array, image.geometry.spacing, recipe)
    return predictor.indices_on(image, grid)
