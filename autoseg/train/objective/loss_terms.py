"""What losses are sums of: numbers that fall as a prediction comes closer to the truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from autoseg.train.objective.comparison import Comparison

SMOOTH = 1e-5
FOCUS = 2.0
FALSE_POSITIVE_WEIGHT = 0.3
FALSE_NEGATIVE_WEIGHT = 0.7
HARDEST_SHARE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class LossOptions:
    """What a loss needs to know about the task.

    Attributes:
        batch_dice: sum over the batch before the ratio of Dice (and its like) is taken.
        ignore_index: label index that counts nowhere, or None.
        class_weights: weight of each class, background first, for the losses that weight
            classes; None if they are not known.
    """

    batch_dice: bool
    ignore_index: int | None = None
    class_weights: tuple[float, ...] | None = None


Term = Callable[[Comparison, LossOptions], Tensor]


def soft_dice(comparison: Comparison, options: LossOptions) -> Tensor:
    """Negative mean soft Dice of the structures, in [-1, 0].

    Args:
        comparison: of prediction and truth.
        options: batch Dice.

    Returns:
        A scalar.

    References:
        Milletari et al. 2016, V-Net, section 3; Drozdzal et al. 2016 for the sum in place of
        squares.
    """
    overlap, predicted, actual = _of_structures(comparison, options)
    return -((2 * overlap + SMOOTH) / (predicted + actual + SMOOTH)).mean()


def jaccard(comparison: Comparison, options: LossOptions) -> Tensor:
    """Negative mean soft Jaccard index (intersection over union) of the structures, in [-1, 0].

    Args:
        comparison: of prediction and truth.
        options: batch Dice, which here sums for the Jaccard index.

    Returns:
        A scalar.

    References:
        Rahman and Wang 2016, Optimizing intersection-over-union in deep neural networks for
        image segmentation.
    """
    overlap, predicted, actual = _of_structures(comparison, options)
    return -((overlap + SMOOTH) / (predicted + actual - overlap + SMOOTH)).mean()


def tversky(comparison: Comparison, options: LossOptions) -> Tensor:
    """Negative mean Tversky index of the structures, in [-1, 0].

    A missed voxel costs more than a voxel too many: 0.7 against 0.3. With 0.5 for both it
    would be Dice.

    Args:
        comparison: of prediction and truth.
        options: batch Dice, which here sums for the Tversky index.

    Returns:
        A scalar.

    References:
        Salehi et al. 2017, Tversky loss function, with the weights found best there.
    """
    overlap, predicted, actual = _of_structures(comparison, options)
    too_many = FALSE_POSITIVE_WEIGHT * (predicted - overlap)
    missed = FALSE_NEGATIVE_WEIGHT * (actual - overlap)
    return -((overlap + SMOOTH) / (overlap + too_many + missed + SMOOTH)).mean()


def generalised_dice(comparison: Comparison, options: LossOptions) -> Tensor:
    """Negative generalised Dice, in [-1, 0]: one ratio for all classes, background included.

    A class weighs one over its squared volume, so that small ones count as much as large ones.
    A class that is absent from the truth weighs as much as the smallest that is present: what
    is predicted of it counts as wrong, and no weight is infinite.

    Args:
        comparison: of prediction and truth.
        options: batch Dice, which here sums for the ratio.

    Returns:
        A scalar.

    References:
        Sudre et al. 2017, Generalised Dice overlap, section 2.
    """
    overlap, predicted, actual = _pooled(comparison, options)
    weights = (actual > 0) / actual.clamp_min(1) ** 2
    largest = weights.amax(1, keepdim=True)
    weights = torch.where(actual > 0, weights / largest.clamp_min(1e-30), 1.0)
    both = 2 * (weights * overlap).sum(1)
    volume = (weights * (predicted + actual)).sum(1)
    return -((both + SMOOTH) / (volume + SMOOTH)).mean()


def cross_entropy(comparison: Comparison, options: LossOptions) -> Tensor:
    """Mean cross-entropy over the voxels that are not ignored; 0 if there are none.

    Args:
        comparison: of prediction and truth.
        options: not looked at.

    Returns:
        A scalar, at least 0.
    """
    del options
    return comparison.surprise.sum() / comparison.actual.sum().clamp_min(1)


def weighted_cross_entropy(comparison: Comparison, options: LossOptions) -> Tensor:
    """Cross-entropy with a weight for each class; the mean is weighted, too.

    Args:
        comparison: of prediction and truth.
        options: the weights.

    Returns:
        A scalar, at least 0.

    Raises:
        ValueError: if there is not one weight for each class.
    """
    given, num_classes = options.class_weights or (), comparison.surprise.shape[1]
    if len(given) != num_classes:
        raise ValueError(f"{num_classes} classes need as many weights, not {len(given)}")
    weights = comparison.surprise.new_tensor(given)
    total = (weights * comparison.actual).sum().clamp_min(1e-8)
    return (weights * comparison.surprise).sum() / total


def focal(comparison: Comparison, options: LossOptions) -> Tensor:
    """Mean cross-entropy in which a voxel counts the less, the better it is predicted.

    Its weight is ``(1 - p)**2``, p being the probability of its true class.

    Args:
        comparison: of prediction and truth.
        options: not looked at.

    Returns:
        A scalar, at least 0.

    References:
        Lin et al. 2017, Focal loss, section 3.2, without a weight for classes.
    """
    del options
    surprise = comparison.voxel_surprise
    doubt = -torch.expm1(-surprise)
    return (doubt**FOCUS * surprise).sum() / comparison.actual.sum().clamp_min(1)


def hardest_cross_entropy(comparison: Comparison, options: LossOptions) -> Tensor:
    """Mean cross-entropy of the worst-predicted tenth of the voxels of the batch.

    Args:
        comparison: of prediction and truth.
        options: not looked at.

    Returns:
        A scalar, at least 0.

    References:
        Wu et al. 2016, Bridging category-level and instance-level semantic image segmentation
        (online bootstrapping).
    """
    del options
    count = max(1, int(HARDEST_SHARE * float(comparison.actual.sum())))
    return torch.topk(comparison.voxel_surprise.flatten(), count, sorted=False).values.mean()


def _of_structures(comparison: Comparison, options: LossOptions) -> list[Tensor]:
    """Overlap, predicted and actual volume of all but the background."""
    return [values[:, 1:] for values in _pooled(comparison, options)]


def _pooled(comparison: Comparison, options: LossOptions) -> list[Tensor]:
    """Overlap, predicted and actual volume: of each sample, or with batch Dice of all at once."""
    sums = [comparison.overlap, comparison.predicted, comparison.actual]
    return [values.sum(0, keepdim=True) for values in sums] if options.batch_dice else sums
