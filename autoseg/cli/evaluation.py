"""``evaluate`` and ``compare``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autoseg.cli.console import progress_bar, set_up_logging
from autoseg.cli.options import (
    QuietOption,
    TaskOption,
    VerboseOption,
    WorkersOption,
    WorkspaceOption,
)
from autoseg.errors import AutosegError

if TYPE_CHECKING:
    from autoseg.core.comparison import Comparison
    from autoseg.core.dataset import Dataset
    from autoseg.evaluate.stage import Options

COMPARED = "dice,nsd,hd95"

_OF_STRUCTURES = (
    "dice, iou, precision, recall, volume_error_ml, nsd, hd95, assd, lesion_sensitivity, "
    "lesion_f1, false_lesions"
)

MetricsOption = Annotated[
    str | None,
    typer.Option(
        "--metrics",
        metavar="NAMES",
        help=f"{_OF_STRUCTURES}, and on request pixel_accuracy, pixel_error, weighted_jaccard; "
        "separated by commas, or all.",
    ),
]
ComparedOption = Annotated[
    str | None,
    typer.Option(
        "--metrics",
        metavar="NAMES",
        help=f"{_OF_STRUCTURES}; separated by commas, or all; {COMPARED} by default.",
    ),
]
ToleranceOption = Annotated[
    float | None,
    typer.Option(
        "--tolerance-mm",
        metavar="MM",
        help="Distance up to which surfaces agree (NSD); the side of a typical voxel by default.",
    ),
]


def evaluate(
    predictions: Annotated[
        Path,
        typer.Argument(
            metavar="PREDICTIONS",
            help="Folder; or, to look at scores again, a report.json or nnU-Net's summary.json.",
        ),
    ],
    references: Annotated[Path | None, typer.Argument(metavar="REFERENCES", help="Folder.")] = None,
    metrics: MetricsOption = None,
    tolerance_mm: ToleranceOption = None,
    csv: Annotated[
        Path | None,
        typer.Option("--csv", metavar="FILE", help="All scores as a table for spreadsheets, too."),
    ] = None,
    nnunet_summary: Annotated[
        Path | None,
        typer.Option(
            "--nnunet-summary", metavar="FILE", help="Overlap as nnU-Net's summary.json, too."
        ),
    ] = None,
    task: TaskOption = None,
    workspace: WorkspaceOption = None,
    workers: WorkersOption = None,
    verbose: VerboseOption = False,
    quiet: QuietOption = False,
) -> None:
    """Score label maps against references.

    Prints scores per case and statistics per structure; report.json goes beside the predictions.
    """
    set_up_logging(verbose, quiet)
    from autoseg.cli.scores import print_scores
    from autoseg.core.measures import parse_metrics
    from autoseg.evaluate.stage import Options, evaluate_folders
    from autoseg.evaluate.table import write_table

    if references is None:
        flags = {
            "--metrics": metrics,
            "--tolerance-mm": tolerance_mm,
            "--nnunet-summary": nnunet_summary,
        }
        given = [flag for flag, value in flags.items() if value is not None]
        _show_scores(predictions, csv, given, _dataset_of(workspace, task), quiet)
        return
    options = Options(metrics=parse_metrics(metrics), tolerance=tolerance_mm, workers=workers)
    dataset = _dataset_of(workspace, task)
    labels = None if dataset is None else dataset.labels
    with progress_bar("scoring", quiet) as progress:
        scored = evaluate_folders(
            predictions,
            references,
            labels,
            workers,
            progress,
            must_fit=task is not None,
            options=options,
            dataset=dataset,
        )
    print_scores(scored.report)
    if csv is not None:
        write_table(csv, scored.report)
    if nnunet_summary is not None:
        from autoseg.evaluate.scored import save_nnunet_summary

        save_nnunet_summary(nnunet_summary, scored.report, labels)
    if not quiet:
        typer.echo(f"report: {scored.path}")
        for what, path in (("table", csv), ("nnU-Net's summary", nnunet_summary)):
            if path is not None:
                typer.echo(f"{what}: {path}")


def _show_scores(
    file: Path, csv: Path | None, flags: list[str], dataset: Dataset | None, quiet: bool
) -> None:
    """Print scores that were made before."""
    from autoseg.cli.scores import print_scores
    from autoseg.evaluate.scored import read_scores
    from autoseg.evaluate.table import write_table

    if file.is_dir():
        raise AutosegError(
            "the references are missing", remedy="write: autoseg evaluate PREDICTIONS REFERENCES"
        )
    if flags:
        raise AutosegError(
            f"{flags[0]}: needs label maps, not scores",
            remedy="name their folders: autoseg evaluate PREDICTIONS REFERENCES",
        )
    report = read_scores(file, dataset)
    print_scores(report)
    if csv is not None:
        write_table(csv, report)
        if not quiet:
            typer.echo(f"table: {csv}")


def compare(
    folders: Annotated[
        list[Path],
        typer.Argument(
            metavar="A B [C ...] REFERENCES",
            help="Folders of predictions, and last that of the references; or files of scores of "
            "the same cases (report.json, nnU-Net's summary.json), without references.",
        ),
    ],
    metrics: ComparedOption = None,
    tolerance_mm: ToleranceOption = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE.json", help="All numbers as JSON."),
    ] = None,
    task: TaskOption = None,
    workspace: WorkspaceOption = None,
    workers: WorkersOption = None,
    verbose: VerboseOption = False,
    quiet: QuietOption = False,
) -> None:
    """Compare folders of predictions of the same cases.

    Prints paired differences with their interval and a test; ranks if there are more than two.
    """
    set_up_logging(verbose, quiet)
    from autoseg.cli.scores import print_comparison
    from autoseg.core.measures import are_named
    from autoseg.evaluate.stage import Options
    from autoseg.io import artifacts

    names, whole = _compared(metrics)
    dataset = _dataset_of(workspace, task)
    if len(folders) > 1 and all(folder.is_file() for folder in folders):
        from autoseg.evaluate.scored import compare_scores

        _refuse_tolerance(tolerance_mm)
        comparison = compare_scores(folders, names, dataset, are_needed=are_named(metrics))
    else:
        options = Options(metrics=names, tolerance=tolerance_mm, workers=workers)
        comparison = _compare_folders(folders, options, dataset, task is not None, quiet)
    left_out = comparison.left_out | dict.fromkeys(whole, "of whole label maps")
    comparison = comparison.model_copy(update={"left_out": left_out})
    print_comparison(comparison)
    if output is not None:
        artifacts.save(output, comparison)
        if not quiet:
            typer.echo(f"comparison: {output}")


def _compared(metrics: str | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The metrics to compare, and those that have to be left out because they have no structure."""
    from autoseg.core.measures import are_named, of_structures, parse_metrics

    wanted = parse_metrics(COMPARED if metrics is None else metrics)
    names = of_structures(wanted)
    whole = tuple(name for name in wanted if name not in names)
    if whole and are_named(metrics):
        raise AutosegError(
            f"--metrics {','.join(whole)}: scores of whole label maps are not compared",
            remedy=f"write for example --metrics {','.join(names) or COMPARED}",
        )
    return names, whole


def _refuse_tolerance(tolerance_mm: float | None) -> None:
    """Refuse a tolerance for scores that were made with another one."""
    if tolerance_mm is not None:
        raise AutosegError(
            "--tolerance-mm: needs label maps, not scores",
            remedy="name their folders: autoseg compare A B REFERENCES",
        )


def _compare_folders(
    folders: list[Path], options: Options, dataset: Dataset | None, must_fit: bool, quiet: bool
) -> Comparison:
    from autoseg.evaluate.compare_stage import compare_folders

    if len(folders) < 3:
        raise AutosegError(
            "two folders of predictions are needed, and the references",
            remedy="write: autoseg compare A B REFERENCES",
        )
    labels = None if dataset is None else dataset.labels
    with progress_bar("scoring", quiet) as progress:
        return compare_folders(
            folders[:-1],
            folders[-1],
            labels,
            options,
            progress,
            must_fit=must_fit,
            dataset=dataset,
        )


def _dataset_of(workspace: Path | None, task: str | None) -> Dataset | None:
    """The data of the current task, if there is one: they say what label values mean."""
    from autoseg.io.task import load_dataset
    from autoseg.io.workspace import find_workspace

    place = find_workspace(workspace)
    if task is None and not place.current_file.is_file():
        return None
    return load_dataset(place.resolve_task(task))
