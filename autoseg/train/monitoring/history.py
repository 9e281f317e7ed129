"""What a run has reached so far, epoch by epoch: a line of JSON each, and a line to read."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from autoseg.core.artifact import Frozen
from autoseg.core.words import duration, size_in_words
from autoseg.io.atomic import write_text
from autoseg.train.monitoring.side_files import RunLog

SMOOTHING = 0.9

MOST_NAMED = 6
"""Structures whose Dice is told one by one; of more, the mean and the lowest are."""

_LOWEST_NAMED = 3
_SHOWN_AS_ZERO = 0.0005


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
        left_s: seconds until the training's end at the pace of the last epochs.
        waiting: share of the time of its steps that was spent waiting for batches, 0..1.
        gpu_peak_bytes: most memory that was taken from the GPU; None without CUDA.
        warned: structures whose Dice of 0 was explained after it.
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
    left_s: float | None = None
    waiting: float | None = None
    gpu_peak_bytes: int | None = None
    warned: tuple[str, ...] = ()

    def line(self, last_epoch: int) -> str:
        """The epoch as one line for people.

        Args:
            last_epoch: number of epochs after which the training ends.
        """
        parts = [
            f"epoch {self.epoch + 1}/{last_epoch}",
            f"loss {self.train_loss:.3f}",
            f"validation {self.validation_loss:.3f}",
            f"Dice {dice_in_words(self.dice)}",
            f"lr {self.learning_rate:.2g}",
            f"{self.epoch_s:.{1 if self.epoch_s < 9.95 else 0}f} s",
        ]
        if self.left_s:
            parts.append(f"{duration(self.left_s)} left")
        if self.waiting is not None:
            parts.append(f"{100 * self.waiting:.0f}% waiting for data")
        if self.gpu_peak_bytes is not None:
            parts.append(f"GPU {size_in_words(self.gpu_peak_bytes)}")
        return "  ".join(parts)


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

    def add(self, record: EpochRecord) -> None:
        """Append an epoch."""
        self._rows.append(record.model_dump(mode="json"))
        self._write()

    def rows(self) -> Sequence[Mapping[str, Any]]:
        """All epochs, oldest first, as in the file."""
        return tuple(self._rows)

    def warned(self) -> frozenset[str]:
        """Structures whose Dice of 0 was explained already."""
        return frozenset(name for row in self._rows for name in row.get("warned", ()))

    def _write(self) -> None:
        write_text(self._path, "".join(json.dumps(row) + "\n" for row in self._rows))


def dice_in_words(dice: Mapping[str, float | None], most_named: int = MOST_NAMED) -> str:
    """Dice of all structures in a short text, however many there are.

    Args:
        dice: by name; None where it is undefined.
        most_named: of more than so many structures only the mean, the lowest and the number of
            those at 0 are told.
    """
    if len(dice) <= most_named:
        return "  ".join(f"{name} {_number(value)}" for name, value in dice.items())
    defined = {name: value for name, value in dice.items() if value is not None}
    if not defined:
        return f"-  none of {len(dice)} seen"
    lowest = sorted(defined, key=defined.__getitem__)[:_LOWEST_NAMED]
    parts = [
        f"mean {sum(defined.values()) / len(defined):.3f}",
        "lowest " + ", ".join(f"{name} {defined[name]:.3f}" for name in lowest),
    ]
    zeros = sum(value < _SHOWN_AS_ZERO for value in defined.values())
    if zeros:
        parts.append(f"{zeros} of {len(dice)} at 0")
    if len(defined) < len(dice):
        parts.append(f"{len(dice) - len(defined)} not seen")
    return "  ".join(parts)


def smoothed(before: float | None, now: float | None) -> float | None:
    """Exponential moving average; undefined values leave it as it was."""
    if now is None or before is None:
        return before if now is None else now
    return SMOOTHING * before + (1 - SMOOTHING) * now


@contextmanager
def log_to(path: Path) -> Iterator[None]:
    """Append what autoseg logs meanwhile to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = RunLog(path)
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
