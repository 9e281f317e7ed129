"""``autoseg predict``: images in, label maps out."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from autoseg.core.metrics import Report
from autoseg.core.progress import Progress, silent
from autoseg.errors import ArtifactError, AutosegError, WorkspaceError, unknown_name
from autoseg.io import artifacts, atomic
from autoseg.io.formats import label_suffix
from autoseg.io.images import read_image, write_labels
from autoseg.io.predict_inputs import predict_inputs
from autoseg.io.workspace import TaskFolder
from autoseg.predict.choice import Candidate, choose
from autoseg.predict.loading import PredictOptions, load_predictor
from autoseg.predict.predictor import Predictor
from autoseg.predict.record import (
    CaseHints,
    CaseRecord,
    combined_hash,
    file_hash,
    load_record,
    save_record,
)
from autoseg.predict.segmenter import Segmenter
from autoseg.predict.uncertain import (
    segment_with_uncertainty,
    uncertainty_file,
    write_uncertainty,
)
from autoseg.predict.watching import Watched, judged_anew

logger = logging.getLogger(__name__)

Inputs = Sequence[tuple[str, tuple[Path, ...]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What became of one case.

    Attributes:
        name: the case.
        path: its label map; None if it failed.
        error: why it failed, in a line; None if it did not.
        hints: what can be said about it; None if it failed.
    """

    name: str
    path: Path | None
    error: str | None
    hints: CaseHints | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelChoice:
    """Which model a user names; what is left out is chosen.

    Attributes:
        bundle: a ``bundle.json``, or the folder of one, instead of a workspace's model.
        configuration: its name, or None for the best.
        run: its name, or None for any.
        folds: fold names; empty for all that are finished.
    """

    bundle: Path | None = None
    configuration: str | None = None
    run: str | None = None
    folds: tuple[str, ...] = ()


def predict_folder(
    task: TaskFolder | None,
    source: Path,
    output: Path,
    choice: ModelChoice,
    options: PredictOptions,
    progress: Progress = silent,
    *,
    uncertainty: bool = False,
) -> list[Prediction]:
    """Segment the images of a folder, or a single one, with the best model there is.

    Args:
        task: the task's folder; may be None if the choice names a bundle.
        source: an image or a folder of images.
        output: folder of the label maps.
        choice: what the user named.
        options: device and precision.
        progress: called after each case.
        uncertainty: write maps of it, too.

    Returns:
        What became of each case.

    Raises:
        AutosegError: if there is no such model, nothing to predict, or no place to write.
    """
    bundles, why = _find_model(task, choice)
    logger.info("model: %s", why)
    predictor = load_predictor(bundles, options)
    inputs = predict_inputs(source, len(predictor.recipe.channels))
    return predict_cases(predictor, inputs, output, progress, uncertainty=uncertainty)


def _find_model(task: TaskFolder | None, choice: ModelChoice) -> tuple[list[Path], str]:
    if choice.bundle is not None:
        path = choice.bundle / "bundle.json" if choice.bundle.is_dir() else choice.bundle
        if not path.is_file():
            raise ArtifactError("there is no model here", place=path)
        return [path], str(path)
    assert task is not None
    found = candidates(task)
    if found:
        found = narrow(found, choice.configuration, choice.run, choice.folds)
    chosen, reason = choose(found)
    return model_files(task, chosen), f"{chosen.label}: {reason}"


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
    found: Sequence[Candidate], configuration: str | None, run: str | None, folds: Sequence[str]
) -> list[Candidate]:
    """Keep the models a user named.

    Args:
        found: all there are.
        configuration: its name, or None for any.
        run: its name, or None for any.
        folds: fold names; empty for all that are finished.

    Raises:
        UnknownNameError: if nothing of a name is trained.
        WorkspaceError: if nothing has all that was named.
    """
    if configuration is not None and all(c.configuration != configuration for c in found):
        raise unknown_name("trained configuration", configuration, {c.configuration for c in found})
    if run is not None and all(c.run != run for c in found):
        raise unknown_name("run", run, {c.run for c in found})
    kept = [c for c in found if configuration in (None, c.configuration) and run in (None, c.run)]
    for fold in folds:
        if kept and all(fold not in c.folds for c in kept):
            raise unknown_name("trained fold", fold, {f for c in kept for f in c.folds})
    if folds:
        kept = [replace(c, folds=tuple(folds)) for c in kept if set(folds) <= set(c.folds)]
    if not kept:
        trained = "; ".join(f"{c.label} (run {c.run})" for c in found)
        raise WorkspaceError(f"no model has all of what was asked for; trained are: {trained}")
    return kept


def model_files(task: TaskFolder, chosen: Candidate) -> list[Path]:
    """The bundles of a model's folds."""
    return [
        task.fold_folder(chosen.plan, chosen.configuration, chosen.run, fold).bundle
        for fold in chosen.folds
    ]


def predict_cases(
    predictor: Predictor,
    inputs: Inputs,
    output: Path,
    progress: Progress = silent,
    *,
    again: bool = False,
    uncertainty: bool = False,
) -> list[Prediction]:
    """Segment cases one by one; one that cannot be read does not stop the others.

    Label maps that this model has made of these images before are kept.

    Args:
        predictor: the model.
        inputs: name and image files of each case.
        output: folder of the label maps; made if it is not there.
        progress: called after each case.
        again: make all label maps anew.
        uncertainty: write maps of it, too.

    Returns:
        What became of each case, in order.

    Raises:
        AutosegError: if the folder cannot be written, or is where the images lie.
    """
    atomic.make_folder(output)
    _protect_inputs(inputs, output, predictor)
    made = {} if again else dict(load_record(output).cases)
    predictions: list[Prediction] = []
    progress(0, len(inputs))
    for number, (name, paths) in enumerate(inputs, start=1):
        prediction = _predict_case(predictor, name, paths, output, made, uncertainty)
        predictions.append(prediction)
        progress(number, len(inputs), name)
    return predictions


def _predict_case(
    predictor: Predictor,
    name: str,
    paths: tuple[Path, ...],
    output: Path,
    made: dict[str, CaseRecord],
    uncertainty: bool,
) -> Prediction:
    """Segment a case, unless ``made`` has it; enters it there."""
    segmenter = Segmenter(predictors=(predictor,))
    try:
        target = _target(output, name, paths, predictor)
        doubts = uncertainty_file(output, name, paths[0])
        source = combined_hash([segmenter.identity, file_hash(paths)])
        known = made.get(name)
        is_there = target.is_file() and (doubts.is_file() or not uncertainty)
        if known is not None and known.source == source and is_there:
            noted = judged_anew(known, segmenter)
        else:
            noted = _segment_case(segmenter, paths, target, doubts if uncertainty else None, source)
            if not uncertainty:  # one of an earlier label map would be taken for this one's
                doubts.unlink(missing_ok=True)
        if noted != known:
            made[name] = noted
            save_record(output, made)
    except AutosegError as error:
        place = "" if error.place else f"{paths[0]}: "
        return Prediction(name=name, path=None, error=f"{place}{error}")
    except Exception as error:
        # Whatever one case does, the others go on.
        logger.debug("%s failed", name, exc_info=True)
        reason = f"{paths[0]}: {type(error).__name__}: {error}"
        return Prediction(name=name, path=None, error=" ".join(reason.split()))
    return Prediction(name=name, path=target, error=None, hints=noted.hints)


def _segment_case(
    segmenter: Segmenter, paths: tuple[Path, ...], target: Path, doubts: Path | None, source: str
) -> CaseRecord:
    """Segment a case and write what there is to write; returns what is noted of it."""
    watched = Watched.over(segmenter)
    image = read_image(paths)
    if doubts is None:
        label_map = watched.segmenter.segment(image)
    else:
        label_map, entropies = segment_with_uncertainty(watched.segmenter, image)
        write_uncertainty(doubts, entropies)
    write_labels(target, label_map)
    return CaseRecord(source=source, hints=watched.hints(label_map))


def _target(output: Path, name: str, paths: Sequence[Path], predictor: Predictor) -> Path:
    """The label map of a case: in the format of its image where that holds the values."""
    return output / f"{name}{label_suffix(paths[0], *predictor.value_range)}"


def _protect_inputs(inputs: Inputs, output: Path, predictor: Predictor) -> None:
    """Never write a label map over an image."""
    taken = {path.resolve() for _, paths in inputs for path in paths}
    for name, paths in inputs:
        if _target(output, name, paths, predictor).resolve() in taken:
            raise AutosegError(
                "the predictions would overwrite the images",
                place=output,
                remedy="choose another folder with --output",
            )


def _held_out_dice(
    task: TaskFolder, plan: str, configuration: str, run: str, folds: Sequence[str]
) -> tuple[float, ...]:
    reports = [task.report_file(plan, configuration, run, fold) for fold in folds]
    scores = [
        artifacts.load(path, Report).mean_foreground_dice for path in reports if path.is_file()
    ]
    return tuple(score for score in scores if score is not None)
