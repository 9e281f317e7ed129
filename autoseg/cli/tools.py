"""``init``, ``overlay``, ``demo`` and ``doctor``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autoseg.cli.console import print_report, progress_bar, set_up_logging
from autoseg.cli.options import (
    QuietOption,
    VerboseOption,
    WorkersOption,
    WorkspaceOption,
)
from autoseg.core.words import counted
from autoseg.errors import AutosegError

if TYPE_CHECKING:
    from autoseg.init.stage import Described

_MOST_FILES_NAMED = 3
_MOST_LABELS_LISTED = 12


def init(
    folder: Annotated[
        str, typer.Argument(metavar="FOLDER", help="Folder of images and label maps, or its name.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="The description, a dataset.json; cases.csv comes beside it. In the workspace by "
            "default.",
        ),
    ] = None,
    workspace: WorkspaceOption = None,
    workers: WorkersOption = None,
    verbose: VerboseOption = False,
    quiet: QuietOption = False,
) -> None:
    """Look at a folder in a layout of its own and write its description.

    Finds out which files are images and which label maps, channels, label values, patients.
    """
    set_up_logging(verbose, quiet)
    from autoseg.init.stage import describe_folder
    from autoseg.io.workspace import find_workspace

    file = None if output is None else _description(output)
    place = find_workspace(workspace)
    root = place.locate_dataset(folder)
    file = file or place.task(root.name).description_file
    with progress_bar("looking", quiet) as progress:
        described = describe_folder(root, file, workers, progress)
    if not quiet:
        _print_described(described, folder if output is None else file.parent)


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
    from autoseg.pipeline.demo import run_demo

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


def _description(output: Path) -> Path:
    from autoseg.io.dataset_json import DESCRIPTION

    path = output.expanduser().resolve()
    if path.name != DESCRIPTION or path.is_dir():
        raise AutosegError(
            f"-o {output}: a description is found by its name, {DESCRIPTION}",
            remedy=f"write for example -o {output.with_suffix('') / DESCRIPTION}",
        )
    return path


def _print_described(described: Described, task: str | Path) -> None:
    dataset, layout = described.dataset, described.layout
    known = "" if layout is None else f", as its layout ({layout}) says"
    typer.echo(f"{dataset.name}: {counted(len(dataset.cases), 'case')}{known}")
    reasons = described.reasons or ("",) * len(dataset.channels)
    for channel, reason in zip(dataset.channels, reasons, strict=True):
        typer.echo(f"  channel {channel}{reason and f': {reason}'}")
    _print_labels(described)
    groups = {case.group for case in dataset.cases if case.group is not None}
    if groups:
        typer.echo(f"  patients: {len(groups)} with a group, whose cases stay in one fold")
    for left in described.left_out:
        names = [path.as_posix() for path in left.files[:_MOST_FILES_NAMED]]
        more = ", ..." if len(left.files) > len(names) else ""
        typer.echo(f"  left out: {len(left.files)} {left.why} ({', '.join(names)}{more})")
    for remark in described.remarks:
        typer.echo(f"  note: {remark}")
    state = "" if described.is_new else " (was there already, the same)"
    typer.echo(f"description: {described.description}{state}")
    quoted = shlex.quote(str(task))
    typer.echo(f"next: autoseg check {quoted}, then autoseg plan {quoted}")


def _print_labels(described: Described) -> None:
    """One line per structure; where there are many, one for all that every case has."""
    labels, total = described.dataset.labels, len(described.dataset.cases)
    presence = described.presence or {}
    everywhere = [s for s in labels.structures if presence.get(s.name, total) == total]
    if len(everywhere) > _MOST_LABELS_LISTED:
        names = ", ".join(structure.name for structure in everywhere[:_MOST_FILES_NAMED])
        typer.echo(f"  {len(everywhere)} labels in every case: {names}, ...")
    for structure in labels.structures:
        if structure not in everywhere or len(everywhere) <= _MOST_LABELS_LISTED:
            values = ", ".join(map(str, structure.values))
            where = (
                f": in {presence[structure.name]} of {counted(total, 'case')}" if presence else ""
            )
            typer.echo(f"  label {values} {structure.name}{where}")
    if labels.ignore is not None:
        typer.echo(f"  label {labels.ignore} ignore")
