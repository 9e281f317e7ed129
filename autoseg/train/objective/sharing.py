"""One loss for a batch whose samples are dealt to several processes.

Each process gathers the sums that losses are made of from all others and computes the loss of
the whole batch; the gradient flows back through its own samples only. What is then averaged over
the processes has to be their sum, so each takes its part of the gradient times their number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

from autoseg.train.objective.comparison import Comparison
from autoseg.train.objective.losses import Loss, TermLoss

_VOXELWISE = "voxel_surprise"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """How the rows of something are dealt to processes.

    Attributes:
        rank: of this process.
        counts: rows of each process.
        group: the processes; None for all there are.
    """

    rank: int
    counts: tuple[int, ...]
    group: dist.ProcessGroup | None = None

    @property
    def own(self) -> slice:
        """Where this process's rows are among all."""
        first = sum(self.counts[: self.rank])
        return slice(first, first + self.counts[self.rank])


def shared_loss(loss: Loss, shares: Shares) -> Loss:
    """Make a loss one of the whole batch, called by each process with its own samples.

    Args:
        loss: of a batch. One that is no ``TermLoss`` is averaged over the processes, weighted
            by their samples, which is the same for a mean over samples only.
        shares: how a batch is dealt.

    Returns:
        A loss with the same value in every process, to be derived once in each; the mean of
        the gradients over the processes is that of the whole batch.
    """
    if isinstance(loss, TermLoss):
        return replace(loss, gather=lambda comparison: gather_comparison(comparison, shares))
    return _MeanOverProcesses(loss=loss, shares=shares)


def gather_comparison(comparison: Comparison, shares: Shares) -> Comparison:
    """The comparison of a whole batch.

    Args:
        comparison: of this process's samples.
        shares: how the batch is dealt.

    Returns:
        The same in every process. What is known of each voxel is exchanged only if it is
        looked at, which has to happen in every process or in none.
    """
    names = [field.name for field in fields(comparison) if field.name != _VOXELWISE]
    own: list[Tensor] = [getattr(comparison, name) for name in names]
    everyones = gather_rows(torch.stack(own, 1), shares).unbind(1)
    sums = {
        name: values if part.requires_grad else values.detach()
        for name, part, values in zip(names, own, everyones, strict=True)
    }
    return _Gathered(sums, lambda: gather_rows(comparison.voxel_surprise, shares))


def gather_rows(own: Tensor, shares: Shares) -> Tensor:
    """Put together what each process has a part of.

    Args:
        own: ``(rows, ...)``; only the number of rows may differ from process to process.
        shares: says how many each has.

    Returns:
        ``(all rows, ...)`` in the order of ranks.
    """
    return _GatherRows.apply(own, shares)


class _Gathered(Comparison):
    """A comparison whose largest part is fetched when it is asked for."""

    __slots__ = ("_fetch",)

    def __init__(self, sums: dict[str, Tensor], fetch: Callable[[], Tensor]) -> None:
        for name, value in sums.items():
            object.__setattr__(self, name, value)
        object.__setattr__(self, "_fetch", fetch)

    @property
    def voxel_surprise(self) -> Tensor:  # pyright: ignore - in the place of a field
        return self._fetch()  # pyright: ignore[reportAttributeAccessIssue] - a slot


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own: Tensor, shares: Shares) -> Tensor:  # noqa: ANN401 - torch's
        ctx.shares = shares
        # Processes can only exchange arrays of one size.
        padded = own.new_zeros((max(shares.counts), *own.shape[1:]))
        padded[: len(own)] = own
        parts = [torch.empty_like(padded) for _ in shares.counts]
        dist.all_gather(parts, padded, group=shares.group)
        pairs = zip(parts, shares.counts, strict=True)
        return torch.cat([part[:count] for part, count in pairs])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401 - torch's
        shares: Shares = ctx.shares
        return gradients[0][shares.own] * len(shares.counts), None


@dataclass(frozen=True, slots=True, kw_only=True)
class _MeanOverProcesses:
    """The mean of what a loss is in each process, weighted by samples."""

    loss: Loss
    shares: Shares

    def __call__(self, *batch: Any) -> Tensor:  # noqa: ANN401 - whatever the loss takes
        counts = self.shares.counts
        one_each = replace(self.shares, counts=(1,) * len(counts))
        values = gather_rows(self.loss(*batch).reshape(1), one_each)
        return (values * values.new_tensor(counts)).sum() / sum(counts)
