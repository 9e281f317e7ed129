"""What a run has reached so far, epoch by epoch: a line of JSON each, and a line to read."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from autoseg.core.artifact import Frozen
from autoseg.core.plan import TrainingSpec
from autoseg.io.atomic import write_text

SMOOTHING = 0.9


class EpochRecord(Frozen):
    """One epoch.

    Attributes:
        epoch: number, from 0.
        steps: optimiser steps in it.
        train_loss: mean over its steps.
        validation_loss: mean over the validation patches.
        dice: per structure, on the validation patches; None where it is in none of them.
        mean_dice: mean of those that are defined.
        ema_dice: mean Dice smoothed over the epochs.
        learning_rate: at its last step.
        epoch_s: seconds it took, validation included.
        elapsed_s: training time since the start of the run, over all restarts.
    """

    epoch: int
    steps: int
    train_loss: float
    validation_loss: float
    dice: dict[str, float | None]
    mean_dice: float | None
    ema_dice: float | None
    learning_rate: float
    epoch_s: float
    elapsed_s: float

    def line(self, spec: TrainingSpec, names: Sequence[str]) -> str:
        """The epoch as one line for people."""
        scores = "  ".join(f"{name} {_number(self.dice[name])}" for name in names)
        return (
            f"epoch {self.epoch + 1}/{spec.epochs}  loss {self.train_loss:.3f}  "
            f"validation {self.validation_loss:.3f}  Dice {scores}  "
            f"lr {self.learning_rate:.2g}  {self.epoch_s:.0f} s"
        )


class History:
    """The file ``history.jsonl``.

    Args:
        path: the file.
        keep_epochs: epochs the run's state knows of; later lines come from a run that was
            killed before its state was saved, and are dropped.
    """

    def __init__(self, path: Path, keep_epochs: int) -> None:
        self._path = path
        lines = path.read_text().splitlines() if path.is_file() else []
        parsed = [json.loads(line) for line in lines if line.endswith("}")]
        self._rows: list[dict[str, Any]] = [row for row in parsed if row["epoch"] < keep_epochs]
        self._write()

    def add(self, record: EpochRecord) -> None:
        """Append an epoch."""
        self._rows.append(record.model_dump(mode="json"))
        self._write()

    def rows(self) -> Sequence[Mapping[str, Any]]:
        """All epochs, oldest first, as in the file."""
        return tuple(self._rows)

    def _write(self) -> None:
        write_text(self._path, "".join(json.dumps(row) + "\n" for row in self._rows))


def smoothed(before: float | None, now: float | None) -> float | None:
    """Exponential moving average; undefined values leave it as it was."""
    if now is None or before is None:
        return before if now is None else now
    return SMOOTHING * before + (1 - SMOOTHING) * now


@contextmanager
def log_to(path: Path) -> Iterator[None]:
    """Append what autoseg logs meanwhile to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    package = logging.getLogger("autoseg")
    level = package.level
    if package.getEffectiveLevel() > logging.INFO:
        package.setLevel(logging.INFO)
    package.addHandler(handler)
    try:
        yield
    finally:
        package.removeHandler(handler)
        package.setLevel(level)
        handler.close()


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
