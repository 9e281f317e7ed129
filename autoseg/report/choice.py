"""Which model the report is about, and which of its cases are shown: pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from autoseg.core.metrics import CaseScores
from autoseg.core.selection import Selection
from autoseg.report.material import Trained


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenCase:
    """A case worth looking at.

    Attributes:
        fold: that held it out.
        scores: of the case.
        mean_dice: over its structures.
        roles: why, such as ``"best"``.
    """

    fold: str
    scores: CaseScores
    mean_dice: float
    roles: tuple[str, ...]


def choose(
    trained: Sequence[Trained], selection: Selection | None, plan: str
) -> tuple[Trained | None, str]:
    """The model to report on, and why.

    Args:
        trained: every configuration and run.
        selection: what ``autoseg select`` decided, if it did.
        plan: name of the plan they are of.

    Returns:
        The selected one if it was scored, of several that predict together the best; without a
        selection the best on held-out cases; None without scores.
    """
    scored = [(model.mean_dice, model) for model in trained if model.mean_dice is not None]
    if not scored:
        return None, ""
    groups = selection.groups if selection is not None else ()
    named = {(group.configuration, group.run) for group in groups if group.plan == plan}
    selected = [pair for pair in scored if (pair[1].configuration, pair[1].run) in named]
    _, best = max(selected or scored, key=lambda pair: pair[0])
    if selected:
        alone = len(groups) == 1
        return best, "selected" if alone else "the best of those selected to predict together"
    only = "the only one with scores" if len(scored) == 1 else "the best on held-out cases"
    return best, only


def cases_to_show(trained: Trained) -> list[ChosenCase]:
    """Best, median and worst case by mean Dice; one that is several of them comes once.

    Args:
        trained: with scores.
    """
    ranked = sorted(
        (
            (mean, fold, case)
            for fold, report in trained.scores.items()
            for case in report.cases
            if (mean := case.mean_dice) is not None
        ),
        key=lambda entry: (entry[0], entry[1], entry[2].name),
    )
    if not ranked:
        return []
    places = {"worst": 0, "median": (len(ranked) - 1) // 2, "best": len(ranked) - 1}
    roles: dict[int, list[str]] = {}
    for role in ("best", "median", "worst"):
        roles.setdefault(places[role], []).append(role)
    return [
        ChosenCase(
            fold=ranked[place][1],
            scores=ranked[place][2],
            mean_dice=ranked[place][0],
            roles=tuple(names),
        )
        for place, names in roles.items()
    ]
