"""Cases on their way from files to label maps, in steps that may work at the same time.

Reading and preparing, the networks, and restoring are generators, each fed by the one before it;
``overlapping`` puts a thread between them, so that the next case is prepared and the last one
restored and written while the networks work. At most one piece waits between two steps.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from autoseg.core.image import LabelMap
from autoseg.errors import AutosegError
from autoseg.imaging.decide import Labels
from autoseg.imaging.operators import Floats
from autoseg.io.images import read_geometry, read_image
from autoseg.io.probability_file import writing_probabilities
from autoseg.io.readers.base import SINGLE_SLICE_SPACING_MM
from autoseg.predict.memory import Wanted
from autoseg.predict.overlap import ahead
from autoseg.predict.record import CaseRecord, combined_hash, file_hash, forget_case
from autoseg.predict.segmenter import (
    Begun,
    ProbabilitySlabs,
    ReadyImage,
    Segmenter,
    Slabs,
    indices_of,
)
from autoseg.predict.uncertain import UncertaintyMap, write_uncertainty
from autoseg.predict.unlike import unlike
from autoseg.predict.watching import Watched, judged_anew, qualities_of

logger = logging.getLogger(__name__)

Part = tuple[slice, Floats]


@dataclass(slots=True, kw_only=True, eq=False)
class Case:
    """One case and what was found out about it so far; one step at a time works on it.

    Attributes:
        name: the case.
        paths: its image files.
        target: the label map to write.
        probabilities: the file of probabilities to write; None for none.
        doubts: the map of uncertainty to write; None for none.
        known: what is noted of the label map that is there.
        source: hash of the model and the image.
        warnings: what sets the image apart from those of the training.
        ready: the image, prepared; None before and after the networks work on it.
        label_map: what was segmented; None if that failed, or the one that is there is kept.
        noted: what is to be noted of it; None if it failed.
        error: why it failed, in a line; None if it did not.
        is_kept: whether the label map that is there is the one to make.
    """

    name: str
    paths: tuple[Path, ...]
    target: Path
    probabilities: Path | None = None
    doubts: Path | None = None
    known: CaseRecord | None = None
    source: str = ""
    warnings: tuple[str, ...] = ()
    ready: ReadyImage | None = None
    label_map: LabelMap | None = None
    noted: CaseRecord | None = None
    error: str | None = None
    is_kept: bool = False

    @property
    def is_there(self) -> bool:
        """Whether all that is to be written is there, whatever it was made from."""
        wanted = (self.target, self.probabilities, self.doubts)
        return all(path.is_file() for path in wanted if path is not None)

    @property
    def wanted(self) -> Wanted:
        """What is to be written besides the label map."""
        return Wanted(
            probabilities=self.probabilities is not None, uncertainty=self.doubts is not None
        )

    def forget(self) -> None:
        """See that nothing vouches for the case's files, which are about to be replaced.

        Raises:
            AutosegError: if the record of the folder cannot be written.
        """
        forget_case(self.target.parent, self.name)
        self.known = None


def segmented(
    segmenter: Segmenter, cases: Iterable[Case], *, again: bool, overlapping: bool
) -> Iterator[Case]:
    """Segment cases; one that fails does not stop the others.

    Args:
        segmenter: what predicts.
        cases: in order.
        again: segment those, too, whose label maps are there.
        overlapping: prepare the next case and restore the last while the networks work, which
            takes the memory of up to three cases.

    Yields:
        The cases in order, with a label map, kept, or failed. Probabilities are written.
    """
    # What may be taken is what one case takes.
    link = ahead if overlapping and segmenter.max_memory_bytes is None else iter
    prepared = link(_prepared(segmenter, cases, again))
    worked_on = link(_worked_on(segmenter, prepared))
    yield from link(_restored(segmenter, worked_on))


@contextmanager
def noting_errors(case: Case) -> Iterator[None]:
    """Whatever goes wrong in the block is the case's own: the others go on."""
    try:
        yield
    except AutosegError as error:
        place = "" if error.place else f"{case.paths[0]}: "
        case.error = case.error or f"{place}{error}"
    except Exception as error:
        logger.debug("%s failed", case.name, exc_info=True)
        reason = f"{case.paths[0]}: {type(error).__name__}: {error}"
        case.error = case.error or " ".join(reason.split())


def _prepared(segmenter: Segmenter, cases: Iterable[Case], again: bool) -> Iterator[Case]:
    """Read and prepare what has to be segmented."""
    for case in cases:
        with noting_errors(case):
            case.source = combined_hash([segmenter.identity, file_hash(case.paths)])
            is_current = case.known is not None and case.known.source == case.source
            case.is_kept = is_current and case.is_there and not again
            if case.is_kept and case.known is not None:
                case.noted = judged_anew(case.known, qualities_of(segmenter))
            else:
                if segmenter.max_memory_bytes is not None:
                    geometry = read_geometry(case.paths[0])[0]
                    segmenter.refuse_too_large(geometry, case.wanted)
                image = read_image(case.paths)
                segmenter.check(image)
                case.warnings = unlike(image, segmenter.seen) if segmenter.seen else ()
                case.ready = segmenter.ready(image)
                # Only the prepared image is needed from here on.
                del image
        yield case


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Piece:
    """A part of what the networks made of a case; without one there is nothing to restore."""

    case: Case
    watched: Watched | None = None
    begun: Begun | None = None
    part: Part | None = None
    is_last: bool = True


def _worked_on(segmenter: Segmenter, cases: Iterable[Case]) -> Iterator[_Piece]:
    """Let the networks work, piece by piece."""
    for case in cases:
        if case.ready is None:
            yield _Piece(case=case)
            continue
        is_last = False
        with noting_errors(case):
            axis = None if case.probabilities is None else 0
            watched = Watched.over(segmenter)
            begun = watched.segmenter.begin(case.ready, axis=axis)
            # From here on only the networks need what was prepared; they let go of it themselves.
            case.ready = ReadyImage(geometry=case.ready.geometry, inputs=())
            for part in begun.parts:
                is_last = begun.is_last(part)
                yield _Piece(case=case, watched=watched, begun=begun, part=part, is_last=is_last)
                del part
        # What fails in restoring is told where it does, after the last part.
        if not is_last:
            yield _Piece(case=case)


def _restored(segmenter: Segmenter, pieces: Iterator[_Piece]) -> Iterator[Case]:
    """Put the pieces of each case together to its label map."""
    for piece in pieces:
        case, begun, watched = piece.case, piece.begun, piece.watched
        if begun is not None and watched is not None:
            parts = _parts(piece, pieces)
            del piece
            with noting_errors(case):
                case.label_map = segmenter.label_map(*_finished(case, begun, parts))
                hints = watched.hints(case.label_map, case.warnings)
                case.noted = CaseRecord(source=case.source, hints=hints)
            # What a failure has left; the networks may fail in it, too.
            with noting_errors(case):
                for _ in parts:
                    pass
        case.ready = None
        yield case


def _parts(piece: _Piece, pieces: Iterator[_Piece]) -> Iterator[Part]:
    """The parts of one case."""
    while True:
        if piece.part is None:
            raise AutosegError(piece.case.error or "stopped")
        is_last = piece.is_last
        yield piece.part
        if is_last:
            return
        piece = next(pieces)


def _finished(case: Case, begun: Begun, parts: Iterator[Part]) -> tuple[ReadyImage, Labels]:
    """What was segmented, not cleaned up; what else is wanted is written."""
    assert case.ready is not None
    if case.probabilities is None and case.doubts is None:
        return case.ready, begun.indices(parts)
    slabs = begun.probabilities(parts)
    geometry, labels = case.ready.geometry, begun.labels
    with ExitStack() as stack:
        if case.probabilities is not None:
            is_flat = geometry.shape[0] == 1 and geometry.spacing[0] == SINGLE_SLICE_SPACING_MM
            names = (*(() if labels.has_regions else ("background",)), *labels.output_names)
            shape = geometry.shape[1:] if is_flat else geometry.shape
            sink = stack.enter_context(
                writing_probabilities(case.probabilities, names, shape, slabs.axis)
            )
            slabs = _watched(slabs, sink.watch)
        doubts = UncertaintyMap(geometry.shape, slabs.axis, labels.has_regions)
        if case.doubts is not None:
            slabs = _watched(slabs, doubts.watch)
        indices = indices_of(slabs, geometry.shape, labels)
        case.forget()
    if case.doubts is not None:
        write_uncertainty(case.doubts, doubts.image(geometry))
    return case.ready, indices


def _watched(slabs: ProbabilitySlabs, watch: Callable[[Slabs], Slabs]) -> ProbabilitySlabs:
    """The same slabs, which somebody looks at while they pass by."""
    return ProbabilitySlabs(axis=slabs.axis, slabs=watch(slabs.slabs))
