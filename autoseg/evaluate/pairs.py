"""Predictions and the references they are scored against."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from autoseg.core.dataset import Dataset
from autoseg.core.words import counted
from autoseg.errors import DataError
from autoseg.io.predict_inputs import label_files

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A prediction and its reference.

    Attributes:
        name: the case.
        prediction: its label map.
        reference: its annotated label map.
        group: the patient, if it is known.
        annotated: names of the structures the reference is annotated for; None for all.
    """

    name: str
    prediction: Path
    reference: Path
    group: str | None = None
    annotated: tuple[str, ...] | None = None


def match_folders(predictions: Path, references: Path) -> list[Pair]:
    """Pair the label maps of two folders by name.

    Args:
        predictions: folder of label maps.
        references: folder of label maps; those without a prediction are left out.

    Returns:
        One pair per prediction, sorted by name.

    Raises:
        DataError: if a folder holds no label maps, or a prediction has no reference.
    """
    predicted, known = label_files(predictions), label_files(references)
    missing = sorted(set(predicted) - set(known))
    if missing:
        raise DataError(
            f"{len(missing)} of {len(predicted)} predictions have no reference, "
            f"the first is '{missing[0]}'",
            place=references,
            remedy="give the folder of their label maps",
        )
    left_out = len(known) - len(predicted)
    if left_out:
        logger.info("%d references have no prediction and are left out", left_out)
    return [
        Pair(name=name, prediction=path, reference=known[name])
        for name, path in sorted(predicted.items())
    ]


def with_groups(pairs: Sequence[Pair], dataset: Dataset | None) -> list[Pair]:
    """Pairs that know their patient, where they are named like a case of the task."""
    groups = {} if dataset is None else {case.name: case.group for case in dataset.cases}
    return [replace(pair, group=groups.get(pair.name)) for pair in pairs]


def with_annotated(pairs: Sequence[Pair], dataset: Dataset, *, by_name: bool) -> list[Pair]:
    """Pairs that know what their references are annotated for.

    Args:
        pairs: predictions and references.
        dataset: the label maps of whose cases the references may be.
        by_name: whether a reference named like a case is taken for that case's label map; else
            it must be that file, and others of such a name are told.

    Returns:
        The pairs in the same order.
    """
    partial = [case for case in dataset.cases if case.annotated is not None]
    by_file = {dataset.label_path(case).resolve(): case.annotated for case in partial}
    names = {case.name: case.annotated for case in partial}
    found: list[Pair] = []
    namesakes = 0
    for pair in pairs:
        annotated = by_file.get(pair.reference.resolve())
        if annotated is None and by_name:
            annotated = names.get(pair.name)
        elif annotated is None:
            namesakes += pair.name in names
        found.append(replace(pair, annotated=annotated))
    if namesakes:
        logger.warning(
            "%s named like a case of %s that is not annotated for all structures, but scored in "
            "all: --task %s leaves those structures out",
            *(f"{counted(namesakes, 'reference')} {'is' if namesakes == 1 else 'are'}",),
            *(dataset.name, dataset.name),
        )
    return found
