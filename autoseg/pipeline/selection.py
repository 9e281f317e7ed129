"""``autoseg select``: all trained models and their ensembles -> ``selection.json``."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from autoseg.core.labels import LabelSpace
from autoseg.core.progress import Progress, silent
from autoseg.core.selection import CleanUpEffect, FoldSpread, Selection
from autoseg.core.words import counted
from autoseg.errors import unknown_name
from autoseg.evaluate.cleaning import choose_clean_up
from autoseg.evaluate.combining import Members, ensembles_of
from autoseg.evaluate.label_maps import Compared, compare_label_maps
from autoseg.evaluate.removing import CaseParts
from autoseg.evaluate.select import (
    Contender,
    foreground_dice,
    in_words,
    rank,
    shared_cases,
    spread_of,
)
from autoseg.evaluate.statistics import patients_of
from autoseg.io import artifacts, atomic
from autoseg.io.workspace import TaskFolder
from autoseg.pipeline.candidates import Candidate, Fold, Gathered, gather
from autoseg.pipeline.held_out import (
    KeptCase,
    case_scores,
    key_of,
    open_cases,
    scores_of,
)

logger = logging.getLogger(__name__)

MOST_TOGETHER = 5
"""Candidates, the best by themselves, of which every ensemble is scored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectRequest:
    """What to select from, and how to compute.

    Attributes:
        plan: only models of this plan; None for all.
        run: only models of this run; None for all.
        device: as ``choose_device`` takes it.
        precision: as ``networks.precision.choose`` takes it.
        workers: processes that score; None for as many as fit.
    """

    plan: str | None = None
    run: str | None = None
    device: str = "auto"
    precision: str = "auto"
    workers: int | None = None


def select_model(
    task: TaskFolder, request: SelectRequest, progress: Progress = silent
) -> Selection:
    """Select what predicts, by the cases that were held out.

    Every configuration and run is scored by the label maps of its held-out cases, every ensemble
    of the best of them from probabilities made on the fly. What is known already is not found
    out again: a command that was stopped goes on where it was.

    Args:
        task: the task's folder.
        request: what to select from, and how to compute.
        progress: called after each case.

    Returns:
        The selection, as written to ``selection.json``.

    Raises:
        AutosegError: if nothing is trained that holds out cases, or a case cannot be predicted.
    """
    _refuse_unknown(task, request)
    atomic.make_folder(task.held_out)
    with atomic.lock(task.held_out / ".lock"):
        gathered = gather(task, request.plan, request.run)
        everything = request.plan is None and request.run is None
        kept = open_cases(task, gathered, all_there=everything)
        scoring = _Scoring(task, request, gathered, kept, progress)
        for candidate in gathered.candidates:
            scoring.score(candidate)
        selection = _select(scoring)
        artifacts.save(task.selection, selection)
    return selection


class _Scoring:
    """What is found out for a selection."""

    def __init__(
        self,
        task: TaskFolder,
        request: SelectRequest,
        gathered: Gathered,
        kept: Mapping[str, KeptCase],
        progress: Progress,
    ) -> None:
        self.request, self.gathered, self.kept = request, gathered, kept
        self._task, self._progress = task, progress

    @property
    def labels(self) -> LabelSpace:
        """What is segmented."""
        return self.gathered.dataset.labels

    def score(self, candidate: Candidate) -> None:
        """Score a candidate by itself on all cases it held out, and take it apart, too."""
        for fold in candidate.folds.values():
            cases = [c for c in fold.held_out if candidate.holders[c] is fold]
            # What it consists of is found on the way; to load the weights again takes longer.
            missing = [c for c in cases if fold.identity not in self.kept[c].scores.parts]
            for name, found in self._compare(candidate, fold, missing).items():
                self.kept[name].add({fold.identity: found.voxels}, {fold.identity: found.parts})

    def score_ensembles(self, combined: Sequence[Members], names: Sequence[str]) -> None:
        """Score ensembles on cases that all their members held out."""
        from autoseg.pipeline.ensembles import score_ensembles
        from autoseg.predict.loading import PredictOptions

        if not combined:
            return
        logger.info(
            "scoring %s on %s", counted(len(combined), "ensemble"), counted(len(names), "case")
        )
        options = PredictOptions(device=self.request.device, precision=self.request.precision)
        parts = self.gathered, self.kept, combined, names
        score_ensembles(*parts, options, self._progress)

    def take_apart(self, members: Members, names: Sequence[str]) -> list[CaseParts]:
        """The parts of what some candidates together make of cases."""
        from autoseg.pipeline.ensembles import take_apart
        from autoseg.predict.loading import PredictOptions

        chosen = [self.gathered.candidates[member] for member in members]
        if len(members) > 1:
            options = PredictOptions(device=self.request.device, precision=self.request.precision)
            take_apart(self.gathered, self.kept, members, names, options, self._progress)
        return [self._case_parts(chosen, name) for name in names]

    def _case_parts(self, chosen: Sequence[Candidate], name: str) -> CaseParts:
        parts = self.kept[name].scores.parts[key_of(chosen, name)]
        empty = tuple((0, 0, 0) for _ in self.labels.structures)
        who = case_scores(self.gathered, name, empty)
        return CaseParts(case=who, parts=parts, labels=self.labels)

    def _compare(
        self, candidate: Candidate, fold: Fold, names: Sequence[str]
    ) -> dict[str, Compared]:
        """Compare the label maps of a fold with their references; predicted where need be."""
        from autoseg.pipeline.training import predict_held_out
        from autoseg.train.inputs import TrainRequest

        if not names:
            return {}
        group, request = candidate.group, self.request
        where = TrainRequest(
            configuration=group.configuration,
            fold=fold.folder.fold,
            plan=group.plan,
            run=group.run,
            device=request.device,
            precision=request.precision,
        )
        logger.info("scoring %s %s", group.name, fold.folder.fold)
        pairs = predict_held_out(self._task, where, self._progress, names=names)
        return compare_label_maps(
            pairs, self.labels, workers=request.workers, progress=self._progress
        )


def _select(scoring: _Scoring) -> Selection:
    gathered, structures = scoring.gathered, scoring.labels.names
    candidates = gathered.candidates
    compared, shared = shared_cases([frozenset(c.holders) for c in candidates])
    names = sorted(shared)
    by_score = sorted(compared, key=lambda n: -_alone(scoring, n, names))
    combined = ensembles_of(by_score[:MOST_TOGETHER])
    scoring.score_ensembles(combined, names)
    groups = [(member,) for member in compared] + combined
    contenders = [_contender(scoring, members, names) for members in groups]
    standings = rank(contenders, structures)
    chosen = next(s for s in standings if s.is_selected)
    members = next(m for m, c in zip(groups, contenders, strict=True) if c.groups == chosen.groups)
    selected = [candidates[member] for member in members]
    apart = scoring.take_apart(members, sorted(_held_by_all(selected)))
    effects = choose_clean_up(apart, scoring.labels)
    num_patients = len(set(patients_of(contenders[0].cases)))
    notes = _notes(gathered, compared, names)
    before, after = _dice(apart, []), _dice(apart, effects)
    told = in_words(standings, len(names), num_patients)
    return Selection(
        groups=chosen.groups,
        clean_up=tuple(effect.rule for effect in effects),
        summary=" ".join([told, *_clean_up_words(effects, before, after), _HONEST]),
        num_cases=len(names),
        num_patients=num_patients,
        standings=standings,
        spread=tuple(_spread(scoring, candidate) for candidate in candidates),
        effects=effects,
        dice=after,
        dice_before=before,
        notes=notes,
        weights=gathered.weights,
        plan=scoring.request.plan,
        run=scoring.request.run,
    )


_HONEST = (
    "All scores are of the cases the decision was made with; expect a little less of new ones."
)


def _alone(scoring: _Scoring, number: int, names: Sequence[str]) -> float:
    """Dice of a candidate by itself; those without one come last."""
    candidate = scoring.gathered.candidates[number]
    cases = scores_of(scoring.gathered, scoring.kept, [candidate], names)
    dice = foreground_dice(cases, scoring.labels.names)
    return -1.0 if dice is None else dice


def _contender(scoring: _Scoring, members: Members, names: Sequence[str]) -> Contender:
    chosen = [scoring.gathered.candidates[member] for member in members]
    costs = [candidate.operations for candidate in chosen]
    known = [cost for cost in costs if cost is not None]
    return Contender(
        groups=tuple(candidate.group for candidate in chosen),
        num_networks=sum(candidate.num_networks for candidate in chosen),
        operations=sum(known) if len(known) == len(costs) else None,
        cases=scores_of(scoring.gathered, scoring.kept, chosen, names),
        held_out=_held_by_all(chosen),
    )


def _held_by_all(chosen: Sequence[Candidate]) -> frozenset[str]:
    """The cases that each of some candidates held out."""
    return frozenset.intersection(*(frozenset(candidate.holders) for candidate in chosen))


def _spread(scoring: _Scoring, candidate: Candidate) -> FoldSpread:
    holders = candidate.holders
    by_fold = {
        name: list(
            scores_of(
                scoring.gathered,
                scoring.kept,
                [candidate],
                [case for case in fold.held_out if holders[case] is fold],
            )
        )
        for name, fold in candidate.folds.items()
    }
    by_fold = {name: cases for name, cases in by_fold.items() if cases}
    return spread_of(candidate.group, by_fold, scoring.labels.names, scoring.gathered.all_folds)


def _notes(gathered: Gathered, compared: Sequence[int], names: Sequence[str]) -> tuple[str, ...]:
    notes = list(gathered.notes)
    for number, candidate in enumerate(gathered.candidates):
        if number not in compared:
            notes.append(f"{candidate.group.name} is not compared: it held out none of these cases")
    most = max(len(gathered.candidates[number].holders) for number in compared)
    if len(names) < most:
        notes.append(
            f"compared on the {counted(len(names), 'case')} that all models held out; "
            f"some held out more, up to {most}"
        )
    if len(compared) > MOST_TOGETHER:
        notes.append(f"ensembles of the {MOST_TOGETHER} best models only were scored")
    return tuple(notes)


def _dice(apart: Sequence[CaseParts], effects: Sequence[CleanUpEffect]) -> float | None:
    """Mean over structures of their mean Dice, after a clean-up."""
    labels, rules = apart[0].labels, [effect.rule for effect in effects]
    numbers = range(len(labels.structures))
    columns = np.array([case.dice(rules, numbers) for case in apart])
    means = [column[np.isfinite(column)] for column in columns.T]
    defined = [float(mean.mean()) for mean in means if len(mean)]
    return sum(defined) / len(defined) if defined else None


def _clean_up_words(
    effects: Sequence[CleanUpEffect], before: float | None, after: float | None
) -> list[str]:
    if not effects:
        return ["No clean-up pays beyond noise."]
    told = [f"{e.rule.in_words} (Dice {e.before:.3f} to {e.after:.3f})" for e in effects]
    words = f"Clean-up that pays beyond noise: {'; '.join(told)}"
    if before is not None and after is not None and f"{before:.3f}" != f"{after:.3f}":
        words += f"; with it the mean Dice is {after:.3f} instead of {before:.3f}"
    return [f"{words}."]


def _refuse_unknown(task: TaskFolder, request: SelectRequest) -> None:
    """Refuse the name of a plan or run that nothing was trained with."""
    folders = [folder for folder in task.fold_folders() if folder.is_finished]
    for kind, name, known in (
        ("plan with a trained model", request.plan, {folder.plan for folder in folders}),
        ("run", request.run, {folder.run for folder in folders}),
    ):
        if name is not None and folders and name not in known:
            raise unknown_name(kind, name, known)
