"""What a report is made of: values, read from the task before the page is built."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from autoseg.core.dataset import Dataset, Splits
from autoseg.core.fingerprint import Fingerprint
from autoseg.core.metrics import Report
from autoseg.core.plan import Plan
from autoseg.core.problem import Problem
from autoseg.core.selection import Selection
from autoseg.figures.layers import SliceLayers

Epochs = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedFold:
    """How far a fold's training has come.

    Attributes:
        fold: its name.
        history: its epochs, oldest first, as lines of ``history.jsonl``.
        is_finished: whether it came to its end.
    """

    fold: str
    history: Epochs
    is_finished: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """The folds of one configuration and run.

    Attributes:
        configuration: its name.
        run: the run's name.
        folds: those whose training began.
        scores: of held-out cases, by fold.
        pooled: the same cases in one report; None if no fold was scored.
    """

    configuration: str
    run: str
    folds: tuple[TrainedFold, ...]
    scores: Mapping[str, Report]
    pooled: Report | None

    @property
    def label(self) -> str:
        """How it is shown."""
        return self.configuration if self.run == "default" else f"{self.configuration} ({self.run})"

    @property
    def mean_dice(self) -> float | None:
        """Mean over the scored folds of their mean Dice, by which models are compared."""
        means = [report.mean_foreground_dice for report in self.scores.values()]
        defined = [mean for mean in means if mean is not None]
        return fmean(defined) if defined else None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownCase:
    """A case whose slices are shown.

    Attributes:
        name: the case.
        fold: that held it out.
        roles: why it is shown, such as ``"best"``.
        mean_dice: its mean over structures.
        dice: by structure; None where undefined.
        slices: its pictures; none if they could not be drawn.
        problem: why not.
    """

    name: str
    fold: str
    roles: tuple[str, ...]
    mean_dice: float
    dice: Mapping[str, float | None]
    slices: tuple[SliceLayers, ...]
    problem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """All that is known about a task and a plan.

    Attributes:
        dataset: its cases.
        fingerprint: what was measured.
        splits: its folds.
        plan: the plan.
        plan_name: its name.
        problems: what is wrong with the data.
        trained: every configuration and run of the plan whose training began.
        chosen: the one of them whose cases are shown; None if none was scored.
        why: why it was chosen, in a few words.
        selection: what ``autoseg select`` decided, if it did.
        outdated: what has happened to the models since, in a line; None if nothing has.
        shown: best, median and worst cases of the chosen one.
        version: of autoseg.
        made_on: date, as it is written.
    """

    dataset: Dataset
    fingerprint: Fingerprint
    splits: Splits | None
    plan: Plan
    plan_name: str
    problems: tuple[Problem, ...]
    trained: tuple[Trained, ...]
    chosen: Trained | None
    why: str
    selection: Selection | None
    outdated: str | None
    shown: tuple[ShownCase, ...]
    version: str
    made_on: str

    @property
    def scored(self) -> tuple[Trained, ...]:
        """Those with scores, the chosen one first."""
        scored = [trained for trained in self.trained if trained.pooled is not None]
        return tuple(sorted(scored, key=lambda trained: trained is not self.chosen))
