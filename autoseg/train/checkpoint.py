"""Where a run stands, on disk: enough to go on exactly as if it had never stopped.

Samples are a function of (seed, epoch, number), what a network draws itself of (seed, epoch,
step), and nothing else in training is random, so the weights, the optimiser's buffers and two
counters are the whole state.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor

from autoseg.core.artifact import Artifact
from autoseg.core.dataset import Split
from autoseg.core.plan import Configuration, Extension, Recipe, TrainingSpec
from autoseg.errors import ArtifactError, AutosegError
from autoseg.io import artifacts, bundle
from autoseg.networks.precision import Precision
from autoseg.train.extension import rewarmed
from autoseg.train.loop import Session
from autoseg.train.objective.schedules import learning_rate
from autoseg.train.plateau import Plateau

STATE_FILE = "state.json"


class State(Artifact):
    """The content of ``resume/state.json``.

    Attributes:
        training: the recipe the run was started with.
        configuration: what the plan said when the run was started.
        recipe: how its cases were prepared.
        split: who trains and who is held out.
        precision: number format, as probed when the run started.
        annotated: what its cases are annotated for that are not annotated for everything.
        compiled: whether the network is compiled, as probed when the run started.
        tensors: file with weights and optimiser buffers, beside this one.
        epoch: epochs finished.
        step: steps finished in the current epoch.
        loss_sum: sum of the losses of those steps.
        elapsed_s: training time so far, over all restarts.
        ema_dice: smoothed validation Dice; None before the first epoch ends.
        best_dice: highest smoothed validation Dice so far.
        plateau: how long it has not risen.
        scaler: state of the gradient scaler.
    """

    training: TrainingSpec
    configuration: Configuration
    recipe: Recipe
    split: Split
    precision: Precision
    annotated: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    compiled: bool = False
    tensors: str = ""
    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    elapsed_s: float = 0.0
    ema_dice: float | None = None
    best_dice: float | None = None
    plateau: Plateau = Plateau()
    scaler: dict[str, float | int] = Field(default_factory=dict)

    @property
    def trained_epochs(self) -> float:
        """Epochs trained, with a fraction for the steps of the current one."""
        return self.epoch + self.step / self.training.steps_per_epoch

    @property
    def progress(self) -> float:
        """Share of the training that is done, by steps or by time, whichever is further."""
        steps = self.trained_epochs / self.training.last_epoch
        limit_s = self.training.limit_s
        return max(steps, self.elapsed_s / limit_s if limit_s else 0.0)

    @property
    def learning_rate(self) -> float:
        """Learning rate of the next step: the schedule's, but for an extension or a plateau."""
        spec, trained = self.training, self.trained_epochs
        scheduled = learning_rate(spec, self.progress)
        return scheduled * rewarmed(spec, trained) * self.plateau.remaining(trained)

    @property
    def last_epoch(self) -> int:
        """Number of epochs after which the training ends at the latest, as known so far."""
        tail = self.plateau.last_epoch
        return self.training.last_epoch if tail is None else min(self.training.last_epoch, tail)

    @property
    def is_over(self) -> bool:
        """Whether all epochs are trained, the time is up, or the tail of a plateau is over."""
        return self.epoch >= self.last_epoch or self.time_is_up

    @property
    def time_is_up(self) -> bool:
        """Whether the time limit is reached."""
        limit_s = self.training.limit_s
        return limit_s is not None and self.elapsed_s >= limit_s

    def extended(self, extensions: tuple[Extension, ...]) -> State:
        """Where a finished run stands that is to be trained on."""
        training = self.training.model_copy(update={"extensions": extensions})
        return self.model_copy(update={"training": training, "plateau": Plateau()})


def exists(folder: Path) -> bool:
    """Whether there is something to resume."""
    return (folder / STATE_FILE).is_file()


def load_state(folder: Path) -> State:
    """Read where a run stands, without its tensors.

    Raises:
        ArtifactError: if the file is broken.
    """
    return artifacts.load(folder / STATE_FILE, State)


@contextmanager
def saving() -> Iterator[None]:
    """Say what becomes of the run if the files of the block cannot be written.

    Raises:
        AutosegError: the block's, with a longer remedy.
    """
    try:
        yield
    except AutosegError as error:
        goes_on = "the same command then goes on from where the run was saved last"
        remedy = "; ".join(filter(None, (error.remedy, goes_on)))
        raise AutosegError(error.finding, place=error.place, remedy=remedy) from error


def save(folder: Path, state: State, session: Session) -> State:
    """Write where a run stands, whole or not at all.

    Args:
        folder: the run's ``resume`` folder.
        state: counters; its ``tensors`` and ``scaler`` are filled in here.
        session: weights and optimiser.

    Returns:
        The state as written.

    Raises:
        AutosegError: if it cannot be written; what was saved before is still there.
    """
    name = f"epoch{state.epoch:05d}-step{state.step:05d}.safetensors"
    written = state.model_copy(update={"tensors": name, "scaler": session.scaler.state_dict()})
    with saving():
        bundle.save_weights(folder / name, _tensors(session))
        artifacts.save(folder / STATE_FILE, written)
    for old in folder.glob("*.safetensors"):
        if old.name != name:
            old.unlink(missing_ok=True)
    return written


def restore(folder: Path, state: State, session: Session) -> None:
    """Put weights, optimiser and scaler back to where a run stood.

    Args:
        folder: the run's ``resume`` folder.
        state: as ``load_state`` gave it.
        session: changed in place.

    Raises:
        ArtifactError: if the tensors are missing or do not fit the network.
    """
    tensors = bundle.load_weights(folder / state.tensors)
    try:
        session.network.load_state_dict(_under("network.", tensors))
    except RuntimeError as error:
        raise ArtifactError(
            "the saved weights do not fit the planned network",
            place=folder / state.tensors,
            remedy="start over with --restart, or under another --run",
        ) from error
    parameters = [one for group in session.optimizer.param_groups for one in group["params"]]
    buffers: dict[int, dict[str, Tensor]] = {}
    for key, value in _under("optimizer.", tensors).items():
        index, _, name = key.partition(".")
        of_parameter = _laid_out_like(parameters[int(index)], value)
        buffers.setdefault(int(index), {})[name] = of_parameter
    groups = session.optimizer.state_dict()["param_groups"]
    session.optimizer.load_state_dict({"state": buffers, "param_groups": groups})
    if state.scaler:
        session.scaler.load_state_dict(dict(state.scaler))


def _tensors(session: Session) -> dict[str, Tensor]:
    tensors = {f"network.{k}": v for k, v in session.network.state_dict().items()}
    for index, buffers in session.optimizer.state_dict()["state"].items():
        for name, value in buffers.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{name}"] = value
            elif value is not None:
                tensors[f"optimizer.{index}.{name}"] = torch.tensor(value)
    return tensors


def _laid_out_like(parameter: Tensor, value: Tensor) -> Tensor:
    """Give an optimiser's buffer its parameter's layout, which the file does not know.

    Fused optimisers pair numbers by their place in memory.
    """
    if value.shape != parameter.shape:
        return value
    return torch.empty_like(parameter, dtype=value.dtype, device=value.device).copy_(value)


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
