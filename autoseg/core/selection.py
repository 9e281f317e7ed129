"""Which trained models predict together, what is cleaned up after them, and why."""

from __future__ import annotations

from pydantic import Field

from autoseg.core.artifact import Artifact, Frozen
from autoseg.core.fingerprint import FileStamp

Interval = tuple[float, float]

DEFAULT = "default"
"""The plan and the run that names leave out."""


class CleanUp(Frozen):
    """What is removed of a structure after it was segmented.

    Attributes:
        structure: its name.
        largest_only: whether only the largest connected component stays.
        smallest_ml: components below this volume, in ml, are removed; None removes none.
    """

    structure: str
    largest_only: bool = False
    smallest_ml: float | None = Field(default=None, gt=0)

    @property
    def in_words(self) -> str:
        """What is done, such as ``"tumour: components below 0.12 ml removed"``."""
        done = ["only the largest component kept"] if self.largest_only else []
        if self.smallest_ml is not None:
            done.append(f"components below {self.smallest_ml:g} ml removed")
        return f"{self.structure}: {', '.join(done)}"


class Group(Frozen):
    """Folds of one configuration and run, whose logits are averaged.

    Attributes:
        plan: name of the plan.
        configuration: name of the configuration.
        run: name of the run.
        folds: names of the folds.
    """

    plan: str
    configuration: str
    run: str
    folds: tuple[str, ...] = Field(min_length=1)

    @property
    def name(self) -> str:
        """What tables call it: the configuration, with plan and run that are not the default."""
        named = (("plan", self.plan), ("run", self.run))
        extra = [f"{kind} {name}" for kind, name in named if name != DEFAULT]
        return f"{self.configuration} ({', '.join(extra)})" if extra else self.configuration


class FoldSpread(Frozen):
    """The folds of one configuration and run: Dice of the cases that each held out.

    Attributes:
        group: the configuration and run, with all folds that were scored.
        num_cases: cases all folds held out together.
        dice: mean over structures of their mean over all these cases; None if undefined.
        structures: mean over these cases, by structure.
        folds: mean over structures, by fold.
        structures_by_fold: by fold, then by structure.
        sd: standard deviation of ``folds``; None for fewer than two.
        not_trained: folds of the task that are missing here.
    """

    group: Group
    num_cases: int
    dice: float | None
    structures: dict[str, float | None]
    folds: dict[str, float | None]
    structures_by_fold: dict[str, dict[str, float | None]]
    sd: float | None = None
    not_trained: tuple[str, ...] = ()


class Standing(Frozen):
    """One model that could have been selected, on the cases that all of them held out.

    Attributes:
        name: the configurations, joined by ``" + "`` if they are an ensemble.
        groups: what predicts.
        num_networks: networks a held-out case goes through: one fold of each group, previous
            stages counted.
        operations: multiplications of these for a case of median size; None if unknown.
        dice: mean over structures of their mean over the cases; None if undefined.
        structures: mean over the cases, by structure.
        behind: Dice of the best less its own.
        interval: 95% bootstrap interval of ``behind`` over patients; None where fewer than two
            have a score in both.
        is_selected: whether it is the one.
        reason: why it is, or is not, in a few words.
    """

    name: str
    groups: tuple[Group, ...]
    num_networks: int
    operations: float | None
    dice: float | None
    structures: dict[str, float | None]
    behind: float | None = None
    interval: Interval | None = None
    is_selected: bool = False
    reason: str = ""


class CleanUpEffect(Frozen):
    """What a clean-up brings in cross-validation.

    Attributes:
        rule: what is removed.
        before: mean Dice of the structure without it.
        after: mean Dice with it.
        interval: 95% bootstrap interval of the gain over patients.
    """

    rule: CleanUp
    before: float
    after: float
    interval: Interval


class Selection(Artifact):
    """What ``autoseg select`` decided: the content of ``selection.json``.

    Scores are of the cases the decision was made with: a little better than new cases will be.

    Attributes:
        groups: what predicts; of several the probabilities are averaged on the raw grid.
        clean_up: what is removed afterwards, at most one entry per structure.
        summary: the decision in plain words.
        num_cases: held-out cases that all alternatives were compared on.
        num_patients: whom these are of.
        standings: all alternatives, the highest Dice first.
        spread: the folds of every configuration and run.
        effects: what each entry of ``clean_up`` brings.
        dice: of what was selected, on all cases it held out, after the clean-up.
        dice_before: the same without it.
        notes: what was left out, and what is missing, in lines.
        weights: every fold that was considered, ``plan/configuration/run/fold``, and what its
            weights looked like: how a selection is known to be out of date.
        plan: the only plan that was considered; None for all.
        run: the only run that was considered; None for all.
    """

    groups: tuple[Group, ...] = Field(min_length=1)
    clean_up: tuple[CleanUp, ...] = ()
    summary: str = ""
    num_cases: int = 0
    num_patients: int = 0
    standings: tuple[Standing, ...] = ()
    spread: tuple[FoldSpread, ...] = ()
    effects: tuple[CleanUpEffect, ...] = ()
    dice: float | None = None
    dice_before: float | None = None
    notes: tuple[str, ...] = ()
    weights: dict[str, FileStamp] = Field(default_factory=dict)
    plan: str | None = None
    run: str | None = None
