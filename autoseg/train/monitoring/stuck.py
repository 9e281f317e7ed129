"""Why the Dice of a structure stays 0: the likeliest reason, with what speaks for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from autoseg.core.dataset import Split
from autoseg.core.fingerprint import CaseFingerprint, Fingerprint
from autoseg.core.geometry import Shape
from autoseg.core.plan import TrainingSpec
from autoseg.core.words import counted

PATIENCE_STEPS = 2500
"""Steps after which a Dice of 0 is worth a word: ten epochs of the usual length."""

FEWEST_STEPS = 500
"""Before these a Dice of 0 says nothing, even if half of the training is over."""

NOTHING = 0.001
"""A Dice below this is of stray voxels."""

_RARE_VOXELS = 1e-3
_RARE_CASES = 0.05
_MOSTLY = 0.5

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The training or the validation cases of a fold, and what they hold of each structure.

    Attributes:
        raw: voxels of each structure in the files, ``(cases, structures)``.
        prepared: the same after resampling.
        sizes: voxels of each prepared case.
        blank: whether a structure lies where all channels are 0, ``(cases, structures)``.
        annotated: whether a case is annotated for a structure, ``(cases, structures)``; None if
            all are for all.
    """

    raw: Counts
    prepared: Counts
    sizes: Counts
    blank: npt.NDArray[np.bool_]
    annotated: npt.NDArray[np.bool_] | None = None

    def num_annotated(self, structure: int) -> int:
        """Number of cases that are annotated for a structure, by its number from 0."""
        return len(self) if self.annotated is None else int(self.annotated[:, structure].sum())

    def num_with(self, structure: int) -> int:
        """Number of cases whose files have a structure, by its number from 0."""
        return int((self.raw[:, structure] > 0).sum())

    def __len__(self) -> int:
        """Number of cases."""
        return len(self.raw)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known when a reason is looked for.

    Attributes:
        names: of the structures, by index from 1.
        train: what the training cases hold.
        validation: what the validation cases hold.
        confusion: voxels of the last validation patches by (reference, prediction), background
            first.
        steps: that were trained.
        spec: the recipe.
        spacing: of the prepared cases, mm.
    """

    names: Sequence[str]
    train: Part
    validation: Part
    confusion: Counts
    steps: int
    spec: TrainingSpec
    spacing: Sequence[float]


def gather_part(
    fingerprint: Fingerprint,
    cases: Iterable[str],
    prepared: Mapping[str, tuple[Shape, Sequence[int]]],
    num_structures: int,
) -> Part:
    """Collect what some cases hold.

    Args:
        fingerprint: measurements of the files.
        cases: names, at least one.
        prepared: shape and voxels of each index 1..n of the prepared cases, by name.
        num_structures: n.
    """
    measured = {case.name: case for case in fingerprint.cases}
    names = list(cases)
    raw = [_padded(measured[name].label_voxels, num_structures) for name in names]
    kept = [_padded(prepared[name][1], num_structures) for name in names]
    return Part(
        raw=np.array(raw, dtype=np.int64),
        prepared=np.array(kept, dtype=np.int64),
        sizes=np.array([prod(prepared[name][0]) for name in names], dtype=np.int64),
        blank=np.array([_blank(measured[name], num_structures) for name in names]),
    )


def gather(
    fingerprint: Fingerprint,
    split: Split,
    prepared: Mapping[str, tuple[Shape, Sequence[int]]],
    num_structures: int,
) -> tuple[Part, Part]:
    """What the training and the validation cases of a fold hold; as for ``gather_part``."""
    train = gather_part(fingerprint, split.train, prepared, num_structures)
    return train, gather_part(fingerprint, split.validation, prepared, num_structures)


def stuck(rows: Sequence[Mapping[str, Any]], warned: Iterable[str]) -> list[str]:
    """Structures whose Dice was 0 or undefined in all epochs, and nobody was told.

    Args:
        rows: the epochs, as lines of ``history.jsonl``.
        warned: structures to leave out.
    """
    if not rows:
        return []
    told = set(warned)
    return [
        name
        for name in rows[-1]["dice"]
        if name not in told and all((row["dice"].get(name) or 0.0) < NOTHING for row in rows)
    ]


def with_annotated(facts: Facts, split: Split, known: Mapping[str, Sequence[bool]]) -> Facts:
    """The facts with what the cases are annotated for.

    Args:
        facts: what else is known.
        split: who trains and who is held out, in the order of the facts.
        known: of the cases that are not annotated for everything, whether they are for each
            output of the network; what comes before the structures is not looked at.
    """
    count = len(facts.names)

    def part(names: Sequence[str], what: Part) -> Part:
        rows = [known.get(name, (True,) * count)[-count:] for name in names]
        return replace(what, annotated=np.array(rows, dtype=np.bool_))

    if not known:
        return facts
    train, validation = part(split.train, facts.train), part(split.validation, facts.validation)
    return replace(facts, train=train, validation=validation)


def is_time(steps: int, progress: float, *, over: bool) -> bool:
    """Whether a Dice of 0 is worth a word that data alone do not explain.

    Args:
        steps: that were trained.
        progress: share of the training that is done, 0..1.
        over: whether the training has ended.
    """
    half = progress >= 0.5 and steps >= FEWEST_STEPS
    return over or half or steps >= PATIENCE_STEPS


def explain(facts: Facts, structure: int, *, patient: bool) -> str | None:
    """The likeliest reason why the Dice of a structure is 0.

    Args:
        facts: what is known.
        structure: its number, from 0.
        patient: whether to be silent unless the data alone prove a reason.

    Returns:
        A finding with its evidence and a remedy; None if nothing is to be said yet.
    """
    reasons = _PROVEN if patient else (*_PROVEN, *_LIKELY)
    found = next((text for reason in reasons if (text := reason(facts, structure))), None)
    if found is None and patient:
        return None
    if found is None:
        found = (
            f"nothing in the data explains it: it is in {_cases_with(facts.train, structure)} "
            f"training cases, {_percent(_share(facts, structure))} of their voxels; look at the "
            "label maps, and at predictions with --preview-every 10 under another --run"
        )
    return f"the Dice of {facts.names[structure]} stays 0: {found}"


def _annotated_in_no_training_case(facts: Facts, structure: int) -> str | None:
    if facts.train.num_annotated(structure):
        return None
    return (
        f"it is annotated in no training case ({facts.validation.num_annotated(structure)} of "
        f"{len(facts.validation)} validation cases are annotated for it), so nothing tells the "
        "network what it is; deal other folds in splits.json, or annotate it in more cases"
    )


def _absent_from_training(facts: Facts, structure: int) -> str | None:
    if facts.train.num_with(structure):
        return None
    elsewhere = ""
    if facts.validation.num_with(structure):
        elsewhere = f", but in {_cases_with(facts.validation, structure)} validation cases"
    return (
        f"it is in none of the {_training_cases(facts, structure)}{elsewhere}; deal other folds "
        "in splits.json, or check that its label value is the one in the files"
    )


def _lost_in_preparation(facts: Facts, structure: int) -> str | None:
    raw, prepared = facts.train.raw[:, structure], facts.train.prepared[:, structure]
    lost = (raw > 0) & (prepared == 0)
    if lost.sum() <= _MOSTLY * (raw > 0).sum():
        return None
    spacing = " x ".join(f"{mm:g}" for mm in facts.spacing)
    return (
        f"it is smaller than a voxel after resampling to {spacing} mm: nothing is left of it in "
        f"{int(lost.sum())} of the {int((raw > 0).sum())} training cases that have it (median "
        f"{counted(int(np.median(raw[lost])), 'voxel')} in the file); plan a finer grid with "
        "autoseg plan TASK --spacing under another --plan"
    )


def _on_blank_image(facts: Facts, structure: int) -> str | None:
    present = facts.train.raw[:, structure] > 0
    blank = int((facts.train.blank[:, structure] & present).sum())
    if blank <= _MOSTLY * present.sum():
        return None
    return (
        f"it lies where the image is 0 in {blank} of the {int(present.sum())} training cases that "
        "have it, so the label map does not fit the image; look at one with autoseg overlay"
    )


def _absent_from_validation(facts: Facts, structure: int) -> str | None:
    if facts.validation.num_with(structure):
        return None
    verb = "in" if facts.validation.num_annotated(structure) else "annotated in"
    return (
        f"it is {verb} none of the {len(facts.validation)} validation cases, so nobody can tell "
        f"how well it is learnt (it is in {_cases_with(facts.train, structure)} training cases); "
        "deal other folds in splits.json"
    )


def _missed_by_patches(facts: Facts, structure: int) -> str | None:
    if facts.confusion[structure + 1].any():
        return None
    return (
        f"none of the validation patches shows it (it is in "
        f"{_cases_with(facts.validation, structure)} validation cases), which says nothing about "
        "how well it is learnt; the scores of the held-out cases will, at the end"
    )


def _too_short(facts: Facts, structure: int) -> str | None:
    del structure
    if facts.steps >= FEWEST_STEPS:
        return None
    return (
        f"the training was short, {counted(facts.steps, 'step')}; train longer with --epochs or "
        "--max-time under another --run"
    )


def _taken_for_another(facts: Facts, structure: int) -> str | None:
    row = facts.confusion[structure + 1].copy()
    total = row.sum()
    row[[0, structure + 1]] = 0
    other = int(row.argmax())
    if row[other] <= _MOSTLY * total:
        return None
    hint = ""
    if facts.spec.mirror_axes:
        hint = ", or try --augmentation no-mirror under another --run, as mirroring may hide what "
        hint += "tells the two apart"
    return (
        f"{_percent(row[other] / total)} of its voxels are taken for {facts.names[other - 1]}; "
        f"look whether some label maps swap the two{hint}"
    )


def _in_few_cases(facts: Facts, structure: int) -> str | None:
    count = facts.train.num_with(structure)
    if count > _RARE_CASES * facts.train.num_annotated(structure):
        return None
    return (
        f"it is in only {count} of the {_training_cases(facts, structure)}; annotate more cases "
        "that have it"
    )


def _drowned(facts: Facts, structure: int) -> str | None:
    share = _share(facts, structure)
    if share >= _RARE_VOXELS:
        return None
    weighing = [name for name in ("weighted_ce", "dice_topk") if name != facts.spec.loss]
    return (
        f"it is drowned by the rest, as only {_percent(share)} of the voxels of the training "
        f"cases are of it; give it more weight with --loss {' or '.join(weighing)} under another "
        "--run"
    )


_Reason = Callable[[Facts, int], str | None]

_PROVEN: tuple[_Reason, ...] = (
    _annotated_in_no_training_case,
    _absent_from_training,
    _lost_in_preparation,
    _on_blank_image,
    _absent_from_validation,
    _missed_by_patches,
)
_LIKELY: tuple[_Reason, ...] = (_too_short, _taken_for_another, _in_few_cases, _drowned)


def _share(facts: Facts, structure: int) -> float:
    train = facts.train
    sizes = train.sizes if train.annotated is None else train.sizes[train.annotated[:, structure]]
    return float(train.prepared[:, structure].sum() / sizes.sum())


def _training_cases(facts: Facts, structure: int) -> str:
    count = facts.train.num_annotated(structure)
    return f"{count} training cases{'' if count == len(facts.train) else ' annotated for it'}"


def _cases_with(part: Part, structure: int) -> str:
    return f"{part.num_with(structure)} of {len(part)}"


def _percent(share: float) -> str:
    """With two digits that say something, such as ``"92%"``, ``"1.3%"`` or ``"0.0041%"``."""
    percent = 100 * share
    if percent >= 10:
        return f"{percent:.0f}%"
    return f"{percent:.2g}%"


def _padded(counts: Sequence[int], size: int) -> list[int]:
    """A label map that could not be used has no counts."""
    return [*counts[:size], *([0] * (size - len(counts)))]


def _blank(case: CaseFingerprint, count: int) -> list[bool]:
    measures = [*case.structures, *([None] * count)][:count]
    return [
        measure is not None and not any(measure.means) and not any(measure.stds)
        for measure in measures
    ]
