"""Measured cases on disk: a data set of which one case changes is not read again as a whole."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from autoseg.core.artifact import Artifact
from autoseg.core.fingerprint import CaseFingerprint, Fingerprint
from autoseg.errors import AutosegError
from autoseg.fingerprint.measure import Measurement
from autoseg.fingerprint.sketch import IntensitySketch
from autoseg.io import atomic
from autoseg.io.workspace import TaskFolder

logger = logging.getLogger(__name__)


class _Record(Artifact):
    """What is kept of a case beside its intensities."""

    FORMAT: ClassVar[int] = Fingerprint.FORMAT
    format: int = Fingerprint.FORMAT
    label_key: str
    case: CaseFingerprint


def keep(file: Path, measurement: Measurement, label_key: str) -> None:
    """Write down what was measured of a case.

    Where that cannot be written the case is measured again the next time, nothing worse.

    Args:
        file: where to; overwritten.
        measurement: what was measured.
        label_key: of the labels it was measured with.
    """
    record = _Record(label_key=label_key, case=measurement.case).model_dump(mode="json")
    moments = [(s.mean, s.mean_square, s.minimum, s.maximum) for s in measurement.sketches]
    arrays: dict[str, npt.NDArray[Any]] = {
        "record": np.frombuffer(json.dumps(record).encode(), np.uint8),
        "moments": np.array(moments, np.float64).reshape(-1, 4),
    }
    for channel, sketch in enumerate(measurement.sketches):
        arrays[f"values_{channel}"] = sketch.values
        arrays[f"counts_{channel}"] = sketch.counts
    archive = BytesIO()  # in memory: an archive is made of very many small writes
    np.savez_compressed(archive, **arrays)  # pyright: ignore[reportArgumentType]
    try:
        with atomic.atomic_path(file, flush=False) as partial:
            partial.write_bytes(archive.getbuffer())
    except AutosegError as error:
        logger.debug("not kept: %s", error)


def load(file: Path, label_key: str) -> Measurement | None:
    """Read what was measured of a case.

    Args:
        file: where ``keep`` wrote it.
        label_key: of the labels as they are declared now.

    Returns:
        What was written, to the last bit; None if the file is missing, broken, of another
        version of autoseg, or was measured with other labels.
    """
    try:
        # Of a broken archive that it opened itself numpy would leave the file open.
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            record = _Record.model_validate(json.loads(arrays["record"].tobytes()))
            if record.label_key != label_key:
                return None
            sketches = tuple(
                IntensitySketch(
                    values=arrays[f"values_{channel}"],
                    counts=arrays[f"counts_{channel}"],
                    mean=mean,
                    mean_square=mean_square,
                    minimum=minimum,
                    maximum=maximum,
                )
                for channel, (mean, mean_square, minimum, maximum) in enumerate(
                    arrays["moments"].tolist()
                )
            )
    except FileNotFoundError:
        return None
    except Exception as error:  # a damaged archive raises what it likes; the images are at hand
        logger.debug("%s: %s: measured anew", file, error)
        return None
    return Measurement(case=record.case, sketches=sketches)


def keep_only(task: TaskFolder, cases: Collection[str]) -> None:
    """Delete what is kept of other cases, and what killed writers left; needs the task's lock."""
    files = {task.measured_file(case) for case in cases}
    if task.measured.is_dir():
        with atomic.writing(task.measured):
            for file in set(task.measured.iterdir()) - files:
                file.unlink(missing_ok=True)
