"""A trained model: all that is needed to segment a new image."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from autoseg.core.artifact import Artifact, Frozen
from autoseg.core.geometry import Triple
from autoseg.core.labels import LabelSpace
from autoseg.core.plan import Configuration, Plan, Recipe, TrainingSpec
from autoseg.core.quality import QualityModel


class Member(Frozen):
    """One set of weights.

    Attributes:
        configuration: a name in the model's plan.
        fold: which cases were held out, such as ``"fold0"``, or ``"everything"``.
        weights: file of the weights, relative to the model.
    """

    configuration: str
    fold: str
    weights: str


class Model(Artifact):
    """One or more sets of weights and how to use them: the content of ``bundle.json``.

    Complete without the workspace it was trained in.

    Attributes:
        task: the task's name.
        run: the training run's name.
        channels: channel names, in the order images must bring them.
        labels: what the output means.
        plan: how images are prepared and what the networks look like.
        training: the recipe the weights were found with.
        held_out: cases the weights were not trained on, by name.
        members: the weights.
        previous: model files of the previous stage of a cascade, relative to the model.
        previous_weights: by fold, hash of the previous stage's weights whose predictions a
            cascade was trained on.
        min_spacing: smallest spacing per axis of the training data, mm, ``(z, y, x)``.
        max_spacing: largest spacing per axis of the training data, mm.
        versions: of the software that trained it, by distribution name.
        quality: how Dice is predicted of what it segments; None if that was not calibrated.
    """

    FORMAT: ClassVar[int] = 2
    format: int = 2

    task: str
    run: str
    channels: tuple[str, ...]
    labels: LabelSpace
    plan: Plan
    training: TrainingSpec
    held_out: tuple[str, ...]
    members: tuple[Member, ...] = Field(min_length=1)
    previous: tuple[str, ...] = ()
    previous_weights: dict[str, str] = Field(default_factory=dict)
    min_spacing: Triple
    max_spacing: Triple
    versions: dict[str, str]
    quality: QualityModel | None = None

    @classmethod
    def migrate(cls, data: dict[str, Any]) -> dict[str, Any]:
        """Format 1 knew nothing of quality."""
        return data | {"format": cls.FORMAT}

    @property
    def meaning(self) -> str:
        """All that its label maps depend on, as text: what is known of their quality is not."""
        return self.model_copy(update={"quality": None}).model_dump_json()

    @property
    def recipe(self) -> Recipe:
        """How images are prepared for the first member."""
        return self.plan.recipe(self.members[0].configuration)

    @property
    def label(self) -> str:
        """What messages call it, such as ``"Task_KiTS 3d_fullres fold0"``."""
        member = self.members[0]
        named = (("plan", self.plan.name), ("run", self.run))
        extra = [f"{kind} {name}" for kind, name in named if name != "default"]
        words = [self.task, member.configuration, member.fold]
        return " ".join([*words, f"({', '.join(extra)})"] if extra else words)

    @property
    def configuration(self) -> Configuration:
        """The planned configuration of the first member."""
        return self.plan.configurations[self.members[0].configuration]
