"""What torchrun says of the process it has started, read without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_NUMBERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
_ADDRESS = ("MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """The place of a process among those that torchrun has started.

    Attributes:
        rank: number of this process, from 0.
        size: number of processes.
        local_rank: number of this process on its host.
        local_size: number of processes on its host.
        address: host of rank 0.
    """

    rank: int
    size: int
    local_rank: int
    local_size: int
    address: str

    @property
    def is_one_host(self) -> bool:
        """Whether all processes are on this host."""
        return self.local_size == self.size


def read_launch(environ: Mapping[str, str]) -> Launch | None:
    """Read torchrun's environment variables.

    Args:
        environ: of this process.

    Returns:
        Its place; None if torchrun has not started it, or no other beside it.
    """
    numbers = [environ.get(name, "") for name in _NUMBERS]
    if not all(number.isdigit() for number in numbers) or not all(map(environ.get, _ADDRESS)):
        return None
    rank, size, local_rank = map(int, numbers)
    if size < 2:
        return None
    return Launch(
        rank=rank,
        size=size,
        local_rank=local_rank,
        local_size=int(environ.get("LOCAL_WORLD_SIZE", "1")),
        address=environ["MASTER_ADDR"],
    )
