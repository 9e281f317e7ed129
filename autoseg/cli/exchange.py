"""``import`` and ``export``: models from and for other programs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from autoseg.cli.console import progress_bar, set_up_logging
from autoseg.cli.options import (
    QuietOption,
    TaskOption,
    VerboseOption,
    WorkspaceOption,
)
from autoseg.cli.prediction import fold_names
from autoseg.errors import AutosegError

if TYPE_CHECKING:
    from autoseg.exchange.nnunet_export import ForNnunet
    from autoseg.exchange.nnunet_import import Import, Imported
    from autoseg.io.fold_folder import FoldFolder
    from autoseg.io.workspace import TaskFolder
    from autoseg.predict.choosing import Chosen


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
    splits: Annotated[
        Path | None,
        typer.Option(
            "--splits",
            metavar="FILE",
            help="The splits_final.json the model was trained with: which cases folds without a "
            "validation held out.",
        ),
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
            find_workspace(workspace),
            source.expanduser(),
            task,
            plan_name,
            progress,
            splits=None if splits is None else splits.expanduser(),
        )
    if not quiet:
        _print_import(imported, workspace)


def _print_import(imported: Import, workspace: Path | None) -> None:
    channels, structures = ", ".join(imported.channels), ", ".join(imported.labels.names)
    typer.echo(f"{imported.task.name}: channels {channels}, structures {structures}")
    for fold in imported.folds:
        where, axes = fold.folder, ", ".join(map(str, fold.mirror_axes)) or "none"
        again = ", imported before" if fold.was_there else ""
        typer.echo(
            f"  {where.configuration} {where.fold}: trainer {fold.trainer}, mirrored axes of "
            f"the patch: {axes}, {_held_out(fold)}{again}"
        )
    if any(fold.num_held_out is None for fold in imported.folds):
        typer.echo(
            "folds whose held-out cases are unknown can predict, but not be validated or selected; "
            "--splits splits_final.json tells"
        )
    place = "" if workspace is None else f" -w {quote(str(workspace))}"
    # The last one builds on all before it, if any does.
    choices = [_choice(imported.task, fold.folder) for fold in reversed(imported.folds)]
    for number, choice in enumerate(dict.fromkeys(choices)):
        lead = "or:  " if number else "next:"
        typer.echo(f"{lead} autoseg predict -i IN -o OUT {choice}{place}")
    last = imported.folds[-1].folder
    name = f"{imported.task.name}/{last.plan}/{last.configuration}/{last.run}/{last.fold}"
    typer.echo(f"or:   autoseg plan TASK --from-model {quote(name)}{place}")


def _choice(task: TaskFolder, folder: FoldFolder) -> str:
    """Options of predict that name a model, whatever else the task has."""
    same = (folder.plan, folder.configuration)
    runs = {one.run for one in task.fold_folders() if (one.plan, one.configuration) == same}
    names = [("--plan", folder.plan), ("-c", folder.configuration)]
    names += [("--run", folder.run)] if runs != {"default"} else []
    return " ".join(f"{flag} {quote(name)}" for flag, name in names)


def _held_out(fold: Imported) -> str:
    from autoseg.core.words import counted

    known = fold.num_held_out
    return "held-out cases unknown" if known is None else counted(known, "held-out case")


def export(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL] [FILE.autoseg]",
            help="The model: its folder or bundle.json, a .autoseg file, or a name such as TASK, "
            "TASK/3d_fullres (all folds) or TASK/3d_fullres/fold0; what predict would choose by "
            "default. And the file to write.",
        ),
    ] = None,
    onnx: Annotated[
        Path | None,
        typer.Option(
            "--onnx",
            metavar="FOLDER",
            help="Write the networks as ONNX and all that surrounds them as JSON into a new "
            "folder, instead of a file.",
        ),
    ] = None,
    nnunet: Annotated[
        Path | None,
        typer.Option(
            "--nnunet",
            metavar="FOLDER",
            help="Write a model folder that nnU-Net v2 predicts with into this folder.",
        ),
    ] = None,
    configuration: Annotated[
        str | None,
        typer.Option("-c", "--configuration", metavar="NAME", help="As predict takes it."),
    ] = None,
    folds: Annotated[
        str | None, typer.Option("-f", "--folds", metavar="0,1", help="As predict takes it.")
    ] = None,
    plan: Annotated[
        str | None, typer.Option("--plan", metavar="NAME", help="As predict takes it.")
    ] = None,
    run: Annotated[
        str | None, typer.Option("--run", metavar="NAME", help="As predict takes it.")
    ] = None,
    task: TaskOption = None,
    workspace: WorkspaceOption = None,
    verbose: VerboseOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write a model for use elsewhere: one file that predicts anywhere, or for other programs.

    The file holds all that autoseg predict and the Python interface need, and no name of a case.
    """
    set_up_logging(verbose, quiet)
    if onnx is not None and nnunet is not None:
        raise AutosegError("--onnx and --nnunet are two exports", remedy="write one of them")
    model, file = _model_and_file(words or [], onnx is None and nnunet is None)
    from autoseg.io.workspace import find_workspace
    from autoseg.pipeline.exchange import find_for_export
    from autoseg.predict.choosing import ModelChoice

    choice = ModelChoice(configuration=configuration, plan=plan, run=run, folds=fold_names(folds))
    chosen = find_for_export(model, find_workspace(workspace), task, choice)
    if nnunet is not None:
        _export_nnunet(chosen, nnunet.expanduser(), quiet)
    elif onnx is not None:
        _export_onnx(chosen, onnx.expanduser(), quiet)
    else:
        assert file is not None
        _export_file(chosen, file, quiet)


def _model_and_file(words: Sequence[str], wants_file: bool) -> tuple[str | None, Path | None]:
    most = 1 + wants_file
    if len(words) > most or (wants_file and not words):
        usage = "autoseg export [MODEL] FILE.autoseg, or autoseg export [MODEL] --onnx FOLDER"
        raise AutosegError("what to write, and where to?", remedy=f"write: {usage}")
    if wants_file and Path(words[-1]).suffix != ".autoseg":
        raise AutosegError(
            f"'{words[-1]}' does not end in .autoseg, as the file to write must",
            remedy="write: autoseg export [MODEL] FILE.autoseg, or --onnx FOLDER, --nnunet FOLDER",
        )
    model = words[0] if len(words) == most else None
    return model, Path(words[-1]).expanduser() if wants_file else None


def _export_file(chosen: Chosen, path: Path, quiet: bool) -> None:
    from autoseg.core.words import counted, size_in_words
    from autoseg.pipeline.exchange import export_file

    opened = export_file(chosen, path)
    if quiet:
        return
    for group, models in zip(opened.manifest.groups, opened.groups(), strict=True):
        typer.echo(f"model: {', '.join(one.model.label for one in models)}")
        for scores in group.held_out:
            dice = "not defined" if scores.mean_dice is None else f"{scores.mean_dice:.3f}"
            cases = counted(scores.num_cases, "held-out case")
            typer.echo(f"  {scores.fold}: mean Dice {dice} on {cases}")
    if opened.manifest.summary:
        typer.echo(f"chosen: {opened.manifest.summary}")
    weights = sum(entry.name.endswith(".safetensors") for entry in opened.manifest.entries)
    size = size_in_words(path.stat().st_size)
    typer.echo(f"written: {path} ({size}, {counted(weights, 'network')}, hash {opened.identity})")
    typer.echo(f"use it anywhere: autoseg predict -m {quote(path.name)} -i IN -o OUT")


def _export_onnx(chosen: Chosen, folder: Path, quiet: bool) -> None:
    from autoseg.core.words import counted
    from autoseg.pipeline.exchange import export_networks

    with progress_bar("writing networks", quiet) as progress:
        exported = export_networks(chosen, folder, progress)
    if quiet:
        return
    typer.echo(f"written: {counted(len(exported.files), 'network')} and model.json in {folder}")
    if exported.difference is None:
        typer.echo("not compared with torch: onnxruntime is not installed")
    else:
        typer.echo(
            f"compared with torch: logits differ by {exported.difference:.1g} of the largest at "
            "most"
        )


def _export_nnunet(chosen: Chosen, folder: Path, quiet: bool) -> None:
    from autoseg.pipeline.exchange import export_for_nnunet

    written = export_for_nnunet(chosen, folder)
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
            f"  nnUNetv2_predict_from_modelfolder -i IN -o {output} -m {quote(str(path))} "
            f"-f {folds}{reads}"
        )
        previous = output
