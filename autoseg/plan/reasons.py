"""The planner's decisions in the words users read."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Literal

from autoseg.core.annotation import in_words
from autoseg.core.dataset import Case
from autoseg.core.fingerprint import IntensityStats
from autoseg.core.labels import LabelSpace
from autoseg.core.layers import num_parameters, stage_sizes
from autoseg.core.plan import Decision
from autoseg.plan.fitting import Fit
from autoseg.plan.memory import GIGABYTE, TrainingMemory
from autoseg.plan.mirror import MirrorVerdict, Order
from autoseg.plan.presets import MIN_BATCH_SIZE
from autoseg.plan.room import Batch, Grid
from autoseg.plan.rules import MAX_BATCH_SIZE

AXIS_NAMES = ("z", "y", "x")
MirrorChoice = Literal["data", "user", "edited", "compatible"]
EDITED = "edited by hand"
_NOTHING_AGAINST = "no two structures forbid an axis"
_NOTHING_KNOWN = "the fingerprint tells nothing about structures"


def by(sizes: Sequence[float]) -> str:
    """Sizes in voxels, as ``40x224x224``."""
    return "x".join(f"{size:g}" for size in sizes)


def mm(spacing: Sequence[float]) -> str:
    """Spacings, as ``3 x 0.78 x 0.78 mm``."""
    return " x ".join(f"{value:.4g}" for value in spacing) + " mm"


def gb(num_bytes: float) -> str:
    """Memory, as ``8 GB``."""
    return f"{num_bytes / GIGABYTE:.3g} GB"


def listing(words: Sequence[object]) -> str:
    """Words in a sentence, as ``3, 5 and 5``."""
    texts = [str(word) for word in words]
    return " and ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)


def change(before: object, after: object) -> str:
    """What became of something, as ``2 -> 4``."""
    return f"{before} -> {after}"


def axis_order(axes: Sequence[int]) -> str:
    """Raw axes by name, as ``x, z, y``."""
    return ", ".join(AXIS_NAMES[axis] for axis in axes)


def partial_labels(cases: Sequence[Case], labels: LabelSpace) -> tuple[Decision, ...]:
    """What follows from cases that are not annotated for all structures; empty if all are.

    Args:
        cases: of the data set.
        labels: its structures.
    """
    annotated = in_words(cases, labels)
    if annotated is None:
        return ()
    reason = (
        "listed under 'annotated' in the table of cases; where a structure is not annotated, "
        "background may be that structure: the loss takes it for either, scores leave it out"
    )
    return (Decision(what="partial labels", value=annotated, reason=reason),)


def transpose(axes: Sequence[int], spacing_mm: Sequence[float]) -> Decision:
    """Which axis comes first.

    Args:
        axes: raw axis of each planned axis.
        spacing_mm: target spacing, raw order.
    """
    first, others = axes[0], [spacing_mm[axis] for axis in axes[1:]]
    name, value = AXIS_NAMES[first], f"{spacing_mm[first]:.6g} mm"
    if spacing_mm[first] <= max(others):
        reason = f"no axis is coarser than {name} ({value})"
    else:
        reason = f"{name} is the coarsest axis ({value} against {max(others):.6g} mm)"
    end = "the axes stay in place" if tuple(axes) == (0, 1, 2) else f"{name} comes first"
    return Decision(
        what="axis order",
        value=axis_order(axes),
        reason=f"{reason}; {end}",
    )


def normalization(channel: str, scheme: str, stats: IntensityStats) -> Decision:
    """How a channel's intensities are normalized."""
    how = {
        "ct": (
            f"clipped to {stats.percentile_00_5:g} .. {stats.percentile_99_5:g} (0.5 and 99.5 "
            f"percentiles inside the structures), minus {stats.mean:.4g}, divided by "
            f"{stats.std:.4g}, the same for all cases"
        ),
        "zscore": "every image by its own mean and standard deviation",
        "none": "intensities are left as they are",
        "rescale_to_0_1": "every image from its own minimum and maximum to 0..1",
        "rgb_to_0_1": "0..255 divided by 255",
    }
    reason = f"the channel is named '{channel}'"
    return Decision(
        what=f"normalization of {channel}",
        value=scheme,
        reason=f"{reason}: {how[scheme]}" if scheme in how else reason,
    )


def normalization_mask(
    channel: str, uses_mask: bool, relative_size: float, threshold: float
) -> Decision:
    """Whether only the non-zero region of a channel counts for its normalization."""
    kept = f"cropping to the non-zero region keeps {relative_size:.0%} of the median case"
    return Decision(
        what=f"normalization mask of {channel}",
        value="non-zero region" if uses_mask else "none",
        reason=f"{kept}, {'below' if uses_mask else 'not below'} {threshold:.0%}",
    )


def spacing(name: str, grid: Grid, reason: str) -> Decision:
    """What the data are resampled to."""
    return Decision(what="spacing", value=mm(grid.spacing), reason=reason, configuration=name)


def _millions(number: float) -> str:
    millions = number / 1e6
    return f"{millions:,.0f}" if millions >= 1 else f"{millions:.1g}"


def patch_size(name: str, fitted: Fit, grid: Grid, budget_bytes: int) -> Decision:
    """How large a patch is."""
    count = (
        f"{_millions(fitted.elements)} of {_millions(fitted.max_elements)} million feature map "
        "values"
    )
    if fitted.batch.by_bytes is not None:
        count = f"{gb(fitted.estimate_bytes)} ({count})"
        fits = f"{gb(budget_bytes)}: {count}"
    else:
        fits = f"{gb(budget_bytes)} ({count})"
    if fitted.is_wished:
        reason = f"given by the user: {count}"
    elif fitted.num_steps:
        steps = f"{fitted.num_steps} step{'s' if fitted.num_steps > 1 else ''}"
        reason = f"from {by(fitted.first_patch)}, {steps} down until the estimate fitted {fits}"
    else:
        reason = f"the first patch tried, for a median case of {by(grid.median_shape)}, fits {fits}"
    return Decision(
        what="patch size", value=by(fitted.patch_size), reason=reason, configuration=name
    )


def network(name: str, fitted: Fit, num_channels: int, num_outputs: int) -> Decision:
    """What the network looks like."""
    spec = fitted.network
    weights = num_parameters(spec, num_channels=num_channels, num_outputs=num_outputs)
    poolings = [sum(row[axis] > 1 for row in spec.strides) for axis in range(spec.dimensions)]
    bottleneck = stage_sizes(spec, fitted.patch_size)[-1]
    return Decision(
        what="network",
        value=f"{spec.architecture}, {spec.num_stages} stages",
        reason=(
            f"axes halved {listing(poolings)} times, to {by(bottleneck)} voxels; "
            f"{spec.features_per_stage[0]} to {spec.features_per_stage[-1]} features, "
            f"{weights / 1e6:.1f} million weights"
        ),
        configuration=name,
    )


def batch_size(name: str, batch: Batch, budget_bytes: int, max_fraction: float) -> Decision:
    """How many patches make a batch, and which rule decided."""
    by_memory = batch.by_memory if batch.by_bytes is None else min(batch.by_memory, batch.by_bytes)
    room = f"{gb(budget_bytes)} would hold {by_memory}"
    data = (
        f"{max_fraction:.0%} of the voxels of all cases make {batch.by_data} "
        f"patch{'' if batch.by_data == 1 else 'es'}"
    )
    reasons = {
        "memory": f"decided by memory: {gb(budget_bytes)} hold {batch.by_memory}",
        "data set": f"decided by the data set: {data}, though {room}",
        "minimum": f"the minimum of {MIN_BATCH_SIZE}: {data}, {room}",
        "bytes": f"decided by the estimate in bytes: {gb(budget_bytes)} hold {batch.by_bytes}, "
        f"where nnU-Net's count would allow {batch.by_memory}",
        "large batch": f"the maximum of {MAX_BATCH_SIZE}: {data}, {room}",
        "steady growth": f"{room} and {data}, but another memory would then have fewer voxels per "
        "batch than a smaller one",
        "user": f"given by the user; {room} and {data}",
    }
    return Decision(
        what="batch size",
        value=str(batch.size),
        reason=reasons[batch.rule],
        configuration=name,
    )


def batch_dice(name: str, value: bool, reason: str) -> Decision:
    """Over what the Dice loss is summed."""
    return Decision(
        what="batch Dice", value="on" if value else "off", reason=reason, configuration=name
    )


def mirror_axes(
    name: str, axes: Sequence[int], verdicts: Sequence[MirrorVerdict], choice: MirrorChoice
) -> Decision:
    """Which raw axes are mirrored.

    Args:
        name: the configuration.
        axes: raw axes that are mirrored.
        verdicts: of every raw axis of the configuration.
        choice: who decided.
    """
    against = _against_mirroring(verdicts)
    if choice == "data" and not against:
        is_measured = any(verdict.is_measured for verdict in verdicts)
        reason = _NOTHING_AGAINST if is_measured else _NOTHING_KNOWN
    elif choice == "data":
        reason = f"not {against}"
    else:
        words = {
            "user": "given by the user",
            "edited": EDITED,
            "compatible": "as in nnU-Net (--compatible)",
        }
        reason = words[choice]
        overruled = _against_mirroring([verdict for verdict in verdicts if verdict.axis in axes])
        reason += f", against what the data say of {overruled}" if overruled else ""
    passes = 2 ** len(axes)
    return Decision(
        what="mirror axes",
        value=axis_order(axes) or "none",
        reason=f"{reason}; prediction takes {passes} pass{'' if passes == 1 else 'es'} per patch",
        configuration=name,
    )


def _against_mirroring(verdicts: Sequence[MirrorVerdict]) -> str:
    """Axes that should not be mirrored, with the plainest reason; empty if all may be."""
    axes_by_reason: dict[str, list[str]] = {}
    for verdict in verdicts:
        if not verdict.is_allowed:
            more = len(verdict.against) - 1
            reason = _order(verdict.against[0])
            reason += f" (and {more} more pair{'' if more == 1 else 's'})" if more else ""
            axes_by_reason.setdefault(reason, []).append(AXIS_NAMES[verdict.axis])
    return "; ".join(f"{listing(axes)}: {reason}" for reason, axes in axes_by_reason.items())


def _order(order: Order) -> str:
    """How two structures lie."""
    first, second = order.structures
    cases = f"in {order.num_same} of {order.num_cases} cases"
    if order.by_name:
        seen = f" and lie in the same order {cases}" if order.num_cases else ""
        return f"{first} and {second} are left and right by name{seen}"
    return (
        f"{first} lies on the same side of {second} {cases} and looks alike "
        f"({order.contrast_stds:.2f} standard deviations apart)"
    )


def memory(name: str, estimate: TrainingMemory, budget_bytes: int) -> Decision:
    """What a training step takes."""
    weights = estimate.weights + estimate.gradients + estimate.momentum
    parts = (
        f"activations {gb(estimate.activations)}, weights with gradients and momentum "
        f"{gb(weights)}, loss {gb(estimate.loss)}, gradients under way {gb(estimate.transient)}, "
        f"context {gb(estimate.context)}"
    )
    if estimate.total > budget_bytes:
        verdict = f"more than the {gb(budget_bytes)} planned for; if training runs out of memory, "
        verdict += "plan with a smaller --gpu-memory"
    else:
        verdict = f"within {gb(budget_bytes)}"
    return Decision(
        what="memory of a training step",
        value=gb(estimate.total),
        reason=f"estimated at mixed precision: {parts}; {verdict}",
        configuration=name,
    )


def too_large_a_wish(name: str, fitted: Fit, budget_bytes: int) -> Decision:
    """That what the user gave does not fit."""
    given = [f"patch {by(fitted.patch_size)}"] if fitted.is_wished else []
    given += [f"batch {fitted.batch_size}"] if fitted.batch.rule == "user" else []
    return Decision(
        what="warning",
        value=f"beyond {gb(budget_bytes)}",
        reason=f"the {listing(given)} given by the user {'take' if len(given) > 1 else 'takes'} "
        f"{gb(fitted.estimate_bytes)}: training needs a GPU with more memory",
        configuration=name,
    )


def coverage(patch: Sequence[int], num_voxels: float) -> str:
    """What part of a median case a patch covers, as ``7.4%``."""
    return f"{100 * min(prod(patch) / num_voxels, 1):.3g}%"
