"""What images exist and where; no voxels."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from pydantic import model_validator

from autoseg.core.artifact import Artifact, Frozen
from autoseg.core.labels import LabelSpace


class Case(Frozen):
    """One annotated examination.

    Attributes:
        name: unique within the data set.
        images: one file per channel, or a single file that holds all channels; relative to
            the data set's root unless absolute.
        label: the label map's file.
        group: what must not be split over folds, usually a patient.
        annotated: names of the structures that were annotated, in declared order; of the others
            nobody knows whether they are there. None if all were.
    """

    name: str
    images: tuple[Path, ...]
    label: Path
    group: str | None = None
    annotated: tuple[str, ...] | None = None


class Split(Frozen):
    """Who trains and who is held out, by case name."""

    train: tuple[str, ...]
    validation: tuple[str, ...]


class Dataset(Artifact):
    """A folder of annotated images: the content of ``task.json``.

    Attributes:
        name: the task's name, and its folder's in the workspace.
        root: absolute folder of the raw data, which are never written to.
        layout: how the folder is laid out, such as ``"decathlon"``.
        channels: names of the channels, in order; they decide the normalization.
        labels: what the label values mean.
        cases: all annotated cases, sorted by name.
        folds: the folds the data came with, if they did.
        description: the file that describes the folder if it lies elsewhere, as one written by
            ``autoseg init`` does.
    """

    name: str
    root: Path
    layout: str
    channels: tuple[str, ...]
    labels: LabelSpace
    cases: tuple[Case, ...]
    folds: tuple[Split, ...] | None = None
    description: Path | None = None

    def image_paths(self, case: Case) -> tuple[Path, ...]:
        """Absolute paths of a case's image files."""
        return tuple(self.root / image for image in case.images)

    def label_path(self, case: Case) -> Path:
        """Absolute path of a case's label map."""
        return self.root / case.label

    def case(self, name: str) -> Case:
        """The case of a name.

        Raises:
            KeyError: if there is none.
        """
        for case in self.cases:
            if case.name == name:
                return case
        raise KeyError(name)


class Splits(Artifact):
    """The folds of a task: the content of ``splits.json``; readable and editable.

    Attributes:
        folds: one split per fold; none if there are too few cases to hold one out.
        reason: how they were made, in a sentence.
        dealt_as: hash of the folds as they were dealt, which shows edits; None if they were
            written by hand.
    """

    folds: tuple[Split, ...]
    reason: str
    dealt_as: str | None = None

    @classmethod
    def dealt(cls, folds: Sequence[Split], reason: str) -> Self:
        """Folds that autoseg made, and not a user."""
        return cls(folds=tuple(folds), reason=reason, dealt_as=_hash_of(folds))

    @property
    def is_edited(self) -> bool:
        """Whether a user changed the folds since they were dealt."""
        return self.dealt_as != _hash_of(self.folds)

    @property
    def names(self) -> tuple[str, ...]:
        """What users call the folds: ``fold0`` and so on."""
        return tuple(f"fold{number}" for number in range(len(self.folds)))

    @property
    def case_names(self) -> frozenset[str]:
        """All cases that are in a fold."""
        return frozenset(name for fold in self.folds for name in (*fold.train, *fold.validation))

    @model_validator(mode="after")
    def _keeps_apart(self) -> Self:
        for number, fold in enumerate(self.folds):
            if not fold.train or not fold.validation:
                raise ValueError(f"fold {number} needs cases to train on and cases to hold out")
            both = sorted(set(fold.train) & set(fold.validation))
            if both:
                raise ValueError(f"fold {number} both trains on '{both[0]}' and holds it out")
            for part in (fold.train, fold.validation):
                name, count = Counter(part).most_common(1)[0]
                if count > 1:
                    raise ValueError(f"fold {number} lists '{name}' {count} times")
        return self


def _hash_of(folds: Sequence[Split]) -> str:
    text = json.dumps([fold.model_dump() for fold in folds])
    return hashlib.sha256(text.encode()).hexdigest()[:8]
