"""Which of the trained models to predict with, and why: pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from autoseg.errors import WorkspaceError


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """The finished folds of one configuration and run.

    Attributes:
        plan: name of the plan.
        configuration: name of the configuration.
        run: name of the run.
        folds: names of the finished folds.
        dice: mean Dice on the held-out cases of each fold that has it.
    """

    plan: str
    configuration: str
    run: str
    folds: tuple[str, ...]
    dice: tuple[float, ...]

    @property
    def score(self) -> float | None:
        """Mean over the folds that were scored; None if none was."""
        return fmean(self.dice) if self.dice else None

    @property
    def label(self) -> str:
        """How it is shown."""
        extra = [
            f"{kind} {name}"
            for kind, name in (("plan", self.plan), ("run", self.run))
            if name != "default"
        ]
        return " ".join([self.configuration, ", ".join(self.folds), *extra])


def choose(candidates: Sequence[Candidate]) -> tuple[Candidate, str]:
    """The candidate with the best held-out Dice, and why it was chosen.

    Args:
        candidates: those that may be chosen.

    Returns:
        The chosen one, and the reason in a few words.

    Raises:
        WorkspaceError: if there is none.
    """
    if not candidates:
        raise WorkspaceError(
            "no model is trained yet", remedy="run: autoseg train 3d_fullres fold0"
        )
    scored = [(c.score, c) for c in candidates if c.score is not None]
    if not scored and len(candidates) == 1:
        return candidates[0], "the only one to choose from; without held-out scores"
    if not scored:
        chosen = max(candidates, key=lambda c: len(c.folds))
        return chosen, "it has the most finished folds; none has held-out scores"
    score, chosen = max(scored, key=lambda pair: pair[0])
    if len(candidates) == 1:
        return chosen, f"the only one to choose from; held-out Dice {score:.3f}"
    others = ", ".join(
        f"{c.label} {c.score:.3f}" if c.score is not None else f"{c.label} not scored"
        for c in candidates
        if c is not chosen
    )
    return chosen, f"best held-out Dice, {score:.3f} (others: {others})"
