"""Ensembles scored on held-out cases from probabilities made on the fly; none is ever a file."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from autoseg.core.image import Image
from autoseg.core.progress import Progress, silent
from autoseg.errors import AutosegError, DataError
from autoseg.evaluate.combining import Members, count_slab
from autoseg.evaluate.label_maps import Triples, read_indices, triples_of, voxel_volume_ml
from autoseg.evaluate.removing import parts_of
from autoseg.io.images import read_image
from autoseg.pipeline.candidates import Candidate, Gathered
from autoseg.pipeline.held_out import KeptCase, key_of
from autoseg.predict.loading import PredictOptions, load_segmenter
from autoseg.predict.segmenter import Segmenter

logger = logging.getLogger(__name__)

Indices = npt.NDArray[np.integer]
Work = Callable[[Segmenter, KeptCase, Sequence[int]], None]


def score_ensembles(
    gathered: Gathered,
    kept: Mapping[str, KeptCase],
    combined: Sequence[Members],
    names: Sequence[str],
    options: PredictOptions,
    progress: Progress = silent,
) -> None:
    """Score ensembles on cases, where that is not known yet.

    Of every member the fold predicts that held the case out, all members at the same time, slab
    by slab of the image.

    Args:
        gathered: the candidates and the data.
        kept: what is known, by case; what is found out is added.
        combined: positions of the candidates of each ensemble.
        names: cases that all of them held out.
        options: device and precision.
        progress: called after each case.

    Raises:
        AutosegError: if cases failed; the others are scored.
    """

    def missing(case: str) -> list[Members]:
        known = kept[case].scores.voxels
        return [m for m in combined if key_of(_chosen(gathered, m), case) not in known]

    def score(segmenter: Segmenter, case: KeptCase, members: Sequence[int]) -> None:
        place = {candidate: number for number, candidate in enumerate(members)}
        wanted = missing(case.name)
        local = [tuple(place[candidate] for candidate in one) for one in wanted]
        image, reference = read_case(gathered, case.name)
        found = _count(segmenter, image, reference, local, gathered)
        keys = [key_of(_chosen(gathered, one), case.name) for one in wanted]
        case.add(voxels=dict(zip(keys, found, strict=True)))

    jobs = {case: sorted({c for m in missing(case) for c in m}) for case in names}
    _for_each(gathered, kept, jobs, score, options, progress)


def take_apart(
    gathered: Gathered,
    kept: Mapping[str, KeptCase],
    members: Members,
    names: Sequence[str],
    options: PredictOptions,
    progress: Progress = silent,
) -> None:
    """Find the parts of what an ensemble makes of cases, where they are not known yet.

    Args:
        gathered: the candidates and the data.
        kept: what is known, by case; what is found out is added.
        members: positions of the ensemble's candidates.
        names: cases that all of them held out.
        options: device and precision.
        progress: called after each case.

    Raises:
        AutosegError: if cases failed; the others are done.
    """
    chosen, labels = _chosen(gathered, members), gathered.dataset.labels

    def apart(segmenter: Segmenter, case: KeptCase, _: Sequence[int]) -> None:
        image, reference = read_case(gathered, case.name)
        indices = labels.to_indices(segmenter.segment(image).array)
        parts = parts_of(indices, reference, labels, voxel_volume_ml(image.geometry))
        case.add(parts={key_of(chosen, case.name): parts})

    jobs = {
        case: [] if key_of(chosen, case) in kept[case].scores.parts else list(members)
        for case in names
    }
    _for_each(gathered, kept, jobs, apart, options, progress)


def read_case(gathered: Gathered, name: str) -> tuple[Image, Indices]:
    """The image and the reference of a case, from their raw files.

    Returns:
        The image, and label indices of its shape.

    Raises:
        AutosegError: if they cannot be read, or are not of one shape.
    """
    dataset = gathered.dataset
    case = dataset.case(name)
    image = read_image(dataset.image_paths(case))
    place = dataset.label_path(case)
    reference, grid = read_indices(place, dataset.labels)
    if grid.shape != image.geometry.shape:
        raise DataError(
            f"{grid.shape} voxels (z, y, x), its image has {image.geometry.shape}", place=place
        )
    return image, reference


def _chosen(gathered: Gathered, members: Sequence[int]) -> list[Candidate]:
    return [gathered.candidates[member] for member in members]


def _count(
    segmenter: Segmenter,
    image: Image,
    reference: Indices,
    combined: Sequence[Members],
    gathered: Gathered,
) -> list[Triples]:
    """Voxels of each structure that each combination gets right, invents and misses."""
    labels = gathered.dataset.labels
    axis, streams = segmenter.member_slabs(segmenter.ready(image))
    along = np.moveaxis(reference, axis, 0)
    counts = np.zeros((len(combined), labels.num_classes, labels.num_classes), dtype=np.int64)
    for slabs in zip(*streams, strict=True):
        rows = slabs[0][0]
        counts += count_slab([slab for _, slab in slabs], along[rows], labels, combined)
    return [triples_of(matrix, labels) for matrix in counts]


def _for_each(
    gathered: Gathered,
    kept: Mapping[str, KeptCase],
    jobs: Mapping[str, Sequence[int]],
    work: Work,
    options: PredictOptions,
    progress: Progress,
) -> None:
    """Do something for every case with the folds that held it out; one that fails stops no other.

    Cases that the same folds held out come one after the other: weights are loaded once.
    """
    due = {case: tuple(members) for case, members in jobs.items() if members}
    together: dict[tuple[tuple[int, str], ...], list[str]] = {}
    for case, members in due.items():
        folds = [gathered.candidates[m].holders[case].folder.fold for m in members]
        together.setdefault(tuple(zip(members, folds, strict=True)), []).append(case)
    failures: list[str] = []
    done = 0
    if due:
        progress(0, len(due))
    for folds, cases in sorted(together.items()):
        files = [[gathered.candidates[m].folds[fold].folder.bundle] for m, fold in folds]
        segmenter = load_segmenter(files, options)
        for case in cases:
            failures += _attempt(work, segmenter, kept[case], [m for m, _ in folds])
            done += 1
            progress(done, len(due), case)
    if failures:
        raise AutosegError(
            f"{len(failures)} of {len(due)} cases failed: {' | '.join(failures[:5])}",
            remedy="mend them and repeat the command, which only does what is missing",
        )


def _attempt(work: Work, segmenter: Segmenter, case: KeptCase, members: Sequence[int]) -> list[str]:
    """Do something for a case; what went wrong, if anything, in a line."""
    try:
        work(segmenter, case, members)
    except AutosegError as error:
        return [f"{case.name}: {error}"]
    except Exception as error:
        # Whatever one case does, the others go on.
        logger.debug("%s failed", case.name, exc_info=True)
        return [" ".join(f"{case.name}: {type(error).__name__}: {error}".split())]
    return []
