"""What is given for a configuration instead of being derived, and patches a network divides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from autoseg.core.plan import Axes, NetworkSpec
from autoseg.errors import AutosegError
from autoseg.plan.topology import MIN_EDGE_VOX, Topology, pooling_topology

_MOST_HALVINGS = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a user gave for one configuration; None where it is to be derived.

    Attributes:
        spacing: mm per axis of the configuration.
        patch_size: voxels per axis of the configuration.
        batch_size: patches per step.
        base_features: channels of the first stage.
        network: a network to be taken as it is; then ``patch_size`` is given, too.
        patch_place: where the patch was given, for messages.
        rounds_up: whether a patch that does not suit the spacing is rounded up, not refused.
    """

    spacing: tuple[float, ...] | None = None
    patch_size: Axes | None = None
    batch_size: int | None = None
    base_features: int | None = None
    network: NetworkSpec | None = None
    patch_place: str = "--patch-size"
    rounds_up: bool = False


NO_WISH = Wish()


def wished_topology(spacing: Sequence[float], wish: Wish) -> Topology:
    """The topology of a wished patch.

    How often an axis is halved depends on the patch itself, so what it has to be divisible by
    does, too.

    Args:
        spacing: mm per axis.
        wish: has a patch.

    Returns:
        A topology whose patch is the wished one, or the next larger possible if that will do.

    Raises:
        AutosegError: if the network cannot divide the patch; names the nearest that it can.
    """
    wanted = wish.patch_size
    assert wanted is not None
    topology = pooling_topology(spacing, wanted)
    if _suits(topology, wanted) or (wish.rounds_up and topology.num_stages > 1):
        return topology
    if topology.num_stages > 1:
        finding = f"not divisible by {_numbers(_short(topology.divisor))}"
    else:
        finding = "too small for a network"
    raise AutosegError(
        finding,
        place=f"{wish.patch_place} {_numbers(wanted)}",
        remedy=f"nearest: {_numbers(nearest_patch(spacing, wanted))}",
    )


def nearest_patch(spacing: Sequence[float], wanted: Axes) -> Axes:
    """The possible patch with the fewest voxels of difference along its axes.

    Args:
        spacing: mm per axis.
        wanted: voxels per axis.

    Returns:
        A patch that its own halvings divide.
    """
    choices = [_near(size) for size in wanted]
    patches = sorted(
        product(*choices),
        key=lambda patch: sum(abs(a - b) for a, b in zip(patch, wanted, strict=True)),
    )
    return next(patch for patch in patches if _suits(pooling_topology(spacing, patch), patch))


def _suits(topology: Topology, patch: Axes) -> bool:
    return topology.num_stages > 1 and topology.patch_size == patch


def _near(size: int) -> list[int]:
    """Multiples of powers of two on both sides of a size, and the smallest that can be halved."""
    powers = [2**halvings for halvings in range(_MOST_HALVINGS + 1)]
    below = {size // power * power for power in powers}
    above = {-(-size // power) * power for power in powers}
    return sorted(edge for edge in below | above | {2 * MIN_EDGE_VOX} if edge > 0)


def _short(divisor: Axes) -> Axes:
    return divisor[:1] if len(set(divisor)) == 1 else divisor


def _numbers(sizes: Sequence[int]) -> str:
    return ",".join(map(str, sizes))
