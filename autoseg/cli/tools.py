"""``evaluate``, ``overlay``, ``demo`` and ``doctor``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autoseg.cli.console import print_report, progress_bar, set_up_logging
from autoseg.cli.options import (
    QuietOption,
    TaskOption,
    VerboseOption,
    WorkersOption,
    WorkspaceOption,
)

if TYPE_CHECKING:
    from autoseg.core.labels import LabelSpace


def evaluate(
    predictions: Annotated[Path, typer.Argument(metavar="PREDICTIONS", help="Folder.")],
    references: Annotated[Path, typer.Argument(metavar="REFERENCES", help="Folder.")],
    task: TaskOption = None,
    workspace: WorkspaceOption = None,
    workers: WorkersOption = None,
    verbose: VerboseOption = False,
    quiet: QuietOption = False,
) -> None:
    """Score label maps against references.

    Prints Dice and IoU per case and structure; report.json goes beside the predictions.
    """
    set_up_logging(verbose, quiet)
    from autoseg.evaluate.stage import evaluate_folders

    labels = _labels_of(workspace, task)
    with progress_bar("scoring", quiet) as progress:
        scored = evaluate_folders(
            predictions, references, labels, workers, progress, must_fit=task is not None
        )
    print_report(scored.report)
    if not quiet:
        typer.echo(f"report: {scored.path}")


def overlay(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="An image file.")],
    labels: Annotated[Path, typer.Argument(metavar="LABELS", help="Its label map.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE.png", help="The picture.")
    ] = Path("overlay.png"),
) -> None:
    """Draw a label map over its image."""
    from autoseg.figures.cases import draw_overlay

    typer.echo(f"picture: {draw_overlay(image, labels, output)}")


def demo(
    keep: Annotated[
        Path | None,
        typer.Option("--keep", metavar="DIR", help="Leave data and workspace in this folder."),
    ] = None,
    workers: WorkersOption = None,
    verbose: VerboseOption = False,
    quiet: QuietOption = False,
) -> None:
    """Do the whole path on generated data, in a few minutes."""
    set_up_logging(verbose, quiet)
    from autoseg.pipeline import run_demo

    with progress_bar("demo", quiet) as progress:
        result = run_demo(keep, workers, progress)
    print_report(result.report)
    typer.echo(f"picture: {result.picture}")
    if keep is not None:
        typer.echo(f"kept: {keep} (go on there with: cd {keep})")


def doctor() -> None:
    """Look at this machine and what would go wrong on it."""
    from autoseg.doctor import examine_machine

    problems = 0
    for finding in examine_machine():
        typer.echo(f"{'!' if finding.problem else ' '} {finding.what.ljust(12)} {finding.value}")
        if finding.problem:
            problems += 1
            typer.echo(f"  {' ' * 12} {finding.problem}")
    things = "1 thing" if problems == 1 else f"{problems} things"
    typer.echo(f"{things} to look at" if problems else "nothing stands in the way")


def _labels_of(workspace: Path | None, task: str | None) -> LabelSpace | None:
    """What the label values of the current task mean, if there is one."""
    from autoseg.io.task import load_dataset
    from autoseg.io.workspace import find_workspace

    place = find_workspace(workspace)
    if task is None and not place.current_file.is_file():
        return None
    return load_dataset(place.resolve_task(task)).labels
