"""A prediction beside the truth: the sums that losses are made of, in one pass over the voxels.

Activation and encoding of the truth happen here and nowhere else. Of the size of the logits, one
array is kept: the probabilities, which the backward pass turns into the gradient where they
lie. All else is made piece by piece, in buffers that stay in the processor's cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

# Elements of a piece: on a CPU, what its cache holds; elsewhere, so many that starting kernels
# costs little beside running them.
_CPU_ELEMENTS = 1 << 17
_DEVICE_ELEMENTS = 1 << 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What is known about a prediction beside the truth; ignored voxels count nowhere.

    A *part* is a class or, of structures that may overlap, a region. A *decision* is what a
    prediction can be right or wrong about: the class of a voxel, or whether it is in a region.
    All but ``actual``, ``outside`` and ``known`` have a gradient, once. The sums are over the
    voxels of each sample; those of a part that nobody annotated in a sample are 0.

    Attributes:
        overlap: probability of the part, summed over its own voxels; ``(batch, parts)``.
        predicted: probability of the part, summed over all voxels; ``(batch, parts)``.
        actual: number of the part's voxels; ``(batch, parts)``.
        surprise: minus log-probability of the part, summed over its own voxels;
            ``(batch, parts)``.
        outside: number of voxels outside a region; ``(batch, parts)``, 0 for classes, as a voxel
            outside one class is inside another.
        outside_surprise: minus log-probability of being outside a region, summed over the voxels
            outside; ``(batch, parts)``, 0 for classes.
        voxel_surprise: minus log-probability of what is true, 0 where it is ignored or not
            known; ``(batch, decisions)``, a decision for each voxel, or for each region and
            voxel.
        known: 1 where the part was annotated in the sample, else 0; ``(batch, parts)``.
    """

    overlap: Tensor
    predicted: Tensor
    actual: Tensor
    surprise: Tensor
    outside: Tensor
    outside_surprise: Tensor
    voxel_surprise: Tensor
    known: Tensor

    @property
    def num_decisions(self) -> Tensor:
        """Number of decisions of the batch that can be judged; a scalar."""
        return self.actual.sum() + self.outside.sum()


def compare_classes(logits: Tensor, labels: Tensor, ignore_index: int | None = None) -> Comparison:
    """Compare a prediction of classes that exclude each other with the truth.

    Args:
        logits: ``(batch, classes, *space)``, any floating-point type.
        labels: ``(batch, *space)`` integers 0..classes - 1, or ``ignore_index``.
        ignore_index: label that counts nowhere, at least the number of classes; or None.

    Returns:
        The sums in float32, whatever the type of the logits (in float64 for float64).

    Raises:
        ValueError: on a CPU, if a label is neither a class nor ignored.
    """
    sums = _SoftmaxSums.apply(logits, labels, ignore_index is not None)
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
        known=torch.ones_like(actual),
    )


class _Kept(FunctionCtx):
    """What the forward pass leaves for the backward pass."""

    saved_tensors: tuple[Tensor, Tensor]
    logits_like: tuple[torch.Size, torch.dtype]


class _SoftmaxSums(torch.autograd.Function):
    """Softmax and the sums of ``Comparison``."""

    @staticmethod
    def forward(  # type: ignore[override] - the base class takes anything
        ctx: _Kept, logits: Tensor, labels: Tensor, has_ignored: bool
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
            if has_ignored:
                p.mul_(is_class.sum(1, keepdim=True))
            predicted += p.sum(2)
            actual += is_class.sum(2)
            surprise -= log_p.mul_(is_class).sum(2)
            torch.sum(log_p, 1, out=voxelwise[:, piece])
            overlap += is_class.mul_(p).sum(2)
        ctx.save_for_backward(probabilities, labels)
        ctx.logits_like = (logits.shape, logits.dtype)
        ctx.mark_non_differentiable(actual)
        ctx.set_materialize_grads(False)
        return overlap, predicted, actual, surprise, voxelwise.neg_()

    @staticmethod
    @once_differentiable
    def backward(  # type: ignore[override] - the base class takes anything
        ctx: _Kept, *gradients: Tensor | None
    ) -> tuple[Tensor, None, None]:
        probabilities, labels = ctx.saved_tensors
        truth = labels.flatten(1)
        zero = probabilities.new_zeros(())
        of_overlap, of_predicted, _, of_surprise = (
            zero if gradient is None else gradient[..., None] for gradient in gradients[:4]
        )
        of_voxels = gradients[4]
        for piece, (p, change, is_class) in pieces(probabilities):
            one_hot(truth[:, piece], out=is_class)
            pull = torch.mul(is_class, of_surprise, out=change).sum(1, keepdim=True)
            if of_voxels is not None:
                pull += of_voxels[:, None, piece]
            torch.mul(is_class, of_overlap, out=change).add_(of_predicted).mul_(p)
            # Softmax: p (dL/dp - mean of dL/dp); log-softmax of the true class: one-hot - p.
            p.mul_(pull - change.sum(1, keepdim=True)).add_(change)
            p.addcmul_(is_class, pull, value=-1)
        shape, kind = ctx.logits_like
        return probabilities.view(shape).to(kind), None, None


def pieces(
    whole: Tensor, kind: torch.dtype | None = None
) -> Iterator[tuple[slice, tuple[Tensor, Tensor, Tensor]]]:
    """Walk through the voxels of an array piece by piece.

    Args:
        whole: ``(batch, parts, voxels)``.
        kind: of the buffers; None for that of the array.

    Yields:
        A range of voxels, that part of the array, and two buffers of its size.
    """
    batch, classes, voxels = whole.shape
    elements = _CPU_ELEMENTS if whole.device.type == "cpu" else _DEVICE_ELEMENTS
    step = min(max(1, elements // (batch * classes)), voxels)
    first, second = whole.new_empty((2, batch, classes, step), dtype=kind).unbind()
    for start in range(0, voxels, step):
        length = min(step, voxels - start)
        piece = slice(start, start + length)
        yield piece, (whole[..., piece], first[..., :length], second[..., :length])


def one_hot(labels: Tensor, out: Tensor) -> Tensor:
    """Encode labels: 1 where a voxel is of the class, else 0; nothing for an ignored voxel.

    Args:
        labels: ``(batch, voxels)`` integers.
        out: ``(batch, classes, voxels)``.

    Returns:
        ``out``.
    """
    classes = torch.arange(out.shape[1], dtype=labels.dtype, device=labels.device)
    return torch.eq(labels[:, None], classes[:, None], out=out)


def check_labels(labels: Tensor, actual: Tensor, ignore_index: int | None) -> None:
    """Refuse labels that are neither a class nor ignored, where that costs no waiting.

    Args:
        labels: of the batch.
        actual: number of voxels of each class that were found, ``(batch, classes)``.
        ignore_index: label that counts nowhere, or None.

    Raises:
        ValueError: on a CPU, if there are such labels.
    """
    # Elsewhere, looking at a number would mean to wait for the device.
    if actual.device.type != "cpu":
        return
    ignored = 0 if ignore_index is None else int((labels == ignore_index).sum())
    known = int(actual.double().sum()) + ignored
    if known != labels.numel():
        raise ValueError(f"{labels.numel() - known} labels are neither a class nor ignored")
