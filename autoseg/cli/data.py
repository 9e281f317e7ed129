"""``check``, ``plan`` and ``preprocess``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from autoseg.cli.console import progress_bar, set_up_logging
from autoseg.cli.options import (
    PlanOption,
    QuietOption,
    TaskOption,
    VerboseOption,
    WorkersOption,
    WorkspaceOption,
    find_place,
    parse_gpu_memory,
    parse_numbers,
)
from autoseg.core.words import counted

if TYPE_CHECKING:
    from autoseg.core.dataset import Splits
    from autoseg.core.plan import Decision
    from autoseg.pipeline.data import PlannedTask
    from autoseg.plan.planner import PlanRequest

TaskArgument = Annotated[
    str, typer.Argument(metavar="TASK", help="Folder of the data set, or its name.")
]
GpuMemoryOption = Annotated[
    str | None,
    typer.Option(
        "--gpu-memory", metavar="SIZE", help="GPU memory to plan for, such as 8GB, or auto."
    ),
]
PresetOption = Annotated[
    str,
    typer.Option(
        "--preset", metavar="NAME", help="default, resenc, resenc-m, resenc-l or resenc-xl."
    ),
]
SpacingOption = Annotated[
    str | None,
    typer.Option("--spacing", metavar="Z,Y,X", help="Target spacing in mm instead of the derived."),
]
MirrorOption = Annotated[
    str | None,
    typer.Option(
        "--mirror-axes",
        metavar="AXES",
        help="Image axes (0 z, 1 y, 2 x) to mirror, all or none; by default those along which no "
        "two alike structures keep their order.",
    ),
]
CompatibleOption = Annotated[
    bool,
    typer.Option("--compatible", help="Where autoseg has a rule of its own, decide as nnU-Net."),
]

FeaturesOption = Annotated[
    int | None,
    typer.Option(
        "--base-features", metavar="N", min=1, help="Channels of the first stage; 32 by default."
    ),
]


def check(
    task: TaskArgument,
    mend: Annotated[
        list[str] | None,
        typer.Option(
            "--mend",
            metavar="WHAT=HOW",
            help="Mend copies of what is wrong, or go on without: geometry=copy|resample, "
            "labels=FROM:TO,...|round, voxels=lowest, spacing=Z,Y,X, KIND=leave-out. "
            "Repeatable; raw data stay as they are.",
        ),
    ] = None,
    workspace: WorkspaceOption = None,
    workers: WorkersOption = None,
    verbose: VerboseOption = False,
    quiet: QuietOption = False,
) -> None:
    """Find everything that is wrong with a data set, and say what mends it.

    The exit code is 0 if nothing is wrong, 1 if there are warnings, 2 if there are errors.
    """
    set_up_logging(verbose, quiet)
    from autoseg.cli.findings import exit_code, print_findings
    from autoseg.io.workspace import find_workspace
    from autoseg.pipeline.data import check_folder

    place = find_workspace(workspace)
    folder = place.locate_dataset(task)
    with progress_bar("reading cases", quiet) as progress:
        result = check_folder(place, folder, mend or (), workers, progress)
    print_findings(result, task, verbose, quiet)
    raise typer.Exit(exit_code(result))


def plan(
    task: TaskArgument,
    gpu_memory: GpuMemoryOption = None,
    preset: PresetOption = "default",
    spacing: SpacingOption = None,
    mirror_axes: MirrorOption = None,
    base_features: FeaturesOption = None,
    compatible: CompatibleOption = False,
    plan_name: PlanOption = "default",
    workspace: WorkspaceOption = None,
    workers: WorkersOption = None,
    verbose: VerboseOption = False,
    quiet: QuietOption = False,
) -> None:
    """Measure a data set, decide everything, say why."""
    set_up_logging(verbose, quiet)
    request = plan_request(
        plan_name, preset, gpu_memory, spacing, mirror_axes, base_features, compatible
    )
    from autoseg.io.workspace import find_workspace
    from autoseg.pipeline.data import plan_folder

    place = find_workspace(workspace)
    folder = place.locate_dataset(task)
    with progress_bar("measuring cases", quiet) as progress:
        planned = plan_folder(place, folder, request, workers, progress)
    if not quiet:
        print_plan(planned, request.name)


def preprocess(
    configurations: Annotated[
        list[str] | None,
        typer.Argument(metavar="[CONFIGURATION]...", help="All that are planned by default."),
    ] = None,
    plan_name: PlanOption = "default",
    task: TaskOption = None,
    workspace: WorkspaceOption = None,
    workers: WorkersOption = None,
    verbose: VerboseOption = False,
    quiet: QuietOption = False,
) -> None:
    """Prepare every planned configuration, or those named.

    Cases that are prepared already are kept.
    """
    set_up_logging(verbose, quiet)
    place = find_place(workspace, task)
    from autoseg.io.changes import warn_of_changes
    from autoseg.preprocess.stage import preprocess_task

    warn_of_changes(place.task)
    with progress_bar("preparing cases", quiet) as progress:
        failures = preprocess_task(place.task, configurations or (), plan_name, workers, progress)
    for failure in failures:
        typer.echo(f"failed: {failure.name}: {failure.error}", err=True)
    if failures:
        raise typer.Exit(1)


def plan_request(
    name: str,
    preset: str,
    gpu_memory: str | None,
    spacing: str | None,
    mirror_axes: str | None,
    base_features: int | None,
    compatible: bool,
) -> PlanRequest:
    """Turn the words of the command line into a request.

    Raises:
        AutosegError: if one cannot be understood.
    """
    budget = None if gpu_memory is None else parse_gpu_memory(gpu_memory)
    mm = None if spacing is None else parse_numbers(spacing, "--spacing", float)
    axes = None if mirror_axes is None else _parse_axes(mirror_axes)
    from autoseg.plan.planner import PlanRequest

    return PlanRequest(
        name=name,
        preset=preset,
        budget_bytes=budget,
        spacing=mm,  # type: ignore[arg-type]  # the request checks the length itself
        mirror_axes=axes,
        compatible=compatible,
        base_features=base_features,
    )


def _parse_axes(text: str) -> tuple[int, ...]:
    words: dict[str, tuple[int, ...]] = {"all": (0, 1, 2), "none": ()}
    return words[text] if text in words else parse_numbers(text, "--mirror-axes", int)


def print_plan(planned: PlannedTask, name: str) -> None:
    """Print what a data set holds and every decision with its reason."""
    dataset = planned.dataset
    structures = ", ".join(dataset.labels.names)
    typer.echo(
        f"{dataset.name}: {counted(len(dataset.cases), 'case')} ({dataset.layout} layout), "
        f"channels {', '.join(dataset.channels)}, structures {structures}\n"
    )
    general = [d for d in planned.plan.decisions if d.configuration is None]
    _print_decisions("all configurations", [*general, _folds(planned.splits)])
    for configuration in planned.plan.configurations:
        own = [d for d in planned.plan.decisions if d.configuration == configuration]
        _print_decisions(configuration, own)
    typer.echo(f"plan: {planned.task.plan_file(name)}")
    typer.echo("next: autoseg preprocess")


def _folds(splits: Splits) -> Decision:
    """How the cases were divided, told as a decision."""
    from autoseg.core.plan import Decision

    reason = f"edited by hand; before: {splits.reason}" if splits.is_edited else splits.reason
    return Decision(what="folds", value=str(len(splits.folds) or "none"), reason=reason)


def _print_decisions(title: str, decisions: list[Decision]) -> None:
    if not decisions:
        return
    typer.echo(title)
    width = max(len(decision.what) for decision in decisions)
    for decision in decisions:
        typer.echo(f"  {decision.what.ljust(width)}  {decision.value}")
        typer.echo(f"  {' ' * width}    {decision.reason}")
    typer.echo("")
