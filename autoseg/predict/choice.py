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

    def label_among(self, others: Sequence[Candidate]) -> str:
        """How it is shown beside others.

        Plan and run are named where they are not the default ones, or not the only ones.

        Args:
            others: what it is to be told from; it may be among them.
        """
        plans = {self.plan, *(other.plan for other in others)}
        runs = {self.run, *(other.run for other in others)}
        extra = [
            f"{kind} {name}"
            for kind, name, known in (("plan", self.plan, plans), ("run", self.run, runs))
            if name != "default" or len(known) > 1
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
        others = [c for c in candidates if c is not chosen]
        is_only = all(len(c.folds) < len(chosen.folds) for c in others)
        why = "it has the most finished folds" if is_only else "no other has more finished folds"
        named = ", ".join(c.label_among(candidates) for c in others)
        return chosen, f"{why}; none has held-out scores (others: {named})"
    score, chosen = max(scored, key=lambda pair: pair[0])
    if len(candidates) == 1:
        return chosen, f"the only one to choose from; held-out Dice {score:.3f}"
    others = ", ".join(
        f"{c.label_among(candidates)} " + ("not scored" if c.score is None else f"{c.score:.3f}")
        for c in candidates
        if c is not chosen
    )
    return chosen, f"best held-out Dice, {score:.3f} (others: {others})"
