"""What models got right in the cases they held out: kept, so that nothing is predicted twice."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from autoseg.core.annotation import left_out
from autoseg.core.artifact import Artifact
from autoseg.core.metrics import CaseScores
from autoseg.core.parts import Parts
from autoseg.errors import AutosegError
from autoseg.evaluate.label_maps import Triples
from autoseg.evaluate.overlap import score_voxels
from autoseg.io import artifacts, atomic
from autoseg.io.case_store import source_of
from autoseg.io.stamps import are_unchanged
from autoseg.io.workspace import TaskFolder
from autoseg.pipeline.candidates import Candidate, Gathered


class HeldOutScores(Artifact):
    """What models got right in a case: the content of ``held_out/<case>.json``.

    Attributes:
        source: hash of image, reference and labels.
        voxels: by models (see ``key_of``), of each structure in declared order the voxels in
            prediction and reference, in the prediction only, and in the reference only.
        parts: likewise, what their segmentation consists of.
    """

    source: str
    voxels: dict[str, Triples] = {}  # noqa: RUF012 - pydantic copies defaults
    parts: dict[str, Parts] = {}  # noqa: RUF012


@dataclass(kw_only=True)
class KeptCase:
    """A case, with what is known about it, on disk and here.

    Attributes:
        name: the case.
        scores: what is known.
    """

    name: str
    scores: HeldOutScores
    _task: TaskFolder = field(repr=False)

    def add(
        self, voxels: Mapping[str, Triples] | None = None, parts: Mapping[str, Parts] | None = None
    ) -> None:
        """Keep what was found out; on disk it is whole or not there at all.

        Raises:
            AutosegError: if it cannot be written.
        """
        self.scores = self.scores.model_copy(
            update={
                "voxels": self.scores.voxels | dict(voxels or {}),
                "parts": self.scores.parts | dict(parts or {}),
            }
        )
        artifacts.save(self._task.held_out_file(self.name), self.scores)

    def forget(self, present: frozenset[str]) -> None:
        """Leave out, from the next write on, what concerns weights that are there no more."""

        def is_there(key: str) -> bool:
            return present.issuperset(key.split("+"))

        held = self.scores
        self.scores = held.model_copy(
            update={
                "voxels": {key: v for key, v in held.voxels.items() if is_there(key)},
                "parts": {key: p for key, p in held.parts.items() if is_there(key)},
            }
        )


def key_of(candidates: Iterable[Candidate], case: str) -> str:
    """What the scores of a case are kept under: the weights that predicted it."""
    return "+".join(sorted(one.holders[case].identity for one in candidates))


def open_cases(task: TaskFolder, gathered: Gathered, *, all_there: bool) -> dict[str, KeptCase]:
    """What is known about every case some candidate held out, by name.

    Call it under the lock of the folder.

    Args:
        task: the task's folder.
        gathered: the candidates.
        all_there: whether these are all there are: what is known about others is forgotten.
    """
    atomic.remove_partial(task.held_out)
    present = frozenset(f.identity for one in gathered.candidates for f in one.folds.values())
    wanted = sorted({case for one in gathered.candidates for case in one.holders})
    kept = {name: _open(task, gathered, name) for name in wanted}
    if all_there:
        for case in kept.values():
            case.forget(present)
    return kept


def case_scores(gathered: Gathered, name: str, voxels: Triples) -> CaseScores:
    """The scores of a case, of the structures its reference is annotated for.

    Args:
        gathered: knows the case and the structures.
        name: the case.
        voxels: as ``HeldOutScores`` holds them.
    """
    case, labels = gathered.dataset.case(name), gathered.dataset.labels
    unknown = left_out(labels, case.annotated)
    return CaseScores(
        name=name,
        structures={
            structure: score_voxels(*counts)
            for structure, counts in zip(labels.names, voxels, strict=True)
            if structure not in unknown
        },
        not_annotated=unknown,
        group=case.group,
    )


def scores_of(
    gathered: Gathered,
    kept: Mapping[str, KeptCase],
    candidates: Sequence[Candidate],
    names: Iterable[str],
) -> tuple[CaseScores, ...]:
    """Scores of what some candidates predict together, from what is kept.

    Args:
        gathered: knows cases and structures.
        kept: what is known, by case.
        candidates: what predicts together.
        names: cases they all held out and that were scored.
    """
    return tuple(
        case_scores(gathered, name, kept[name].scores.voxels[key_of(candidates, name)])
        for name in names
    )


def _open(task: TaskFolder, gathered: Gathered, name: str) -> KeptCase:
    source = _source(gathered, name)
    known = HeldOutScores(source=source)
    try:
        read = artifacts.load(task.held_out_file(name), HeldOutScores)
        known = read if read.source == source else known
    except (FileNotFoundError, AutosegError):
        pass  # It is found out again.
    return KeptCase(name=name, scores=known, _task=task)


def _source(gathered: Gathered, name: str) -> str:
    """A hash of image, reference and labels; files are read only if they changed since ``plan``."""
    dataset = gathered.dataset
    case, measured = dataset.case(name), gathered.fingerprint.case(name)
    files = (*dataset.image_paths(case), dataset.label_path(case))
    as_measured = source_of(measured, dataset.labels)
    if are_unchanged(files, measured.files):
        return as_measured
    found = [atomic.digest(file) if file.exists() else "gone" for file in files]
    return "-".join([as_measured, *found])
