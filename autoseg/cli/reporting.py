"""``report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autoseg.cli.console import progress_bar, set_up_logging
from autoseg.cli.options import (
    PlanOption,
    QuietOption,
    TaskOption,
    VerboseOption,
    WorkspaceOption,
    find_place,
)


def report(
    plan: PlanOption = "default",
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE.html",
            help="The page; among the task's reports by default.",
        ),
    ] = None,
    task: TaskOption = None,
    workspace: WorkspaceOption = None,
    verbose: VerboseOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write one HTML file: data, plan, training, scores, and pictures of some cases.

    It holds what there is so far, and needs no network.
    """
    set_up_logging(verbose, quiet)
    from autoseg.pipeline.reporting import report_task

    place = find_place(workspace, task)
    with progress_bar("drawing", quiet) as progress:
        path = report_task(place.task, plan, output, progress)
    typer.echo(f"report: {path}")
