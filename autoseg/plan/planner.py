"""Every decision about configurations, derived from what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial

from autoseg.core.fingerprint import Fingerprint
from autoseg.core.labels import LabelSpace
from autoseg.core.plan import Axes, Configuration, Decision, Plan, TrainingSpec
from autoseg.core.words import counted
from autoseg.errors import DataError
from autoseg.imaging.normalize import scheme_of, uses_mask
from autoseg.plan import reasons
from autoseg.plan.drafts import Draft, Facts, Outline, outline
from autoseg.plan.edits import NO_EDITS, Edits, remember
from autoseg.plan.effects import rule_effects
from autoseg.plan.memory import training_memory
from autoseg.plan.mirror import MirrorVerdict, mirror_verdicts
from autoseg.plan.request import PlanRequest

__all__ = ["PlanRequest", "make_plan"]

MASK_THRESHOLD = 0.75


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    """What all configurations of a plan share."""

    facts: Facts
    outline: Outline
    normalization: tuple[str, ...]
    use_mask_for_norm: tuple[bool, ...]
    mirroring: tuple[MirrorVerdict, ...]

    @property
    def request(self) -> PlanRequest:
        """What the user wishes."""
        return self.facts.request

    def edited(self, draft: Draft) -> frozenset[str]:
        """Edited fields of a configuration that are kept."""
        return self.facts.edits.kept(draft.name, self.request)


def make_plan(
    fingerprint: Fingerprint,
    channels: Sequence[str],
    labels: LabelSpace,
    request: PlanRequest,
    edits: Edits = NO_EDITS,
) -> Plan:
    """Decide how a data set is resampled, cut into patches, and by what networks it is learnt.

    Args:
        fingerprint: the measured training cases.
        channels: names of the channels, in order.
        labels: what the label values mean.
        request: what the user asked for.
        edits: what the user changed in the plan of that name; the rest is planned around it.

    Returns:
        The plan, with the configurations that make sense for the data: ``2d``,
        ``3d_fullres``, and for large images ``3d_lowres`` and ``3d_cascade_fullres``; and those
        that the user added to the plan before.

    Raises:
        DataError: if there are no cases, or all are too small for a network.
        AutosegError: if no patch fits the memory, or wishes or edits are impossible.
        ValueError: if channels and fingerprint disagree.

    References:
        Isensee et al., nnU-Net, Nature Methods 2021, whose rules these are. Compatible plans
        agree with those of nnU-Net 2.8.1 for the same data and memory, all others do where no
        rule of ``autoseg.plan.rules`` made a difference.
    """
    _refuse_impossible(fingerprint, channels)
    facts = Facts(fingerprint=fingerprint, labels=labels, request=request, edits=edits)
    outlined = cache(partial(outline, facts))
    task, normalization_decisions = _shared(facts, outlined(request.rules), channels)
    edits.check(task.outline.transpose, channels, request)
    made = {
        draft.name: edits.apply(draft.name, _configuration(draft, task), request)
        for draft in task.outline.drafts
    }
    return Plan(
        name=request.name,
        preset=request.preset,
        transpose=task.outline.transpose,
        budget_bytes=request.budget,
        channels=tuple(channels),
        label_values=labels.values,
        intensities=fingerprint.intensities,
        configurations=edits.with_added(made),
        decisions=(
            *_explain_outline(task),
            *normalization_decisions,
            *task.outline.decisions,
            *edits.decisions(made, request),
            *(decision for draft in task.outline.drafts for decision in _explain(draft, task)),
            *rule_effects(task.outline, request.rules, outlined),
        ),
        made_as=remember(made, edits, request),
    )


def _refuse_impossible(fingerprint: Fingerprint, channels: Sequence[str]) -> None:
    if not fingerprint.cases:
        raise DataError("there is no training case", remedy="add annotated images")
    if len(channels) != len(fingerprint.intensities):
        raise ValueError(f"{len(channels)} channels, {len(fingerprint.intensities)} measured")


def _shared(
    facts: Facts, outlined: Outline, channels: Sequence[str]
) -> tuple[_Task, list[Decision]]:
    """What all configurations share, and why their channels are normalized as they are."""
    schemes, masks, decisions = _normalization(facts.fingerprint, channels)
    task = _Task(
        facts=facts,
        outline=outlined,
        normalization=schemes,
        use_mask_for_norm=masks,
        mirroring=mirror_verdicts(facts.fingerprint, facts.labels),
    )
    return task, decisions


def _normalization(
    fingerprint: Fingerprint, channels: Sequence[str]
) -> tuple[tuple[str, ...], tuple[bool, ...], list[Decision]]:
    """Scheme and mask per channel, with their reasons."""
    relative_size = fingerprint.median_relative_size
    schemes = tuple(scheme_of(channel) for channel in channels)
    masks = tuple(uses_mask(scheme) and relative_size < MASK_THRESHOLD for scheme in schemes)
    decisions: list[Decision] = []
    for index, (channel, scheme) in enumerate(zip(channels, schemes, strict=True)):
        stats = fingerprint.intensities[index]
        decisions.append(reasons.normalization(channel, scheme, stats))
        if uses_mask(scheme):
            decisions.append(
                reasons.normalization_mask(channel, masks[index], relative_size, MASK_THRESHOLD)
            )
    return schemes, masks, decisions


def _configuration(draft: Draft, task: _Task) -> Configuration:
    return Configuration(
        spacing=draft.grid.spacing,
        patch_size=draft.fit.patch_size,
        batch_size=draft.fit.batch_size,
        median_shape=draft.grid.median_shape,
        batch_dice=draft.batch_dice,
        normalization=task.normalization,
        use_mask_for_norm=task.use_mask_for_norm,
        previous=draft.previous,
        network=draft.fit.network,
        training=TrainingSpec(mirror_axes=_mirror_axes(draft, task)),
    )


def _raw_axes(draft: Draft, task: _Task) -> Axes:
    """Raw axis of each axis of a configuration."""
    return task.outline.transpose[3 - draft.grid.dimensions :]


def _mirror_axes(draft: Draft, task: _Task) -> Axes:
    """Axes of the patch that are mirrored."""
    request = task.request
    if request.mirror_axes is not None:
        wanted: Axes = request.mirror_axes
    elif "mirror axes" in request.rules:
        wanted = tuple(verdict.axis for verdict in task.mirroring if verdict.is_allowed)
    else:
        wanted = (0, 1, 2)
    return tuple(axis for axis, name in enumerate(_raw_axes(draft, task)) if name in wanted)


def _explain_outline(task: _Task) -> list[Decision]:
    """What concerns all configurations."""
    chosen = task.outline
    shape = Decision(
        what="median shape",
        value=f"{reasons.by(chosen.grid.median_shape)} voxels",
        reason=f"of {counted(task.facts.num_cases, 'case')} resampled to "
        f"{reasons.mm(chosen.grid.spacing)}",
    )
    return [chosen.spacing_decision, reasons.transpose(chosen.transpose, chosen.spacing), shape]


def _explain(draft: Draft, task: _Task) -> list[Decision]:
    """Each decision of a configuration with its reason."""
    name, grid, fitted, request = draft.name, draft.grid, draft.fit, task.request
    estimate = training_memory(
        fitted.network,
        fitted.patch_size,
        fitted.batch_size,
        num_channels=draft.num_channels,
        num_outputs=task.facts.num_outputs,
    )
    decisions = [
        reasons.spacing(name, grid, draft.spacing_reason),
        reasons.patch_size(name, fitted, grid, request.budget),
        reasons.batch_size(name, fitted.batch, request.budget, request.network.max_batch_fraction),
        reasons.network(name, fitted, draft.num_channels, task.facts.num_outputs),
        _explain_batch_dice(draft, task),
        _explain_mirroring(draft, task),
        reasons.memory(name, estimate, request.budget),
    ]
    is_wish = fitted.is_wished or fitted.batch.rule == "user"
    if is_wish and estimate.total > request.budget:
        decisions.append(reasons.too_large_a_wish(name, fitted, request.budget))
    return decisions


def _explain_batch_dice(draft: Draft, task: _Task) -> Decision:
    before = task.facts.edits.before
    if before is not None and "batch_dice" in task.edited(draft):
        value = before.configurations[draft.name].batch_dice
        return reasons.batch_dice(draft.name, value, reasons.EDITED)
    return reasons.batch_dice(draft.name, draft.batch_dice, draft.batch_dice_reason)


def _explain_mirroring(draft: Draft, task: _Task) -> Decision:
    raw, axes = _raw_axes(draft, task), _mirror_axes(draft, task)
    choice: reasons.MirrorChoice = "compatible"
    before = task.facts.edits.before
    if before is not None and "mirror_axes" in task.edited(draft):
        choice, axes = "edited", before.configurations[draft.name].training.mirror_axes
    elif task.request.mirror_axes is not None:
        choice = "user"
    elif "mirror axes" in task.request.rules:
        choice = "data"
    mirroring = [task.mirroring[axis] for axis in raw]
    return reasons.mirror_axes(draft.name, [raw[axis] for axis in axes], mirroring, choice)
