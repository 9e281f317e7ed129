"""What preparing will take, foreseen from the measured shapes: pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from autoseg.core.fingerprint import Fingerprint
from autoseg.core.plan import Plan
from autoseg.workers import num_workers

SECONDS_PER_MEGAVOXEL = 0.25
COMPRESSED_SHARE = 0.8
WORKER_BYTES = 200_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What preparing is expected to take.

    Attributes:
        num_cases: cases still to be prepared.
        elapsed_s: seconds with all workers.
        memory_bytes: of all workers together.
        disk_bytes: of the prepared arrays.
        workers: processes.
    """

    num_cases: int
    elapsed_s: float
    memory_bytes: int
    disk_bytes: int
    workers: int


def estimate_work(
    names: Sequence[str],
    fingerprint: Fingerprint,
    plan: Plan,
    configuration: str,
    workers: int | None = None,
) -> Estimate:
    """Foresee time, memory and disk from the measured shapes.

    Args:
        names: cases to prepare.
        fingerprint: their measurements.
        plan: the plan.
        configuration: a name in it.
        workers: processes, None for as many as fit.

    Returns:
        What to expect, with the number of processes chosen.
    """
    channels = len(plan.channels)
    before = [prod(fingerprint.case(name).shape) for name in names]
    after = [_prepared_voxels(name, fingerprint, plan, configuration) for name in names]
    per_case = [
        # Raw and prepared image, one float32 copy of each while resampling, and label maps.
        (8 * channels + 6) * b + (8 * channels + 6) * a
        for b, a in zip(before, after, strict=True)
    ]
    chosen = min(num_workers(workers, max(per_case) + WORKER_BYTES), len(names))
    seconds = SECONDS_PER_MEGAVOXEL * (channels + 1) * sum(after) / 1e6
    return Estimate(
        num_cases=len(names),
        elapsed_s=seconds / max(chosen, 1),
        memory_bytes=max(chosen, 1) * (max(per_case) + WORKER_BYTES),
        disk_bytes=round((4 * channels * COMPRESSED_SHARE + 0.2) * sum(after)),
        workers=chosen,
    )


def _prepared_voxels(name: str, fingerprint: Fingerprint, plan: Plan, configuration: str) -> int:
    case = fingerprint.case(name)
    target = plan.configurations[configuration].spacing
    axes = plan.transpose[-len(target) :]
    resized = [
        round(case.shape[axis] * case.spacing[axis] / spacing)
        for axis, spacing in zip(axes, target, strict=True)
    ]
    kept = [case.shape[axis] for axis in plan.transpose[: 3 - len(target)]]
    return prod([*resized, *kept])
