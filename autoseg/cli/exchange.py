"""``export``: models for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autoseg.cli.console import set_up_logging
from autoseg.cli.options import QuietOption, VerboseOption, WorkspaceOption
from autoseg.errors import AutosegError

if TYPE_CHECKING:
    from autoseg.exchange.nnunet_export import ForNnunet


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
