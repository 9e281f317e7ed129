"""Every decision about configurations, derived from what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite, prod

import numpy as np

from autoseg.core.fingerprint import Fingerprint
from autoseg.core.geometry import Triple
from autoseg.core.labels import LabelSpace
from autoseg.core.plan import Axes, Configuration, Decision, Plan, TrainingSpec
from autoseg.core.words import counted
from autoseg.errors import AutosegError, DataError
from autoseg.imaging.normalize import scheme_of, uses_mask
from autoseg.plan import reasons
from autoseg.plan.fitting import Fit, Grid, can_be_halved, fit
from autoseg.plan.memory import TrainingMemory, training_memory
from autoseg.plan.mirror import MirrorVerdict, mirror_verdicts
from autoseg.plan.presets import Preset, find_preset
from autoseg.plan.spacing import target_spacing

MASK_THRESHOLD = 0.75
LOWRES_COVERAGE = 0.25
LOWRES_GROWTH = 1.03
LOWRES_MIN_VOXEL_RATIO = 2
MAX_SPACING_RATIO = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRequest:
    """What a user may ask of a plan.

    Args:
        name: the plan's name.
        preset: a name in ``PRESETS``.
        budget_bytes: GPU memory; None if the user named none: the preset's own then counts
            (8 GB for the default; a GB is 10**9 bytes).
        spacing: target spacing in mm, ``(z, y, x)`` of the raw images; None to derive it.
        mirror_axes: axes of the raw images, 0 to 2, that may be mirrored; None to derive them.
        compatible: decide as nnU-Net does where autoseg has a rule of its own: mirror all axes.
        base_features: channels of the first stage; None for the preset's.

    Raises:
        AutosegError: if a value cannot be planned with.
        UnknownNameError: if there is no such preset.
    """

    name: str = "default"
    preset: str = "default"
    budget_bytes: int | None = None
    spacing: Triple | None = None
    mirror_axes: Axes | None = None
    compatible: bool = False
    base_features: int | None = None

    def __post_init__(self) -> None:
        find_preset(self.preset)
        if self.base_features is not None and self.base_features < 1:
            raise AutosegError(
                f"{self.base_features} base features", remedy="give 1 or more (--base-features)"
            )
        if self.budget_bytes is not None and self.budget_bytes < 1:
            raise AutosegError(
                f"a GPU memory of {self.budget_bytes} bytes", remedy="give a positive --gpu-memory"
            )
        spacing = self.spacing
        if spacing is not None and not (
            len(spacing) == 3 and all(isfinite(mm) and mm > 0 for mm in spacing)
        ):
            raise AutosegError(
                f"a target spacing of {list(spacing)}",
                remedy="give three positive numbers in mm, z,y,x (--spacing)",
            )
        if self.mirror_axes is not None and not set(self.mirror_axes) <= {0, 1, 2}:
            raise AutosegError(
                f"mirror axes {list(self.mirror_axes)}",
                remedy="give some of 0 (z), 1 (y), 2 (x) (--mirror-axes)",
            )

    @property
    def network(self) -> Preset:
        """The preset, with what the user changed about it."""
        preset = find_preset(self.preset)
        if self.base_features is None:
            return preset
        return replace(preset, base_features=self.base_features)

    @property
    def budget(self) -> int:
        """GPU memory in bytes to plan for."""
        return self.budget_bytes or find_preset(self.preset).budget_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    """What all configurations of a plan share."""

    request: PlanRequest
    preset: Preset
    labels: LabelSpace
    num_cases: int
    transpose: tuple[int, int, int]
    normalization: tuple[str, ...]
    use_mask_for_norm: tuple[bool, ...]
    mirroring: tuple[MirrorVerdict, ...]

    @property
    def num_outputs(self) -> int:
        """Channels of the network's output."""
        return len(self.labels.structures) if self.labels.has_regions else self.labels.num_classes

    def num_channels(self, previous: str | None) -> int:
        """Channels of the network's input: a cascade adds one per foreground label."""
        predicted = 0 if previous is None else self.labels.num_classes - 1
        return len(self.normalization) + predicted

    def fit(self, grid: Grid) -> Fit:
        """The largest patch and batch on a grid."""
        return fit(grid, self.preset, self.request.budget, self.labels.num_entries)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Draft:
    """A configuration before it is written down, and the reasons only its maker knows."""

    name: str
    grid: Grid
    spacing_reason: str
    fit: Fit
    batch_dice: bool
    batch_dice_reason: str
    previous: str | None = None


def make_plan(
    fingerprint: Fingerprint, channels: Sequence[str], labels: LabelSpace, request: PlanRequest
) -> Plan:
    """Decide how a data set is resampled, cut into patches, and by what networks it is learnt.

    Args:
        fingerprint: the measured training cases.
        channels: names of the channels, in order.
        labels: what the label values mean.
        request: what the user asked for.

    Returns:
        The plan, with the configurations that make sense for the data: ``2d``,
        ``3d_fullres``, and for large images ``3d_lowres`` and ``3d_cascade_fullres``.

    Raises:
        DataError: if there are no cases, or all are too small for a network.
        AutosegError: if no patch fits the memory.
        ValueError: if channels and fingerprint disagree.

    References:
        Isensee et al., nnU-Net, Nature Methods 2021, whose rules these are. Plans agree with
        those of nnU-Net 2.8.1 for the same data and memory, but for the mirror axes.
    """
    if not fingerprint.cases:
        raise DataError("there is no training case", remedy="add annotated images")
    if len(channels) != len(fingerprint.intensities):
        raise ValueError(f"{len(channels)} channels, {len(fingerprint.intensities)} measured")
    spacing, spacing_decision = target_spacing(fingerprint, request.spacing)
    first = int(np.argmax(spacing))
    second, third = (axis for axis in range(3) if axis != first)
    schemes, masks, normalization_decisions = _normalization(fingerprint, channels)
    task = _Task(
        request=request,
        preset=request.network,
        labels=labels,
        num_cases=len(fingerprint.cases),
        transpose=(first, second, third),
        normalization=schemes,
        use_mask_for_norm=masks,
        mirroring=mirror_verdicts(fingerprint, labels),
    )
    grid = _full_grid(fingerprint, spacing, task)
    drafts, draft_decisions = _draft(grid, task)
    return Plan(
        name=request.name,
        preset=request.preset,
        transpose=task.transpose,
        budget_bytes=request.budget,
        channels=tuple(channels),
        label_values=labels.values,
        intensities=fingerprint.intensities,
        configurations={draft.name: _configuration(draft, task) for draft in drafts},
        decisions=(
            spacing_decision,
            reasons.transpose(task.transpose, spacing),
            _median_shape_decision(grid, task),
            *normalization_decisions,
            *draft_decisions,
            *(decision for draft in drafts for decision in _explain(draft, task)),
        ),
    )


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


def _full_grid(fingerprint: Fingerprint, spacing: tuple[float, ...], task: _Task) -> Grid:
    """The data at full resolution."""
    shapes = [
        [
            max(1, round(old / new * size))
            for old, new, size in zip(case.spacing, spacing, case.shape, strict=True)
        ]
        for case in fingerprint.cases
    ]
    median = np.median(shapes, axis=0)
    return Grid(
        spacing=tuple(spacing[axis] for axis in task.transpose),
        median_shape=tuple(float(median[axis]) for axis in task.transpose),
        num_voxels=float(np.prod(median)) * task.num_cases,
    )


def _draft(grid: Grid, task: _Task) -> tuple[list[_Draft], list[Decision]]:
    """All configurations of a data set, and why others are not among them."""
    drafts, decisions = _draft_2d(grid, task)
    if grid.median_shape[0] == 1:
        decisions.append(
            Decision(what="3d", value="not planned", reason="the median case has a single slice")
        )
    else:
        drafts_3d, lowres_decision = _draft_3d(grid, task)
        drafts += drafts_3d
        decisions.append(lowres_decision)
    return drafts, decisions


def _draft_2d(grid: Grid, task: _Task) -> tuple[list[_Draft], list[Decision]]:
    # Voxels of the whole volumes: a batch of slices is capped as a batch of blocks is.
    slices = Grid(
        spacing=grid.spacing[1:], median_shape=grid.median_shape[1:], num_voxels=grid.num_voxels
    )
    has_slices = grid.median_shape[0] != 1
    if has_slices and not can_be_halved(slices):
        shape = reasons.by(slices.median_shape)
        reason = f"slices of {shape} voxels are too small for a network"
        return [], [Decision(what="2d", value="not planned", reason=reason)]
    draft = _Draft(
        name="2d",
        grid=slices,
        spacing_reason="the target spacing within slices; never resampled across them",
        fit=task.fit(slices),
        batch_dice=True,
        batch_dice_reason="slices often miss a structure, a batch of them seldom does",
    )
    return [draft], []


def _draft_3d(grid: Grid, task: _Task) -> tuple[list[_Draft], Decision]:
    """3d_fullres, and the cascade where a patch sees too little of a case."""
    full = task.fit(grid)
    coarse, coarse_fit, num_steps = _coarsen(grid, full, task)
    num_voxels = prod(grid.median_shape)
    ratio = num_voxels / (coarse.num_voxels / task.num_cases)
    seen = reasons.coverage(full.patch_size, num_voxels)
    cascade = ratio >= LOWRES_MIN_VOXEL_RATIO
    decision = _lowres_decision(seen, coarse.spacing, num_steps, ratio)
    drafts = [
        _Draft(
            name="3d_fullres",
            grid=grid,
            spacing_reason="the target spacing",
            fit=full,
            batch_dice=cascade,
            batch_dice_reason=f"a patch covers {seen} of the median case, "
            + ("so little that 3d_lowres is planned" if cascade else "so no 3d_lowres is planned"),
        )
    ]
    if cascade:
        seen = reasons.coverage(coarse_fit.patch_size, prod(coarse.median_shape))
        drafts += [
            _Draft(
                name="3d_lowres",
                grid=coarse,
                spacing_reason=f"the target spacing after {num_steps} steps of "
                f"{LOWRES_GROWTH - 1:.0%}, to a median case of {reasons.by(coarse.median_shape)}",
                fit=coarse_fit,
                batch_dice=False,
                batch_dice_reason=f"a patch covers {seen} of the median case",
            ),
            _Draft(
                name="3d_cascade_fullres",
                grid=grid,
                spacing_reason="as 3d_fullres",
                fit=full,
                batch_dice=True,
                batch_dice_reason="as 3d_fullres",
                previous="3d_lowres",
            ),
        ]
    return drafts, decision


def _coarsen(grid: Grid, fitted: Fit, task: _Task) -> tuple[Grid, Fit, int]:
    """Lower the resolution step by step until a patch covers a quarter of the median case.

    Returns:
        The coarse grid, its fit and the number of steps; the full resolution and 0 if a patch
        covers enough as it is.
    """
    full_spacing, median_shape = np.array(grid.spacing), np.array(grid.median_shape)
    spacing = full_spacing.copy()
    num_voxels = float(np.prod(median_shape))
    coarse, num_steps = grid, 0
    coverage = prod(fitted.patch_size) / num_voxels
    while coverage < LOWRES_COVERAGE:
        finer = spacing.max() / spacing > MAX_SPACING_RATIO
        spacing[finer if finer.any() else slice(None)] *= LOWRES_GROWTH
        shape = full_spacing / spacing * median_shape
        num_voxels = float(np.prod(shape))
        coarse = Grid(
            spacing=tuple(float(mm) for mm in spacing),
            median_shape=tuple(float(max(1, round(size))) for size in shape),
            num_voxels=num_voxels * task.num_cases,
        )
        num_steps += 1
        # Until a fine and short axis has caught up with the others, nothing may be left to halve.
        if not finer.any() or can_be_halved(coarse):
            fitted = task.fit(coarse)
            coverage = prod(fitted.patch_size) / num_voxels
    return coarse, fitted, num_steps


def _lowres_decision(seen: str, spacing: Sequence[float], num_steps: int, ratio: float) -> Decision:
    wanted = f"{LOWRES_COVERAGE:.0%}"
    if num_steps == 0:
        planned = False
        reason = f"a 3d_fullres patch covers {seen} of the median case, {wanted} are enough"
    else:
        planned = ratio >= LOWRES_MIN_VOXEL_RATIO
        reason = (
            f"a 3d_fullres patch covers {seen} of the median case, {wanted} are wanted and reached "
            f"at {reasons.mm(spacing)} (step {num_steps} of {LOWRES_GROWTH - 1:.0%} each) with "
            f"{ratio:.3g} times fewer voxels"
        )
        if not planned:
            reason += f", where {LOWRES_MIN_VOXEL_RATIO} times fewer would make it worthwhile"
    return Decision(what="3d_lowres", value="planned" if planned else "not planned", reason=reason)


def _configuration(draft: _Draft, task: _Task) -> Configuration:
    fitted = draft.fit
    return Configuration(
        spacing=draft.grid.spacing,
        patch_size=fitted.patch_size,
        batch_size=fitted.batch_size,
        median_shape=draft.grid.median_shape,
        batch_dice=draft.batch_dice,
        normalization=task.normalization,
        use_mask_for_norm=task.use_mask_for_norm,
        previous=draft.previous,
        network=fitted.network,
        training=TrainingSpec(mirror_axes=_mirror_axes(draft.grid, task)),
    )


def _raw_axes(grid: Grid, task: _Task) -> Axes:
    """Raw axis of each axis of a configuration."""
    return task.transpose[3 - grid.dimensions :]


def _mirror_axes(grid: Grid, task: _Task) -> Axes:
    """Axes of the patch that are mirrored."""
    request = task.request
    if request.mirror_axes is not None:
        wanted: Axes = request.mirror_axes
    elif request.compatible:
        wanted = (0, 1, 2)
    else:
        wanted = tuple(verdict.axis for verdict in task.mirroring if verdict.is_allowed)
    return tuple(axis for axis, name in enumerate(_raw_axes(grid, task)) if name in wanted)


def _who_chose_mirroring(request: PlanRequest) -> reasons.MirrorChoice:
    if request.mirror_axes is not None:
        return "user"
    return "compatible" if request.compatible else "data"


def _median_shape_decision(grid: Grid, task: _Task) -> Decision:
    return Decision(
        what="median shape",
        value=f"{reasons.by(grid.median_shape)} voxels",
        reason=f"of {counted(task.num_cases, 'case')} resampled to {reasons.mm(grid.spacing)}",
    )


def _explain(draft: _Draft, task: _Task) -> list[Decision]:
    """Each decision of a configuration with its reason."""
    name, grid, fitted = draft.name, draft.grid, draft.fit
    budget = task.request.budget
    num_channels = task.num_channels(draft.previous)
    raw = _raw_axes(grid, task)
    mirrored = [raw[axis] for axis in _mirror_axes(grid, task)]
    mirroring = [task.mirroring[axis] for axis in raw]
    return [
        reasons.spacing(name, grid, draft.spacing_reason),
        reasons.patch_size(name, fitted, grid, budget),
        reasons.batch_size(name, fitted, budget, task.preset.max_batch_fraction),
        reasons.network(name, fitted, num_channels, task.num_outputs),
        reasons.batch_dice(name, draft.batch_dice, draft.batch_dice_reason),
        reasons.mirror_axes(name, mirrored, mirroring, _who_chose_mirroring(task.request)),
        reasons.memory(name, _training_memory(draft, task), budget),
    ]


def _training_memory(draft: _Draft, task: _Task) -> TrainingMemory:
    return training_memory(
        draft.fit.network,
        draft.fit.patch_size,
        draft.fit.batch_size,
        num_channels=task.num_channels(draft.previous),
        num_outputs=task.num_outputs,
    )
