"""The training step and the validation of an epoch: torch, no files."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from autoseg.core.labels import LabelSpace
from autoseg.core.plan import TrainingSpec
from autoseg.networks.precision import Precision, autocast
from autoseg.train.augmentation.on_device import finish
from autoseg.train.batches import Batch
from autoseg.train.counting import count_outcomes
from autoseg.train.objective.losses import Loss, deep_supervision_loss

LONG_STEP_S = 10.0

Forward = Callable[[Tensor], Tensor | list[Tensor]]
Mark = Callable[[str], None]
Counts = npt.NDArray[np.int64]


def unmarked(part: str) -> None:
    """Nobody wants to know when a part of a step is done."""


def _own(counts: Counts) -> Counts:
    return counts


class NotFiniteError(ArithmeticError):
    """A loss or gradient that is NaN or infinite; no weight was changed.

    Args:
        what: such as ``"loss"``.
        value: what it became.
        cases: the batch's.
    """

    def __init__(self, what: str, value: float, cases: tuple[str, ...]) -> None:
        super().__init__(what, value, cases)
        self.what = what
        self.value = value
        self.cases = cases


@dataclass(slots=True, kw_only=True)
class Session:
    """What a training run holds in memory.

    Attributes:
        network: the network in training.
        optimizer: over its parameters.
        loss: on full-resolution logits and labels.
        spec: the recipe.
        device: where the network lives.
        precision: number format of the forward pass.
        scaler: of the gradients in float16; does nothing otherwise.
        compiled: the network, compiled; None where it is computed as it is written.
        replica: the network as one of several processes computes it; None where there is one.
        total: sums counts over the processes.
    """

    network: nn.Module
    optimizer: Optimizer
    loss: Loss
    spec: TrainingSpec
    device: torch.device
    precision: Precision
    scaler: torch.amp.GradScaler
    compiled: Forward | None = None
    replica: Forward | None = None
    total: Callable[[Counts], Counts] = _own

    @property
    def forward(self) -> Forward:
        """What a training step computes with."""
        if self.replica is not None:
            return self.replica
        return self.network if self.compiled is None else self.compiled


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """Validation of one epoch on patches.

    Attributes:
        loss: mean over the batches.
        dice: per structure, over all voxels of all patches; None where the structure is in
            none of them.
        confusion: number of voxels by (reference, prediction), background first, as
            ``count_outcomes`` counts them.
    """

    loss: float
    dice: tuple[float | None, ...]
    confusion: npt.NDArray[np.int64]

    @property
    def mean_dice(self) -> float | None:
        """Mean over the structures that have a Dice."""
        defined = [value for value in self.dice if value is not None]
        return sum(defined) / len(defined) if defined else None


def train_step(session: Session, batch: Batch, mark: Mark = unmarked) -> float:
    """One step of the optimiser.

    In float16 a step whose gradients overflow is left out and the scaler takes a smaller scale,
    which is its normal work; only where the scale cannot be the reason it is an error.

    Args:
        session: changed in place.
        batch: what the step sees.
        mark: told the name of each part of the step when its last operation was asked for:
            ``copy``, ``augment`` if samples are varied here, ``forward``, ``loss``, ``backward``
            and ``optimizer``.

    Returns:
        The loss before the step.

    Raises:
        NotFiniteError: if the loss or a gradient is NaN or infinite.
    """
    session.network.train()
    session.optimizer.zero_grad(set_to_none=True)
    loss = _loss(session, batch, mark)
    mark("loss")
    session.scaler.scale(loss).backward()
    mark("backward")
    session.scaler.unscale_(session.optimizer)
    norm = nn.utils.clip_grad_norm_(session.network.parameters(), session.spec.gradient_clip)
    may_overflow = session.scaler.is_enabled() and session.scaler.get_scale() > 1.0
    _refuse_not_finite("loss", loss, batch)
    if not may_overflow:
        _refuse_not_finite("gradient", norm, batch)
    session.scaler.step(session.optimizer)
    session.scaler.update()
    mark("optimizer")
    return float(loss.detach())


def has_finite_weights(network: nn.Module) -> bool:
    """Whether no weight is NaN or infinite."""
    return all(bool(torch.isfinite(weight).all()) for weight in network.parameters())


def draw_anew(seed: int, epoch: int, step: int, rank: int = 0) -> None:
    """Seed what a network draws itself, such as dropout.

    Like the samples it is then a function of (seed, epoch, step), whatever was drawn before;
    processes that share a batch each draw their own.
    """
    entropy = (seed, epoch, step, rank) if rank else (seed, epoch, step)
    torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1)[0]))


def _refuse_not_finite(what: str, value: Tensor, batch: Batch) -> None:
    number = float(value.detach())
    if not math.isfinite(number):
        raise NotFiniteError(what, number, batch.cases)


@torch.inference_mode()
def validate(session: Session, batches: Iterable[Batch], space: LabelSpace) -> Validation:
    """Loss and Dice on validation patches.

    Args:
        session: not changed.
        batches: validation batches.
        space: what the labels and the outputs of the network mean.

    Returns:
        Mean loss, and Dice of the classes 1 and up, or of the regions.

    Raises:
        NotFiniteError: if the loss of a batch is NaN or infinite.
    """
    session.network.eval()
    losses: list[float] = []
    size = 1 + len(space.output_names)
    confusion = np.zeros((size, size), dtype=np.int64)
    for batch in batches:
        images, labels = _on_device(session, batch)
        with autocast(session.precision, session.device):
            outputs = _outputs(session.network(images))
        known = _known(session, batch)
        loss = deep_supervision_loss(session.loss, outputs, labels, known)
        _refuse_not_finite("validation loss", loss, batch)
        losses.append(float(loss))
        confusion += count_outcomes(outputs[0], labels, space, known).cpu().numpy()
    confusion = session.total(confusion)
    overlap = np.diag(confusion)[1:]
    total = (confusion.sum(0) + confusion.sum(1))[1:]
    pairs = zip(overlap.tolist(), total.tolist(), strict=True)
    dice = tuple(2 * both / volume if volume else None for both, volume in pairs)
    return Validation(loss=float(np.mean(losses)), dice=dice, confusion=confusion)


def _loss(session: Session, batch: Batch, mark: Mark = unmarked) -> Tensor:
    images, labels = _on_device(session, batch, mark)
    with autocast(session.precision, session.device):
        outputs = _outputs(session.forward(images))
    mark("forward")
    return deep_supervision_loss(session.loss, outputs, labels, _known(session, batch))


def _on_device(session: Session, batch: Batch, mark: Mark = unmarked) -> tuple[Tensor, Tensor]:
    images = torch.from_numpy(batch.images).to(session.device, non_blocking=True)
    labels = torch.from_numpy(batch.labels).to(session.device, non_blocking=True)
    mark("copy")
    if batch.unfinished is not None:
        images, labels = finish(images, labels, batch.unfinished)
        mark("augment")
    layout = session.precision.memory_format(images.ndim - 2)
    return images.contiguous(memory_format=layout), labels


def _known(session: Session, batch: Batch) -> Tensor | None:
    """What was annotated, where that is not all."""
    if batch.known is None or batch.known.all():
        return None
    return torch.from_numpy(batch.known).to(session.device, non_blocking=True)


def _outputs(outputs: Tensor | list[Tensor]) -> list[Tensor]:
    return outputs if isinstance(outputs, list) else [outputs]


def measure_step_s(session: Session, shape: tuple[int, ...], tries: int = 2) -> float:
    """Seconds one step takes, tried on zeros without changing a weight.

    Args:
        session: not changed.
        shape: of the images of a batch, ``(batch, channels, *patch)``.
        tries: how often it is tried; the first, which may prepare something, counts for nothing.

    Returns:
        Seconds of the fastest of the other tries, or of the first if that is long.
    """
    batch = Batch(
        images=np.zeros(shape, dtype=np.float32),
        labels=np.zeros((shape[0], *shape[2:]), dtype=np.int16),
        cases=(),
    )
    session.network.train()
    elapsed_s = [_try_step_s(session, batch)]
    while len(elapsed_s) < tries and (session.compiled is not None or elapsed_s[0] <= LONG_STEP_S):
        elapsed_s.append(_try_step_s(session, batch))
    session.optimizer.zero_grad(set_to_none=True)
    return min(elapsed_s[1:], default=elapsed_s[0])


def _try_step_s(session: Session, batch: Batch) -> float:
    start = time.perf_counter()
    _loss(session, batch).backward()
    wait_for(session.device)
    return time.perf_counter() - start


def wait_for(device: torch.device) -> None:
    """Wait until a device has done all that it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
