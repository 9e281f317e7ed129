"""A prediction of classes beside a truth that does not know all of them.

Where nobody looked for a class, a voxel labelled background is background or any class that
nobody looked for: together they are one class, the *rest*, whose probability is the sum of
theirs, and it takes the background's place in all sums. Of the size of the logits one array is
kept, as in ``comparison.py``.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from autoseg.train.objective.comparison import Comparison, check_labels, one_hot, pieces


def compare_known_classes(
    logits: Tensor, labels: Tensor, known: Tensor, ignore_index: int | None = None
) -> Comparison:
    """Compare a prediction of classes that exclude each other with what is known of the truth.

    Args:
        logits: ``(batch, classes, *space)``, any floating-point type.
        labels: ``(batch, *space)`` integers 0..classes - 1, or ``ignore_index``; a class that
            is not known in its sample counts as the rest.
        known: bool ``(batch, classes)``, whether the class was annotated in the sample; the
            background always is.
        ignore_index: label that counts nowhere, at least the number of classes; or None.

    Returns:
        The sums in float32, whatever the type of the logits (in float64 for float64); those of
        the background are of the rest.

    Raises:
        ValueError: on a CPU, if a label is neither a class nor ignored.

    References:
        Shi et al. 2021, Marginal loss and exclusion loss for partially supervised multi-organ
        segmentation (the marginal loss; the exclusion loss is left out).
    """
    rest = ~known
    rest[:, 0] = True
    sums = _MarginalSums.apply(logits, labels, rest[..., None])
    overlap, predicted, actual, surprise, voxel_surprise = sums
    check_labels(labels, actual, ignore_index)
    nothing = torch.zeros_like(actual)
    return Comparison(
        overlap=overlap,
        predicted=predicted,
        actual=actual,
        surprise=surprise,
        outside=nothing,
        outside_surprise=nothing,
        voxel_surprise=voxel_surprise,
        known=known.to(actual.dtype),
    )


class _Kept(FunctionCtx):
    """What the forward pass leaves for the backward pass."""

    saved_tensors: tuple[Tensor, Tensor, Tensor]
    logits_like: tuple[torch.Size, torch.dtype]


class _MarginalSums(torch.autograd.Function):
    """Softmax and the sums of ``Comparison``, those of the rest in column 0."""

    @staticmethod
    def forward(  # type: ignore[override] - the base class takes anything
        ctx: _Kept, logits: Tensor, labels: Tensor, rest: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        flat, truth = logits.flatten(2), labels.flatten(1)
        kind = torch.float64 if logits.dtype is torch.float64 else torch.float32
        probabilities = torch.empty(flat.shape, dtype=kind, device=flat.device)
        sums = torch.zeros((4, *flat.shape[:2]), dtype=kind, device=flat.device)
        overlap, predicted, actual, surprise = sums.unbind()
        voxelwise = torch.empty(truth.shape, dtype=kind, device=flat.device)
        for piece, (p, log_p, is_class) in pieces(probabilities):
            torch.log_softmax(flat[..., piece], 1, dtype=kind, out=log_p)
            torch.exp(log_p, out=p)
            one_hot(truth[:, piece], out=is_class)
            p.mul_(is_class.sum(1, keepdim=True))
            predicted += p.sum(2)
            actual += is_class.sum(2)
            # Each class of the rest is as surprising as all of them together.
            of_rest = log_p.masked_fill(~rest, -torch.inf).logsumexp(1, keepdim=True)
            torch.where(rest, of_rest, log_p, out=log_p)
            surprise -= log_p.mul_(is_class).sum(2)
            torch.sum(log_p, 1, out=voxelwise[:, piece])
            overlap += _spread(is_class, rest).mul_(p).sum(2)
        ctx.save_for_backward(probabilities, labels, rest)
        ctx.logits_like = (logits.shape, logits.dtype)
        overlap, predicted, actual, surprise = (_gathered(values, rest) for values in sums)
        ctx.mark_non_differentiable(actual)
        ctx.set_materialize_grads(False)
        return overlap, predicted, actual, surprise, voxelwise.neg_()

    @staticmethod
    @once_differentiable
    def backward(  # type: ignore[override] - the base class takes anything
        ctx: _Kept, *gradients: Tensor | None
    ) -> tuple[Tensor, None, None]:
        probabilities, labels, rest = ctx.saved_tensors
        truth = labels.flatten(1)
        zero = probabilities.new_zeros(rest.shape)
        of_overlap, of_predicted, _, of_surprise = (
            zero
            if gradient is None
            else torch.where(rest, gradient[:, :1, None], gradient[..., None])
            for gradient in gradients[:4]
        )
        of_voxels = gradients[4]
        for piece, (p, change, is_class) in pieces(probabilities):
            one_hot(truth[:, piece], out=is_class)
            pull = torch.mul(is_class, of_surprise, out=change).sum(1, keepdim=True)
            if of_voxels is not None:
                pull += of_voxels[:, None, piece]
            target = _spread(is_class, rest)
            torch.mul(target, of_overlap, out=change).add_(of_predicted).mul_(p)
            pushed = pull - change.sum(1, keepdim=True)
            target = _shared(target, p)
            # Softmax: p (dL/dp - mean of dL/dp); log-softmax: what is true - p.
            p.mul_(pushed).add_(change).addcmul_(target, pull, value=-1)
        shape, kind = ctx.logits_like
        return probabilities.view(shape).to(kind), None, None


def _spread(is_class: Tensor, rest: Tensor) -> Tensor:
    """In place: a voxel of one class of the rest becomes one of all of them."""
    of_rest = (is_class * rest).sum(1, keepdim=True)
    return torch.where(rest, of_rest, is_class, out=is_class)


def _gathered(values: Tensor, rest: Tensor) -> Tensor:
    """Sums of the classes ``(batch, classes)``, those of the rest added up in column 0."""
    together = (values * rest[..., 0]).sum(1)
    values = values.masked_fill(rest[..., 0], 0)
    values[:, 0] = together
    return values


def _shared(members: Tensor, p: Tensor) -> Tensor:
    """In place: how the truth divides among the classes it may be, by their probabilities.

    The tiny number keeps the ratio where all of them are too improbable for the format.
    """
    tiny = torch.finfo(p.dtype).tiny
    members.mul_(p + tiny)
    return members.div_(members.sum(1, keepdim=True).clamp_min(tiny))
