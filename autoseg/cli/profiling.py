"""``train --profile``: what goes with it, and what it prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from autoseg.cli.console import print_table, progress_bar
from autoseg.core.words import counted, size_in_words
from autoseg.errors import AutosegError

if TYPE_CHECKING:
    from autoseg.io.workspace import TaskFolder
    from autoseg.train.inputs import TrainRequest
    from autoseg.train.monitoring.throughput import Memory, Throughput


def profile_training(
    task: TaskFolder, request: TrainRequest, gpus: str | None, quiet: bool
) -> None:
    """Measure a training and print what was found.

    Args:
        task: the task's folder.
        request: what would be trained.
        gpus: what ``--gpus`` says, which has no place here.
        quiet: show no progress.

    Raises:
        AutosegError: if another flag needs a training, or nothing can be measured.
    """
    _refuse_beside(request, gpus)
    from autoseg.train.profile import profile_fold

    with progress_bar("measuring", quiet) as progress:
        measured = profile_fold(task, request, progress)
    print_profile(f"{request.configuration} {request.fold}", measured)


def print_profile(title: str, measured: Throughput) -> None:
    """Print where the time of a step goes and what would help.

    Args:
        title: what was measured.
        measured: what was found.
    """
    from autoseg.train.monitoring.throughput import advise, table

    typer.echo(f"{title}: {_setting(measured)}")
    rows = [[part, f"{ms:.1f}", f"{share:.0%}"] for part, ms, share in table(measured)]
    print_table([f"mean of {counted(measured.steps, 'step')}", "ms", "share"], rows)
    if measured.kinds:
        kinds = ", ".join(f"{kind} {share:.0%}" for kind, share in measured.kinds.items())
        typer.echo(f"operations: {kinds}")
    typer.echo(f"batches per second: {_rates(measured)}")
    typer.echo(f"memory: {_memory(measured.memory)}")
    typer.echo("what would help:")
    for sentence in advise(measured):
        typer.echo(f"- {sentence}")


def _refuse_beside(request: TrainRequest, gpus: str | None) -> None:
    without_sense = {
        "--restart": request.restart,
        "--extend": request.extend is not None,
        "--gpus": gpus is not None,
        "--tensorboard": request.tensorboard,
        "--preview-every": request.preview_every > 0,
    }
    for flag, given in without_sense.items():
        if given:
            raise AutosegError(
                f"--profile trains nothing, so that {flag} makes no sense beside it",
                remedy="leave one of them out",
            )


def _setting(measured: Throughput) -> str:
    compiled = ", compiled" if measured.compiled else ""
    where = f"{measured.device}, {measured.dtype}{compiled}"
    threads = f" ({counted(measured.threads, 'thread')})" if measured.device == "cpu" else ""
    makers = f"--workers {measured.workers}"
    return f"{where}; {counted(measured.cores, 'core')}{threads}, {makers}"


def _rates(measured: Throughput) -> str:
    from autoseg.train.monitoring.throughput import batches_per_s

    made, used = batches_per_s(measured.made_s), batches_per_s(measured.alone_s)
    both = batches_per_s(measured.step_s)
    return f"{made} made while the network rests, {used} used while none is made, {both} together"


def _memory(memory: Memory) -> str:
    parts = []
    if memory.gpu_peak is not None and memory.gpu is not None:
        of = size_in_words(memory.gpu)
        parts.append(f"GPU at most {size_in_words(memory.gpu_peak)} of {of}")
    if memory.host is not None:
        parts.append(f"{size_in_words(memory.host)} for training")
    if memory.makers:
        parts.append(f"{size_in_words(memory.makers)} for making batches")
    parts.append(f"{size_in_words(memory.free)} left")
    return ", ".join(parts)
