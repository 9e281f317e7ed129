"""A prediction of regions, which may overlap, beside the truth: as in ``comparison.py``.

Each region is a decision of its own in every voxel: in or out, by the sign of its logit. Of the
size of the logits only the surprise of each decision is made; it is freed at once by losses that
do not look at single voxels. The backward pass begins with the logits again.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional

from autoseg.train.objective.comparison import Comparison, pieces


def compare_regions(
    logits: Tensor,
    labels: Tensor,
    regions: Sequence[Sequence[int]],
    ignore_index: int | None = None,
    known: Tensor | None = None,
) -> Comparison:
    """Compare a prediction of regions with the truth.

    Args:
        logits: ``(batch, regions, *space)``, any floating-point type; above 0 is inside.
        labels: ``(batch, *space)`` integers: 0, the indices of the regions, or
            ``ignore_index``.
        regions: the label indices that make up each region.
        ignore_index: label that counts nowhere, larger than all others; or None.
        known: bool ``(batch, regions)``, whether the region was annotated in the sample; None
            if all were.

    Returns:
        The sums in float32, whatever the type of the logits (in float64 for float64).

    Raises:
        ValueError: if there is not one logit for each region, or, on a CPU, a label is neither
            an index nor ignored.
    """
    if len(regions) != logits.shape[1]:
        raise ValueError(f"{len(regions)} regions need as many logits, not {logits.shape[1]}")
    kind = torch.float64 if logits.dtype is torch.float64 else torch.float32
    judged = torch.ones(logits.shape[:2], dtype=kind, device=logits.device)
    members = _members(regions, ignore_index).to(judged)
    _check_range(labels, members.shape[1])
    if known is not None:
        judged = known.to(kind)
    sums, per_voxel = _SigmoidSums.apply(logits, labels, members, ignore_index, judged)
    overlap, predicted, actual, surprise, outside, outside_surprise = sums.unbind()
    return Comparison(
        overlap=overlap,
        predicted=predicted,
        actual=actual.detach(),
        surprise=surprise,
        outside=outside.detach(),
        outside_surprise=outside_surprise,
        voxel_surprise=per_voxel.flatten(1),
        known=judged,
    )


class _Kept(FunctionCtx):
    """What the forward pass leaves for the backward pass."""

    saved_tensors: tuple[Tensor, Tensor, Tensor, Tensor]
    ignore_index: int | None


class _SigmoidSums(torch.autograd.Function):
    """Sigmoid, the sums of ``Comparison`` in its order, and the surprise of every decision."""

    @staticmethod
    def forward(  # type: ignore[override] - the base class takes anything
        ctx: _Kept,
        logits: Tensor,
        labels: Tensor,
        members: Tensor,
        ignore_index: int | None,
        judged: Tensor,
    ) -> tuple[Tensor, Tensor]:
        flat, truth = logits.flatten(2), labels.flatten(1)
        sums = torch.zeros((6, *flat.shape[:2]), dtype=judged.dtype, device=flat.device)
        overlap, predicted, actual, surprise, outside, outside_surprise = sums.unbind()
        whole = torch.empty(flat.shape, dtype=judged.dtype, device=flat.device)
        for piece, (costs, inside, buffer) in pieces(whole):
            weights = _encode(truth[:, piece], members, ignore_index, judged, out=inside)
            x = flat[..., piece].to(judged.dtype)
            # With the sign turned where the truth is outside, both halves are one formula.
            torch.mul(x, inside, out=buffer).mul_(2).sub_(x)
            torch.mul(functional.logsigmoid(buffer).neg_(), weights, out=costs)
            p = torch.sigmoid(x).mul_(weights)
            inside.mul_(weights)
            predicted += p.sum(2)
            actual += inside.sum(2)
            outside += torch.sub(weights, inside, out=buffer).sum(2)
            outside_surprise += buffer.mul_(costs).sum(2)
            surprise += torch.mul(inside, costs, out=buffer).sum(2)
            overlap += inside.mul_(p).sum(2)
        ctx.save_for_backward(logits, labels, members, judged)
        ctx.ignore_index = ignore_index
        ctx.set_materialize_grads(False)
        return sums, whole

    @staticmethod
    @once_differentiable
    def backward(  # type: ignore[override] - the base class takes anything
        ctx: _Kept, of_sums: Tensor | None, of_voxels: Tensor | None
    ) -> tuple[Tensor, None, None, None, None]:
        logits, labels, members, judged = ctx.saved_tensors
        flat, truth = logits.flatten(2), labels.flatten(1)
        if of_sums is None:
            of_sums = judged.new_zeros((6, *judged.shape))
        of_overlap, of_predicted, _, of_inside, _, of_outside = of_sums[..., None].unbind()
        gradient = torch.empty(flat.shape, dtype=logits.dtype, device=flat.device)
        for piece, (part, inside, buffer) in pieces(gradient, judged.dtype):
            weights = _encode(truth[:, piece], members, ctx.ignore_index, judged, out=inside)
            p = torch.sigmoid(flat[..., piece].to(judged.dtype))
            pull = torch.mul(inside, of_inside - of_outside, out=buffer).add_(of_outside)
            if of_voxels is not None:
                pull += of_voxels[..., piece]
            pull *= p - inside
            change = inside.mul_(of_overlap).add_(of_predicted).mul_(p).mul_(1 - p)
            part.copy_(change.add_(pull).mul_(weights))
        return gradient.view(logits.shape), None, None, None, None


def _members(regions: Sequence[Sequence[int]], ignore_index: int | None) -> Tensor:
    """1 where an index is in a region, ``(regions, indices)``; the ignored one is in none."""
    highest = max(index for region in regions for index in region)
    table = torch.zeros(len(regions), 1 + max(highest, ignore_index or 0))
    for row, region in zip(table, regions, strict=True):
        row[list(region)] = 1
    return table


def _encode(
    labels: Tensor, members: Tensor, ignore_index: int | None, judged: Tensor, out: Tensor
) -> Tensor:
    """1 in ``out`` where a voxel is in a region, else 0; returns 1 where that counts."""
    found = members.index_select(1, labels.long().flatten())
    out.copy_(found.view(len(members), *labels.shape).movedim(0, 1))
    if ignore_index is None:
        return judged[..., None].expand_as(out)
    return judged[..., None] * (labels != ignore_index)[:, None]


def _check_range(labels: Tensor, count: int) -> None:
    # Elsewhere, looking at a number would mean to wait for the device.
    if labels.device.type != "cpu" or not labels.numel():
        return
    lowest, highest = int(labels.min()), int(labels.max())
    if lowest < 0 or highest >= count:
        raise ValueError(f"labels must be 0..{count - 1}, got {lowest}..{highest}")
