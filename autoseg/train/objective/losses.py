"""Losses on logits and label indices, and their sum over the outputs of deep supervision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from autoseg.errors import AutosegError
from autoseg.registry import Registry
from autoseg.train.objective.comparison import Comparison, compare_classes
from autoseg.train.objective.loss_terms import (
    LossOptions,
    Term,
    cross_entropy,
    focal,
    generalised_dice,
    hardest_cross_entropy,
    jaccard,
    soft_dice,
    tversky,
    weighted_cross_entropy,
)
from autoseg.train.objective.partial_comparison import compare_known_classes
from autoseg.train.objective.region_comparison import compare_regions

Loss = Callable[[Tensor, Tensor], Tensor]

LOSSES: Registry[Callable[[LossOptions], Loss]] = Registry("loss")


def _as_it_is(comparison: Comparison) -> Comparison:
    return comparison


@dataclass(frozen=True, slots=True, kw_only=True)
class TermLoss:
    """A sum of terms, which share one comparison of prediction and truth.

    Attributes:
        terms: equally weighted.
        options: of the task.
        gather: makes the comparison one of the whole batch where processes share it.
    """

    terms: tuple[Term, ...]
    options: LossOptions
    gather: Callable[[Comparison], Comparison] = _as_it_is

    def __call__(self, logits: Tensor, labels: Tensor, known: Tensor | None = None) -> Tensor:
        """The loss of a batch.

        Args:
            logits: ``(batch, outputs, *space)``, any floating-point type.
            labels: ``(batch, *space)`` integer indices; those of ``ignore_index`` count nowhere.
            known: bool ``(batch, outputs)``, whether the class or region was annotated in the
                sample; of one that was not, nobody knows where it is: it counts nowhere, and
                background may be that class. None if all were.

        Returns:
            A scalar, float32 (float64 if the logits are); 0 if every voxel is ignored. It can
            be derived once: a second backward pass through the same value is refused.
        """
        options = self.options
        comparison = self.gather(_compare(logits, labels, options, known))
        total = sum((term(comparison, options) for term in self.terms), start=logits.new_zeros(()))
        if options.ignore_index is None:
            return total
        return total * (comparison.num_decisions > 0)


def _compare(
    logits: Tensor, labels: Tensor, options: LossOptions, known: Tensor | None
) -> Comparison:
    if options.regions is not None:
        return compare_regions(logits, labels, options.regions, options.ignore_index, known)
    if known is not None:
        return compare_known_classes(logits, labels, known, options.ignore_index)
    return compare_classes(logits, labels, options.ignore_index)


def refuse_unknown(loss: Loss, name: str) -> None:
    """Refuse a loss that cannot leave out what nobody annotated.

    Args:
        loss: of the run.
        name: as ``LOSSES`` knows it.

    Raises:
        AutosegError: if it is no ``TermLoss``.
    """
    if not isinstance(loss, TermLoss):
        raise AutosegError(
            f"the loss '{name}' cannot train on cases in which only some structures were annotated",
            remedy="take one that is made of terms, such as --loss dice_ce, or leave these cases "
            "out",
        )


def sum_of(*terms: Term) -> Callable[[LossOptions], Loss]:
    """A loss made of terms, as ``LOSSES`` takes it."""
    return lambda options: TermLoss(terms=terms, options=options)


LOSSES.add("dice_ce", sum_of(soft_dice, cross_entropy))
LOSSES.add("dice", sum_of(soft_dice))
LOSSES.add("ce", sum_of(cross_entropy))
LOSSES.add("weighted_ce", sum_of(weighted_cross_entropy))
LOSSES.add("focal", sum_of(focal))
LOSSES.add("tversky", sum_of(tversky))
LOSSES.add("jaccard", sum_of(jaccard))
LOSSES.add("generalised_dice", sum_of(generalised_dice))
LOSSES.add("dice_topk", sum_of(soft_dice, hardest_cross_entropy))


def supervision_weights(num_outputs: int) -> tuple[float, ...]:
    """Weights of the outputs of deep supervision, full resolution first.

    Each is half of the one before, the coarsest is left out, and they sum to 1; a single
    output has weight 1 (so networks of two stages train).
    """
    if num_outputs == 1:
        return (1.0,)
    raw = [0.5**level for level in range(num_outputs - 1)]
    return (*(weight / sum(raw) for weight in raw), 0.0)


def deep_supervision_loss(
    loss: Loss, outputs: Sequence[Tensor], labels: Tensor, known: Tensor | None = None
) -> Tensor:
    """Weighted sum of a loss over outputs of falling resolution.

    Args:
        loss: applied to each output; one that is no ``TermLoss`` gets it in float32.
        outputs: logits, full resolution first.
        labels: ``(batch, *space)`` integer indices at full resolution; taken at the nearest
            voxel for the coarser outputs.
        known: bool ``(batch, outputs of the network)``, whether the class or region was
            annotated in the sample; None if all were.

    Returns:
        A scalar.

    Raises:
        AutosegError: if not all is known and the loss is no ``TermLoss``.
    """
    if known is not None:
        refuse_unknown(loss, getattr(loss, "__name__", type(loss).__name__))
    total = torch.zeros((), device=labels.device)
    for weight, logits in zip(supervision_weights(len(outputs)), outputs, strict=True):
        if weight > 0:
            truth = _at_size(labels, logits.shape[2:])
            if isinstance(loss, TermLoss):
                value = loss(logits, truth, known)
            else:
                value = loss(logits.float(), truth)
            total = total + weight * value
    return total


def _at_size(labels: Tensor, size: torch.Size) -> Tensor:
    """The label at the voxel nearest to the centre of each coarser one."""
    for axis, length in enumerate(size, start=1):
        given = labels.shape[axis]
        if given != length:
            centres = (torch.arange(length, device=labels.device) * 2 + 1) * given
            labels = labels.index_select(axis, centres.div(2 * length, rounding_mode="floor"))
    return labels
