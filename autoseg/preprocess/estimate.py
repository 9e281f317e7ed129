"""What preparing will take, foreseen from the measured shapes: pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from autoseg.core.fingerprint import CaseFingerprint, Fingerprint
from autoseg.core.geometry import Shape
from autoseg.core.plan import Plan
from autoseg.io.chunked_arrays import slab_rows
from autoseg.workers import WORKER_BYTES, num_workers

START_S = 1.0
SECONDS_PER_CASE = 0.01
SECONDS_PER_RAW_MEGAVOXEL = 0.045
SECONDS_PER_MEGAVOXEL = 0.01
COMPRESSED_SHARE = 0.8


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
    patch = plan.configurations[configuration].patch_size
    cases = [fingerprint.case(name) for name in names]
    before = [prod(case.original_shape) for case in cases]
    after = [prepared_shape(case, plan, configuration) for case in cases]
    peak = max(
        _peak_bytes(raw, shape, channels, patch) for raw, shape in zip(before, after, strict=True)
    )
    chosen = min(num_workers(workers, peak), len(names))
    voxels = sum(map(prod, after))
    busy_s = SECONDS_PER_CASE * len(names) + 1e-6 * channels * (
        SECONDS_PER_RAW_MEGAVOXEL * sum(before) + SECONDS_PER_MEGAVOXEL * voxels
    )
    return Estimate(
        num_cases=len(names),
        elapsed_s=START_S + busy_s / max(chosen, 1),
        memory_bytes=max(chosen, 1) * (WORKER_BYTES + peak),
        disk_bytes=round((4 * channels * COMPRESSED_SHARE + 0.2) * voxels),
        workers=chosen,
    )


def _peak_bytes(raw_voxels: int, shape: Shape, channels: int, patch_size: Sequence[int]) -> int:
    """Memory that preparing a case takes at most, beyond that of an idle worker."""
    # The image, the numbers of its file or connected components, masks and labels.
    raw = (4 * channels + 10) * raw_voxels
    # A slab while it is made, while it is written, and what it is made of.
    slab = 3 * 4 * channels * slab_rows(shape, patch_size) * shape[1] * shape[2]
    return raw + 2 * prod(shape) + slab


def prepared_shape(case: CaseFingerprint, plan: Plan, configuration: str) -> Shape:
    """Voxels of a case once it is prepared, ``(z, y, x)``, in the plan's order of axes.

    Args:
        case: its measurements.
        plan: the plan.
        configuration: a name in it.
    """
    target = plan.configurations[configuration].spacing
    shape = [case.shape[axis] for axis in plan.transpose]
    for axis, spacing in enumerate(target, start=3 - len(target)):
        ratio = case.spacing[plan.transpose[axis]] / spacing
        shape[axis] = max(1, round(shape[axis] * ratio))
    return shape[0], shape[1], shape[2]
