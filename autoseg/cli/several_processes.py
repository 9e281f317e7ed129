"""Under torchrun: one training in several processes, of which one talks."""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from autoseg.errors import AutosegError

if TYPE_CHECKING:
    from autoseg.train.launch import Launch
    from autoseg.train.team import Team

_COMMAND = "train"
_WAIT_FOR_FIRST_S = 10.0


@contextmanager
def several_processes(words: Sequence[str], environ: Mapping[str, str]) -> Iterator[Team | None]:
    """Be one of torchrun's processes while the block runs, if torchrun has started this one.

    Args:
        words: of the command line.
        environ: environment variables.

    Yields:
        The processes; None where there is one.

    Raises:
        AutosegError: if the command is none for several processes, or another process ended.
        SystemExit: in all processes but the one that says why.
    """
    from autoseg.train.launch import read_launch

    launch = read_launch(environ)
    if launch is None or not words or words[0].startswith("-"):
        yield None
        return
    _refuse_others(words[0], launch)
    from autoseg.train.distributed import together

    with together(launch) as team, _silent(launch):
        yield team


def is_silent(team: Team | None) -> bool:
    """Whether another process does the talking."""
    return team is not None and not team.is_lead


def refuse_gpus(team: Team | None, gpus: str) -> None:
    """Refuse ``--gpus`` where torchrun has dealt the GPUs already.

    Raises:
        AutosegError: if there are several processes.
    """
    if team is not None:
        raise AutosegError(
            f"--gpus {gpus} trains folds side by side, a process each, while torchrun trains one "
            "fold in several processes",
            remedy="leave --gpus out, or start without torchrun",
        )


def refuse_profile(team: Team | None) -> None:
    """Refuse ``--profile`` in several processes, each of which would measure for itself.

    Raises:
        AutosegError: if there are several processes.
    """
    if team is not None:
        raise AutosegError(
            "--profile measures one process, while torchrun has started several",
            remedy="start it without torchrun",
        )


def _refuse_others(command: str, launch: Launch) -> None:
    if command == _COMMAND:
        return
    if launch.rank > 0:
        # torchrun ends all as soon as one ends, and the first has to speak before that.
        time.sleep(_WAIT_FOR_FIRST_S)
        raise SystemExit(2)
    raise AutosegError(
        f"torchrun, whose RANK and WORLD_SIZE are set, is for 'autoseg {_COMMAND}', not for "
        f"'autoseg {command}'",
        remedy="start it without torchrun",
    )


@contextmanager
def _silent(launch: Launch) -> Iterator[None]:
    """Leave the talking to the lead; what went wrong in this process alone it is told, too."""
    if launch.rank == 0:
        yield
        return
    logging.disable(logging.WARNING)
    try:
        with (
            Path(os.devnull).open("w", encoding="utf-8") as nowhere,
            redirect_stdout(nowhere),
            warnings.catch_warnings(action="ignore"),
        ):
            yield
    finally:
        logging.disable(logging.NOTSET)
