"""The options that decide how a fold is trained, declared once for every command that has them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

import typer

from autoseg.core.quantities import parse_seconds
from autoseg.errors import AutosegError

if TYPE_CHECKING:
    from autoseg.train.inputs import TrainingChanges

EpochsOption = Annotated[
    int | None,
    typer.Option("--epochs", metavar="N", min=1, help="Length of the training; 1000 by default."),
]
MaxTimeOption = Annotated[
    str | None,
    typer.Option(
        "--max-time", metavar="TIME", help="Train for no longer than this, such as 20m or 2h."
    ),
]
PlateauOption = Annotated[
    bool,
    typer.Option(
        "--until-plateau",
        help="End once the validation Dice has not risen for 60 epochs: the learning rate then "
        "goes down to 0 over a fifth of the epochs so far. --epochs is the most there can be.",
    ),
]
ExtendOption = Annotated[
    int | None,
    typer.Option(
        "--extend",
        metavar="N",
        min=1,
        help="Train a finished run for N more epochs; its weights stay until they are done.",
    ),
]
SeedOption = Annotated[
    int | None, typer.Option("--seed", metavar="N", min=0, help="Decides weights and samples.")
]
LossOption = Annotated[
    str | None,
    typer.Option(
        "--loss",
        metavar="NAME",
        help="dice_ce (by default), dice, ce, weighted_ce, focal, tversky, jaccard, "
        "generalised_dice or dice_topk.",
    ),
]
OptimizerOption = Annotated[
    str | None,
    typer.Option(
        "--optimizer", metavar="NAME", help="sgd (by default), adam or adamw; brings its own --lr."
    ),
]
ScheduleOption = Annotated[
    str | None,
    typer.Option(
        "--schedule", metavar="NAME", help="poly (by default) or cosine, which warms up first."
    ),
]
RateOption = Annotated[
    float | None, typer.Option("--lr", metavar="RATE", help="Initial learning rate.")
]
WarmupOption = Annotated[
    float | None,
    typer.Option(
        "--warmup",
        metavar="SHARE",
        help="Share of the training in which the learning rate rises, such as 0.05; 0 for none.",
    ),
]
InitFromOption = Annotated[
    str | None,
    typer.Option(
        "--init-from",
        metavar="MODEL",
        help="Begin with the weights of a trained model: its folder or bundle.json, or a name such "
        "as TASK/3d_fullres/fold0. A tenth of the --lr and a --warmup of 0.05 come along.",
    ),
]
AugmentationOption = Annotated[
    str | None,
    typer.Option(
        "--augmentation", metavar="NAME", help="default, none, no-mirror, light or strong."
    ),
]
AugmentOnOption = Annotated[
    str,
    typer.Option(
        "--augment-on",
        metavar="WHERE",
        help="cpu or device; auto, by default, measures on CUDA which is faster.",
    ),
]
RestartOption = Annotated[
    bool, typer.Option("--restart", help="Throw away what the run has so far.")
]
TensorboardOption = Annotated[
    bool, typer.Option("--tensorboard", help="Write for TensorBoard, too (needs the extra).")
]
PreviewOption = Annotated[
    int,
    typer.Option(
        "--preview-every",
        metavar="N",
        min=0,
        help="Draw a validation case every N epochs; 0, for never, by default.",
    ),
]
ProfileOption = Annotated[
    bool,
    typer.Option(
        "--profile", help="Train nothing: measure where the time of a step goes, and what helps."
    ),
]
GpusOption = Annotated[
    str | None,
    typer.Option(
        "--gpus", metavar="0,1", help="Train the folds side by side, one at a time on each GPU."
    ),
]


def training_changes(
    epochs: int | None,
    max_time: str | None,
    seed: int | None,
    loss: str | None = None,
    optimizer: str | None = None,
    schedule: str | None = None,
    lr: float | None = None,
    augmentation: str | None = None,
    until_plateau: bool = False,
    warmup: float | None = None,
) -> TrainingChanges:
    """What flags change about the plan's training recipe.

    Returns:
        The changes; None for every flag that was not given.

    Raises:
        AutosegError: if a value cannot be understood.
    """
    if lr is not None and not 0 < lr < math.inf:
        raise AutosegError(f"--lr: {lr} is no learning rate", remedy="write for example 0.01")
    if warmup is not None and not 0 <= warmup < 1:
        raise AutosegError(
            f"--warmup: {warmup} is no share of a training", remedy="write for example 0.05"
        )
    from autoseg.train.inputs import TrainingChanges
    from autoseg.train.plateau import PLATEAU_EPOCHS

    return TrainingChanges(
        epochs=epochs,
        max_time_s=None if max_time is None else parse_seconds(max_time, "--max-time"),
        plateau_epochs=PLATEAU_EPOCHS if until_plateau else None,
        seed=seed,
        loss=loss,
        optimizer=optimizer,
        schedule=schedule,
        learning_rate=lr,
        augmentation=augmentation,
        warmup=warmup,
    )
