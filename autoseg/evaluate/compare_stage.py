"""``autoseg compare``: folders of predictions of the same cases -> a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from autoseg.core.comparison import Comparison
from autoseg.core.dataset import Dataset
from autoseg.core.labels import LabelSpace
from autoseg.core.measures import of_structures
from autoseg.core.progress import Progress, silent
from autoseg.errors import AutosegError, DataError
from autoseg.evaluate.comparing import compare_pairs, rank_reports
from autoseg.evaluate.pairs import Pair, with_groups
from autoseg.evaluate.stage import Options, score_folders
from autoseg.io.predict_inputs import label_files

REFERENCES = "references"


def compare_folders(
    folders: Sequence[Path],
    references: Path,
    labels: LabelSpace | None = None,
    options: Options | None = None,
    progress: Progress = silent,
    *,
    must_fit: bool = True,
    dataset: Dataset | None = None,
) -> Comparison:
    """Score several folders of predictions on the cases they share, and compare them.

    Args:
        folders: at least two.
        references: folder of label maps of the same names.
        labels: what the file values mean; None for one structure per value found.
        options: what to measure; metrics of whole cases are left out.
        progress: called after each case.
        must_fit: whether label maps with other values are an error; else the values found
            count, as without ``labels``.
        dataset: of the task; its cases say which patient they are of and what their label maps are
            annotated for.

    Raises:
        AutosegError: if a folder is given twice.
        DataError: if a folder holds no label maps, no case is in all, or one cannot be scored.
    """
    options = options or Options()
    named = _named(folders, references)
    files = {name: label_files(folder) for name, folder in named.items()}
    known = label_files(references)
    shared = sorted(set(known).intersection(*files.values()))
    if not shared:
        raise DataError(
            f"no case is in all {len(files)} folders and the references",
            place=references,
            remedy="label maps of a case need the same name in every folder",
        )
    sets = [
        [Pair(name=case, prediction=of[case], reference=known[case]) for case in shared]
        for of in files.values()
    ]
    sets = [with_groups(pairs, dataset) for pairs in sets]
    scored = score_folders(sets, labels, options, progress, must_fit=must_fit, dataset=dataset)
    reports = dict(zip(files, scored, strict=True))
    metrics = of_structures(options.metrics)
    return Comparison(
        folders={name: str(folder) for name, folder in named.items()},
        references=str(references),
        cases=tuple(shared),
        missing=_missing(files, known),
        metrics=metrics,
        structures=scored[0].structures,
        tolerance=scored[0].tolerance,
        length_unit=scored[0].length_unit,
        pairs=compare_pairs(reports, metrics),
        ranks=rank_reports(reports, metrics),
    )


def _named(folders: Sequence[Path], references: Path) -> dict[str, Path]:
    """Names that tell the folders apart: the last part of the path, or all of it."""
    places = [folder.expanduser().resolve() for folder in (*folders, references)]
    for index, place in enumerate(places):
        if place in places[:index]:
            what = "as predictions and as references" if index == len(folders) else "twice"
            raise AutosegError(
                f"the folder is given {what}",
                place=(*folders, references)[index],
                remedy="name different folders: autoseg compare A B REFERENCES",
            )
    last = [place.name for place in places[:-1]]
    is_unique = len(set(last)) == len(last) and REFERENCES not in last
    return {
        place.name if is_unique else str(folder): folder
        for folder, place in zip(folders, places[:-1], strict=True)
    }


def _missing(
    files: Mapping[str, Mapping[str, Path]], known: Mapping[str, Path]
) -> dict[str, tuple[str, ...]]:
    """Cases that any of the folders has, by the folder that lacks them."""
    holders = {**files, REFERENCES: known}
    everything = set().union(*holders.values())
    lacking = {name: tuple(sorted(everything - set(held))) for name, held in holders.items()}
    return {name: cases for name, cases in lacking.items() if cases}
