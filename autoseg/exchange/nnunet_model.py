"""A trained model of nnU-Net as one of ours: values in, values out, no files."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import torch
from pydantic import ValidationError
from torch import Tensor

from autoseg.core.labels import LabelSpace
from autoseg.core.model import Member, Model
from autoseg.core.plan import Decision, Plan
from autoseg.errors import ArtifactError
from autoseg.io.nnunet_model import Checkpoint, PeerFold, PeerModel
from autoseg.io.nnunet_plans import PeerPlans
from autoseg.io.torch_file import StoredTensor
from autoseg.networks.build import build_network
from autoseg.networks.nnunet_names import nnunet_names, without_second_names

BUDGET_BYTES = 8 * 10**9
"""Of a plan that does not say what GPU it was made for: nnU-Net's usual one."""
USUAL_TRAINER = "nnUNetTrainer"
_KNOWN_TRAINER = re.compile(
    r"nnUNetTrainer(_?(Benchmark|DA5|DASegOrd0|NoDA|noDummy2DDA|NoMirroring|onlyMirror01|warmup|"
    r"CosAnneal|Vanilla|Adam|Adan|DiceLoss|DiceCELoss|DiceTopK|Topk|CELoss|NoDeepSupervision|"
    r"probabilisticOversampling|\d+epochs?)\w*)?"
)
"""Trainers of nnU-Net's own whose networks and preparation of images are the usual ones."""


def is_known_trainer(name: str) -> bool:
    """Whether a trainer leaves networks and preparation as they usually are."""
    return _KNOWN_TRAINER.fullmatch(name) is not None


def plan_of(peer: PeerPlans, name: str, channels: tuple[str, ...], labels: LabelSpace) -> Plan:
    """A plan of nnU-Net as one of ours.

    Args:
        peer: what it says.
        name: of the plan.
        channels: channel names, in order.
        labels: what is segmented.
    """
    left_out = [
        Decision(what="left out", value=configuration, reason=reason)
        for configuration, reason in peer.left_out.items()
    ]
    return Plan(
        name=name,
        preset="default",
        transpose=peer.transpose,
        budget_bytes=BUDGET_BYTES,
        channels=channels,
        label_values=labels.values,
        intensities=peer.intensities,
        configurations=dict(peer.configurations),
        decisions=(
            Decision(
                what="plan",
                value=f"taken from nnU-Net's {peer.name}",
                reason="models of nnU-Net were trained with it",
            ),
            *left_out,
        ),
    )


def joined(known: Plan, plan: Plan) -> Plan | None:
    """Two states of a plan of nnU-Net, to which users add configurations as they go.

    Returns:
        A plan with all configurations of both; None if they are two plans.
    """
    both = known.configurations.keys() & plan.configurations.keys()
    shared = ("transpose", "channels", "label_values", "intensities")
    if any(getattr(known, field) != getattr(plan, field) for field in shared) or any(
        known.configurations[name] != plan.configurations[name] for name in both
    ):
        return None
    return known.model_copy(
        update={"configurations": {**known.configurations, **plan.configurations}}
    )


def model_of(
    peer: PeerModel, fold: PeerFold, checkpoint: Checkpoint, plan: Plan, task: str, run: str
) -> Model:
    """A fold of a model as one of ours, without a previous stage.

    Args:
        peer: the model.
        fold: the fold.
        checkpoint: what its checkpoint says.
        plan: what ``plan_of`` made.
        task: the task's name.
        run: the run's name.

    Raises:
        ArtifactError: if the plan has no such configuration, with the reason, or what is known of
            the fold does not hang together.
    """
    name = checkpoint.configuration
    planned = plan.configurations.get(name)
    if planned is None:
        reason = peer.plans.left_out.get(name, "it is not in the plan")
        raise ArtifactError(f"configurations.{name}: {reason}", place=peer.plans.file)
    axes = tuple(axis for axis in checkpoint.mirror_axes if axis < planned.dimensions)
    mirrored = planned.training.model_copy(update={"mirror_axes": axes})
    # What keeps the model's plan for other data mirrors what the model did.
    own = {name: planned.model_copy(update={"training": mirrored})}
    plan = plan.model_copy(update={"configurations": plan.configurations | own})
    try:
        return Model(
            task=task,
            run=run,
            channels=peer.channels,
            labels=peer.labels,
            plan=plan,
            training=mirrored.model_copy(update={"epochs": checkpoint.epochs}),
            held_out=fold.held_out,
            members=(Member(configuration=name, fold=fold.name, weights="weights.safetensors"),),
            min_spacing=peer.min_spacing,
            max_spacing=peer.max_spacing,
            versions={"nnunetv2": "2"},
        )
    except ValidationError as error:
        finding = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
        raise ArtifactError(finding, place=peer.root) from None


def weights_of(
    model: Model, checkpoint: Checkpoint, read: Callable[[StoredTensor], Tensor]
) -> dict[str, Tensor]:
    """The weights of a checkpoint by our names.

    Args:
        model: what they belong to.
        checkpoint: has them.
        read: reads a tensor.

    Returns:
        float32, as our network's ``load_state_dict`` takes them.

    Raises:
        ArtifactError: if they are those of another network.
    """
    configuration = model.configuration
    spec = configuration.network
    with torch.device("meta"):
        network = build_network(
            spec,
            configuration.num_inputs(model.channels, model.labels),
            model.labels.num_outputs,
            deep_supervision=True,
        )
    wanted = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    names = nnunet_names(wanted, spec)
    full_names = without_second_names(checkpoint.weights)
    shapes = {name: checkpoint.weights[full].shape for name, full in full_names.items()}
    _refuse_other_network({names[name]: shape for name, shape in wanted.items()}, shapes)
    return {
        name: read(checkpoint.weights[full_names[theirs]]).float() for name, theirs in names.items()
    }


def _refuse_other_network(
    wanted: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]
) -> None:
    """Refuse weights that are not those of the planned network.

    Raises:
        ArtifactError: naming the first tensor that does not fit.
    """
    for name, shape in wanted.items():
        if name not in found:
            raise _misfit(f"it has no '{name}'")
        if found[name] != shape:
            raise _misfit(f"'{name}' is {_by(found[name])} there, {_by(shape)} by the plan")
    more = sorted(set(found) - set(wanted))
    if more:
        raise _misfit(f"it has a '{more[0]}', which the planned network has not")


def _misfit(finding: str) -> ArtifactError:
    return ArtifactError(
        f"the weights are of another network than the plan describes: {finding}",
        remedy="models of trainers that change the network cannot be imported",
    )


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "a number"
