"""``autoseg init``: looks at a folder in no known layout and writes its description."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import TypeVar

from autoseg.core.dataset import Case, Dataset
from autoseg.core.patients import patients_of
from autoseg.core.progress import Progress, silent
from autoseg.errors import AutosegError, DataError
from autoseg.init.channels import ImageLook, NamedChannel, name_channels
from autoseg.init.guess import Guess, LeftOut, guess_cases, words_to_try
from autoseg.init.labels import FoundLabels, LabelLook, find_labels
from autoseg.init.look import (
    find_label_names,
    look_at_image,
    look_at_labels,
    looks_like_labels,
    patient_of_file,
)
from autoseg.init.names import ImageFile
from autoseg.init.scan import find_images
from autoseg.io.dataset_folder import survey_dataset
from autoseg.io.images import read_geometry
from autoseg.io.layouts.case_rows import RESERVED, column_key
from autoseg.io.layouts.table import CASES, write_table
from autoseg.workers import map_cases, num_workers

MOST_IMAGES_LOOKED_AT = 20
BYTES_PER_VOXEL = 24
"""While counting the values of a label map: the file's numbers, and a sorted copy in 64 bits."""

_BY_HAND = (
    "write cases.csv with the columns case, image, label and beside it dataset.json with "
    "channels and labels"
)

R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """What was seen in a folder, and written.

    Attributes:
        dataset: cases, channels and labels.
        description: the file that was written.
        is_new: whether it was written now; False if it was there with the same content.
        layout: the layout the folder was recognised by; None if its files were looked at.
        reasons: why each channel is called as it is; none with a known layout.
        presence: in how many cases each structure has a voxel; None with a known layout.
        left_out: files that are in no case.
        remarks: what had to be supposed, and what else to know, in sentences.
    """

    dataset: Dataset
    description: Path
    is_new: bool
    layout: str | None = None
    reasons: tuple[str, ...] = ()
    presence: Mapping[str, int] | None = None
    left_out: tuple[LeftOut, ...] = ()
    remarks: tuple[str, ...] = ()


def describe_folder(
    folder: Path, description: Path, workers: int | None = None, progress: Progress = silent
) -> Described:
    """Look at the files of a folder and write what they are: ``dataset.json``, ``cases.csv``.

    A folder in a layout autoseg knows is described as it is read.

    Args:
        folder: the raw data, which are only read.
        description: the ``.json`` file to write; the table of cases comes beside it.
        workers: processes; None for as many as fit.
        progress: called after each file that is read.

    Raises:
        DataError: if images and label maps cannot be told apart or paired.
        AutosegError: if there is another description already, or it cannot be written.
    """
    root = folder.expanduser().resolve()
    survey = survey_dataset(root)
    if survey.dataset is not None and survey.dataset.cases:
        described = _of_known(survey.dataset, description, len(survey.problems))
    else:
        described = _look(root, description, workers, progress)
    return replace(described, is_new=_write(described.dataset, description))


def _of_known(dataset: Dataset, description: Path, num_problems: int) -> Described:
    patients = patients_of(case.name for case in dataset.cases)
    cases = [
        case if case.group is not None else _in_group(case, patients.get(case.name))
        for case in dataset.cases
    ]
    layout, names = dataset.layout, {case.name for case in dataset.cases}
    folds, remarks = dataset.folds, list[str]()
    if layout == "table":
        remarks.append("it has a description of its own; delete that to have the files looked at")
    if num_problems:
        remarks.append(f"{num_problems} problems with its files: autoseg check lists them")
    if folds is not None and not _hold_out_all(dataset, names):
        folds = None
        remarks.append("its folds do not hold out every case once: a table cannot hold them")
    described = dataset.model_copy(
        update={"cases": tuple(cases), "folds": folds, "layout": "table"}
    )
    return Described(
        dataset=described,
        description=description,
        is_new=True,
        layout=layout,
        remarks=tuple(remarks),
    )


def _hold_out_all(dataset: Dataset, names: set[str]) -> bool:
    held_out = Counter(name for fold in dataset.folds or () for name in fold.validation)
    are_full = all({*f.train, *f.validation} == names for f in dataset.folds or ())
    return set(held_out) == names and max(held_out.values()) == 1 and are_full


def _in_group(case: Case, group: str | None) -> Case:
    return case.model_copy(update={"group": group})


# Looking


def _look(root: Path, description: Path, workers: int | None, progress: Progress) -> Described:
    files = find_images(root)
    guess = _guess(root, files)
    if not guess.cases:
        raise _no_cases(root, files, guess)
    patients, private = _patients(root, guess)
    cases = tuple(
        Case(name=c.name, images=c.images, label=c.label, group=c.group or patients.get(c.name))
        for c in guess.cases
    )
    found, unread = _find_labels(root, guess, workers, progress)
    channels = _find_channels(root, guess, workers, progress)
    remarks = (*found.remarks, *unread, *private)
    return Described(
        dataset=Dataset(
            name=root.name,
            root=root,
            layout="table",
            channels=_column_names(channels, guess),
            labels=found.space,
            cases=cases,
        ),
        description=description,
        is_new=True,
        reasons=tuple(channel.reason for channel in channels),
        presence=found.presence,
        left_out=guess.left_out,
        remarks=remarks,
    )


def _guess(root: Path, files: Sequence[ImageFile]) -> Guess:
    """By names; where those do not tell the label maps, by the voxels of one file of a kind."""
    guess = guess_cases(files)
    if guess.num_files * 2 >= len(files) or guess.rivals:
        return guess
    words = [word for word, path in words_to_try(files).items() if looks_like_labels(root / path)]
    guesses = {word: guess_cases(files, {word}) for word in words}
    better = {
        word: other
        for word, other in guesses.items()
        if len(other.cases) > len(guess.cases) and _is_borne_out(root, other)
    }
    most = max((len(other.cases) for other in better.values()), default=0)
    best = {word: other for word, other in better.items() if len(other.cases) == most}
    if len({other.cases for other in best.values()}) > 1:
        raise DataError(
            f"files with {_either(list(best))} in their names may all be the label maps",
            place=root,
            remedy=f"choose, and {_BY_HAND}",
        )
    return next(iter(best.values()), guess)


def _is_borne_out(root: Path, guess: Guess) -> bool:
    """Whether the first and last case have a label map and an image by their voxels."""
    return all(
        looks_like_labels(root / case.label)
        and not all(looks_like_labels(root / image) for image in case.images)
        for case in (guess.cases[0], guess.cases[-1])
    )


def _either(words: Sequence[str]) -> str:
    quoted = [f"'{word}'" for word in words]
    return f"{', '.join(quoted[:-1])} and {quoted[-1]}"


def _no_cases(root: Path, files: Sequence[ImageFile], guess: Guess) -> DataError:
    if guess.rivals:
        count, first = len(guess.rivals), guess.rivals[0]
        names = ", ".join(path.as_posix() for path in first[:3])
        return DataError(
            f"{count} cases have several label maps each, such as {names}",
            place=root,
            remedy="merge them into one file per case with a value for each structure, or choose "
            f"one of them and {_BY_HAND}",
        )
    seen = [
        f"{len(left.files)} {left.why} such as {left.files[0].as_posix()}"
        for left in guess.left_out
    ]
    label_maps = any("label maps" in left.why.split(" without ")[0] for left in guess.left_out)
    finding = (
        "names do not tell which label map belongs to which image"
        if label_maps
        else "neither names nor voxels tell which files are label maps"
    )
    return DataError(
        f"{finding}: {len(files)} images found, {', '.join(seen)}", place=root, remedy=_BY_HAND
    )


def _patients(root: Path, guess: Guess) -> tuple[dict[str, str], tuple[str, ...]]:
    """Patients of DICOM images by number: what identifies them stays in the raw data."""
    found = {c.name: patient_of_file(root / c.images[0]) for c in guess.cases if c.group is None}
    counts = Counter(patient for patient in found.values() if patient)
    shared = [patient for patient, count in counts.items() if count > 1]
    # The one patient of an anonymised collection is everybody.
    if not shared or len(counts) < 2:
        return {}, ()
    numbers = {patient: f"patient-{number}" for number, patient in enumerate(shared, start=1)}
    groups = {name: numbers[p] for name, p in found.items() if p in numbers}
    remark = f"{len(shared)} patients have several cases by their DICOM PatientID: one group each"
    return groups, (remark,)


def _column_names(channels: Sequence[NamedChannel], guess: Guess) -> tuple[str, ...]:
    """Names that can be columns of a table, if each channel has one."""
    if len(guess.channels) == 1:
        return tuple(channel.name for channel in channels)
    return tuple(
        f"{channel.name}_0" if column_key(channel.name) in RESERVED else channel.name
        for channel in channels
    )


# Voxels


def _find_labels(
    root: Path, guess: Guess, workers: int | None, progress: Progress
) -> tuple[FoundLabels, tuple[str, ...]]:
    paths = [(case.name, root / case.label) for case in guess.cases]
    looks, errors = _read(look_at_labels, paths, workers, progress)
    if not looks:
        raise DataError(
            f"none of {len(errors)} label maps can be read: {errors[0]}",
            remedy="convert or copy them again",
        )
    file, names = find_label_names(root, _folders_around(guess), _values(looks))
    try:
        found = find_labels(looks, names)
    except DataError as error:
        raise DataError(error.finding, place=root, remedy=_wrong_labels(guess)) from None
    remarks: list[str] = []
    if file is not None:
        remarks.append(f"names of the labels are those of {file.relative_to(root).as_posix()}")
    num_rounded = sum(look.is_rounded for look in looks)
    if num_rounded:
        remarks.append(f"{num_rounded} label maps hold fractions, counted as rounded here")
    if errors:
        remarks.append(f"{len(errors)} label maps cannot be read, such as {errors[0]}")
    return found, tuple(remarks)


def _wrong_labels(guess: Guess) -> str:
    return f"if label maps are not such as {guess.cases[0].label.as_posix()}, {_BY_HAND}"


def _values(looks: Sequence[LabelLook]) -> set[int]:
    return {value for look in looks for value in look.voxels} - {0}


def _folders_around(guess: Guess) -> Iterator[Path]:
    """The data set's folder and those on the way to the label maps of the first case."""
    yield Path()
    for folder in reversed(guess.cases[0].label.parents):
        if folder != Path():
            yield folder


def _find_channels(
    root: Path, guess: Guess, workers: int | None, progress: Progress
) -> tuple[NamedChannel, ...]:
    step = max(1, -(-len(guess.cases) // MOST_IMAGES_LOOKED_AT))
    chosen = guess.cases[::step]
    looks: list[list[ImageLook]] = []
    for number in range(len(guess.channels)):
        paths = [(case.name, root / case.images[number]) for case in chosen]
        seen, errors = _read(look_at_image, paths, workers, progress)
        if not seen:
            raise DataError(
                f"none of {len(errors)} images can be read: {errors[0]}",
                remedy="convert or copy them again",
            )
        looks.append(seen)
    return name_channels(guess.channels, guess.marks, looks)


def _read(
    function: Callable[[Path], R],
    paths: Sequence[tuple[str, Path]],
    workers: int | None,
    progress: Progress,
) -> tuple[list[R], list[str]]:
    processes = num_workers(workers, _bytes_of_largest([path for _, path in paths]))
    outcomes = map_cases(function, paths, processes, progress)
    values = [outcome.value for outcome in outcomes if outcome.value is not None]
    return values, [outcome.error for outcome in outcomes if outcome.error is not None]


def _bytes_of_largest(paths: Sequence[Path]) -> int:
    """Memory the largest file takes while it is read; 0 if it is broken."""
    try:
        geometry, count = read_geometry(max(paths, key=lambda path: path.stat().st_size))
    except (OSError, DataError):
        return 0
    return prod(geometry.shape) * count * BYTES_PER_VOXEL


# Writing


def _write(dataset: Dataset, description: Path) -> bool:
    """Write the description unless the same is there; returns whether it was written."""
    table = description.parent / CASES
    if description.exists():
        if _is_same(dataset, description):
            return False
        raise AutosegError(
            "is there already and says something else, perhaps because it was edited",
            place=description,
            remedy="keep it, or delete it and repeat the command, or write another with -o FILE",
        )
    if table.exists():
        raise AutosegError(
            "is there already, without its description",
            place=table,
            remedy="delete it and repeat the command, or write into another folder with -o FILE",
        )
    write_table(
        description,
        name=dataset.name,
        root=dataset.root,
        channels=dataset.channels,
        labels=dataset.labels,
        cases=dataset.cases,
        folds=dataset.folds,
    )
    return True


def _is_same(dataset: Dataset, description: Path) -> bool:
    try:
        there = survey_dataset(dataset.root, description).dataset
    except DataError:
        return False
    if there is None:
        return False
    kept = {"layout", "description"}
    return there.model_dump(exclude=kept) == dataset.model_dump(exclude=kept)
