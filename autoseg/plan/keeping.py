"""What is kept of a trained model's plan for other data, configuration by configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autoseg.core.ends import Match
from autoseg.core.fingerprint import Fingerprint, IntensityStats
from autoseg.core.labels import LabelSpace
from autoseg.core.model import Model
from autoseg.core.plan import Axes, Configuration
from autoseg.errors import AutosegError, DataError
from autoseg.imaging.normalize import scheme_of, uses_mask
from autoseg.plan.memory import TrainingMemory, training_memory
from autoseg.plan.mirror import mirror_verdicts
from autoseg.plan.planner import MASK_THRESHOLD
from autoseg.plan.presets import MIN_BATCH_SIZE
from autoseg.plan.request import PlanRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A model and the data that are planned like its own.

    Attributes:
        fingerprint: the measured cases.
        labels: what is to be segmented.
        request: what the user asked for.
        source: the model.
        channels: how those of the data correspond to the model's.
    """

    fingerprint: Fingerprint
    labels: LabelSpace
    request: PlanRequest
    source: Model
    channels: Match

    @property
    def budget(self) -> int:
        """GPU memory in bytes to plan for."""
        return self.request.budget_bytes or self.source.plan.budget_bytes

    def known_as(self, channel: int) -> int | None:
        """Position of a channel among the model's; None if the model does not know it."""
        return dict(self.channels.pairs).get(channel)

    def raw_axes(self, planned: Configuration) -> Axes:
        """Raw axis of each axis of a configuration."""
        return self.source.plan.transpose[3 - planned.dimensions :]

    def memory(self, planned: Configuration, batch_size: int) -> TrainingMemory:
        """What a training step takes."""
        return training_memory(
            planned.network,
            planned.patch_size,
            batch_size,
            num_channels=planned.num_inputs(self.channels.wanted, self.labels),
            num_outputs=self.labels.num_outputs,
        )

    def scheme(self, old: Configuration, channel: int) -> str:
        """Normalization of a channel: the model's if it knows the channel, else by its name.

        Args:
            old: the model's configuration.
            channel: its position among the data's.
        """
        known = self.known_as(channel)
        name = self.channels.wanted[channel]
        return scheme_of(name) if known is None else old.normalization[known]

    def uses_mask(self, old: Configuration, channel: int) -> bool:
        """Whether only the non-zero region of a channel counts; arguments as for ``scheme``."""
        known = self.known_as(channel)
        if known is not None:
            return old.use_mask_for_norm[known]
        is_cropped = self.fingerprint.median_relative_size < MASK_THRESHOLD
        return uses_mask(self.scheme(old, channel)) and is_cropped

    def intensities(self, channel: int) -> IntensityStats:
        """Intensities a channel is normalized with: those the model was trained with, if any."""
        known = self.known_as(channel)
        if known is None:
            return self.fingerprint.intensities[channel]
        return self.source.plan.intensities[known]


def possible_configurations(kept: Kept) -> list[str]:
    """The model's configurations that make sense for the data: of single slices only 2D ones.

    Raises:
        DataError: if the model is 3D and the data are single slices.
    """
    configurations = kept.source.plan.configurations
    if np.median([case.shape for case in kept.fingerprint.cases], axis=0).min() > 1:
        return list(configurations)
    flat = [name for name, planned in configurations.items() if planned.dimensions == 2]
    if kept.source.configuration.dimensions == 3:
        raise DataError(
            f"the median case has a single slice, but {kept.source.label} is a 3D model",
            remedy="choose a 2d model, or plan without --from-model",
        )
    return flat


def refuse_idle_patch(kept: Kept) -> None:
    """Refuse a patch that no configuration has as many axes for.

    Raises:
        AutosegError: if there is such a wish.
    """
    patch = kept.request.patch_size
    known = kept.source.plan.configurations
    if patch is None or any(
        len(patch) == known[n].dimensions for n in possible_configurations(kept)
    ):
        return
    raise AutosegError(
        f"no {len(patch)}D configuration is kept of the model",
        place=f"--patch-size {_numbers(patch)}",
        remedy=f"give {5 - len(patch)} numbers for the {5 - len(patch)}D configuration",
    )


def kept_configuration(name: str, kept: Kept) -> Configuration:
    """A configuration of the model for the data.

    Args:
        name: of the configuration.
        kept: model and data.

    Raises:
        AutosegError: if the model's network cannot divide a wished patch.
    """
    old, request = kept.source.plan.configurations[name], kept.request
    patch = old.patch_size
    if request.patch_size is not None and len(request.patch_size) == old.dimensions:
        # A wished patch is meant for the model's own configuration, as in a derived plan.
        is_own = name == kept.source.members[0].configuration
        patch = (_divisible if is_own else _rounded_up)(
            request.patch_size, old.network.downsampling
        )
    channels = range(len(kept.channels.wanted))
    mirrored = {"mirror_axes": _mirror_axes(old, kept)}
    planned = old.model_copy(
        update={
            "patch_size": patch,
            "median_shape": _median_shape(old, kept),
            "normalization": tuple(kept.scheme(old, channel) for channel in channels),
            "use_mask_for_norm": tuple(kept.uses_mask(old, channel) for channel in channels),
            "training": old.training.model_copy(update=mirrored),
        }
    )
    return planned.model_copy(update={"batch_size": _batch_size(planned, kept)})


def _rounded_up(patch: Axes, divisor: Axes) -> Axes:
    return tuple(-(-size // by) * by for size, by in zip(patch, divisor, strict=True))


def _divisible(patch: Axes, divisor: Axes) -> Axes:
    if any(size % by for size, by in zip(patch, divisor, strict=True)):
        short = divisor[:1] if len(set(divisor)) == 1 else divisor
        nearest = [max(1, round(s / by)) * by for s, by in zip(patch, divisor, strict=True)]
        raise AutosegError(
            f"not divisible by {_numbers(short)}, as the model's network needs it",
            place=f"--patch-size {_numbers(patch)}",
            remedy=f"nearest: {_numbers(nearest)}",
        )
    return patch


def _batch_size(planned: Configuration, kept: Kept) -> int:
    """The wished batch, else the model's, or what of it fits a memory that is named."""
    if kept.request.batch_size is not None:
        return kept.request.batch_size
    size = planned.batch_size
    while (
        kept.request.budget_bytes is not None
        and size > MIN_BATCH_SIZE
        and kept.memory(planned, size).total > kept.budget
    ):
        size -= 1
    return size


def _median_shape(planned: Configuration, kept: Kept) -> tuple[float, ...]:
    """The median case at the kept spacing; slices keep their number in 2D."""
    raw = kept.raw_axes(planned)
    shapes = [
        [
            max(1, round(case.spacing[axis] / mm * case.shape[axis]))
            for axis, mm in zip(raw, planned.spacing, strict=True)
        ]
        for case in kept.fingerprint.cases
    ]
    return tuple(float(size) for size in np.median(shapes, axis=0))


def _mirror_axes(planned: Configuration, kept: Kept) -> Axes:
    """Axes the model mirrors and the data do not forbid; or what the user wishes."""
    raw, wished = kept.raw_axes(planned), kept.request.mirror_axes
    if wished is not None:
        return tuple(axis for axis, name in enumerate(raw) if name in wished)
    verdicts = mirror_verdicts(kept.fingerprint, kept.labels)
    return tuple(axis for axis in planned.training.mirror_axes if verdicts[raw[axis]].is_allowed)


def refuse_other_channels(kept: Kept) -> None:
    """Refuse data whose channels mean nothing to the model.

    Raises:
        AutosegError: if it knows none of them, or one only by its place and normalizes that
            otherwise.
    """
    match, model = kept.channels, kept.source.configuration
    others = any(
        scheme_of(one) != model.normalization[match.known.index(other)]
        for one, other in match.renamed
    )
    if match.pairs and not others:
        return
    finding = f"the model knows the channels {', '.join(match.known)}, not "
    finding += ", ".join(match.wanted)
    finding += ": it would see them normalized for something else" if others else ""
    raise AutosegError(
        finding,
        place=kept.source.label,
        remedy="if they are the same, name them alike in dataset.json; else plan without "
        "--from-model",
    )


def _numbers(sizes: Sequence[int]) -> str:
    return ",".join(map(str, sizes))
