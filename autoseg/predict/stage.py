"""``autoseg predict``: images in, label maps out."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from autoseg.core.progress import Progress, silent
from autoseg.errors import AutosegError
from autoseg.io import atomic
from autoseg.io.formats import label_suffix
from autoseg.io.images import write_labels
from autoseg.io.predict_inputs import predict_inputs
from autoseg.io.probability_file import SUFFIX as PROBABILITY_SUFFIX
from autoseg.io.workspace import TaskFolder
from autoseg.predict.cases import Case, noting_errors, segmented
from autoseg.predict.choosing import ModelChoice, candidates, choose_model, model_files, narrow
from autoseg.predict.loading import PredictOptions, load_segmenter
from autoseg.predict.predictor import Predictor
from autoseg.predict.record import CaseHints, load_record, note_case
from autoseg.predict.segmenter import Segmenter
from autoseg.predict.uncertain import uncertainty_file

__all__ = [
    "ModelChoice",
    "Part",
    "Prediction",
    "candidates",
    "choose_model",
    "model_files",
    "narrow",
    "predict_cases",
    "predict_folder",
]

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

    @property
    def warnings(self) -> tuple[str, ...]:
        """What sets its image apart from those of the training, a line each."""
        return () if self.hints is None else self.hints.warnings


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Which of the cases are to be segmented, where several commands share them.

    Attributes:
        number: of this command, from 0.
        count: of the commands.
    """

    number: int
    count: int

    def __post_init__(self) -> None:
        if self.count < 1 or not 0 <= self.number < self.count:
            raise AutosegError(
                f"--part {self.number} of --num-parts {self.count} does not exist",
                remedy="parts count from 0: with --num-parts 4 they are 0, 1, 2 and 3",
            )

    def of(self, inputs: Inputs) -> Inputs:
        """Those cases; all parts together are all cases, each once."""
        return list(inputs)[self.number :: self.count]


def predict_folder(
    task: TaskFolder | None,
    source: Path,
    output: Path,
    choice: ModelChoice,
    options: PredictOptions,
    progress: Progress = silent,
    *,
    probabilities: bool = False,
    uncertainty: bool = False,
    part: Part | None = None,
) -> list[Prediction]:
    """Segment the images of a folder, or a single one, with the best model there is.

    Args:
        task: the task's folder; may be None if the choice names a bundle.
        source: an image or a folder of images.
        output: folder of the label maps.
        choice: what the user named.
        options: device and precision.
        progress: called after each case.
        probabilities: write them beside the label maps, too.
        uncertainty: write maps of it, too.
        part: which of the cases; None for all.

    Returns:
        What became of each case.

    Raises:
        AutosegError: if there is no such model, nothing to predict, or no place to write, such as
            a folder that is read.
    """
    _refuse_among_images(source, (), output)
    chosen = choose_model(task, choice)
    logger.info("model: %s", chosen.why)
    if chosen.cost is not None:
        logger.info("%s", chosen.cost)
    options = options.in_haste() if choice.fast else options
    segmenter = load_segmenter(chosen.groups, options, chosen.clean_up, single=choice.fast)
    inputs: Inputs = predict_inputs(source, len(segmenter.channels))
    _refuse_among_images(source, inputs, output)
    protect_inputs(inputs, output, segmenter)
    inputs = inputs if part is None else part.of(inputs)
    return predict_cases(
        segmenter,
        inputs,
        output,
        progress,
        probabilities=probabilities,
        uncertainty=uncertainty,
    )


def predict_cases(
    model: Segmenter | Predictor,
    inputs: Inputs,
    output: Path,
    progress: Progress = silent,
    *,
    again: bool = False,
    probabilities: bool = False,
    uncertainty: bool = False,
    overlapping: bool = True,
) -> list[Prediction]:
    """Segment cases; one that cannot be read does not stop the others.

    Label maps that this model has made of these images before are kept.

    Args:
        model: what predicts.
        inputs: name and image files of each case.
        output: folder of the label maps; made if it is not there.
        progress: called after each case.
        again: make all label maps anew.
        probabilities: write them beside the label maps, too.
        uncertainty: write maps of it, too.
        overlapping: prepare the next case and restore the last while the networks work, which
            takes the memory of up to three cases.

    Returns:
        What became of each case, in order.

    Raises:
        AutosegError: if the folder cannot be written, or is where the images lie.
    """
    segmenter = model if isinstance(model, Segmenter) else Segmenter(predictors=(model,))
    atomic.make_folder(output)
    protect_inputs(inputs, output, segmenter)
    known = load_record(output).cases
    cases = [
        Case(
            name=name,
            paths=paths,
            target=_target(output, name, paths, segmenter),
            probabilities=_probabilities(output, name) if probabilities else None,
            doubts=uncertainty_file(output, name, paths[0]) if uncertainty else None,
            known=known.get(name),
        )
        for name, paths in inputs
    ]
    predictions: list[Prediction] = []
    progress(0, len(cases))
    for case in segmented(segmenter, cases, again=again, overlapping=overlapping):
        with noting_errors(case):
            _write(case, output)
        predictions.append(_outcome(case))
        progress(len(predictions), len(cases), case.name)
        case.label_map = None
    return predictions


def _write(case: Case, output: Path) -> None:
    """Write the label map of a case and note it, unless it failed or is as it was.

    Whatever is interrupted between the first file that is replaced and the note is made again.
    """
    if case.error is not None:
        return
    if case.label_map is not None:
        case.forget()
        # What was made with the label map before would be taken for this one's.
        if case.probabilities is None:
            _remove(_probabilities(output, case.name))
        if case.doubts is None:
            _remove(uncertainty_file(output, case.name, case.paths[0]))
        write_labels(case.target, case.label_map)
    if case.noted is not None and case.noted != case.known:
        note_case(output, case.name, case.noted)


def _remove(path: Path) -> None:
    with atomic.writing(path), suppress(FileNotFoundError, NotADirectoryError):
        path.unlink()


def _outcome(case: Case) -> Prediction:
    if case.error is not None or case.noted is None:
        return Prediction(name=case.name, path=None, error=case.error)
    return Prediction(name=case.name, path=case.target, error=None, hints=case.noted.hints)


def _target(output: Path, name: str, paths: Sequence[Path], segmenter: Segmenter) -> Path:
    """The label map of a case: in the format of its image where that holds the values."""
    return output / f"{name}{label_suffix(paths[0], *segmenter.value_range)}"


def _probabilities(output: Path, name: str) -> Path:
    return output / f"{name}{PROBABILITY_SUFFIX}"


def _refuse_among_images(source: Path, inputs: Inputs, output: Path) -> None:
    """Never write where the next command would take label maps for images.

    Args:
        source: what is read; beside a single image label maps may lie.
        inputs: what was found there.
        output: folder of the label maps.

    Raises:
        AutosegError: if it is a folder that is read.
    """
    source = source.expanduser()
    if not source.is_dir():
        return
    place, root = output.resolve(), source.resolve()
    paths = [path.resolve() for _, several in inputs for path in several]
    folders = {path.parent for path in paths if path != root and path.is_relative_to(root)}
    # A series is all that lies below its folder.
    is_within = any(place.is_relative_to(path) for path in paths if path.is_dir())
    if place in folders | {root} or is_within:
        raise AutosegError(
            "the predictions would lie among the images",
            place=output,
            remedy="choose another folder with --output",
        )


def protect_inputs(inputs: Inputs, output: Path, segmenter: Segmenter) -> None:
    """Never write a label map over an image.

    Args:
        inputs: all that are there, be they segmented now or not.
        output: folder of the label maps.
        segmenter: what predicts.

    Raises:
        AutosegError: if one would be.
    """
    taken = {path.resolve() for _, paths in inputs for path in paths}
    for name, paths in inputs:
        if _target(output, name, paths, segmenter).resolve() in taken:
            raise AutosegError(
                "the predictions would overwrite the images",
                place=output,
                remedy="choose another folder with --output",
            )
