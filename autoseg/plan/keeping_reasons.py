"""Why a plan that was kept from a model is as it is, and what may spoil it."""

from __future__ import annotations

from math import prod

from autoseg.core.plan import Configuration, Decision
from autoseg.plan import reasons
from autoseg.plan.keeping import Kept
from autoseg.plan.spacing import target_spacing

FAR_SPACING = 2.0
"""A spacing so many times that of the model, or such a part of it, is warned of. Augmentation
varies sizes from 0.7 to 1.4, a factor of two: what is further apart is new to a network."""


def explain_all(kept: Kept) -> list[Decision]:
    """What concerns all configurations.

    Args:
        kept: model and data.
    """
    source = kept.source
    decisions = [
        Decision(
            what="plan",
            value=f"kept from {source.label}",
            reason="so that its weights fit, and see images as they were trained to (--init-from)",
        ),
        Decision(
            what="axis order",
            value=reasons.axis_order(source.plan.transpose),
            reason="kept from the model",
        ),
    ]
    return decisions + [
        _explain_channel(kept, channel) for channel in range(len(kept.channels.wanted))
    ]


def _explain_channel(kept: Kept, channel: int) -> Decision:
    name, scheme = (
        kept.channels.wanted[channel],
        kept.scheme(kept.source.configuration, channel),
    )
    told = reasons.normalization(name, scheme, kept.intensities(channel))
    if kept.known_as(channel) is None:
        return told.model_copy(update={"reason": f"the model does not know it; {told.reason}"})
    what = "kept from the model, with its intensities" if scheme == "ct" else "kept from the model"
    how = told.reason.partition(": ")[2]
    return told.model_copy(update={"reason": f"{what}: {how}" if how else what})


def explain(name: str, planned: Configuration, kept: Kept) -> list[Decision]:
    """Each decision of a configuration.

    Args:
        name: of the configuration.
        planned: as it was kept.
        kept: model and data.
    """
    old, request = kept.source.plan.configurations[name], kept.request
    network = planned.network
    median = f"; the median case has {reasons.by(planned.median_shape)} voxels"
    facts = [
        ("spacing", reasons.mm(planned.spacing), _whose(planned.spacing == old.spacing)),
        (
            "patch size",
            reasons.by(planned.patch_size),
            _whose(planned.patch_size == old.patch_size, request.patch_size) + median,
        ),
        ("batch size", str(planned.batch_size), _explain_batch(planned, old, kept)),
        (
            "network",
            f"{network.architecture}, {network.num_stages} stages",
            _whose(network == old.network),
        ),
        (
            "batch Dice",
            "on" if planned.batch_dice else "off",
            _whose(planned.batch_dice == old.batch_dice),
        ),
        ("mirror axes", *_explain_mirroring(planned, old, kept)),
    ]
    decisions = [
        Decision(what=what, value=value, reason=reason, configuration=name)
        for what, value, reason in facts
    ]
    memory = kept.memory(planned, planned.batch_size)
    return [*decisions, reasons.memory(name, memory, kept.budget)]


def _whose(is_kept: bool, wish: object = None) -> str:
    if is_kept:
        return "kept from the model"
    return reasons.EDITED if wish is None else "given by the user"


def _explain_batch(planned: Configuration, old: Configuration, kept: Kept) -> str:
    is_wished = kept.request.batch_size is not None
    if planned.batch_size < old.batch_size and not is_wished and kept.request.budget_bytes:
        return f"the model's {old.batch_size} would not fit {reasons.gb(kept.budget)}"
    return _whose(planned.batch_size == old.batch_size, kept.request.batch_size)


def _explain_mirroring(planned: Configuration, old: Configuration, kept: Kept) -> tuple[str, str]:
    raw = kept.raw_axes(planned)
    before, now = old.training.mirror_axes, planned.training.mirror_axes
    value = reasons.axis_order([raw[axis] for axis in now]) or "none"
    gone = [raw[axis] for axis in before if axis not in now]
    if kept.request.mirror_axes is not None:
        return value, "given by the user"
    if not gone or not set(now) <= set(before):
        return value, _whose(now == before)
    return value, f"kept from the model, but for {reasons.axis_order(gone)}, which the data forbid"


def warnings_of(kept: Kept, made: dict[str, Configuration]) -> list[Decision]:
    """What may spoil the use of the model.

    Args:
        kept: model and data.
        made: the configurations, by name.
    """
    warnings = [_far_spacing(kept), _lost_channels(kept), _renamed_channels(kept)]
    too_large = [
        Decision(
            what="warning",
            value=f"{name} beyond {reasons.gb(kept.budget)}",
            reason=f"a training step takes about {reasons.gb(total)}; a smaller --batch-size or "
            "--patch-size does not touch the weights",
            configuration=name,
        )
        for name, planned in made.items()
        if (total := kept.memory(planned, planned.batch_size).total) > kept.budget
    ]
    return [*filter(None, warnings), *too_large]


def _far_spacing(kept: Kept) -> Decision | None:
    """That the data are much finer or coarser than the model sees them."""
    dimensions = kept.source.configuration.dimensions
    known = kept.source.plan.configurations.values()
    # A low resolution is coarse on purpose.
    planned = min((c for c in known if c.dimensions == dimensions), key=lambda c: prod(c.spacing))
    usual, _, _ = target_spacing(kept.fingerprint, None, kept.request.rules)
    raw = kept.raw_axes(planned)
    ratios = [usual[axis] / mm for axis, mm in zip(raw, planned.spacing, strict=True)]
    if all(1 / FAR_SPACING <= ratio <= FAR_SPACING for ratio in ratios):
        return None
    return Decision(
        what="warning",
        value="another spacing",
        reason=f"the data have {reasons.mm([usual[axis] for axis in raw])}, the model sees them at "
        f"{reasons.mm(planned.spacing)}: details are lost or made up; if results are poor, plan "
        "without --from-model",
    )


def _lost_channels(kept: Kept) -> Decision | None:
    if not kept.channels.unused:
        return None
    names = ", ".join(kept.channels.unused)
    return Decision(
        what="warning",
        value="channels missing",
        reason=f"the model also saw {names}, which the data do not have under that name; if they "
        "do under another, name them alike in dataset.json",
    )


def _renamed_channels(kept: Kept) -> Decision | None:
    if not kept.channels.renamed:
        return None
    one, other = kept.channels.renamed[0]
    return Decision(
        what="warning",
        value="another channel",
        reason=f"{one} takes the place of the model's {other}",
    )
