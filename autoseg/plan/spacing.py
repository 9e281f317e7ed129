"""The spacing that images are resampled to."""

from __future__ import annotations

import numpy as np

from autoseg.core.fingerprint import Fingerprint
from autoseg.core.geometry import Triple
from autoseg.core.plan import Decision
from autoseg.core.words import counted
from autoseg.plan import reasons
from autoseg.plan.rules import Rule, coarsest_axis

ANISOTROPY_THRESHOLD = 3
COARSE_SPACING_PERCENTILE = 10


def target_spacing(
    fingerprint: Fingerprint, wanted: Triple | None, rules: frozenset[Rule]
) -> tuple[tuple[float, ...], int, Decision]:
    """Spacing of the full resolution.

    Args:
        fingerprint: the measured training cases.
        wanted: what the user asked for, mm; None to derive it.
        rules: rules of autoseg's own in force.

    Returns:
        mm, in the axis order of the raw images, the coarsest axis, and why.
    """
    if wanted is not None:
        decision = Decision(
            what="target spacing", value=reasons.mm(wanted), reason="given by the user"
        )
        return wanted, coarsest_axis(wanted, rules), decision
    spacings = np.array([case.spacing for case in fingerprint.cases])
    shape = np.median([case.shape for case in fingerprint.cases], axis=0)
    target = np.percentile(spacings, 50, axis=0)  # rounds its last digit unlike the median
    reason = f"median of {counted(len(spacings), 'case')}"
    worst = coarsest_axis(target.tolist(), rules)
    finer_spacing, fewest_others = np.delete(target, worst).max(), np.delete(shape, worst).min()
    is_raised = False
    is_coarse = target[worst] > ANISOTROPY_THRESHOLD * finer_spacing
    if is_coarse and shape[worst] * ANISOTROPY_THRESHOLD < fewest_others:
        percentile = np.percentile(spacings[:, worst], COARSE_SPACING_PERCENTILE)
        # Where all cases agree, as pictures do, the rule changes nothing worth telling.
        if not np.isclose(percentile, target[worst]):
            reason += (
                f"; along {reasons.AXIS_NAMES[worst]} the {COARSE_SPACING_PERCENTILE}th "
                f"percentile {percentile:.4g} mm instead of the median {target[worst]:.4g} mm, "
                f"because that is over {ANISOTROPY_THRESHOLD} times the {finer_spacing:.4g} mm of "
                f"the other axes and {shape[worst]:g} voxels are under a third of their "
                f"{fewest_others:g}"
            )
        is_raised = percentile < finer_spacing
        if is_raised:
            percentile = finer_spacing + 1e-5
            reason += "; raised to just above the spacing of the other axes"
        target[worst] = percentile
    spacing = tuple(float(mm) for mm in target)
    # An axis that was raised is to stay the coarsest, by however little.
    first = worst if is_raised else coarsest_axis(spacing, rules)
    return spacing, first, Decision(what="target spacing", value=reasons.mm(spacing), reason=reason)
