"""``autoseg predict``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autoseg.cli.console import progress_bar, set_up_logging
from autoseg.cli.hints import print_hints
from autoseg.cli.options import (
    DeviceOption,
    PrecisionOption,
    QuietOption,
    TaskOption,
    VerboseOption,
    WorkspaceOption,
    find_place,
)
from autoseg.cli.prediction_options import (
    AnyPlanOption,
    FastOption,
    NumPartsOption,
    PartOption,
    ProbabilitiesOption,
    parse_part,
)
from autoseg.core.quantities import parse_bytes
from autoseg.core.words import counted

if TYPE_CHECKING:
    from autoseg.predict.stage import Prediction


def predict(
    source: Annotated[
        Path, typer.Option("-i", "--input", metavar="PATH", help="An image, or a folder of them.")
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FOLDER", help="Where the label maps go.")
    ],
    configuration: Annotated[
        str | None,
        typer.Option(
            "-c",
            "--configuration",
            metavar="NAME",
            help="The selected or the best by default; 2d,3d_fullres: both together.",
        ),
    ] = None,
    folds: Annotated[
        str | None,
        typer.Option("-f", "--folds", metavar="0,1", help="All finished folds by default."),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            "-m",
            "--model",
            metavar="PATH",
            help="An exported file, a bundle.json, or a folder of folds, instead of a workspace's "
            "model.",
        ),
    ] = None,
    plan: AnyPlanOption = None,
    run: Annotated[
        str | None, typer.Option("--run", metavar="NAME", help="Any training run by default.")
    ] = None,
    uncertainty: Annotated[
        bool,
        typer.Option("--uncertainty", help="Write a map of how undecided the networks were, too."),
    ] = False,
    save_probabilities: ProbabilitiesOption = False,
    fast: FastOption = False,
    num_parts: NumPartsOption = None,
    part: PartOption = None,
    max_memory: Annotated[
        str | None,
        typer.Option(
            "--max-memory", metavar="SIZE", help="Main memory it may take, such as 8GB; or refuse."
        ),
    ] = None,
    task: TaskOption = None,
    workspace: WorkspaceOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    verbose: VerboseOption = False,
    quiet: QuietOption = False,
) -> None:
    """Segment new images with the best model there is."""
    set_up_logging(verbose, quiet)
    from autoseg.predict.loading import PredictOptions
    from autoseg.predict.stage import ModelChoice, predict_folder

    place = None if model is not None else find_place(workspace, task).task
    choice = ModelChoice(
        bundle=None if model is None else model.expanduser(),
        configuration=configuration,
        plan=plan,
        run=run,
        folds=fold_names(folds),
        fast=fast,
    )
    share = parse_part(part, num_parts)
    limit = None if max_memory is None else parse_bytes(max_memory, "--max-memory")
    options = PredictOptions(device=device, precision=precision, max_memory_bytes=limit)
    with progress_bar("segmenting", quiet) as progress:
        predictions = predict_folder(
            place,
            source,
            output,
            choice,
            options,
            progress,
            probabilities=save_probabilities,
            uncertainty=uncertainty,
            part=share,
        )
    _report_predictions(predictions, output, quiet)


def fold_names(text: str | None) -> tuple[str, ...]:
    """The folds that ``--folds`` names, such as ``0,1`` or ``everything``; empty for none."""
    if text is None:
        return ()
    parts = [part.strip() for part in text.split(",") if part.strip()]
    names = [f"fold{part}" if part.isdigit() else part for part in parts]
    return tuple(dict.fromkeys(names))


def _report_predictions(predictions: list[Prediction], output: Path, quiet: bool) -> None:
    failed = [p for p in predictions if p.error is not None]
    if not quiet:
        print_hints([(p.name, p.hints) for p in predictions if p.hints is not None])
        typer.echo(f"{counted(len(predictions) - len(failed), 'label map')} in {output}")
    for prediction in failed:
        typer.echo(f"failed: {prediction.name}: {prediction.error}", err=True)
    if failed:
        raise typer.Exit(1)
