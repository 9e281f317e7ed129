"""A training session: made anew, or put back to where an earlier one stopped."""

from __future__ import annotations

import logging
import math

import torch

from autoseg.core.plan import Configuration, Recipe, TrainingSpec
from autoseg.errors import AutosegError
from autoseg.io.workspace import FoldFolder
from autoseg.networks.build import build_network
from autoseg.networks.precision import Precision, choose, place
from autoseg.train import checkpoint
from autoseg.train.class_weights import class_weights
from autoseg.train.inputs import TrainingInputs, TrainRequest
from autoseg.train.loop import Session, measure_step_s
from autoseg.train.losses import LOSSES, LossOptions
from autoseg.train.optimizers import OPTIMIZERS

logger = logging.getLogger(__name__)

WORTH_A_HINT_S = 1200.0


def start(
    folder: FoldFolder, inputs: TrainingInputs, request: TrainRequest, device: torch.device
) -> tuple[Session, checkpoint.State]:
    """Begin a run, or go on with it.

    Args:
        folder: where the run lies.
        inputs: what it needs.
        request: what the user asked for.
        device: where to compute.

    Returns:
        The session and where it stands.

    Raises:
        AutosegError: if the run was begun with another recipe or in a precision that is not
            to be had here.
    """
    if checkpoint.exists(folder.resume):
        state = checkpoint.load_state(folder.resume)
        refuse_other_recipe(folder, inputs, state.training, state.configuration, state.recipe)
        _refuse_other_split(folder, inputs, state)
        _check_precision(state.precision, request, device, folder)
        session = _session(inputs, state, device)
        checkpoint.restore(folder.resume, state, session)
        logger.info("going on after %d epochs and %d steps", state.epoch, state.step)
        return session, state
    precision, reason = choose(device, request.precision, inputs.configuration.dimensions)
    logger.info("%s", reason)
    state = checkpoint.State(
        training=inputs.spec,
        configuration=inputs.configuration,
        recipe=inputs.recipe,
        split=inputs.split,
        precision=precision,
    )
    session = _session(inputs, state, device)
    if device.type == "cpu":
        _announce_duration(inputs, session)
    return session, state


def refuse_other_recipe(
    folder: FoldFolder,
    inputs: TrainingInputs,
    training: TrainingSpec,
    configuration: Configuration,
    recipe: Recipe,
) -> None:
    """Go on only with what the run was begun with.

    Args:
        folder: where the run lies.
        inputs: what it would go on with.
        training: the recipe it was begun with.
        configuration: the plan it was begun with.
        recipe: how its cases were prepared.

    Raises:
        AutosegError: if they differ; each difference is named.
    """
    before, now = training.model_dump(), inputs.spec.model_dump()
    changed = [f"{key} {before[key]} -> {now[key]}" for key in now if now[key] != before[key]]
    before, now = configuration.model_dump(), inputs.configuration.model_dump()
    planned = [key for key in now if key != "training"]
    changed += [f"{key} of the plan" for key in planned if now[key] != before[key]]
    if recipe != inputs.recipe and not changed:
        changed = ["how cases are prepared"]
    if changed:
        raise AutosegError(
            f"this run was started with another recipe (changed: {', '.join(changed)})",
            place=label(folder),
            remedy="repeat the first command's flags, name another --run, or start over "
            "with --restart",
        )


def label(folder: FoldFolder) -> str:
    """What messages call a run."""
    return f"{folder.configuration} {folder.fold} (plan {folder.plan}, run {folder.run})"


def duration(seconds: float) -> str:
    """A length of time as people say it, such as ``"35 min"``."""
    for unit, length in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _session(inputs: TrainingInputs, state: checkpoint.State, device: torch.device) -> Session:
    spec, labels = inputs.spec, inputs.dataset.labels
    torch.manual_seed(spec.seed)
    network = build_network(
        inputs.configuration.network,
        len(inputs.dataset.channels),
        labels.num_classes,
        deep_supervision=spec.deep_supervision,
    )
    place(network, state.precision, device, inputs.configuration.dimensions)
    options = LossOptions(
        batch_dice=inputs.configuration.batch_dice,
        ignore_index=labels.ignore_index,
        class_weights=class_weights(inputs.fingerprint, inputs.split.train),
    )
    return Session(
        network=network,
        optimizer=OPTIMIZERS.get(spec.optimizer)(network.parameters(), spec),
        loss=LOSSES.get(spec.loss)(options),
        spec=spec,
        device=device,
        precision=state.precision,
        scaler=torch.amp.GradScaler(device.type, enabled=state.precision.dtype == "float16"),
    )


def _refuse_other_split(
    folder: FoldFolder, inputs: TrainingInputs, state: checkpoint.State
) -> None:
    if state.split != inputs.split:
        raise AutosegError(
            "the cases of this fold have changed since the run was started",
            place=label(folder),
            remedy="restore splits.json, or start over with --restart",
        )


def _check_precision(
    stored: Precision, request: TrainRequest, device: torch.device, folder: FoldFolder
) -> None:
    if request.precision not in ("auto", stored.dtype):
        raise AutosegError(
            f"this run computes in {stored.dtype}, not {request.precision}",
            place=label(folder),
            remedy="leave --precision out, name another --run, or start over with --restart",
        )
    choose(device, stored.dtype, probe=False)


def _announce_duration(inputs: TrainingInputs, session: Session) -> None:
    """Say what training without a GPU takes, before it starts."""
    spec, planned = inputs.spec, inputs.configuration
    channels = len(inputs.dataset.channels)
    step_s = measure_step_s(session, (planned.batch_size, channels, *planned.patch_size))
    total_s = step_s * spec.steps_per_epoch * spec.epochs
    length = f"{spec.epochs} epochs of {spec.steps_per_epoch} steps, {step_s:.2g} s a step"
    if (spec.max_time_s or math.inf) < total_s:
        logger.info("no GPU: %s; training ends after %s", length, duration(spec.max_time_s or 0))
        return
    hint = ""
    if total_s > WORTH_A_HINT_S:
        example = "2h" if total_s > 2 * 3600 else "10m"
        hint = f"; --max-time {example} ends sooner (with --restart once begun)"
    logger.info("no GPU: %s, take about %s%s", length, duration(total_s), hint)
