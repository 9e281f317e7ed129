"""A trained model: all that is needed to segment a new image."""

from __future__ import annotations

from math import prod
from typing import Any, ClassVar, Self

from pydantic import Field, model_validator

from autoseg.core.artifact import Artifact, Frozen
from autoseg.core.geometry import Triple
from autoseg.core.labels import LabelSpace
from autoseg.core.layers import stage_sizes
from autoseg.core.plan import Configuration, Plan, Recipe, TrainingSpec
from autoseg.core.quality import QualityModel

LARGEST_SPACING_FACTOR = 100.0
"""How far a planned spacing may be from those of the training data."""

_LARGEST_STAGE = 1 << 33


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

    Complete without the workspace it was trained in. Numbers that no training leaves behind, and
    that would take all memory or time of who predicts, are refused.

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

    @model_validator(mode="after")
    def _is_plausible(self) -> Self:
        self._check_labels()
        for low, high in zip(self.min_spacing, self.max_spacing, strict=True):
            if not 0 < low <= high:
                raise ValueError("'min_spacing' must be positive and at most 'max_spacing'")
        for name in dict.fromkeys(member.configuration for member in self.members):
            planned = self.plan.configurations.get(name)
            if planned is None:
                raise ValueError(f"its configuration is not in its plan: '{name:.60}'")
            self._check_mirror_axes(planned)
            self._check_spacing(name, planned)
            _check_patch(name, planned)
        return self

    def _check_labels(self) -> None:
        # No format holds more; of these, signed types hold half.
        values = self.labels.values
        least, most = (-(1 << 63), (1 << 63) - 1) if min(values) < 0 else (0, (1 << 64) - 1)
        if not least <= min(values) <= max(values) <= most:
            raise ValueError("labels: values must fit into 64 bits")

    def _check_mirror_axes(self, planned: Configuration) -> None:
        axes = self.training.mirror_axes
        if len(set(axes)) < len(axes) or not set(axes) <= set(range(planned.dimensions)):
            raise ValueError(
                f"training.mirror_axes: must be different and below {planned.dimensions}"
            )

    def _check_spacing(self, name: str, planned: Configuration) -> None:
        raw_axes = self.plan.transpose[-planned.dimensions :]
        for axis, spacing in zip(raw_axes, planned.spacing, strict=True):
            low, high = self.min_spacing[axis], self.max_spacing[axis]
            if max(low / spacing, spacing / high) > LARGEST_SPACING_FACTOR:
                raise ValueError(
                    f"plan.configurations.{name}.spacing: {spacing:g} mm is more than "
                    f"{LARGEST_SPACING_FACTOR:g} times away from the training data's "
                    f"{low:g} to {high:g} mm"
                )

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


def _check_patch(name: str, planned: Configuration) -> None:
    spec = planned.network
    sizes = stage_sizes(spec, planned.patch_size)
    largest = max(f * prod(size) for f, size in zip(spec.features_per_stage, sizes, strict=True))
    if largest > _LARGEST_STAGE:
        raise ValueError(
            f"plan.configurations.{name}: patch and features are beyond any memory, more than "
            "2**33 numbers in a stage"
        )
