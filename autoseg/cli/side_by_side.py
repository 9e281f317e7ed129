"""``train --gpus``: the folds as commands of their own, one at a time on each GPU."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import typer

from autoseg.cli.console import print_fold_scores
from autoseg.cli.options import Place, parse_numbers
from autoseg.errors import AutosegError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from autoseg.train.inputs import TrainRequest

# What a fold's command says in its own words.
_REPLACED = ("configuration", "fold", "gpus", "task", "workspace", "device", "workers")


def parse_gpus(text: str, device: str = "auto") -> tuple[int, ...]:
    """Read ``--gpus``: numbers separated by commas, each GPU counted once.

    Args:
        text: what the user wrote.
        device: what ``--device`` says, which leaves no choice if it says anything.

    Raises:
        AutosegError: if it is no list of numbers, or names a GPU there is not.
    """
    from autoseg.networks.precision import choose_device

    if device != "auto":
        raise AutosegError(
            f"--gpus {text} and --device {device} cannot both hold",
            remedy="leave one of them out",
        )
    numbers = tuple(dict.fromkeys(parse_numbers(text, "--gpus", int)))
    for number in numbers:
        choose_device(f"cuda:{number}")
    return numbers


def train_side_by_side(
    context: typer.Context,
    place: Place,
    request: TrainRequest,
    folds: Sequence[str],
    gpus: Sequence[int],
) -> None:
    """Train folds at the same time, then print their scores.

    Args:
        context: the command as it was called; its options are those of every fold.
        place: workspace and task.
        request: what to train; its fold does not matter.
        folds: names of the folds.
        gpus: numbers of the GPUs.

    Raises:
        typer.Exit: with 1, if some folds failed.
        InterruptedRunError: if the user stopped it.
        AutosegError: if all folds failed.
    """
    from autoseg.pipeline.folds import run_folds, shared_workers, visible_as
    from autoseg.pipeline.training import validate

    workers = request.workers
    if workers is None:
        workers = shared_workers(min(len(folds), len(gpus)))
    shared = _repeated(context)
    shared += ["--workspace", str(place.workspace.root), "--task", place.task.name]
    shared += ["--device", "cuda", "--workers", str(workers)]
    train = [sys.executable, "-m", "autoseg", "train", request.configuration]
    commands = {fold: [*train, fold, *shared] for fold in folds}
    failed = run_folds(commands, visible_as(gpus, os.environ), _say)
    if len(failed) == len(folds):
        raise AutosegError(f"training failed: {', '.join(failed)}", place=request.configuration)
    done = [replace(request, fold=fold) for fold in folds if fold not in failed]
    scores = {one.fold: validate(place.task, one) for one in done if one.fold != "everything"}
    if len(scores) > 1:
        print_fold_scores(scores)
    if failed:
        typer.echo(f"failed: {', '.join(failed)}", err=True)
        raise typer.Exit(1)


def _repeated(context: typer.Context) -> list[str]:
    """The options a user gave, as words for another command."""
    words: list[str] = []
    for option in context.command.params:
        name = option.name or ""
        source = context.get_parameter_source(name)
        if name in _REPLACED or source is None or source.name != "COMMANDLINE":
            continue
        words.append(max(option.opts, key=len))
        value = context.params[name]
        if value is not True:
            words.append(str(value))
    return words


def _say(fold: str, line: str) -> None:
    typer.echo(f"{fold}: {line}")
