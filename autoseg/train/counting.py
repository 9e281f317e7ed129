"""Voxels of validation patches, counted by what they are and what they are taken for."""

from __future__ import annotations

import torch
from torch import Tensor

from autoseg.core.labels import LabelSpace


def count_outcomes(
    logits: Tensor, labels: Tensor, space: LabelSpace, known: Tensor | None = None
) -> Tensor:
    """Count voxels by (reference, prediction); ignored ones count nowhere.

    Of regions each is counted by itself, beside all that is outside it: voxels found are on the
    diagonal, those missed in column 0 and those too many in row 0. No region is taken for another.

    Args:
        logits: ``(batch, outputs, *space)``.
        labels: ``(batch, *space)`` integer indices.
        space: what labels and outputs mean.
        known: bool ``(batch, outputs)``, whether the class or region was annotated in the
            sample; None if all were. Of a region that was not nothing is counted; a class that
            was not is no other than background.

    Returns:
        int64 ``(1 + structures, 1 + structures)``, background first; with regions the number
        of voxels that are outside and found outside, which is not counted, is 0.
    """
    if space.regions is not None:
        return _of_regions(logits, labels, space, known)
    predicted, true = logits.argmax(1).flatten(1), labels.long().flatten(1)
    valid = torch.ones_like(true, dtype=torch.bool)
    if space.ignore_index is not None:
        valid = true != space.ignore_index
    if known is not None:
        predicted = predicted * known.gather(1, predicted)
        true = true * known.gather(1, true * valid)
    size = space.num_classes
    joint = (true * size + predicted)[valid]
    return torch.bincount(joint, minlength=size**2).reshape(size, size)


def _of_regions(logits: Tensor, labels: Tensor, space: LabelSpace, known: Tensor | None) -> Tensor:
    valid = torch.ones_like(labels, dtype=torch.bool)
    if space.ignore_index is not None:
        valid = labels != space.ignore_index
    size = 1 + len(space.regions or ())
    counts = torch.zeros((size, size), dtype=torch.int64, device=logits.device)
    for region, indices in enumerate(space.regions or ()):
        judged = valid
        if known is not None:
            judged = valid & known[:, region].view(-1, *[1] * (labels.ndim - 1))
        true = torch.isin(labels, torch.tensor(indices, device=labels.device)) & judged
        found = (logits[:, region] > 0) & judged
        both = (true & found).sum()
        counts[region + 1, region + 1] = both
        counts[region + 1, 0] = true.sum() - both
        counts[0, region + 1] = found.sum() - both
    return counts
