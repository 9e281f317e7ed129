"""A plan that nnU-Net made, adopted for data of ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autoseg.core.fingerprint import Fingerprint, IntensityStats
from autoseg.core.labels import LabelSpace
from autoseg.core.plan import Axes, Configuration, Decision, Plan
from autoseg.core.words import counted
from autoseg.errors import AutosegError, DataError
from autoseg.io.nnunet_plans import PeerPlans
from autoseg.plan import reasons
from autoseg.plan.edits import NO_EDITS, Edits, remember
from autoseg.plan.memory import TrainingMemory, training_memory
from autoseg.plan.mirror import mirror_verdicts
from autoseg.plan.request import PlanRequest

_IS_SLICE = "the median case has a single slice"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Adopted:
    """nnU-Net's plan and the data it is adopted for."""

    peer: PeerPlans
    fingerprint: Fingerprint
    channels: Sequence[str]
    labels: LabelSpace
    request: PlanRequest

    @property
    def left_out(self) -> dict[str, str]:
        """Configurations that cannot be adopted, with the reason."""
        shapes = [case.shape for case in self.fingerprint.cases]
        if np.median(shapes, axis=0).min() > 1:
            return dict(self.peer.left_out)
        deep = {n: _IS_SLICE for n, c in self.peer.configurations.items() if c.dimensions == 3}
        return {**self.peer.left_out, **deep}

    @property
    def source(self) -> str:
        """Why a value is as it is."""
        return f"adopted from nnU-Net's {self.peer.name}"

    def raw_axes(self, planned: Configuration) -> Axes:
        """Raw axis of each axis of a configuration."""
        return self.peer.transpose[3 - planned.dimensions :]

    def memory(self, planned: Configuration) -> TrainingMemory:
        """What a training step takes."""
        return training_memory(
            planned.network,
            planned.patch_size,
            planned.batch_size,
            num_channels=planned.num_inputs(self.channels, self.labels),
            num_outputs=self.labels.num_outputs,
        )


def adopt_plan(
    fingerprint: Fingerprint,
    channels: Sequence[str],
    labels: LabelSpace,
    request: PlanRequest,
    peer: PeerPlans,
    edits: Edits = NO_EDITS,
) -> Plan:
    """Plan data as nnU-Net did.

    Everything its plan says is adopted: axis order, intensities, and of every configuration that
    autoseg can do, spacing, patch, batch, network, normalization and place in a cascade. The plan
    does not say which axes are mirrored: that follows from the data, or with ``compatible`` is
    all of them.

    Args:
        fingerprint: the measured cases.
        channels: names of their channels, in order.
        labels: what is to be segmented.
        request: what the user asked for.
        peer: what nnU-Net's plan says.
        edits: what the user changed in the plan of that name; it is kept, too.

    Raises:
        DataError: if there are no cases, or all configurations are 3D and they are slices.
        AutosegError: if the plan is for another number of channels.
    """
    if not fingerprint.cases:
        raise DataError("there is no training case", remedy="add annotated images")
    if len(peer.intensities) != len(channels):
        raise AutosegError(
            f"planned for {counted(len(peer.intensities), 'channel')}, but the data have "
            f"{len(channels)}: {', '.join(channels)}",
            place=peer.file,
            remedy="name the plan of these data, or plan without --from-nnunet",
        )
    adopted = _Adopted(
        peer=peer, fingerprint=fingerprint, channels=channels, labels=labels, request=request
    )
    edits.check(peer.transpose, channels, request)
    possible = [name for name in peer.configurations if name not in adopted.left_out]
    if not possible:
        raise DataError(f"{_IS_SLICE}, but the plan has no 2D configuration", place=peer.file)
    made = {
        name: edits.keep(name, _configuration(peer.configurations[name], adopted), request)
        for name in possible
    }
    return Plan(
        name=request.name,
        preset=request.preset,
        transpose=peer.transpose,
        budget_bytes=request.budget,
        channels=tuple(channels),
        label_values=labels.values,
        intensities=peer.intensities,
        configurations=edits.with_added(made),
        decisions=(
            *_explain_all(adopted),
            *edits.decisions(made, request),
            *(one for name, planned in made.items() for one in _explain(name, planned, adopted)),
            *_warnings(adopted, made),
        ),
        made_as=remember(made, edits, request),
    )


def _configuration(planned: Configuration, adopted: _Adopted) -> Configuration:
    request, raw = adopted.request, adopted.raw_axes(planned)
    if request.mirror_axes is not None:
        wanted: Sequence[int] = request.mirror_axes
    elif request.compatible:
        wanted = raw
    else:
        verdicts = mirror_verdicts(adopted.fingerprint, adopted.labels)
        wanted = [verdict.axis for verdict in verdicts if verdict.is_allowed]
    axes = tuple(axis for axis, name in enumerate(raw) if name in wanted)
    training = planned.training.model_copy(update={"mirror_axes": axes})
    batch_size = request.batch_size or planned.batch_size
    return planned.model_copy(update={"training": training, "batch_size": batch_size})


def _explain_all(adopted: _Adopted) -> list[Decision]:
    """What concerns all configurations."""
    peer = adopted.peer
    first = next(iter(peer.configurations.values()))
    named = zip(adopted.channels, first.normalization, peer.intensities, strict=True)
    return [
        Decision(what="plan", value=adopted.source, reason=f"--from-nnunet {peer.file.name}"),
        Decision(
            what="axis order", value=reasons.axis_order(peer.transpose), reason=adopted.source
        ),
        *(_explain_channel(*channel, source=adopted.source) for channel in named),
        *(
            Decision(what="left out", value=name, reason=reason)
            for name, reason in adopted.left_out.items()
        ),
    ]


def _explain_channel(name: str, scheme: str, stats: IntensityStats, source: str) -> Decision:
    told = reasons.normalization(name, scheme, stats)
    how = told.reason.partition(": ")[2]
    return told.model_copy(update={"reason": f"{source}: {how}" if how else source})


def _explain(name: str, planned: Configuration, adopted: _Adopted) -> list[Decision]:
    """Each decision of a configuration."""
    request, network = adopted.request, planned.network
    raw = adopted.raw_axes(planned)
    mirrored = reasons.axis_order([raw[axis] for axis in planned.training.mirror_axes])
    facts = [
        ("spacing", reasons.mm(planned.spacing), adopted.source),
        ("patch size", reasons.by(planned.patch_size), adopted.source),
        ("batch size", str(planned.batch_size), _source(adopted, request.batch_size)),
        (
            "network",
            f"{network.architecture}, {network.num_stages} stages",
            adopted.source,
        ),
        ("batch Dice", "on" if planned.batch_dice else "off", adopted.source),
        ("mirror axes", mirrored or "none", _why_mirrored(adopted)),
    ]
    if planned.previous is not None:
        facts.append(("previous stage", planned.previous, adopted.source))
    return [
        *(
            Decision(what=what, value=value, reason=reason, configuration=name)
            for what, value, reason in facts
        ),
        reasons.memory(name, adopted.memory(planned), request.budget),
    ]


def _source(adopted: _Adopted, wish: object) -> str:
    return adopted.source if wish is None else "given by the user"


def _why_mirrored(adopted: _Adopted) -> str:
    if adopted.request.mirror_axes is not None:
        return "given by the user"
    if adopted.request.compatible:
        return "all, as nnU-Net does (--compatible)"
    return "those the data do not forbid; nnU-Net's plan does not say (--compatible: all)"


def _warnings(adopted: _Adopted, made: dict[str, Configuration]) -> list[Decision]:
    """Configurations that take more than the memory to plan for."""
    budget = adopted.request.budget
    return [
        Decision(
            what="warning",
            value=f"{name} beyond {reasons.gb(budget)}",
            reason=f"a training step takes about {reasons.gb(total)}; a smaller --batch-size "
            "does not touch the weights",
            configuration=name,
        )
        for name, planned in made.items()
        if (total := adopted.memory(planned).total) > budget
    ]
