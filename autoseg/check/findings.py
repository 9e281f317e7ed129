"""What only shows when all cases are looked at together: pure functions of a fingerprint."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from autoseg.check.plausible import impossible_spacing, is_ct, is_no_ct
from autoseg.core.annotation import annotated_indices, is_annotated
from autoseg.core.dataset import Case, Dataset
from autoseg.core.fingerprint import CaseFingerprint, Fingerprint
from autoseg.core.geometry import Triple
from autoseg.core.patients import patients_of
from autoseg.core.problem import Problem
from autoseg.core.sides import side_pairs
from autoseg.imaging.intensities import looks_like_hu

NUM_FOLDS = 5
FEWEST_TO_COMPARE = 5
"""Fewer cases have no usual spacing."""

OUTLIER_FACTOR = 5.0
OUTLIER_DEVIATIONS = 6.0
DEVIATION_OF_MAD = 1.4826
SMALLEST_DEVIATION = 0.05
MOST_NAMES = 5

_WORLD_AXES = {"S": 0, "I": 0, "P": 1, "A": 1, "L": 2, "R": 2}
_WORLD_NAMES = ("from head to feet", "from front to back", "from left to right")


def judge(dataset: Dataset, fingerprint: Fingerprint | None) -> tuple[Problem, ...]:
    """Find what is wrong with a data set beyond its single files.

    Args:
        dataset: what is declared.
        fingerprint: all cases whose images can be used; those with a broken label map have
            neither structures nor label voxels. None if there is no such case.

    Returns:
        Problems; nothing that is decided by a case's file alone and was told when it was read.
    """
    if not dataset.cases:
        return (Problem(kind="nothing-labelled", finding="no case is left", file=dataset.root),)
    if fingerprint is None:
        return ()
    problems = [
        *(problem for case in fingerprint.cases for problem in _judge_case(dataset, case)),
        *_spacing_outliers(dataset, fingerprint),
        *_axis_orders(dataset, fingerprint),
        *_duplicates(dataset, fingerprint),
        *_unnamed_ct(dataset, fingerprint),
        *_sides(dataset),
        *_patients(dataset, fingerprint),
        *_never_annotated(dataset),
        *_rare_structures(dataset, fingerprint),
    ]
    return tuple(problems)


def _judge_case(dataset: Dataset, measured: CaseFingerprint) -> Iterator[Problem]:
    """What the measurements of one case tell without the others."""
    case = dataset.case(measured.name)
    wrong = _impossible(dataset, measured)
    if wrong is not None:
        yield _of_image("spacing", wrong, dataset, case)
    if measured.structures and not any(measured.structures):
        label = dataset.label_path(case)
        finding = "nothing but background"
        yield Problem(kind="empty-label", finding=finding, case=case.name, file=label)
    unannotated = _unannotated(dataset, case, measured)
    if unannotated is not None:
        label = dataset.label_path(case)
        yield Problem(kind="unannotated-structure", finding=unannotated, case=case.name, file=label)
    for number, (name, values) in enumerate(zip(dataset.channels, measured.channels, strict=True)):
        if values.min == values.max:
            finding = f"every voxel of {name} is {values.min:g}"
            yield _of_image("constant-channel", finding, dataset, case, number)
        elif is_ct(name) and is_no_ct(values.min, values.max):
            finding = f"values {values.min:g} to {values.max:g}"
            yield _of_image("not-ct", finding, dataset, case, number)


# Grids


def _impossible(dataset: Dataset, measured: CaseFingerprint) -> str | None:
    return impossible_spacing(measured.spacing, measured.original_shape, dataset.channels)


def _spacing_outliers(dataset: Dataset, fingerprint: Fingerprint) -> Iterator[Problem]:
    """Voxel sizes beyond a factor of the median, and rare in this data set."""
    cases = [c for c in fingerprint.cases if not _impossible(dataset, c)]
    if len(cases) < FEWEST_TO_COMPARE:
        return
    logs = np.log([_world_spacing(case) for case in cases])
    medians = np.median(logs, axis=0)
    away = np.abs(logs - medians)
    spread = np.maximum(DEVIATION_OF_MAD * np.median(away, axis=0), SMALLEST_DEVIATION)
    is_outlier = (away > np.log(OUTLIER_FACTOR)) & (away > OUTLIER_DEVIATIONS * spread)
    for measured, size, far in zip(cases, np.exp(logs), is_outlier, strict=True):
        if far.any():
            axis = int(np.argmax(far))
            finding = (
                f"{size[axis]:.4g} mm {_WORLD_NAMES[axis]}, the median of all cases is "
                f"{np.exp(medians[axis]):.4g} mm"
            )
            yield _of_image("spacing-outlier", finding, dataset, dataset.case(measured.name))


def _world_spacing(case: CaseFingerprint) -> Triple:
    """Spacing along height, depth and width, whatever the order of the axes."""
    axes = [_WORLD_AXES[letter] for letter in case.orientation]
    along = dict(zip(axes, case.spacing, strict=True))
    if len(along) < 3:  # an oblique grid of which two axes are nearest to one direction
        return case.spacing
    return along[0], along[1], along[2]


def _axis_orders(dataset: Dataset, fingerprint: Fingerprint) -> Iterator[Problem]:
    counts = Counter(case.orientation for case in fingerprint.cases)
    usual, count = counts.most_common(1)[0]
    for measured in fingerprint.cases:
        if measured.orientation != usual:
            finding = (
                f"axes z, y, x point to {_directions(measured.orientation)}; in {count} of "
                f"{len(fingerprint.cases)} cases to {_directions(usual)}"
            )
            yield _of_image("axis-order", finding, dataset, dataset.case(measured.name))


def _directions(orientation: str) -> str:
    return ", ".join(orientation)


# Cases and patients


def _duplicates(dataset: Dataset, fingerprint: Fingerprint) -> Iterator[Problem]:
    first: dict[str, str] = {}
    for measured in fingerprint.cases:
        is_constant = all(channel.min == channel.max for channel in measured.channels)
        if measured.content is None or is_constant:
            continue
        same = first.setdefault(measured.content, measured.name)
        if same != measured.name:
            case = dataset.case(measured.name)
            yield _of_image("duplicate", f"the same voxels as {same}", dataset, case)


def _patients(dataset: Dataset, fingerprint: Fingerprint) -> Iterator[Problem]:
    cases_of: dict[str, list[str]] = defaultdict(list)
    for case, patient in patients_of(case.name for case in dataset.cases).items():
        cases_of[patient].append(case)
    by_header: dict[str, list[str]] = defaultdict(list)
    for measured in fingerprint.cases:
        if measured.patient is not None:
            by_header[measured.patient].append(measured.name)
    groups = {case.name: case.group for case in dataset.cases}

    def lacks_group(cases: list[str]) -> bool:
        return len(cases) > 1 and any(groups[case] is None for case in cases)

    for patient, cases in cases_of.items():
        if lacks_group(cases):
            finding = f"{patient} has {len(cases)} cases by name: {_listed(cases)}"
            yield Problem(kind="patient", finding=finding)
    told = {tuple(sorted(cases)) for cases in cases_of.values()}
    for cases in by_header.values():
        if lacks_group(cases) and tuple(sorted(cases)) not in told:
            finding = f"{len(cases)} cases have one PatientID: {_listed(cases)}"
            yield Problem(kind="patient", finding=finding)


def _unnamed_ct(dataset: Dataset, fingerprint: Fingerprint) -> Iterator[Problem]:
    for number, name in enumerate(dataset.channels):
        ranges = [case.channels[number] for case in fingerprint.cases]
        alike = sum(looks_like_hu(r.min, r.max, r.is_whole) for r in ranges)
        if not is_ct(name) and 2 * alike > len(ranges):
            finding = f"channel '{name}': in {alike} of {len(ranges)} cases"
            yield Problem(kind="maybe-ct", finding=finding)


# Structures


def _sides(dataset: Dataset) -> Iterator[Problem]:
    for left, right in side_pairs(dataset.labels.names):
        yield Problem(kind="sides", finding=f"'{left}' and '{right}'")


def _unannotated(dataset: Dataset, case: Case, measured: CaseFingerprint) -> str | None:
    """What a label map holds beside the structures its case is annotated for."""
    labels = dataset.labels
    known = annotated_indices(labels, case.annotated)
    indices = [i for i, found in enumerate(measured.structures, 1) if found and i not in known]
    if not indices:
        return None
    names = [
        structure.name
        for structure in labels.structures
        if set(indices) & set(labels.indices_of(structure))
    ]
    values = ", ".join(str(labels.values[index]) for index in indices)
    noun = "label" if len(indices) == 1 else "labels"
    annotated = _listed([f"'{name}'" for name in case.annotated or ()])
    found = _listed([f"'{name}'" for name in names])
    return f"{found} ({noun} {values}); annotated: {annotated}"


def _never_annotated(dataset: Dataset) -> Iterator[Problem]:
    for name in dataset.labels.names:
        if not any(is_annotated(case, name) for case in dataset.cases):
            finding = f"'{name}' is annotated in none of {len(dataset.cases)} cases"
            yield Problem(kind="never-annotated", finding=finding)


def _rare_structures(dataset: Dataset, fingerprint: Fingerprint) -> Iterator[Problem]:
    """Structures in fewer cases than there are folds; doubtful label maps may hold any."""
    sure = [case for case in fingerprint.cases if case.structures]
    doubtful = len(dataset.cases) - len(sure)
    if not doubtful and not any(any(case.structures) for case in sure):
        yield Problem(
            kind="nothing-labelled", finding="no case has a labelled voxel", file=dataset.root
        )
        return
    folds = len(dataset.folds) if dataset.folds else min(NUM_FOLDS, len(dataset.cases))
    for structure in dataset.labels.structures:
        name, indices = structure.name, dataset.labels.indices_of(structure)
        annotated = {case.name for case in dataset.cases if is_annotated(case, name)}
        looked_at = [case for case in sure if case.name in annotated]
        doubtful = len(annotated) - len(looked_at)
        so = "" if len(annotated) == len(dataset.cases) else " annotated for it"
        having = [c.name for c in looked_at if any(c.structures[index - 1] for index in indices)]
        if having and len(having) + doubtful < folds:
            finding = f"'{name}' is in {len(having)} of {len(annotated)} cases{so}"
            yield Problem(kind="rare-structure", finding=f"{finding}: {_listed(having)}")
        elif annotated and not having and len(looked_at) >= doubtful:
            values = ", ".join(map(str, structure.values))
            finding = f"'{name}' (label {values}) is in none of {len(looked_at)} label maps{so}"
            yield Problem(kind="absent-structure", finding=finding)


# Words


def _of_image(kind: str, finding: str, dataset: Dataset, case: Case, channel: int = 0) -> Problem:
    paths = dataset.image_paths(case)
    file: Path = paths[channel] if channel < len(paths) else paths[0]
    return Problem(kind=kind, finding=finding, case=case.name, file=file)


def _listed(names: list[str]) -> str:
    more = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
