"""A plan kept from a trained model, so that its weights fit and see images as they are used to."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from autoseg.core.ends import match_channels
from autoseg.core.fingerprint import Fingerprint
from autoseg.core.labels import LabelSpace
from autoseg.core.model import Model
from autoseg.core.plan import Plan
from autoseg.errors import DataError
from autoseg.plan.adopting import adopt_plan
from autoseg.plan.edits import NO_EDITS, Edits, remember
from autoseg.plan.keeping import (
    Kept,
    kept_configuration,
    possible_configurations,
    refuse_idle_patch,
    refuse_other_channels,
)
from autoseg.plan.keeping_reasons import explain, explain_all, warnings_of
from autoseg.plan.planner import make_plan
from autoseg.plan.request import PlanRequest

logger = logging.getLogger(__name__)


def make_or_keep_plan(
    fingerprint: Fingerprint,
    channels: Sequence[str],
    labels: LabelSpace,
    request: PlanRequest,
    edits: Edits = NO_EDITS,
) -> Plan:
    """Plan a data set by its measurements, or as a model or nnU-Net's plan does if one is named.

    Args and errors are those of ``make_plan``, ``keep_plan`` and ``adopt_plan``.
    """
    if request.peer is not None:
        plan = adopt_plan(fingerprint, channels, labels, request, request.peer, edits)
        for line in request.peer.lines:
            logger.warning("%s", line)
    elif request.source is not None:
        plan = keep_plan(fingerprint, channels, labels, request, request.source, edits)
    else:
        return make_plan(fingerprint, channels, labels, request, edits)
    for decision in plan.decisions:
        if decision.what == "warning":
            logger.warning("%s: %s", decision.value, decision.reason)
    return plan


def keep_plan(
    fingerprint: Fingerprint,
    channels: Sequence[str],
    labels: LabelSpace,
    request: PlanRequest,
    source: Model,
    edits: Edits = NO_EDITS,
) -> Plan:
    """Plan other data as a model's were.

    Spacing, axis order, networks, patches, recipes of training and, of the channels that the
    model knows by name, normalization with the intensities it was trained with are kept. Batches
    become smaller if a memory is named that does not hold them; axes are not mirrored that the
    data forbid.

    Args:
        fingerprint: the measured cases.
        channels: names of their channels, in order.
        labels: what is to be segmented.
        request: what the user asked for.
        source: the model.
        edits: what the user changed in the plan of that name; it is kept, too.

    Returns:
        A plan with the model's configurations, but for those in 3D where cases are slices.

    Raises:
        DataError: if there are no cases, or the model is 3D and they are single slices.
        AutosegError: if the model knows none of the channels, or wishes or edits are impossible.
    """
    if not fingerprint.cases:
        raise DataError("there is no training case", remedy="add annotated images")
    kept = Kept(
        fingerprint=fingerprint,
        labels=labels,
        request=request,
        source=source,
        channels=match_channels(channels, source.channels),
    )
    refuse_other_channels(kept)
    refuse_idle_patch(kept)
    edits.check(source.plan.transpose, channels, request)
    made = {
        name: edits.keep(name, kept_configuration(name, kept), request)
        for name in possible_configurations(kept)
    }
    return Plan(
        name=request.name,
        preset=source.plan.preset,
        transpose=source.plan.transpose,
        budget_bytes=kept.budget,
        channels=tuple(channels),
        label_values=labels.values,
        intensities=tuple(kept.intensities(i) for i in range(len(channels))),
        configurations=edits.with_added(made),
        decisions=(
            *explain_all(kept),
            *edits.decisions(made, request),
            *(one for name, planned in made.items() for one in explain(name, planned, kept)),
            *warnings_of(kept, made),
        ),
        made_as=remember(made, edits, request),
    )
