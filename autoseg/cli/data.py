"""``check``, ``plan`` and ``preprocess``."""

from __future__ import annotations

from pathlib import Path
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
from autoseg.cli.plans import (
    check_wish,
    compare,
    print_next_with_model,
    print_planned_measurements,
    print_planned_task,
)

if TYPE_CHECKING:
    from autoseg.plan.planner import PlanRequest

TaskArgument = Annotated[
    str, typer.Argument(metavar="TASK", help="Folder of the data set, or its name.")
]
GpuMemoryOption = Annotated[
    str | None,
    typer.Option(
        "--gpu-memory",
        metavar="SIZE",
        help="GPU memory to plan for, such as 8GB or 24GiB, or auto.",
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
PatchSizeOption = Annotated[
    str | None,
    typer.Option(
        "--patch-size",
        metavar="Z,Y,X",
        help="Voxels of a patch, in the plan's axis order: three for 3D, two for 2d.",
    ),
]
BatchSizeOption = Annotated[
    int | None,
    typer.Option("--batch-size", metavar="N", min=1, help="Patches in a batch."),
]
FingerprintOption = Annotated[
    Path | None,
    typer.Option(
        "--fingerprint",
        metavar="FILE",
        help="Instead of TASK: plan from a fingerprint alone, ours or nnU-Net's "
        "dataset_fingerprint.json, with the task.json or dataset.json beside it.",
    ),
]
OutputOption = Annotated[
    Path | None,
    typer.Option("--output", metavar="FILE", help="Write the plan to this file, too."),
]
FromModelOption = Annotated[
    str | None,
    typer.Option(
        "--from-model",
        metavar="MODEL",
        help="Keep the plan of a trained model (its folder or bundle.json, or a name such as "
        "TASK/3d_fullres/fold0), so that train --init-from can begin with its weights.",
    ),
]
FromPeerOption = Annotated[
    Path | None,
    typer.Option(
        "--from-nnunet",
        metavar="FILE",
        help="Adopt the configurations of a plan of nnU-Net v2 (nnUNetPlans.json).",
    ),
]
DiffOption = Annotated[
    tuple[str, str] | None,
    typer.Option(
        "--diff",
        metavar="A B",
        help="Instead of TASK: show where two plans differ, names of plans of -t or files.",
    ),
]
DiffTaskOption = Annotated[
    str | None,
    typer.Option(
        "-t",
        "--task",
        metavar="NAME",
        help="Task of the plans of --diff; the one planned last by default.",
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
    context: typer.Context,
    task: Annotated[
        str | None,
        typer.Argument(metavar="TASK", help="Folder of the data set, or its name."),
    ] = None,
    gpu_memory: GpuMemoryOption = None,
    preset: PresetOption = "default",
    spacing: SpacingOption = None,
    patch_size: PatchSizeOption = None,
    batch_size: BatchSizeOption = None,
    mirror_axes: MirrorOption = None,
    base_features: FeaturesOption = None,
    compatible: CompatibleOption = False,
    plan_name: PlanOption = "default",
    fingerprint: FingerprintOption = None,
    output: OutputOption = None,
    diff: DiffOption = None,
    from_model: FromModelOption = None,
    from_nnunet: FromPeerOption = None,
    task_name: DiffTaskOption = None,
    workspace: WorkspaceOption = None,
    workers: WorkersOption = None,
    verbose: VerboseOption = False,
    quiet: QuietOption = False,
) -> None:
    """Measure a data set, decide everything, say why.

    Or, without images: plan from a fingerprint, compare two plans.
    """
    set_up_logging(verbose, quiet)
    check_wish(context)
    if diff is not None:
        compare(*diff, workspace, task_name, quiet)
        return
    request = plan_request(
        plan_name,
        preset,
        gpu_memory,
        spacing,
        mirror_axes,
        base_features,
        compatible,
        patch_size,
        batch_size,
        from_model,
        workspace,
        from_nnunet,
    )
    if task is None:
        assert fingerprint is not None
        _plan_without_images(fingerprint, request, output, quiet)
    else:
        _plan_task(task, request, output, workspace, workers, quiet)
        print_next_with_model(request, from_model, quiet)


def _plan_task(
    task: str,
    request: PlanRequest,
    output: Path | None,
    workspace: Path | None,
    workers: int | None,
    quiet: bool,
) -> None:
    from autoseg.io import artifacts
    from autoseg.io.workspace import find_workspace
    from autoseg.pipeline.data import plan_folder

    place = find_workspace(workspace)
    folder = place.locate_dataset(task)
    if output is not None:
        artifacts.refuse_to_replace(output)
    with progress_bar("measuring cases", quiet) as progress:
        planned = plan_folder(place, folder, request, workers, progress)
    if output is not None:
        artifacts.save(output, planned.plan)
    if not quiet:
        print_planned_task(planned, output)


def _plan_without_images(
    fingerprint: Path, request: PlanRequest, output: Path | None, quiet: bool
) -> None:
    from autoseg.plan.without_images import plan_without_images

    planned = plan_without_images(fingerprint.expanduser(), request, output)
    if not quiet:
        print_planned_measurements(planned, output)


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
    # What is wrong with a file is so for every configuration.
    for failure in dict.fromkeys(failures):
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
    patch_size: str | None = None,
    batch_size: int | None = None,
    from_model: str | None = None,
    workspace: Path | None = None,
    from_nnunet: Path | None = None,
) -> PlanRequest:
    """Turn the words of the command line into a request.

    Raises:
        AutosegError: if one cannot be understood.
    """
    budget = None if gpu_memory is None else parse_gpu_memory(gpu_memory)
    mm = None if spacing is None else parse_numbers(spacing, "--spacing", float)
    axes = None if mirror_axes is None else _parse_axes(mirror_axes)
    patch = None if patch_size is None else parse_numbers(patch_size, "--patch-size", int)
    from autoseg.plan.planner import PlanRequest

    source = None
    if from_model is not None:
        from autoseg.io.named_models import locate_model, read_model
        from autoseg.io.workspace import find_workspace

        source = read_model(locate_model(from_model, find_workspace(workspace)))
    peer = None
    if from_nnunet is not None:
        from autoseg.io.nnunet_plans import read_plans

        peer = read_plans(from_nnunet.expanduser())
    return PlanRequest(
        name=name,
        preset=preset,
        budget_bytes=budget,
        spacing=mm,  # type: ignore[arg-type]  # the request checks the length itself
        patch_size=patch,
        batch_size=batch_size,
        mirror_axes=axes,
        compatible=compatible,
        base_features=base_features,
        source=source,
        peer=peer,
    )


def _parse_axes(text: str) -> tuple[int, ...]:
    words: dict[str, tuple[int, ...]] = {"all": (0, 1, 2), "none": ()}
    return words[text] if text in words else parse_numbers(text, "--mirror-axes", int)
