"""The configurations of a data set before they are written down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from autoseg.core.fingerprint import Fingerprint
from autoseg.core.labels import LabelSpace
from autoseg.core.plan import Decision
from autoseg.errors import AutosegError
from autoseg.plan import reasons
from autoseg.plan.edits import NO_EDITS, Edits
from autoseg.plan.fitting import Fit, fit
from autoseg.plan.request import PlanRequest
from autoseg.plan.room import Grid, Limits
from autoseg.plan.rules import Rule
from autoseg.plan.shrinking import can_be_halved
from autoseg.plan.spacing import target_spacing
from autoseg.plan.wishes import Wish

LOWRES_COVERAGE = 0.25
LOWRES_GROWTH = 1.03
LOWRES_MIN_VOXEL_RATIO = 2
MAX_SPACING_RATIO = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A configuration before it is written down, and the reasons only its maker knows.

    Attributes:
        name: of the configuration.
        grid: the data as it sees them.
        spacing_reason: why that spacing.
        fit: network, patch and batch.
        batch_dice: whether Dice is summed over the batch.
        batch_dice_reason: why.
        num_channels: channels of the network's input.
        previous: configuration whose predictions are an input.
    """

    name: str
    grid: Grid
    spacing_reason: str
    fit: Fit
    batch_dice: bool
    batch_dice_reason: str
    num_channels: int
    previous: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """All configurations of a data set.

    Attributes:
        spacing: target spacing in mm, raw axis order.
        transpose: raw axis of each planned axis.
        grid: the data at full resolution.
        drafts: the configurations.
        spacing_decision: why that target spacing.
        decisions: why other configurations are not among them.
    """

    spacing: tuple[float, ...]
    transpose: tuple[int, int, int]
    grid: Grid
    drafts: tuple[Draft, ...]
    spacing_decision: Decision
    decisions: tuple[Decision, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What all configurations of a plan follow from.

    Attributes:
        fingerprint: the measured cases.
        labels: what the label values mean.
        request: what the user wishes.
        edits: what the user changed in the plan before.
    """

    fingerprint: Fingerprint
    labels: LabelSpace
    request: PlanRequest
    edits: Edits = NO_EDITS

    @property
    def num_cases(self) -> int:
        """Cases of the data set."""
        return len(self.fingerprint.cases)

    @property
    def num_outputs(self) -> int:
        """Channels of the network's output."""
        return self.labels.num_outputs

    def num_channels(self, previous: str | None) -> int:
        """Channels of the network's input: a cascade adds one per foreground label."""
        predicted = 0 if previous is None else self.labels.num_classes - 1
        return len(self.fingerprint.intensities) + predicted

    def wish(self, name: str) -> Wish:
        """What is given for a configuration: by flags, else by edits of the plan before."""
        return self.edits.wish(name, self.request)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sketch:
    """What the configurations of one outline share."""

    facts: Facts
    rules: frozenset[Rule]
    spacing: tuple[float, ...]
    transpose: tuple[int, int, int]

    def grid(self, spacing: Sequence[float]) -> Grid:
        """The data at a spacing, in mm and planned axis order."""
        raw = [0.0, 0.0, 0.0]
        for axis, mm in zip(self.transpose, spacing, strict=True):
            raw[axis] = mm
        shapes = [
            [
                max(1, round(old / new * size))
                for old, new, size in zip(case.spacing, raw, case.shape, strict=True)
            ]
            for case in self.facts.fingerprint.cases
        ]
        median = np.median(shapes, axis=0)
        return Grid(
            spacing=tuple(spacing),
            median_shape=tuple(float(median[axis]) for axis in self.transpose),
            num_voxels=float(np.prod(median)) * self.facts.num_cases,
        )

    def fit(self, grid: Grid, wish: Wish, previous: str | None = None) -> Fit:
        """The largest patch and batch on a grid."""
        request = self.facts.request
        preset = request.network
        if wish.base_features is not None:
            preset = replace(preset, base_features=wish.base_features)
        limits = Limits(
            preset=preset,
            budget_bytes=request.budget,
            num_entries=self.facts.labels.num_entries,
            num_channels=self.facts.num_channels(previous),
            num_outputs=self.facts.num_outputs,
            rules=self.rules,
        )
        return fit(grid, limits, wish)


def outline(facts: Facts, rules: frozenset[Rule]) -> Outline:
    """Decide about resolutions, patches, networks and batches.

    Args:
        facts: data and wishes.
        rules: rules of autoseg's own in force; without any, the outcome is nnU-Net's.

    Raises:
        DataError: if the cases are too small for a network.
        AutosegError: if no patch fits the memory, or a wish is impossible.
    """
    spacing, first, decision = target_spacing(facts.fingerprint, facts.request.spacing, rules)
    second, third = (axis for axis in range(3) if axis != first)
    transpose = (first, second, third)
    sketch = _Sketch(facts=facts, rules=rules, spacing=spacing, transpose=transpose)
    grid = sketch.grid([spacing[axis] for axis in transpose])
    drafts, decisions = _draft(grid, sketch)
    _refuse_idle_wish(facts.request, drafts)
    return Outline(
        spacing=spacing,
        transpose=transpose,
        grid=grid,
        drafts=tuple(drafts),
        spacing_decision=decision,
        decisions=tuple(decisions),
    )


def _draft(grid: Grid, sketch: _Sketch) -> tuple[list[Draft], list[Decision]]:
    """All configurations of a data set, and why others are not among them."""
    drafts, decisions = _draft_2d(grid, sketch)
    if grid.median_shape[0] == 1:
        decisions.append(
            Decision(what="3d", value="not planned", reason="the median case has a single slice")
        )
    else:
        drafts_3d, lowres_decision = _draft_3d(grid, sketch)
        drafts += drafts_3d
        decisions.append(lowres_decision)
    return drafts, decisions


def _refuse_idle_wish(request: PlanRequest, drafts: Sequence[Draft]) -> None:
    """Refuse a patch that no configuration has as many axes for."""
    patch = request.patch_size
    if patch is None or any(draft.grid.dimensions == len(patch) for draft in drafts):
        return
    raise AutosegError(
        f"no {len(patch)}D configuration is planned for these images",
        place=f"--patch-size {','.join(map(str, patch))}",
        remedy=f"give {5 - len(patch)} numbers for the {5 - len(patch)}D configuration",
    )


def _draft_2d(grid: Grid, sketch: _Sketch) -> tuple[list[Draft], list[Decision]]:
    wish = sketch.facts.wish("2d")
    edited = wish.spacing is not None
    whole = sketch.grid((grid.spacing[0], *wish.spacing)) if wish.spacing is not None else grid
    # Voxels of the whole volumes: a batch of slices is capped as a batch of blocks is.
    slices = Grid(
        spacing=whole.spacing[1:], median_shape=whole.median_shape[1:], num_voxels=whole.num_voxels
    )
    has_slices = grid.median_shape[0] != 1
    if has_slices and wish.patch_size is None and not can_be_halved(slices):
        shape = reasons.by(slices.median_shape)
        reason = f"slices of {shape} voxels are too small for a network"
        return [], [Decision(what="2d", value="not planned", reason=reason)]
    draft = Draft(
        name="2d",
        grid=slices,
        spacing_reason=reasons.EDITED
        if edited
        else "the target spacing within slices; never resampled across them",
        fit=sketch.fit(slices, wish),
        batch_dice=True,
        batch_dice_reason="slices often miss a structure, a batch of them seldom does",
        num_channels=sketch.facts.num_channels(None),
    )
    return [draft], []


def _draft_3d(grid: Grid, sketch: _Sketch) -> tuple[list[Draft], Decision]:
    """3d_fullres, and the cascade where a patch sees too little of a case."""
    wish = sketch.facts.wish("3d_fullres")
    if wish.spacing is not None:
        grid = sketch.grid(wish.spacing)
    full = sketch.fit(grid, wish)
    low, num_steps = _lowres(grid, full, sketch)
    ratio = prod(grid.median_shape) / (low.num_voxels / sketch.facts.num_cases)
    seen = reasons.coverage(full.patch_size, prod(grid.median_shape))
    edited = sketch.facts.wish("3d_lowres").spacing is not None
    cascade = edited or ratio >= LOWRES_MIN_VOXEL_RATIO
    decision = _lowres_decision(seen, low.spacing, num_steps, ratio)
    if edited:
        decision = Decision(what="3d_lowres", value="planned", reason=reasons.EDITED)
    draft = Draft(
        name="3d_fullres",
        grid=grid,
        spacing_reason="the target spacing" if wish.spacing is None else reasons.EDITED,
        fit=full,
        batch_dice=cascade,
        batch_dice_reason=f"a patch covers {seen} of the median case, "
        + ("so little that 3d_lowres is planned" if cascade else "so no 3d_lowres is planned"),
        num_channels=sketch.facts.num_channels(None),
    )
    if not cascade:
        return [draft], decision
    lowres = _draft_lowres(low, num_steps, sketch)
    return [draft, lowres, _draft_cascade(draft, sketch)], decision


def _draft_lowres(grid: Grid, num_steps: int, sketch: _Sketch) -> Draft:
    fitted = _fit_lowres(grid, sketch)
    seen = reasons.coverage(fitted.patch_size, prod(grid.median_shape))
    reason = f"the target spacing after {num_steps} steps of {LOWRES_GROWTH - 1:.0%}"
    return Draft(
        name="3d_lowres",
        grid=grid,
        spacing_reason=f"{reason if num_steps else reasons.EDITED}, to a median case of "
        f"{reasons.by(grid.median_shape)}",
        fit=fitted,
        batch_dice=False,
        batch_dice_reason=f"a patch covers {seen} of the median case",
        num_channels=sketch.facts.num_channels(None),
    )


def _draft_cascade(full: Draft, sketch: _Sketch) -> Draft:
    """As at full resolution, but with the channels that the prediction at low resolution adds."""
    wish = sketch.facts.wish("3d_cascade_fullres")
    grid = full.grid if wish.spacing is None else sketch.grid(wish.spacing)
    return Draft(
        name="3d_cascade_fullres",
        grid=grid,
        spacing_reason="as 3d_fullres" if wish.spacing is None else reasons.EDITED,
        fit=sketch.fit(grid, wish, "3d_lowres"),
        batch_dice=True,
        batch_dice_reason="as 3d_fullres",
        num_channels=sketch.facts.num_channels("3d_lowres"),
        previous="3d_lowres",
    )


def _fit_lowres(grid: Grid, sketch: _Sketch) -> Fit:
    wish = sketch.facts.wish("3d_lowres")
    # A wished patch is meant for full resolution: other spacings may be halved more often.
    return sketch.fit(grid, replace(wish, rounds_up=wish.spacing is None))


def _lowres(grid: Grid, full: Fit, sketch: _Sketch) -> tuple[Grid, int]:
    """The data at low resolution, and the number of steps there; 0 if there is none."""
    wished = sketch.facts.wish("3d_lowres").spacing
    if wished is None:
        return _coarsen(grid, full, sketch)
    shape = np.array(grid.spacing) / np.array(wished) * np.array(grid.median_shape)
    return _coarse_grid(wished, shape, sketch.facts.num_cases), 0


def _coarsen(grid: Grid, full: Fit, sketch: _Sketch) -> tuple[Grid, int]:
    """Lower the resolution step by step until a patch covers a quarter of the median case.

    Returns:
        The coarse grid and the number of steps; the full resolution and 0 if a patch covers
        enough as it is.
    """
    full_spacing, median_shape = np.array(grid.spacing), np.array(grid.median_shape)
    spacing = full_spacing.copy()
    coarse, num_steps = grid, 0
    num_voxels = float(np.prod(median_shape))
    coverage = prod(full.patch_size) / num_voxels
    while coverage < LOWRES_COVERAGE:
        finer = spacing.max() / spacing > MAX_SPACING_RATIO
        spacing[finer if finer.any() else slice(None)] *= LOWRES_GROWTH
        shape = full_spacing / spacing * median_shape
        num_voxels = float(np.prod(shape))
        coarse = _coarse_grid(spacing.tolist(), shape, sketch.facts.num_cases)
        num_steps += 1
        # Until a fine and short axis has caught up with the others, nothing may be left to halve.
        if not finer.any() or can_be_halved(coarse):
            coverage = prod(_fit_lowres(coarse, sketch).patch_size) / num_voxels
    return coarse, num_steps


def _coarse_grid(
    spacing: Sequence[float], shape: np.typing.NDArray[np.float64], num_cases: int
) -> Grid:
    return Grid(
        spacing=tuple(spacing),
        median_shape=tuple(float(max(1, round(size))) for size in shape.tolist()),
        num_voxels=float(np.prod(shape)) * num_cases,
    )


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
