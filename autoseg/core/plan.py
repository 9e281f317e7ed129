"""Every decision that shapes the weights of a model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from math import prod
from typing import Literal, Self

from pydantic import Field, model_validator

from autoseg.core.artifact import Artifact, Frozen
from autoseg.core.fingerprint import IntensityStats
from autoseg.core.labels import LabelSpace

Axes = tuple[int, ...]
RECIPE_VERSION = 1


class Decision(Frozen):
    """One decision of the planner, in plain language.

    Attributes:
        what: what was decided, such as ``"patch size"``.
        value: the outcome.
        reason: why, with its numbers.
        configuration: the configuration it concerns, or None for all.
    """

    what: str
    value: str
    reason: str
    configuration: str | None = None


class NetworkSpec(Frozen):
    """A U-Net's shape: everything but the numbers of channels and classes.

    Attributes:
        architecture: a name in ``NETWORKS``.
        features_per_stage: channels of each encoder stage, full resolution first.
        strides: stride of each stage per axis; the first is all ones.
        kernel_sizes: kernel of each stage per axis, odd.
        blocks_per_stage: convolution (or residual) blocks of each encoder stage.
        decoder_blocks_per_stage: convolution blocks of each decoder stage, full resolution
            first; one fewer than stages.
    """

    architecture: str
    features_per_stage: tuple[int, ...]
    strides: tuple[Axes, ...]
    kernel_sizes: tuple[Axes, ...]
    blocks_per_stage: tuple[int, ...]
    decoder_blocks_per_stage: tuple[int, ...]

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        stages = len(self.features_per_stage)
        if stages < 2:
            raise ValueError("a U-Net needs at least two stages")
        for name in ("strides", "kernel_sizes", "blocks_per_stage"):
            if len(getattr(self, name)) != stages:
                raise ValueError(f"'{name}' needs {stages} entries, one per stage")
        if len(self.decoder_blocks_per_stage) != stages - 1:
            raise ValueError(f"'decoder_blocks_per_stage' needs {stages - 1} entries")
        if len({len(row) for row in (*self.strides, *self.kernel_sizes)}) != 1:
            raise ValueError("'strides' and 'kernel_sizes' must agree in the number of axes")
        if any(k < 1 or k % 2 == 0 for row in self.kernel_sizes for k in row):
            raise ValueError("'kernel_sizes' must be odd")
        if any(stride < 1 for row in self.strides for stride in row):
            raise ValueError("'strides' must be positive")
        if min(*self.features_per_stage, *self.blocks_per_stage) < 1:
            raise ValueError("features and blocks must be positive")
        return self

    @property
    def num_stages(self) -> int:
        """Number of resolutions."""
        return len(self.features_per_stage)

    @property
    def dimensions(self) -> int:
        """2 or 3."""
        return len(self.strides[0])

    @property
    def downsampling(self) -> Axes:
        """Product of all strides per axis: a patch must be divisible by it."""
        return tuple(prod(row[axis] for row in self.strides) for axis in range(self.dimensions))


class Extension(Frozen):
    """Epochs trained beyond the end of a run.

    Attributes:
        after: epochs the run had when it was extended.
        epochs: how many more.
    """

    after: int = Field(ge=1)
    epochs: int = Field(ge=1)


class InitialWeights(Frozen):
    """The model whose weights a training begins with.

    Attributes:
        label: what it is: task, configuration and fold.
        weights: hash of its weights.
    """

    label: str
    weights: str

    def __str__(self) -> str:
        """As messages name it."""
        return f"{self.label} (weights {self.weights})"


class TrainingSpec(Frozen):
    """How the weights are found: the recipe of a training run.

    Attributes:
        epochs: length of the learning-rate schedule, in epochs.
        steps_per_epoch: optimiser steps per epoch.
        validation_steps: validation batches per epoch.
        max_time_s: training time after which the schedule ends, over all restarts; None
            if the epochs alone decide.
        plateau_epochs: epochs without a better validation Dice after which the training winds
            down, before its planned end; None to train to that end.
        extensions: what was trained beyond the end, oldest first; no limit holds for it.
        seed: decides initial weights and every sample.
        loss: a name in ``LOSSES``.
        optimizer: a name in ``OPTIMIZERS``.
        schedule: a name in ``SCHEDULES``.
        warmup: share of the training in which the learning rate rises, before the schedule.
        learning_rate: initial learning rate.
        momentum: of stochastic gradient descent.
        weight_decay: on all parameters.
        gradient_clip: largest global L2 norm of the gradient.
        foreground_fraction: share of samples centred on a structure.
        augmentation: a name in ``AUGMENTATIONS``.
        mirror_axes: axes of the patch mirrored in training and prediction.
        deep_supervision: whether coarser outputs are trained too.
        init_from: the model whose weights the training begins with; None for random ones.
    """

    epochs: int = Field(default=1000, ge=1)
    steps_per_epoch: int = Field(default=250, ge=1)
    validation_steps: int = Field(default=50, ge=1)
    max_time_s: float | None = Field(default=None, gt=0)
    plateau_epochs: int | None = Field(default=None, ge=1)
    extensions: tuple[Extension, ...] = ()
    seed: int = Field(default=0, ge=0, lt=2**63)
    loss: str = "dice_ce"
    optimizer: str = "sgd"
    schedule: str = "poly"
    warmup: float = Field(default=0.0, ge=0, lt=1)
    learning_rate: float = Field(default=0.01, gt=0)
    momentum: float = Field(default=0.99, ge=0, lt=1)
    weight_decay: float = Field(default=3e-5, ge=0)
    gradient_clip: float = Field(default=12.0, gt=0)
    foreground_fraction: float = Field(default=0.33, ge=0, le=1)
    augmentation: str = "default"
    mirror_axes: tuple[int, ...] = ()
    deep_supervision: bool = True
    init_from: InitialWeights | None = None

    @property
    def last_epoch(self) -> int:
        """Number of epochs after which the training ends at the latest."""
        if not self.extensions:
            return self.epochs
        return self.extensions[-1].after + self.extensions[-1].epochs

    @property
    def limit_s(self) -> float | None:
        """Training time at which the training ends, if its epochs have not ended before."""
        return None if self.extensions else self.max_time_s


class Configuration(Frozen):
    """One way to see the data: resolution, patch, network, training.

    Spacing and patch are triples in 3D and pairs in 2D, in the plan's transposed axis order.

    Attributes:
        spacing: mm the data are resampled to.
        patch_size: voxels the network sees at once.
        batch_size: patches per step.
        median_shape: median case in voxels after resampling (may end in .5).
        batch_dice: whether Dice is summed over the batch before the ratio.
        normalization: a name in ``NORMALIZERS`` per channel.
        use_mask_for_norm: per channel, whether only the non-zero region counts.
        previous: configuration whose predictions are an input, for a cascade.
        network: its shape.
        training: how it is trained.
    """

    spacing: tuple[float, ...]
    patch_size: Axes
    batch_size: int = Field(ge=1)
    median_shape: tuple[float, ...]
    batch_dice: bool
    normalization: tuple[str, ...]
    use_mask_for_norm: tuple[bool, ...]
    previous: str | None = None
    network: NetworkSpec
    training: TrainingSpec

    def num_inputs(self, channels: Sequence[str], labels: LabelSpace) -> int:
        """Channels of the network's input: a cascade adds one per foreground label.

        Args:
            channels: of the images.
            labels: what is segmented.
        """
        predicted = 0 if self.previous is None else labels.num_classes - 1
        return len(channels) + predicted

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        dimensions = self.network.dimensions
        if dimensions not in (2, 3):
            raise ValueError(f"a network has 2 or 3 dimensions, not {dimensions}")
        if not len(self.spacing) == len(self.patch_size) == dimensions:
            raise ValueError(f"'spacing' and 'patch_size' need {dimensions} entries")
        if min(self.spacing) <= 0 or min(self.patch_size) < 1:
            raise ValueError("'spacing' and 'patch_size' must be positive")
        if len(self.median_shape) != dimensions:
            raise ValueError(f"'median_shape' needs {dimensions} entries")
        divisor = self.network.downsampling
        if any(size % by for size, by in zip(self.patch_size, divisor, strict=True)):
            raise ValueError(
                f"'patch_size' {list(self.patch_size)} is not divisible by "
                f"{list(divisor)}, the product of the network's strides; nearest: "
                f"{_nearest_multiples(self.patch_size, divisor)}"
            )
        if len(self.normalization) != len(self.use_mask_for_norm):
            raise ValueError("'normalization' and 'use_mask_for_norm' need one entry per channel")
        if any(axis not in range(dimensions) for axis in self.training.mirror_axes):
            raise ValueError(f"'mirror_axes' must be below {dimensions}")
        return self

    @property
    def dimensions(self) -> Literal[2, 3]:
        """2 or 3."""
        return 2 if len(self.patch_size) == 2 else 3


def _nearest_multiples(sizes: Axes, divisors: Axes) -> list[int]:
    return [max(1, (size + by // 2) // by) * by for size, by in zip(sizes, divisors, strict=True)]


class Recipe(Frozen):
    """How raw images become network input: all that prepared arrays depend on.

    Attributes:
        version: of the code that follows the recipe.
        transpose: raw axis that becomes each prepared axis.
        spacing: target spacing in mm after the transpose, a triple or (2D) a pair.
        channels: channel names, in order.
        normalization: a name in ``NORMALIZERS`` per channel.
        use_mask_for_norm: per channel, whether only the non-zero region counts.
        intensities: data-set intensities of the channels that are normalized with them.
        label_values: file values of background, structures and ignore label, by index.
    """

    version: int = RECIPE_VERSION
    transpose: tuple[int, int, int]
    spacing: tuple[float, ...]
    channels: tuple[str, ...]
    normalization: tuple[str, ...]
    use_mask_for_norm: tuple[bool, ...]
    intensities: tuple[IntensityStats | None, ...]
    label_values: tuple[int, ...]

    @property
    def key(self) -> str:
        """Eight hex digits that differ between recipes."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]


class Plan(Artifact):
    """All configurations of a task: the content of ``plans/<name>.json``.

    Attributes:
        name: the plan's name.
        preset: the planner's preset.
        transpose: raw axis that becomes each planned axis; the coarsest comes first.
        budget_bytes: GPU memory the plan was made for.
        channels: channel names, in order.
        label_values: file values by index, as in ``Recipe``.
        intensities: data-set intensities per channel.
        configurations: by name, such as ``"3d_fullres"``.
        decisions: each decision with its reason.
        made_as: by configuration and field, hash of the value that was planned, which shows
            edits; None if the plan was written by hand.
    """

    name: str
    preset: str
    transpose: tuple[int, int, int]
    budget_bytes: int = Field(gt=0)
    channels: tuple[str, ...]
    label_values: tuple[int, ...]
    intensities: tuple[IntensityStats, ...]
    configurations: dict[str, Configuration]
    decisions: tuple[Decision, ...]
    made_as: dict[str, dict[str, str]] | None = None

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if sorted(self.transpose) != [0, 1, 2]:
            raise ValueError("'transpose' must be a permutation of 0, 1, 2")
        if len(self.intensities) != len(self.channels):
            raise ValueError(f"'intensities' needs one entry per channel ({len(self.channels)})")
        for name, configuration in self.configurations.items():
            if len(configuration.normalization) != len(self.channels):
                raise ValueError(
                    f"configurations.{name}.normalization: needs one entry per channel "
                    f"({len(self.channels)})"
                )
            previous = configuration.previous
            if previous is not None and previous not in self.configurations:
                raise ValueError(f"configurations.{name}.previous: no configuration '{previous}'")
        return self

    def recipe(self, configuration: str) -> Recipe:
        """What the prepared arrays of a configuration depend on.

        Args:
            configuration: a name in ``configurations``.

        Raises:
            KeyError: if it is not planned.
        """
        planned = self.configurations[configuration]
        intensities = tuple(
            stats if scheme == "ct" else None
            for scheme, stats in zip(planned.normalization, self.intensities, strict=True)
        )
        return Recipe(
            transpose=self.transpose,
            spacing=planned.spacing,
            channels=self.channels,
            normalization=planned.normalization,
            use_mask_for_norm=planned.use_mask_for_norm,
            intensities=intensities,
            label_values=self.label_values,
        )

    def recipes(self) -> dict[str, Recipe]:
        """The recipe of every configuration, by its name."""
        return {name: self.recipe(name) for name in self.configurations}

    def prepared_as(self, configuration: str) -> str:
        """The configuration under whose name the prepared arrays are stored.

        Configurations of one recipe share them: a cascade those of 3d_fullres.

        Raises:
            KeyError: if the configuration is not planned.
        """
        recipe = self.recipe(configuration)
        return next(name for name in self.configurations if self.recipe(name) == recipe)
