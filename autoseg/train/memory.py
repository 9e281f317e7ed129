"""What to do when a network does not fit into the memory of its device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from autoseg.core.plan import Plan
from autoseg.errors import AutosegError

_GIGABYTE = 10**9
# The plan's own estimate was too low if its budget did not do: then this share of it.
_NEXT_BUDGET = 0.75
# What libraries say that do not raise torch's own error.
_WORDS = ("out of memory", "can't allocate memory", "not enough memory", "ALLOC_FAILED")


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """Memory of a device, in bytes.

    Attributes:
        total: all of it.
        available: what this process has or could still get.
    """

    total: int
    available: int


@contextmanager
def explaining_memory(plan: Plan, device: torch.device, task: str) -> Iterator[None]:
    """Turn a lack of memory inside the block into the plan that would fit.

    Args:
        plan: what is trained.
        device: where.
        task: the task's name.

    Raises:
        AutosegError: if the block ran out of memory; any other error passes as it is.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not _is_lack_of_memory(error):
            raise
        # The error's own tensors are freed with its traceback; the room is that without them.
        raise _explanation(plan, device, task) from None


def budget_gb(planned_bytes: int, room: Room | None) -> float:
    """The GPU memory to plan for after a plan did not fit.

    Args:
        planned_bytes: what the plan was made for.
        room: what the device has; None if it cannot be asked.

    Returns:
        GB, in halves, at least 1: what is available, but no more than three quarters of what
        the plan was made for.
    """
    fitting = _NEXT_BUDGET * planned_bytes
    if room is not None:
        fitting = min(fitting, room.available)
    return max(1.0, int(2 * fitting / _GIGABYTE) / 2)


def room_on(device: torch.device) -> Room | None:
    """Ask a device for its memory; None where only CUDA could tell."""
    if device.type != "cuda":
        return None
    free, total = torch.cuda.mem_get_info(device)
    return Room(total=total, available=free + torch.cuda.memory_reserved(device))


def _is_lack_of_memory(error: BaseException) -> bool:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return any(words in str(error) for words in _WORDS)


def _explanation(plan: Plan, device: torch.device, task: str) -> AutosegError:
    room = room_on(device)
    found = f"the plan '{plan.name}' was made for {plan.budget_bytes / _GIGABYTE:g} GB"
    if room is not None:
        available, total = (amount / _GIGABYTE for amount in (room.available, room.total))
        found += f", {available:.1f} of {total:.1f} GB are to be had"
    budget = f"{budget_gb(plan.budget_bytes, room):g}GB"
    return AutosegError(
        f"the memory of {device} is too small for a training step: {found}",
        place=task,
        remedy=f"plan for less under another name (autoseg plan {task} --gpu-memory {budget} "
        "--plan small), then preprocess and train with --plan small",
    )
