"""Which trained model predicts: what a user named, what was selected, or the best."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from autoseg.core.metrics import Report
from autoseg.core.selection import CleanUp, Selection
from autoseg.core.words import flags
from autoseg.errors import ArtifactError, AutosegError, WorkspaceError, unknown_name
from autoseg.io import artifacts, bundle
from autoseg.io.named_models import BUNDLE_NAME, bundles_at
from autoseg.io.selected import outdated
from autoseg.io.workspace import EVERYTHING, TaskFolder
from autoseg.predict.choice import Candidate, choose

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelChoice:
    """Which model a user names; what is left out is chosen.

    Attributes:
        bundle: a ``bundle.json``, the folder of one or of several folds, or a model file, instead
            of a workspace's model.
        configuration: its name, or several with commas between that predict together; None for
            the selected model, or else the best.
        plan: its name, or None for any.
        run: its name, or None for any.
        folds: fold names; empty for all that are finished.
        fast: a single fold, no mirroring, fewer patches.
    """

    bundle: Path | None = None
    configuration: str | None = None
    plan: str | None = None
    run: str | None = None
    folds: tuple[str, ...] = ()
    fast: bool = False

    @property
    def is_narrow(self) -> bool:
        """Whether anything was named."""
        names = (self.configuration, self.plan, self.run)
        return any(name is not None for name in names) or bool(self.folds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The model that predicts.

    Attributes:
        groups: of each configuration and run, one ``bundle.json`` per fold.
        clean_up: what is removed afterwards.
        why: what it is and why it was chosen.
        cost: of ``fast``: what it is known to cost, or how to find out; None without it.
    """

    groups: tuple[tuple[Path, ...], ...]
    clean_up: tuple[CleanUp, ...] = ()
    why: str
    cost: str | None = None


def choose_model(task: TaskFolder | None, choice: ModelChoice) -> Chosen:
    """Find the model a user means: what was named, else what was selected, else the best.

    Args:
        task: the task's folder; may be None if the choice names a bundle.
        choice: what the user named.

    Raises:
        AutosegError: if there is no such model.
    """
    if choice.bundle is not None:
        return _lying_at(choice.bundle, choice)
    assert task is not None
    found = candidates(task)
    selection = None if choice.is_narrow else _selection(task, found)
    if selection is not None:
        together, why, rules = (
            _of_selection(found, selection),
            selection.summary,
            selection.clean_up,
        )
        why = f"selected; {why}" if why else "selected"
    else:
        together, why = _named(found, choice)
        rules = ()
    if choice.fast:
        return _fast(task, together, rules, found)
    groups = tuple(tuple(model_files(task, one)) for one in together)
    label = " and ".join(one.label_among(found) for one in together)
    return Chosen(groups=groups, clean_up=rules, why=f"{label}: {why}")


def _lying_at(place: Path, choice: ModelChoice) -> Chosen:
    """What predicts where a user named a place, not a model of a workspace."""
    if choice.is_narrow:
        raise AutosegError(
            "is one model, of which nothing is chosen",
            place=place,
            remedy="leave out either -m or all of -c, -f, --plan and --run",
        )
    files = bundles_at(place)
    if not files:
        raise ArtifactError(
            "there is no model here",
            place=place,
            remedy=f"name a {BUNDLE_NAME}, the folder of one or of several folds, or an exported "
            "file; --plan, -c and --run name a model of the workspace",
        )
    cost = "--fast, a single fold: what it costs is known in the model's own workspace only"
    return Chosen(
        groups=(files[:1] if choice.fast else files,),
        why=str(place),
        cost=cost if choice.fast else None,
    )


def _named(found: Sequence[Candidate], choice: ModelChoice) -> tuple[list[Candidate], str]:
    """What a user named, or the best of it."""
    names = [name.strip() for name in (choice.configuration or "").split(",")]
    names = [name for name in dict.fromkeys(names) if name]
    if len(names) < 2:
        name = names[0] if names else None
        kept = _narrowed(found, name, choice) if found else []
        chosen, reason = choose(kept)
        return [chosen], reason
    if not found:
        choose(found)
    together = [choose(_narrowed(found, name, choice))[0] for name in names]
    return together, "together, as named"


def _narrowed(found: Sequence[Candidate], name: str | None, choice: ModelChoice) -> list[Candidate]:
    return narrow(found, name, choice.run, choice.folds, choice.plan)


def _selection(task: TaskFolder, found: Sequence[Candidate]) -> Selection | None:
    """What ``select`` decided, if all it names is there."""
    if not task.selection.is_file():
        return None
    selection = artifacts.load(task.selection, Selection)
    folds = {(c.plan, c.configuration, c.run): set(c.folds) for c in found}
    for group in selection.groups:
        missing = set(group.folds) - folds.get((group.plan, group.configuration, group.run), set())
        if missing:
            logger.warning(
                "selection.json names %s %s, which is not trained any more: the best single model "
                "is used; run: autoseg select",
                group.configuration,
                min(missing),
            )
            return None
    told = outdated(task, selection)
    if told is not None:
        logger.warning("%s", told)
    return selection


def _of_selection(found: Sequence[Candidate], selection: Selection) -> list[Candidate]:
    by_name = {(c.plan, c.configuration, c.run): c for c in found}
    return [
        replace(by_name[group.plan, group.configuration, group.run], folds=group.folds)
        for group in selection.groups
    ]


def _fast(
    task: TaskFolder,
    together: Sequence[Candidate],
    rules: tuple[CleanUp, ...],
    found: Sequence[Candidate],
) -> Chosen:
    """One fold of the best of what would predict together."""
    best, _ = choose(together)
    fold = min(best.folds, key=lambda name: (name == EVERYTHING, name))
    one = replace(best, folds=(fold,))
    return Chosen(
        groups=(tuple(model_files(task, one)),),
        clean_up=rules,
        why=f"{one.label_among(found)}: --fast, a single fold of it",
        cost=f"--fast: {fast_cost(task, one)}",
    )


def fast_cost(task: TaskFolder, one: Candidate) -> str:
    """What ``--fast`` costs on held-out cases, or how to find out.

    Args:
        task: the task's folder.
        one: a single fold.
    """
    where = (one.plan, one.configuration, one.run, one.folds[0])
    usual, fast = _dice(task.report_file(*where)), _dice(task.fast_report_file(*where))
    if usual is not None and fast is not None:
        return f"Dice {fast:.3f} on the cases {one.folds[0]} held out, {usual:.3f} without --fast"
    if fast is not None:
        return f"Dice {fast:.3f} on the cases {one.folds[0]} held out; without, they are not scored"
    if one.folds[0] == EVERYTHING:
        return "what it costs is not known: no cases were held out"
    if not bundle.load_model(task.fold_folder(*where).bundle).held_out:
        return "what it costs is not known, nor which cases were held out"
    named = flags(plan=one.plan, run=one.run)
    command = f"autoseg validate {one.configuration} {one.folds[0]} --fast{named}"
    return f"what it costs is not measured yet; run: {command}"


def candidates(task: TaskFolder) -> list[Candidate]:
    """All models of a task with at least one finished fold."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for folder in task.fold_folders():
        if folder.is_finished:
            key = (folder.plan, folder.configuration, folder.run)
            groups.setdefault(key, []).append(folder.fold)
    return [
        Candidate(
            plan=plan,
            configuration=configuration,
            run=run,
            folds=tuple(folds),
            dice=_held_out_dice(task, plan, configuration, run, folds),
        )
        for (plan, configuration, run), folds in groups.items()
    ]


def narrow(
    found: Sequence[Candidate],
    configuration: str | None,
    run: str | None,
    folds: Sequence[str],
    plan: str | None = None,
) -> list[Candidate]:
    """Keep the models a user named.

    Args:
        found: all there are.
        configuration: its name, or None for any.
        run: its name, or None for any.
        folds: fold names; empty for all that are finished.
        plan: its name, or None for any.

    Raises:
        UnknownNameError: if nothing of a name is trained.
        WorkspaceError: if nothing has all that was named.
    """
    if plan is not None and all(c.plan != plan for c in found):
        raise unknown_name("plan with a trained model", plan, {c.plan for c in found})
    if configuration is not None and all(c.configuration != configuration for c in found):
        raise unknown_name("trained configuration", configuration, {c.configuration for c in found})
    if run is not None and all(c.run != run for c in found):
        raise unknown_name("run", run, {c.run for c in found})
    kept = [
        c
        for c in found
        if configuration in (None, c.configuration)
        and run in (None, c.run)
        and plan in (None, c.plan)
    ]
    for fold in folds:
        if kept and all(fold not in c.folds for c in kept):
            raise unknown_name("trained fold", fold, {f for c in kept for f in c.folds})
    if folds:
        kept = [replace(c, folds=tuple(folds)) for c in kept if set(folds) <= set(c.folds)]
    if not kept:
        trained = "; ".join(c.label_among(found) for c in found)
        raise WorkspaceError(f"no model has all of what was asked for; trained are: {trained}")
    return kept


def model_files(task: TaskFolder, chosen: Candidate) -> list[Path]:
    """The bundles of a model's folds."""
    return [
        task.fold_folder(chosen.plan, chosen.configuration, chosen.run, fold).bundle
        for fold in chosen.folds
    ]


def _held_out_dice(
    task: TaskFolder, plan: str, configuration: str, run: str, folds: Sequence[str]
) -> tuple[float, ...]:
    scores = [_dice(task.report_file(plan, configuration, run, fold)) for fold in folds]
    return tuple(score for score in scores if score is not None)


def _dice(report: Path) -> float | None:
    return artifacts.load(report, Report).mean_foreground_dice if report.is_file() else None
