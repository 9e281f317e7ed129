"""What the rules of autoseg's own changed about a plan."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from autoseg.core.plan import Decision
from autoseg.errors import AutosegError
from autoseg.plan import reasons
from autoseg.plan.drafts import Draft, Outline
from autoseg.plan.rules import FITTING_RULES, REASONS, Rule

Outlining = Callable[[frozenset[Rule]], Outline]


def rule_effects(chosen: Outline, rules: frozenset[Rule], outlined: Outlining) -> list[Decision]:
    """Say which rules made a difference, and which.

    A rule made one if the plan would be another without it, or if it alone would change
    nnU-Net's plan.

    Args:
        chosen: the plan with all rules in force.
        rules: these rules.
        outlined: makes the plan with other rules.

    Returns:
        Decisions named after the rules; none if the plan is nnU-Net's.
    """
    bare = _tried(outlined, frozenset[Rule]())
    if _same(bare, chosen):
        return []
    decisions: list[Decision] = []
    for rule in FITTING_RULES:
        if rule not in rules:
            continue
        without = _tried(outlined, rules - {rule})
        if not _same(without, chosen):
            decisions += _difference(rule, without, chosen, REASONS[rule])
        else:
            alone = _tried(outlined, frozenset[Rule]({rule}))
            why = f"{REASONS[rule]}; so it would be by this rule alone, others decide as much"
            decisions += _difference(rule, bare, alone, why)
    return decisions


def _tried(outlined: Outlining, rules: frozenset[Rule]) -> Outline | None:
    try:
        return outlined(rules)
    except AutosegError:
        return None


def _same(first: Outline | None, second: Outline | None) -> bool:
    if first is None or second is None:
        return first is second
    return _essence(first) == _essence(second)


def _essence(outline: Outline) -> tuple[object, ...]:
    """All that enters the configurations."""
    return (
        outline.transpose,
        [
            (draft.name, draft.grid, draft.fit.network, draft.fit.patch_size, draft.fit.batch_size)
            for draft in outline.drafts
        ],
    )


def _difference(
    rule: Rule, before: Outline | None, after: Outline | None, reason: str
) -> Iterator[Decision]:
    """What a rule changed, for all configurations and for each."""
    what = f"rule '{rule}'"
    if before is None and after is None:
        return
    if before is None or after is None:
        value = reasons.change(*("no plan" if o is None else "a plan" for o in (before, after)))
        yield Decision(what=what, value=value, reason=reason)
        return
    if before.transpose != after.transpose or _names(before) != _names(after):
        values = [
            reasons.change(
                reasons.axis_order(before.transpose), reasons.axis_order(after.transpose)
            )
            if before.transpose != after.transpose
            else "",
            reasons.change(", ".join(_names(before)), ", ".join(_names(after)))
            if _names(before) != _names(after)
            else "",
        ]
        yield Decision(what=what, value="; ".join(filter(None, values)), reason=reason)
    old = {draft.name: draft for draft in before.drafts}
    for draft in after.drafts:
        changes = _changes(old[draft.name], draft) if draft.name in old else []
        if changes:
            yield Decision(
                what=what,
                value=", ".join(changes),
                reason=f"{reason} ({_estimates(old[draft.name], draft)})",
                configuration=draft.name,
            )


def _names(outline: Outline) -> list[str]:
    return [draft.name for draft in outline.drafts]


def _changes(before: Draft, after: Draft) -> list[str]:
    """What differs between two versions of a configuration."""
    told: dict[str, tuple[object, object]] = {
        "spacing": (reasons.mm(before.grid.spacing), reasons.mm(after.grid.spacing)),
        "patch": (reasons.by(before.fit.patch_size), reasons.by(after.fit.patch_size)),
        "stages": (before.fit.network.num_stages, after.fit.network.num_stages),
        "batch": (before.fit.batch_size, after.fit.batch_size),
    }
    return [f"{what} {reasons.change(*pair)}" for what, pair in told.items() if pair[0] != pair[1]]


def _estimates(before: Draft, after: Draft) -> str:
    old, new = reasons.gb(before.fit.estimate_bytes), reasons.gb(after.fit.estimate_bytes)
    return f"estimated {old} before, {new} after"
