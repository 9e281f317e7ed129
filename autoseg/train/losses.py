"""Losses on logits and label indices, and their sum over the outputs of deep supervision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it
from torch import Tensor

from autoseg.registry import Registry

SMOOTH = 1e-5

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class LossOptions:
    """What a loss needs to know about the task.

    Attributes:
        batch_dice: sum over the batch before the ratio of Dice is taken.
        ignore_index: label index that counts nowhere, or None.
    """

    batch_dice: bool
    ignore_index: int | None = None


LOSSES: Registry[Callable[[LossOptions], Loss]] = Registry("loss")


def soft_dice(logits: Tensor, labels: Tensor, options: LossOptions) -> Tensor:
    """Negative mean soft Dice of the foreground classes.

    Args:
        logits: ``(batch, classes, *space)`` float32.
        labels: ``(batch, *space)`` integer indices; those of ``ignore_index`` count nowhere.
        options: batch Dice and ignore label.

    Returns:
        A scalar in [-1, 0].

    References:
        Milletari et al. 2016, V-Net, section 3; Drozdzal et al. 2016 for the batch form.
    """
    probabilities = torch.softmax(logits, dim=1)[:, 1:]
    valid = _valid(labels, options)
    known = labels if valid is None else labels * valid
    truth = _one_hot(known, logits.shape[1])[:, 1:]
    if valid is not None:
        probabilities = probabilities * valid[:, None]
        truth = truth * valid[:, None]
    space = tuple(range(2, logits.ndim))
    axes = (0, *space) if options.batch_dice else space
    overlap = (probabilities * truth).sum(axes)
    volume = probabilities.sum(axes) + truth.sum(axes)
    return -((2 * overlap + SMOOTH) / (volume + SMOOTH).clamp_min(1e-8)).mean()


def cross_entropy(logits: Tensor, labels: Tensor, options: LossOptions) -> Tensor:
    """Mean cross-entropy over the voxels that are not ignored; 0 if there are none.

    Args:
        logits: ``(batch, classes, *space)`` float32.
        labels: ``(batch, *space)`` integer indices.
        options: the ignore label.

    Returns:
        A scalar, at least 0.
    """
    valid = _valid(labels, options)
    if valid is None:
        return F.cross_entropy(logits, labels.long())
    known = (labels * valid).long()
    voxelwise = F.cross_entropy(logits, known, reduction="none")
    return (voxelwise * valid).sum() / valid.sum().clamp_min(1)


def dice_and_cross_entropy(options: LossOptions) -> Loss:
    """Sum of negative soft Dice and cross-entropy, weighted 1:1."""
    return lambda logits, labels: (
        cross_entropy(logits, labels, options) + soft_dice(logits, labels, options)
    )


LOSSES.add("dice_ce", dice_and_cross_entropy)
LOSSES.add("dice", lambda options: lambda x, y: soft_dice(x, y, options))
LOSSES.add("ce", lambda options: lambda x, y: cross_entropy(x, y, options))


def supervision_weights(num_outputs: int) -> tuple[float, ...]:
    """Weights of the outputs of deep supervision, full resolution first.

    Each is half of the one before, the coarsest is left out, and they sum to 1; a single
    output has weight 1 (so networks of two stages train).
    """
    if num_outputs == 1:
        return (1.0,)
    raw = [0.5**level for level in range(num_outputs - 1)]
    return (*(weight / sum(raw) for weight in raw), 0.0)


def deep_supervision_loss(loss: Loss, outputs: Sequence[Tensor], labels: Tensor) -> Tensor:
    """Weighted sum of a loss over outputs of falling resolution.

    Args:
        loss: applied to each output in float32.
        outputs: logits, full resolution first.
        labels: ``(batch, *space)`` integer indices at full resolution; taken at the nearest
            voxel for the coarser outputs.

    Returns:
        A scalar.
    """
    total = torch.zeros((), device=labels.device)
    for weight, logits in zip(supervision_weights(len(outputs)), outputs, strict=True):
        if weight > 0:
            total = total + weight * loss(logits.float(), _at_size(labels, logits.shape[2:]))
    return total


def _at_size(labels: Tensor, size: torch.Size) -> Tensor:
    if labels.shape[1:] == size:
        return labels
    resized = F.interpolate(labels[:, None].float(), size=tuple(size), mode="nearest-exact")
    return resized[:, 0].to(labels.dtype)


def _valid(labels: Tensor, options: LossOptions) -> Tensor | None:
    return None if options.ignore_index is None else labels != options.ignore_index


def _one_hot(labels: Tensor, num_classes: int) -> Tensor:
    encoded = torch.zeros(
        (labels.shape[0], num_classes, *labels.shape[1:]), dtype=torch.float32, device=labels.device
    )
    return encoded.scatter_(1, labels[:, None].long(), 1.0)
