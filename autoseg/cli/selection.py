"""``select``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from autoseg.cli.console import number, print_table, progress_bar, set_up_logging
from autoseg.cli.options import (
    DeviceOption,
    PrecisionOption,
    QuietOption,
    TaskOption,
    VerboseOption,
    WorkersOption,
    WorkspaceOption,
    find_place,
)
from autoseg.core.words import counted

if TYPE_CHECKING:
    from autoseg.core.selection import FoldSpread, Selection, Standing
    from autoseg.io.workspace import TaskFolder

MOST_STRUCTURES = 6
"""Where there are more, tables show the means only."""

MOST_STANDINGS = 12


def select(
    plan_name: Annotated[
        str | None, typer.Option("--plan", metavar="NAME", help="Only models of this plan.")
    ] = None,
    run: Annotated[
        str | None, typer.Option("--run", metavar="NAME", help="Only models of this run.")
    ] = None,
    task: TaskOption = None,
    workspace: WorkspaceOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    workers: WorkersOption = None,
    verbose: VerboseOption = False,
    quiet: QuietOption = False,
) -> None:
    """Choose the model or ensemble that predict uses, and its clean-up.

    Compares all trained configurations and runs, and their ensembles, on the cases they held out;
    says which gain is within noise. A command that was stopped goes on where it was.
    """
    set_up_logging(verbose, quiet)
    from autoseg.io.changes import warn_of_changes

    place = find_place(workspace, task)
    warn_of_changes(place.task)
    select_from(place.task, device, precision, workers, quiet, plan_name, run)


def select_from(
    task: TaskFolder,
    device: str,
    precision: str,
    workers: int | None,
    quiet: bool,
    plan: str | None = None,
    run: str | None = None,
) -> None:
    """Select from the trained models of a task and print how it was decided."""
    from autoseg.pipeline.selection import SelectRequest, select_model

    request = SelectRequest(plan=plan, run=run, device=device, precision=precision, workers=workers)
    with progress_bar("selecting", quiet) as progress:
        selection = select_model(task, request, progress)
    print_selection(selection)
    if not quiet:
        typer.echo(f"selection: {task.selection}")


def print_selection(selection: Selection) -> None:
    """Print the folds of every model, all alternatives, and the decision in words."""
    for spread in selection.spread:
        _print_spread(spread)
    if len(selection.standings) > 1:
        _print_standings(selection.standings)
        of = f"{counted(selection.num_cases, 'case')} of {counted(selection.num_patients, 'patient')}"
        typer.echo(f"(on {of}; behind: the highest Dice less this one's, 95% interval)")
    for note in selection.notes:
        typer.echo(f"note: {note}")
    typer.echo(selection.summary)


def _print_spread(spread: FoldSpread) -> None:
    """A line per fold: mean Dice of the cases it held out."""
    names = list(spread.structures) if len(spread.structures) <= MOST_STRUCTURES else []
    rows = [
        [fold, *(number(spread.structures_by_fold[fold][s]) for s in names), number(mean)]
        for fold, mean in spread.folds.items()
    ]
    rows.append(
        [f"all {spread.num_cases} cases", *(number(spread.structures[s]) for s in names)]
        + [number(spread.dice)]
    )
    print_table([spread.group.name, *names, "mean Dice"], rows)
    if spread.sd is not None:
        typer.echo(f"(standard deviation of the folds {spread.sd:.3f})")


def _print_standings(standings: tuple[Standing, ...]) -> None:
    shown = [s for n, s in enumerate(standings) if n < MOST_STANDINGS or s.is_selected]
    structures = list(standings[0].structures)
    names = structures if len(structures) <= MOST_STRUCTURES else []
    rows = [
        [
            s.name,
            *(number(s.structures[name]) for name in names),
            number(s.dice),
            number(s.behind),
            "-" if s.interval is None else f"{s.interval[0]:+.3f} to {s.interval[1]:+.3f}",
            s.reason,
        ]
        for s in shown
    ]
    print_table(["model", *names, "mean Dice", "behind", "95% interval", "verdict"], rows)
    if len(standings) > len(shown):
        typer.echo(f"({len(shown)} of {len(standings)} models; selection.json has all)")
