"""``import`` and ``export``: models from and for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autoseg.cli.console import progress_bar, set_up_logging
from autoseg.cli.options import QuietOption, VerboseOption, WorkspaceOption
from autoseg.errors import AutosegError

if TYPE_CHECKING:
    from autoseg.exchange.nnunet_export import ForNnunet
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


def export(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="Its folder or bundle.json, or a name such as TASK/3d_fullres (all folds) or "
            "TASK/3d_fullres/fold0.",
        ),
    ],
    nnunet: Annotated[
        Path | None,
        typer.Option(
            "--nnunet",
            metavar="FOLDER",
            help="Write a model folder that nnU-Net v2 predicts with into this folder.",
        ),
    ] = None,
    workspace: WorkspaceOption = None,
    verbose: VerboseOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write a model for use elsewhere."""
    set_up_logging(verbose, quiet)
    if nnunet is None:
        raise AutosegError("what to write?", remedy="write: autoseg export MODEL --nnunet FOLDER")
    export_nnunet(model, nnunet, workspace, quiet)


def export_nnunet(model: str, folder: Path, workspace: Path | None, quiet: bool) -> None:
    """Write all folds a user means as model folders of nnU-Net, and say how to use them."""
    from autoseg.exchange.nnunet_export import export_to_nnunet
    from autoseg.io.named_models import locate_folds
    from autoseg.io.workspace import find_workspace

    bundles = locate_folds(model, find_workspace(workspace))
    written = export_to_nnunet(bundles, folder.expanduser())
    if not quiet:
        _print_written(written)


def _print_written(written: ForNnunet) -> None:
    for path in written.folders:
        typer.echo(f"written: {path}")
    typer.echo(f"images must be named CASE_0000{written.ending}; then, with nnU-Net:")
    previous = ""
    for number, path in enumerate(written.folders):
        is_last = number == len(written.folders) - 1
        output = "OUT" if is_last else f"OUT_{path.name.rpartition('__')[2]}"
        reads = f" -prev_stage_predictions {previous}" if written.reads_previous[number] else ""
        folds = " ".join(written.folds[number])
        typer.echo(
            f"  nnUNetv2_predict_from_modelfolder -i IN -o {output} -m {path} -f {folds}{reads}"
        )
        previous = output
