"""``import``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autoseg.cli.console import progress_bar, set_up_logging
from autoseg.cli.options import QuietOption, VerboseOption, WorkspaceOption

if TYPE_CHECKING:
    from autoseg.exchange.nnunet_import import Import


def import_models(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER|ZIP",
            help="A model folder of nnU-Net v2 (or one with several), or an exported zip.",
        ),
    ],
    plan_name: Annotated[
        str | None,
        typer.Option("--plan", metavar="NAME", help="Name of the plan; nnU-Net's own by default."),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option("-t", "--task", metavar="NAME", help="Task; named as the data by default."),
    ] = None,
    workspace: WorkspaceOption = None,
    verbose: VerboseOption = False,
    quiet: QuietOption = False,
) -> None:
    """Import models that nnU-Net v2 has trained, to predict or train on with them."""
    set_up_logging(verbose, quiet)
    from autoseg.exchange.nnunet_import import import_models as import_all
    from autoseg.io.workspace import find_workspace

    with progress_bar("importing folds", quiet) as progress:
        imported = import_all(
            find_workspace(workspace), source.expanduser(), task, plan_name, progress
        )
    if not quiet:
        _print_import(imported)


def _print_import(imported: Import) -> None:
    channels, structures = ", ".join(imported.channels), ", ".join(imported.labels.names)
    typer.echo(f"{imported.task.name}: channels {channels}, structures {structures}")
    for fold in imported.folds:
        where, axes = fold.folder, ", ".join(map(str, fold.mirror_axes)) or "none"
        again = ", imported before" if fold.was_there else ""
        typer.echo(
            f"  {where.configuration} {where.fold}: trainer {fold.trainer}, mirrored axes of "
            f"the patch: {axes}{again}"
        )
    typer.echo("next: autoseg predict -i IN -o OUT")
    last = imported.folds[-1].folder
    name = f"{imported.task.name}/{last.plan}/{last.configuration}/{last.run}/{last.fold}"
    typer.echo(f"or:   autoseg plan TASK --from-model {name}")
