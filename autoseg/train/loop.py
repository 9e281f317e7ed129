"""The training step and the validation of an epoch: torch, no files."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from autoseg.core.plan import TrainingSpec
from autoseg.errors import AutosegError
from autoseg.networks.precision import Precision, autocast
from autoseg.train.batches import Batch
from autoseg.train.losses import Loss, deep_supervision_loss

LONG_STEP_S = 10.0


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
    """

    network: nn.Module
    optimizer: Optimizer
    loss: Loss
    spec: TrainingSpec
    device: torch.device
    precision: Precision
    scaler: torch.amp.GradScaler


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """Validation of one epoch on patches.

    Attributes:
        loss: mean over the batches.
        dice: per foreground class, over all voxels of all patches; None where the class
            is in none of them.
    """

    loss: float
    dice: tuple[float | None, ...]

    @property
    def mean_dice(self) -> float | None:
        """Mean over the classes that have a Dice."""
        defined = [value for value in self.dice if value is not None]
        return sum(defined) / len(defined) if defined else None


def train_step(session: Session, batch: Batch) -> float:
    """One step of the optimiser.

    Args:
        session: changed in place.
        batch: what the step sees.

    Returns:
        The loss before the step. NaN or infinite if loss or gradients are: then no weight
        was changed.

    Raises:
        AutosegError: if the device's memory is too small.
    """
    session.network.train()
    session.optimizer.zero_grad(set_to_none=True)
    try:
        loss = _loss(session, batch)
        session.scaler.scale(loss).backward()
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise _too_small(session.device) from error
    session.scaler.unscale_(session.optimizer)
    norm = nn.utils.clip_grad_norm_(session.network.parameters(), session.spec.gradient_clip)
    if not session.scaler.is_enabled() and not bool(torch.isfinite(norm)):
        return float("nan")
    session.scaler.step(session.optimizer)
    session.scaler.update()
    return float(loss.detach())


@torch.inference_mode()
def validate(
    session: Session, batches: Iterable[Batch], num_classes: int, ignore_index: int | None = None
) -> Validation:
    """Loss and Dice on validation patches.

    Args:
        session: not changed.
        batches: validation batches.
        num_classes: classes including the background.
        ignore_index: label index whose voxels do not count, or None.

    Returns:
        Mean loss, and Dice of the classes 1 and up.
    """
    session.network.eval()
    losses: list[float] = []
    confusion = np.zeros((num_classes, num_classes), dtype=np.int64)
    for batch in batches:
        images, labels = _on_device(session, batch)
        with autocast(session.precision, session.device):
            outputs = _outputs(session.network(images))
        losses.append(float(deep_supervision_loss(session.loss, outputs, labels)))
        confusion += _confusion(outputs[0].argmax(1), labels, num_classes, ignore_index)
    overlap = np.diag(confusion)[1:]
    total = (confusion.sum(0) + confusion.sum(1))[1:]
    pairs = zip(overlap.tolist(), total.tolist(), strict=True)
    dice = tuple(2 * both / volume if volume else None for both, volume in pairs)
    return Validation(loss=float(np.mean(losses)), dice=dice)


def _too_small(device: torch.device) -> AutosegError:
    return AutosegError(
        f"the memory of {device} is too small for a training step",
        remedy="plan for less under another name: autoseg plan TASK --gpu-memory 6GB --plan small",
    )


def _loss(session: Session, batch: Batch) -> Tensor:
    images, labels = _on_device(session, batch)
    with autocast(session.precision, session.device):
        outputs = _outputs(session.network(images))
    return deep_supervision_loss(session.loss, outputs, labels)


def _on_device(session: Session, batch: Batch) -> tuple[Tensor, Tensor]:
    images = torch.from_numpy(batch.images).to(session.device, non_blocking=True)
    labels = torch.from_numpy(batch.labels).to(session.device, non_blocking=True)
    layout = session.precision.memory_format(images.ndim - 2)
    return images.contiguous(memory_format=layout), labels


def _outputs(outputs: Tensor | list[Tensor]) -> list[Tensor]:
    return outputs if isinstance(outputs, list) else [outputs]


def _confusion(
    predicted: Tensor, labels: Tensor, num_classes: int, ignore_index: int | None
) -> np.ndarray:
    """Counts by (reference, prediction)."""
    if ignore_index is not None:
        valid = labels != ignore_index
        predicted, labels = predicted[valid], labels[valid]
    joint = labels.long().flatten() * num_classes + predicted.flatten()
    return torch.bincount(joint, minlength=num_classes**2).reshape(num_classes, -1).cpu().numpy()


def measure_step_s(session: Session, shape: tuple[int, ...]) -> float:
    """Seconds one step takes, tried on zeros without changing a weight.

    Args:
        session: not changed.
        shape: of the images of a batch, ``(batch, channels, *patch)``.

    Returns:
        Seconds, of a second try unless the first is long.
    """
    batch = Batch(
        images=np.zeros(shape, dtype=np.float32),
        labels=np.zeros((shape[0], *shape[2:]), dtype=np.int16),
        cases=(),
    )
    session.network.train()
    elapsed_s = 0.0
    for _ in range(2):
        start = time.perf_counter()
        _loss(session, batch).backward()
        elapsed_s = time.perf_counter() - start
        if elapsed_s > LONG_STEP_S:
            break
    session.optimizer.zero_grad(set_to_none=True)
    return elapsed_s
