"""``train``, ``validate`` and ``run``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from autoseg.cli.console import (
    print_fold_scores,
    print_report,
    progress_bar,
    set_up_logging,
)
from autoseg.cli.data import (
    BatchSizeOption,
    CompatibleOption,
    FeaturesOption,
    FromModelOption,
    GpuMemoryOption,
    MirrorOption,
    PatchSizeOption,
    PresetOption,
    SpacingOption,
    TaskArgument,
    plan_request,
)
from autoseg.cli.options import (
    DeviceOption,
    PlanOption,
    PrecisionOption,
    QuietOption,
    RunOption,
    TaskOption,
    VerboseOption,
    WorkersOption,
    WorkspaceOption,
    find_place,
)
from autoseg.cli.profiling import profile_training
from autoseg.cli.recipe import (
    AugmentationOption,
    AugmentOnOption,
    EpochsOption,
    ExtendOption,
    GpusOption,
    InitFromOption,
    LossOption,
    MaxTimeOption,
    OptimizerOption,
    PlateauOption,
    PreviewOption,
    ProfileOption,
    RateOption,
    RestartOption,
    ScheduleOption,
    SeedOption,
    TensorboardOption,
    WarmupOption,
    training_changes,
)
from autoseg.cli.selection import select_from
from autoseg.cli.several_processes import is_silent, refuse_gpus, refuse_profile
from autoseg.cli.side_by_side import parse_gpus, train_side_by_side
from autoseg.errors import AutosegError

if TYPE_CHECKING:
    from autoseg.core.metrics import Report
    from autoseg.train.inputs import TrainingChanges, TrainRequest

ConfigurationArgument = Annotated[
    str,
    typer.Argument(
        metavar="CONFIGURATION", help="2d, 3d_fullres, 3d_lowres or 3d_cascade_fullres."
    ),
]
FoldArgument = Annotated[
    str,
    typer.Argument(
        metavar="FOLD", help="0 or fold0 and so on, all (every fold), everything (all cases)."
    ),
]


def train(
    context: typer.Context,
    configuration: ConfigurationArgument,
    fold: FoldArgument,
    epochs: EpochsOption = None,
    max_time: MaxTimeOption = None,
    until_plateau: PlateauOption = False,
    extend: ExtendOption = None,
    seed: SeedOption = None,
    loss: LossOption = None,
    optimizer: OptimizerOption = None,
    schedule: ScheduleOption = None,
    lr: RateOption = None,
    warmup: WarmupOption = None,
    init_from: InitFromOption = None,
    augmentation: AugmentationOption = None,
    tensorboard: TensorboardOption = False,
    preview_every: PreviewOption = 0,
    augment_on: AugmentOnOption = "auto",
    restart: RestartOption = False,
    profile: ProfileOption = False,
    gpus: GpusOption = None,
    plan_name: PlanOption = "default",
    run: RunOption = "default",
    task: TaskOption = None,
    workspace: WorkspaceOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    workers: WorkersOption = None,
    verbose: VerboseOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train one fold and score the cases it held out.

    A run that was stopped, even killed, goes on where it was when the command is repeated.
    """
    quiet = quiet or is_silent(context.obj)
    set_up_logging(verbose, quiet)
    place = find_place(workspace, task)
    changes = training_changes(
        epochs, max_time, seed, loss, optimizer, schedule, lr, augmentation, until_plateau, warmup
    )
    from dataclasses import replace

    from autoseg.io.changes import warn_of_changes
    from autoseg.pipeline.training import parse_folds, train_and_validate

    request = _request(
        *(
            configuration,
            fold,
            plan_name,
            run,
            device,
            precision,
            workers,
            changes,
            restart,
            extend,
        ),
        init_from=init_from,
    )
    request = replace(_showing(request, tensorboard, preview_every), augment_on=augment_on)
    scores: dict[str, Report] = {}
    folds = parse_folds(place.task, fold)
    warn_of_changes(place.task)
    if profile:
        refuse_profile(context.obj)
        profile_training(place.task, replace(request, fold=folds[0]), gpus, quiet)
        return
    if gpus is not None:
        refuse_gpus(context.obj, gpus)
        train_side_by_side(context, place, request, folds, parse_gpus(gpus, device))
        return
    for name in folds:
        one = replace(request, fold=name)
        bar = progress_bar(f"{configuration} {name}", quiet)
        with _printing_scores() as told, bar as progress:
            report = train_and_validate(place.task, one, progress, context.obj, told.append)
        if report is not None:
            scores[name] = report
    if len(scores) > 1:
        print_fold_scores(scores)


def validate(
    configuration: ConfigurationArgument,
    fold: FoldArgument,
    plan_name: PlanOption = "default",
    run: RunOption = "default",
    task: TaskOption = None,
    workspace: WorkspaceOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    workers: WorkersOption = None,
    verbose: VerboseOption = False,
    quiet: QuietOption = False,
) -> None:
    """Predict and score the held-out cases of a trained fold again."""
    set_up_logging(verbose, quiet)
    place = find_place(workspace, task)
    from autoseg.io.changes import warn_of_changes
    from autoseg.io.workspace import EVERYTHING
    from autoseg.pipeline.training import parse_folds
    from autoseg.pipeline.training import validate as validate_fold

    folds = parse_folds(place.task, fold)
    warn_of_changes(place.task)
    for name in folds:
        if name == EVERYTHING:
            raise AutosegError(
                "a model trained on everything has no held-out cases",
                remedy="score it on other images: autoseg predict, then autoseg evaluate",
            )
        request = _request(configuration, name, plan_name, run, device, precision, workers)
        bar = progress_bar(f"{configuration} {name}", quiet)
        with _printing_scores() as told, bar as progress:
            validate_fold(place.task, request, progress, again=True, scored=told.append)


def run(
    task: TaskArgument,
    configuration: Annotated[
        str,
        typer.Option(
            "-c",
            "--configuration",
            metavar="NAME",
            help="What to train: 3d_fullres by default, 2d where the data are pictures.",
        ),
    ] = "",
    fold: Annotated[
        str, typer.Option("--fold", metavar="FOLD", help="As for train; all by default.")
    ] = "all",
    epochs: EpochsOption = None,
    max_time: MaxTimeOption = None,
    until_plateau: PlateauOption = False,
    seed: SeedOption = None,
    loss: LossOption = None,
    optimizer: OptimizerOption = None,
    schedule: ScheduleOption = None,
    lr: RateOption = None,
    warmup: WarmupOption = None,
    init_from: InitFromOption = None,
    augmentation: AugmentationOption = None,
    tensorboard: TensorboardOption = False,
    preview_every: PreviewOption = 0,
    gpu_memory: GpuMemoryOption = None,
    preset: PresetOption = "default",
    spacing: SpacingOption = None,
    patch_size: PatchSizeOption = None,
    batch_size: BatchSizeOption = None,
    mirror_axes: MirrorOption = None,
    base_features: FeaturesOption = None,
    compatible: CompatibleOption = False,
    from_model: FromModelOption = None,
    plan_name: PlanOption = "default",
    run: RunOption = "default",
    workspace: WorkspaceOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    workers: WorkersOption = None,
    verbose: VerboseOption = False,
    quiet: QuietOption = False,
) -> None:
    """Plan, preprocess, train, score and select in one go.

    What exists already is not made again. --max-time holds for each fold.
    """
    set_up_logging(verbose, quiet)
    wanted = plan_request(
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
    )
    changes = training_changes(
        epochs, max_time, seed, loss, optimizer, schedule, lr, augmentation, until_plateau, warmup
    )
    from dataclasses import replace

    from autoseg.io.workspace import find_workspace
    from autoseg.pipeline.training import run_task

    place = find_workspace(workspace)
    folder = place.locate_dataset(task)
    request = _request(configuration, fold, plan_name, run, device, precision, workers, changes)
    request = _showing(request, tensorboard, preview_every)
    with progress_bar("running", quiet) as progress:
        begun = replace(request, init_from=init_from)
        reports = run_task(place, folder, wanted, begun, fold, progress)
    scores = {name: report for name, report in reports.items() if report is not None}
    for report in scores.values():
        print_report(report)
    if len(scores) > 1:
        print_fold_scores(scores)
    if scores:
        select_from(place.task(place.current()), device, precision, workers, quiet)


@contextmanager
def _printing_scores() -> Iterator[list[Report]]:
    """Scores that are put in are printed, even if something fails after they were found."""
    told: list[Report] = []
    try:
        yield told
    finally:
        for report in told:
            print_report(report)


def _request(
    configuration: str,
    fold: str,
    plan_name: str,
    run: str,
    device: str,
    precision: str,
    workers: int | None,
    changes: TrainingChanges | None = None,
    restart: bool = False,
    extend: int | None = None,
    init_from: str | None = None,
) -> TrainRequest:
    from autoseg.train.inputs import TrainingChanges, TrainRequest

    return TrainRequest(
        configuration=configuration,
        fold=fold,
        plan=plan_name,
        run=run,
        changes=changes or TrainingChanges(),
        restart=restart,
        extend=extend,
        init_from=init_from,
        device=device,
        precision=precision,
        workers=workers,
    )


def _showing(request: TrainRequest, tensorboard: bool, preview_every: int) -> TrainRequest:
    """The request with what is to be seen of it; what cannot be shown is said at once."""
    from dataclasses import replace

    from autoseg.train.monitoring.scalars import require_tensorboard

    if tensorboard:
        require_tensorboard()
    return replace(request, tensorboard=tensorboard, preview_every=preview_every)
