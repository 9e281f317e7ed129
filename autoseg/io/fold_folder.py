"""Names of a trained fold's files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from autoseg.errors import DataError


def check_name(name: str, kind: str) -> str:
    """Refuse a name that could not be a file or folder of its own, or would leave its folder.

    Args:
        name: of a case, task, plan, run or the like.
        kind: what it names, for the message.

    Returns:
        The name.

    Raises:
        DataError: if it is empty, starts with ``.``, or holds a path separator or a control
            character.
    """
    is_plain = Path(name).name == name and "\\" not in name and name.isprintable()
    if not name or name.startswith(".") or not is_plain:
        raise DataError(
            f"'{name}' cannot be the name of a {kind}",
            remedy="use letters, digits, '_' and '-'",
        )
    return name


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldFolder:
    """Where one trained fold lies.

    Args:
        root: the folder.
        plan: name of the plan.
        configuration: name of the configuration.
        run: name of the training run.
        fold: such as ``"fold0"`` or ``"everything"``.
    """

    root: Path
    plan: str
    configuration: str
    run: str
    fold: str

    @property
    def bundle(self) -> Path:
        """The model file: what the weights mean."""
        return self.root / "bundle.json"

    @property
    def weights(self) -> Path:
        """The final weights."""
        return self.root / "weights.safetensors"

    @property
    def best(self) -> Path:
        """The weights of the best epoch so far."""
        return self.root / "best.safetensors"

    @property
    def resume(self) -> Path:
        """Folder of what an interrupted training goes on from."""
        return self.root / "resume"

    @property
    def history(self) -> Path:
        """One JSON line per epoch."""
        return self.root / "history.jsonl"

    @property
    def progress_png(self) -> Path:
        """The curves so far."""
        return self.root / "progress.png"

    @property
    def tensorboard(self) -> Path:
        """Folder of what TensorBoard shows."""
        return self.root / "tensorboard"

    @property
    def log(self) -> Path:
        """The run's log."""
        return self.root / "log.txt"

    @property
    def lock(self) -> Path:
        """Lock file of the training; beside the folder, which a restart removes."""
        return self.root.with_name(f".{self.root.name}.lock")

    def preview(self, epoch: int) -> Path:
        """The picture of a validation case after so many epochs."""
        return self.root / "previews" / f"epoch{epoch:04d}.png"

    def previous(self, fold: str) -> Path:
        """Folder of the model of a previous stage's fold, which a cascade's model brings along."""
        return self.root / "previous" / check_name(fold, "fold")

    @property
    def is_finished(self) -> bool:
        """Whether the training came to its end: bundle and final weights exist."""
        return self.bundle.is_file() and self.weights.is_file()
