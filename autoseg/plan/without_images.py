"""Plan from a fingerprint alone: what would another card, another preset make of the data?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from autoseg.core.plan import Plan
from autoseg.io import artifacts
from autoseg.io.measurements import Measurements, read_measurements
from autoseg.plan.kept import make_or_keep_plan
from autoseg.plan.request import PlanRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedMeasurements:
    """A plan and what it follows from.

    Attributes:
        measurements: the data set, as far as it is known.
        plan: its plan.
    """

    measurements: Measurements
    plan: Plan


def plan_without_images(
    file: Path, request: PlanRequest, output: Path | None = None
) -> PlannedMeasurements:
    """Plan a data set of which only the fingerprint is at hand.

    No workspace is looked at or changed.

    Args:
        file: a ``fingerprint.json``, or nnU-Net's ``dataset_fingerprint.json``.
        request: what the user wishes.
        output: where to write the plan; None to write nothing.

    Raises:
        AutosegError: if the files cannot be used, or ``output`` exists.
    """
    if output is not None:
        artifacts.refuse_to_replace(output)
    known = read_measurements(file)
    plan = make_or_keep_plan(known.fingerprint, known.channels, known.labels, request)
    if output is not None:
        artifacts.save(output, plan)
    return PlannedMeasurements(measurements=known, plan=plan)
