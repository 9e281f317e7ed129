"""What a model file says about itself: the first entry of an ``.autoseg`` file."""

from __future__ import annotations

from pydantic import Field

from autoseg.core.artifact import Artifact, Frozen
from autoseg.core.labels import LabelSpace
from autoseg.core.selection import CleanUp


class FileEntry(Frozen):
    """An entry of a model file.

    Attributes:
        name: of the entry, such as ``"models/0.safetensors"``.
        size: in bytes.
        sha256: of its content, 64 hexadecimal digits.
    """

    name: str
    size: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class FoldScores(Frozen):
    """How well a fold did on the cases it held out; nothing tells which cases these were.

    Attributes:
        fold: its name.
        num_cases: how many were held out and scored.
        mean_dice: over cases and structures; None where it is undefined.
        dice: mean over cases, by structure; without those that are defined in no case.
    """

    fold: str
    num_cases: int = Field(ge=0)
    mean_dice: float | None
    dice: dict[str, float]


class ModelGroup(Frozen):
    """Folds of one configuration, whose logits are averaged.

    Attributes:
        models: entries that describe them, one per fold.
        held_out: scores of those folds that have any.
    """

    models: tuple[str, ...] = Field(min_length=1)
    held_out: tuple[FoldScores, ...] = ()

    @property
    def mean_dice(self) -> float | None:
        """Over the held-out cases of all folds that have scores; None without any."""
        scored = [
            (one.num_cases, one.mean_dice) for one in self.held_out if one.mean_dice is not None
        ]
        total = sum(number for number, _ in scored)
        return sum(number * dice for number, dice in scored) / total if total else None


class ModelFile(Artifact):
    """The first entry of a model file, which names and vouches for all others.

    The entries that describe models hold a ``Model`` each, whose file names are relative to the
    entry, and which names no case.

    Attributes:
        task: the task's name.
        channels: channel names, in the order images must bring them.
        labels: what the output means.
        groups: what predicts; of several the probabilities are averaged.
        clean_up: what is removed afterwards.
        summary: how the model was chosen, in plain words.
        versions: of the software that wrote the file, by distribution name.
        entries: all others of the file, in its order.
    """

    task: str
    channels: tuple[str, ...]
    labels: LabelSpace
    groups: tuple[ModelGroup, ...] = Field(min_length=1)
    clean_up: tuple[CleanUp, ...] = ()
    summary: str = ""
    versions: dict[str, str] = Field(default_factory=dict)
    entries: tuple[FileEntry, ...]

    @property
    def best_group(self) -> int:
        """Which of the groups has the highest Dice on its held-out cases; the first without any."""
        return max(range(len(self.groups)), key=lambda number: self.groups[number].mean_dice or 0.0)
