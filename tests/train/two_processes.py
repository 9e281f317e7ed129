"""What two processes do together, started by torchrun: ``two_processes.py TASK FOLDER``.

What they found is left in FOLDER, for the tests that started them to look at.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import warnings
from pathlib import Path

import torch
from torch.nn import functional

from autoseg.errors import AutosegError
from autoseg.io.workspace import TaskFolder
from autoseg.networks import precision
from autoseg.train.distributed import together
from autoseg.train.inputs import TrainingChanges, TrainRequest, load_inputs
from autoseg.train.launch import read_launch
from autoseg.train.objective.losses import LOSSES, LossOptions
from autoseg.train.objective.sharing import Shares, shared_loss
from autoseg.train.stage import train_fold
from autoseg.train.team import ALONE, Team

CLASSES = 3
COUNTS = (2, 1)


def request(run: str, **changes: object) -> TrainRequest:
    return TrainRequest(
        configuration="2d",
        fold="fold0",
        run=run,
        device="cpu",
        precision="float32",
        workers=0,
        changes=TrainingChanges(**changes),  # type: ignore[arg-type]
    )


def drawn(ignores: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and labels of a batch; with an ignore label, the second process sees it most."""
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn((sum(COUNTS), CLASSES, 5, 7), generator=generator)
    labels = torch.randint(0, CLASSES, (sum(COUNTS), 5, 7), generator=generator)
    if ignores:
        labels[-1, :4] = CLASSES
    return logits, labels.to(torch.int16)


def options(batch_dice: bool, ignores: bool) -> LossOptions:
    weights = (0.2, 0.8, 2.0)
    ignored = CLASSES if ignores else None
    return LossOptions(batch_dice=batch_dice, ignore_index=ignored, class_weights=weights)


def plain_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """A loss as a plug-in may bring it."""
    return functional.cross_entropy(logits, labels.long(), reduction="mean")


def shared_losses(team: Team) -> dict[str, tuple[list[float], torch.Tensor]]:
    """Of every loss what both make of it, and the gradient of the batch from their parts."""
    shares = Shares(rank=team.rank, counts=COUNTS)
    found = {}
    for name in (*LOSSES, "plain"):
        for batch_dice in (True, False):
            for ignores in (False,) if name == "plain" else (False, True):
                given = options(batch_dice, ignores)
                loss = plain_loss if name == "plain" else LOSSES.get(name)(given)
                logits, labels = drawn(ignores)
                own = logits[shares.own].clone().requires_grad_()
                value = shared_loss(loss, shares)(own, labels[shares.own])
                value.backward()
                # Averaging over the processes, as is done with the weights' gradients.
                parts = team.gather(own.grad / team.size)
                values = team.gather(float(value.detach()))
                found[f"{name} {batch_dice} {ignores}"] = (values, torch.cat(parts))
    return found


class StopOne:
    """A progress that has one process asked to stop after some steps."""

    def __init__(self, steps: int, *, here: bool) -> None:
        self._left, self._here = steps, here

    def __call__(self, done: int, total: int, note: str = "", **_: object) -> None:
        self._left -= 1
        if self._left == 0 and self._here:
            os.kill(os.getpid(), signal.SIGTERM)


def error_of(team: Team, task: TaskFolder, wanted: TrainRequest) -> str:
    try:
        train_fold(task, wanted, team=team)
    except AutosegError as error:
        return str(error)
    return ""


def trained(team: Team, task: TaskFolder) -> dict[str, object]:
    """Runs of both together, and of one after the other."""
    found: dict[str, object] = {"whole": train_fold(task, request("together"), team=team)}
    second = StopOne(2, here=team.rank == 1)
    found["stopped"] = team.gather(train_fold(task, request("parts"), second, team))
    # In the middle of the second epoch, by the first process alone.
    if team.is_lead:
        found["alone"] = train_fold(task, request("parts"), StopOne(3, here=True), ALONE)
    found["finished"] = team.gather(train_fold(task, request("parts"), team=team))
    timed = request("timed", epochs=2000, max_time_s=1.0)
    found["timed"] = team.gather(train_fold(task, timed, team=team))
    found["again"] = team.gather(train_fold(task, request("together"), team=team))
    found["not finite"] = error_of(team, task, request("nan", learning_rate=1e30))
    return found


def refused(team: Team, task: TaskFolder) -> str:
    """What the first says if the second was started for more epochs."""
    wanted = request("other", epochs=2 + team.rank)
    try:
        team.deal(load_inputs(task, wanted), wanted)
    except AutosegError as error:
        return str(error)
    return ""


def main(task: TaskFolder, folder: Path) -> None:
    """All of it; at the end the second process fails while the first waits for it."""
    precision._seconds = lambda step: 1.0
    warnings.filterwarnings("error", category=UserWarning, message="Converting a tensor")
    launch = read_launch(os.environ)
    assert launch is not None
    try:
        with together(launch) as team:
            losses = shared_losses(team)
            found = {
                "agreed": team.agree(team.rank == 1, 10.0 + team.rank),
                "trained": trained(team, task),
                "refused": refused(team, task),
            }
            if team.is_lead:
                torch.save(losses, folder / "losses.pt")
                (folder / "found.json").write_text(json.dumps(found))
            team.gather(None)
            if team.rank == 1:
                raise AutosegError("no space left", place="/data", remedy="make some")
            team.gather(None)
    except AutosegError as error:
        (folder / f"error{launch.rank}").write_text(str(error))
        raise SystemExit(2) from None


if __name__ == "__main__":
    main(TaskFolder(Path(sys.argv[1])), Path(sys.argv[2]))
