"""Where two plans differ, in values people read: plans in, rows out.

What counts is what the plans decide. Their names, the reasons of their decisions, and whether
a user or the planner decided do not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from autoseg.core.fingerprint import IntensityStats
from autoseg.core.plan import Configuration, Plan
from autoseg.plan import reasons
from autoseg.plan.memory import GIGABYTE

Side = Literal["first", "second"]
_DIGITS = 4
"""Digits of a number that people read."""
_LABELS = {
    "batch_dice": "batch Dice",
    "use_mask_for_norm": "normalization mask",
    "max_time_s": "longest training time",
}
_MEMORY = "memory of a training step"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Something in which two plans differ.

    Attributes:
        what: such as ``"patch size"``.
        first: its value in the first plan; a dash where it has none.
        second: its value in the second.
    """

    what: str
    first: str
    second: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A configuration in which two plans differ, or what all configurations share.

    Attributes:
        configuration: its name; None for what all share.
        rows: the differences; empty if only one plan has the configuration.
        only_in: the plan that has it; None if both do.
    """

    configuration: str | None
    rows: tuple[Row, ...] = ()
    only_in: Side | None = None


def compare_plans(first: Plan, second: Plan) -> tuple[Section, ...]:
    """Find out where two plans differ.

    Args:
        first: a plan.
        second: another one, of the same data or of others.

    Returns:
        What differs: first what all configurations share, then configuration by configuration
        in the order of the plans; empty if both decide the same.
    """
    shared = _rows(_shared_facts, first, second)
    sections = [Section(configuration=None, rows=shared)] if shared else []
    for name in dict.fromkeys((*first.configurations, *second.configurations)):
        if name not in second.configurations:
            sections.append(Section(configuration=name, only_in="first"))
        elif name not in first.configurations:
            sections.append(Section(configuration=name, only_in="second"))
        else:
            sections += _differing(name, first, second)
    return tuple(sections)


def _differing(name: str, first: Plan, second: Plan) -> list[Section]:
    """The section of a configuration both plans have; none if it is the same."""
    rows = _rows(lambda plan, digits: _facts(plan, name, digits), first, second)
    return [Section(configuration=name, rows=rows)] if rows else []


def _rows(
    facts: Callable[[Plan, int | None], Mapping[str, str]], first: Plan, second: Plan
) -> tuple[Row, ...]:
    """The facts that differ; with all their digits where fewer would hide it."""
    exact = facts(first, None), facts(second, None)
    short = facts(first, _DIGITS), facts(second, _DIGITS)
    rows: list[Row] = []
    for what in dict.fromkeys((*exact[0], *exact[1])):
        if exact[0].get(what) == exact[1].get(what):
            continue
        told = short if short[0].get(what) != short[1].get(what) else exact
        rows.append(Row(what=what, first=told[0].get(what, "-"), second=told[1].get(what, "-")))
    return tuple(rows)


# What a plan says, in words


def _shared_facts(plan: Plan, digits: int | None) -> dict[str, str]:
    """What all configurations of a plan share."""
    return {
        "preset": plan.preset,
        "GPU memory": _text(plan.budget_bytes / GIGABYTE, digits) + " GB",
        "axis order": ", ".join(reasons.AXIS_NAMES[axis] for axis in plan.transpose),
        "channels": ", ".join(plan.channels),
        "label values": _text(plan.label_values, digits),
        **{
            f"intensities of channel {number}": _intensities(stats, digits)
            for number, stats in enumerate(plan.intensities)
        },
    }


def _facts(plan: Plan, name: str, digits: int | None) -> dict[str, str]:
    """What a plan says of a configuration."""
    planned = plan.configurations[name]
    values = {**dict(planned), **dict(planned.network), **dict(planned.training)}
    special = {
        "spacing": " x ".join(_text(mm, digits) for mm in planned.spacing) + " mm",
        "patch_size": reasons.by(planned.patch_size),
        "median_shape": reasons.by(planned.median_shape),
        "mirror_axes": _mirrored(plan, planned),
    }
    facts = {
        _LABELS.get(field, field.replace("_", " ")): special.get(field, _text(value, digits))
        for field, value in values.items()
        if field not in ("network", "training")
    }
    told_of = {(d.configuration, d.what): d.value for d in plan.decisions}
    return {**facts, _MEMORY: told_of.get((name, _MEMORY), "-")}


def _mirrored(plan: Plan, planned: Configuration) -> str:
    """Mirrored axes by their names in the raw images, which do not depend on the axis order."""
    raw = plan.transpose[3 - planned.dimensions :]
    axes = sorted(raw[axis] for axis in planned.training.mirror_axes)
    return ", ".join(reasons.AXIS_NAMES[axis] for axis in axes) or "none"


def _intensities(stats: IntensityStats, digits: int | None) -> str:
    low, high = _text(stats.percentile_00_5, digits), _text(stats.percentile_99_5, digits)
    rest = {"mean": stats.mean, "std": stats.std, "median": stats.median}
    rest |= {"min": stats.min, "max": stats.max}
    return ", ".join([f"{low} .. {high}", *(f"{k} {_text(v, digits)}" for k, v in rest.items())])


def _text(value: Any, digits: int | None) -> str:  # noqa: ANN401 - any field of a plan
    """A value as people write it: rows of strides as ``1x2x2``, lists with commas.

    Numbers have so many digits; with None as many as tell any two of them apart.
    """
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return repr(value).removesuffix(".0") if digits is None else f"{value:.{digits}g}"
    if isinstance(value, tuple):
        items = cast("tuple[Any, ...]", value)
        return ", ".join(_item(item, digits) for item in items) or "none"
    return "none" if value is None else str(value)


def _item(value: Any, digits: int | None) -> str:  # noqa: ANN401 - an entry of such a field
    if isinstance(value, tuple):
        return reasons.by(cast("tuple[int, ...]", value))
    return _text(value, digits)
