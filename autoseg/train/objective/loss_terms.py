"""What losses are sums of: numbers that fall as a prediction comes closer to the truth.

A mean over structures is over those that somebody annotated: in the sample or, with batch Dice,
in any sample of the batch. Where structures may overlap (regions), each is by itself: overlap
losses take them all, as none is the background, and cross-entropy is that of the two answers
in and out, the mean over voxels and regions.
"""

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
            classes; of each region beside 1 for what is outside it; None if they are not known.
        regions: label indices that make up each structure, where structures may overlap; None
            where they exclude each other.
    """

    batch_dice: bool
    ignore_index: int | None = None
    class_weights: tuple[float, ...] | None = None
    regions: tuple[tuple[int, ...], ...] | None = None


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
    overlap, predicted, actual, known = _of_structures(comparison, options)
    return -_mean((2 * overlap + SMOOTH) / (predicted + actual + SMOOTH), known)


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
    overlap, predicted, actual, known = _of_structures(comparison, options)
    return -_mean((overlap + SMOOTH) / (predicted + actual - overlap + SMOOTH), known)


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
    overlap, predicted, actual, known = _of_structures(comparison, options)
    too_many = FALSE_POSITIVE_WEIGHT * (predicted - overlap)
    missed = FALSE_NEGATIVE_WEIGHT * (actual - overlap)
    return -_mean((overlap + SMOOTH) / (overlap + too_many + missed + SMOOTH), known)


def generalised_dice(comparison: Comparison, options: LossOptions) -> Tensor:
    """Negative generalised Dice, in [-1, 0]: one ratio for all classes, background included.

    Regions have no background; the ratio is of all of them.

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
    overlap, predicted, actual, known = _pooled(comparison, options)
    weights = (actual > 0) / actual.clamp_min(1) ** 2
    largest = weights.amax(1, keepdim=True)
    weights = known * torch.where(actual > 0, weights / largest.clamp_min(1e-30), 1.0)
    both = 2 * (weights * overlap).sum(1)
    volume = (weights * (predicted + actual)).sum(1)
    return -_mean((both + SMOOTH) / (volume + SMOOTH), known.amax(1))


def cross_entropy(comparison: Comparison, options: LossOptions) -> Tensor:
    """Mean cross-entropy over all decisions that are not ignored; 0 if there are none.

    A decision is the class of a voxel, or whether it is in a region: the number of regions does
    not change the weight of this term, with or without an ignore label.

    Args:
        comparison: of prediction and truth.
        options: not looked at.

    Returns:
        A scalar, at least 0.
    """
    del options
    total = comparison.surprise.sum() + comparison.outside_surprise.sum()
    return total / comparison.num_decisions.clamp_min(1)


def weighted_cross_entropy(comparison: Comparison, options: LossOptions) -> Tensor:
    """Cross-entropy with a weight for each class; the mean is weighted, too.

    Of regions each has a mean of its own, its voxels weighing what is given and those outside
    1, and the mean of these is taken: small regions count as much as large ones.

    Args:
        comparison: of prediction and truth.
        options: the weights.

    Returns:
        A scalar, at least 0.

    Raises:
        ValueError: if there is not one weight for each class or region.
    """
    given, num_parts = options.class_weights or (), comparison.surprise.shape[1]
    if len(given) != num_parts:
        what = "classes" if options.regions is None else "regions"
        raise ValueError(f"{num_parts} {what} need as many weights, not {len(given)}")
    weights = comparison.surprise.new_tensor(given)
    costs = weights * comparison.surprise + comparison.outside_surprise
    voxels = weights * comparison.actual + comparison.outside
    if options.regions is None:
        return costs.sum() / voxels.sum().clamp_min(1e-8)
    return _mean(costs.sum(0) / voxels.sum(0).clamp_min(1e-8), comparison.known.amax(0))


def focal(comparison: Comparison, options: LossOptions) -> Tensor:
    """Mean cross-entropy in which a decision counts the less, the better it is made.

    Its weight is ``(1 - p)**2``, p being the probability of a voxel's true class, or of the
    truth about a voxel and a region.

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
    return (doubt**FOCUS * surprise).sum() / comparison.num_decisions.clamp_min(1)


def hardest_cross_entropy(comparison: Comparison, options: LossOptions) -> Tensor:
    """Mean cross-entropy of the worst-predicted tenth of the voxels of the batch.

    Of regions, it is the worst tenth of all pairs of a voxel and a region.

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
    count = max(1, int(HARDEST_SHARE * float(comparison.num_decisions)))
    return torch.topk(comparison.voxel_surprise.flatten(), count, sorted=False).values.mean()


def _of_structures(comparison: Comparison, options: LossOptions) -> list[Tensor]:
    """Overlap, predicted and actual volume, and what is known, of all but the background."""
    first = 1 if options.regions is None else 0
    return [values[:, first:] for values in _pooled(comparison, options)]


def _pooled(comparison: Comparison, options: LossOptions) -> list[Tensor]:
    """Overlap, predicted and actual volume, and whether they are known.

    Of each sample, or with batch Dice of all at once.
    """
    sums = [comparison.overlap, comparison.predicted, comparison.actual]
    if not options.batch_dice:
        return [*sums, comparison.known]
    pooled = [values.sum(0, keepdim=True) for values in sums]
    return [*pooled, comparison.known.amax(0, keepdim=True)]


def _mean(values: Tensor, known: Tensor) -> Tensor:
    """Mean of the values that are known, 0 if none is."""
    return (values * known).sum() / known.sum().clamp_min(1)
