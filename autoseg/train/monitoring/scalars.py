"""What a run has reached so far, for TensorBoard."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from autoseg.errors import AutosegError

_EVENTS = "events.out.tfevents.*"


def require_tensorboard() -> None:
    """Find out before the training whether TensorBoard can be written for.

    Raises:
        AutosegError: if its package is not installed.
    """
    if find_spec("tensorboard") is None:
        raise AutosegError(
            "--tensorboard needs the package tensorboard, which is not installed",
            remedy='run: pip install "autoseg[tensorboard]"',
        )


class Scalars:
    """The event files of one run.

    Args:
        folder: where they lie.
        rows: the epochs so far, as lines of ``history.jsonl``. What older event files say of
            later ones is hidden, and where there are no files yet they get these first.

    Raises:
        AutosegError: if TensorBoard is not installed.
    """

    def __init__(self, folder: Path, rows: Sequence[Mapping[str, Any]] = ()) -> None:
        require_tensorboard()
        # Imports protocol buffers and more, which a training without it does not need.
        from torch.utils.tensorboard import SummaryWriter

        is_new = not any(folder.glob(_EVENTS))
        self._writer = SummaryWriter(folder, purge_step=len(rows) + 1)
        for row in rows if is_new else ():
            self.add(row)

    def add(self, row: Mapping[str, Any]) -> None:
        """Write one epoch.

        Args:
            row: as in ``history.jsonl``; lines of older versions lack some entries.
        """
        for tag, value in _values(row):
            self._writer.add_scalar(tag, value, row["epoch"] + 1)
        self._writer.flush()

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()


def _values(row: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    named = {
        "loss/train": row["train_loss"],
        "loss/validation": row["validation_loss"],
        "dice/mean": row["mean_dice"],
        "dice/smoothed mean": row["ema_dice"],
        "learning rate": row["learning_rate"],
        "time/seconds per epoch": row["epoch_s"],
        "time/share waiting for data": row.get("waiting"),
        "time/GPU peak bytes": row.get("gpu_peak_bytes"),
    } | {f"dice of/{name}": value for name, value in row["dice"].items()}
    return ((tag, float(value)) for tag, value in named.items() if value is not None)
