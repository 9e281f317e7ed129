"""A training session: made anew, or put back to where an earlier one stopped."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from autoseg.core.plan import Configuration, Recipe, TrainingSpec
from autoseg.core.words import counted, duration
from autoseg.errors import AutosegError
from autoseg.io import bundle
from autoseg.io.fold_folder import FoldFolder
from autoseg.networks.build import build_network
from autoseg.networks.host_memory import keep_freed_memory
from autoseg.networks.precision import Precision, choose, place
from autoseg.train import checkpoint
from autoseg.train.augmenting import Place, asked_for, choose_place
from autoseg.train.batches import share_of
from autoseg.train.compiling import compile_if_it_pays, compile_network, may_compile
from autoseg.train.extension import extend
from autoseg.train.inputs import TrainingInputs, TrainRequest
from autoseg.train.loop import Session, measure_step_s
from autoseg.train.objective.class_weights import class_weights
from autoseg.train.objective.losses import LOSSES, LossOptions, refuse_unknown
from autoseg.train.objective.optimizers import OPTIMIZERS
from autoseg.train.previous import refuse_other_previous
from autoseg.train.team import Team

logger = logging.getLogger(__name__)

WORTH_A_HINT_S = 1200.0


def to_train(
    folder: FoldFolder, inputs: TrainingInputs, request: TrainRequest
) -> TrainingInputs | None:
    """What is left to train of a run.

    Args:
        folder: where the run lies.
        inputs: what it needs.
        request: what the user asked for.

    Returns:
        The inputs, their recipe extended if that is wanted; None if the run is finished.

    Raises:
        AutosegError: if the run was finished with another recipe, or an extension is wanted of
            a run that is not finished.
    """
    if not folder.is_finished:
        if request.extend is not None:
            raise AutosegError(
                "only a finished run can be extended",
                place=label(folder),
                remedy="train it to its end without --extend",
            )
        return inputs
    model = bundle.load_model(folder.bundle)
    extensions = model.training.extensions
    inputs = replace(inputs, spec=inputs.spec.model_copy(update={"extensions": extensions}))
    refuse_other_recipe(folder, inputs, model.training, model.configuration, model.recipe)
    refuse_other_previous(label(folder), model.previous_weights, inputs.previous)
    spec = _extended(folder, model.training, request.extend)
    return None if spec is None else replace(inputs, spec=spec)


def _extended(
    folder: FoldFolder, finished: TrainingSpec, epochs: int | None
) -> TrainingSpec | None:
    """The recipe of a finished run's extension; None, having said why, if there is none."""
    state = checkpoint.load_state(folder.resume) if checkpoint.exists(folder.resume) else None
    name = f"{folder.configuration} {folder.fold}"
    if epochs is None:
        logger.info("%s is trained already", name)
        if state is not None and state.training != finished:
            begun = state.training.extensions[-1].epochs
            logger.info("its extension is not finished: --extend %d goes on with it", begun)
        return None
    if state is None:
        raise AutosegError(
            "what a training goes on from is not there any more",
            place=folder.resume,
            remedy="start over with --restart and more --epochs",
        )
    spec = extend(finished, state.training, state.epoch, epochs, label(folder))
    if spec is None:
        logger.info(
            "%s is extended by %d epochs already; another number extends it further", name, epochs
        )
    return spec


def start_together(
    folder: FoldFolder,
    inputs: TrainingInputs,
    request: TrainRequest,
    device: torch.device,
    team: Team,
) -> tuple[Session, checkpoint.State]:
    """Begin a run, or go on with it, in every process of a team; the lead alone meets the disk.

    Args:
        folder: where the run lies.
        inputs: what it needs.
        request: what the user asked for.
        device: where this process computes.
        team: who trains.

    Returns:
        As ``start``; the same session in all, its steps taken together.

    Raises:
        AutosegError: as ``start``.
    """
    if team.size == 1:
        return start(folder, inputs, request, device)
    begun: list[Session] = []

    def begin() -> tuple[checkpoint.State, dict[str, Tensor]]:
        session, state = start(folder, inputs, request, device)
        begun.append(session)
        tensors = checkpoint.tensors_of(session)
        return state, {name: value.cpu() for name, value in tensors.items()}

    state, tensors = team.decide(begin)
    session = begun[0] if begun else _follow(inputs, state, tensors, device)
    team.join(session, _batch_shape(inputs))
    return session, state


def _follow(
    inputs: TrainingInputs,
    state: checkpoint.State,
    tensors: dict[str, Tensor],
    device: torch.device,
) -> Session:
    """The session that the lead has begun, or gone on with."""
    session = _session(inputs, state, device)
    checkpoint.put_back(tensors, state, session)
    if state.compiled and may_compile(device):
        compile_network(session, _batch_shape(inputs))
    return session


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
        The session and where it stands, which is on the disk.

    Raises:
        AutosegError: if the run was begun with another recipe or in a precision that is not
            to be had here.
    """
    if not checkpoint.exists(folder.resume):
        return _begin(folder, inputs, request, device)
    state = checkpoint.load_state(folder.resume)
    if len(inputs.spec.extensions) > len(state.training.extensions):
        state = state.extended(inputs.spec.extensions)
    refuse_other_recipe(folder, inputs, state.training, state.configuration, state.recipe)
    _refuse_other_split(folder, inputs, state)
    refuse_other_previous(label(folder), state.previous_weights, inputs.previous)
    _check_precision(state.precision, request, device, folder)
    session = _session(inputs, state, device)
    checkpoint.restore(folder.resume, state, session)
    if state.compiled and may_compile(device):
        compile_network(session, _batch_shape(inputs))
    wanted = _wanted_place(inputs, request, device)
    known = state.augment_on if device.type == "cuda" else "cpu"
    state = state.model_copy(update={"augment_on": wanted or known})
    logger.info("going on after %d epochs and %d steps", state.epoch, state.step)
    return session, state


def _begin(
    folder: FoldFolder, inputs: TrainingInputs, request: TrainRequest, device: torch.device
) -> tuple[Session, checkpoint.State]:
    # What was measured may turn out otherwise the next time: it is saved before the first step.
    session, state = begin(inputs, request, device)
    return session, checkpoint.save(folder.resume, state, session)


def begin(
    inputs: TrainingInputs, request: TrainRequest, device: torch.device
) -> tuple[Session, checkpoint.State]:
    """Make the session of a run that begins; nothing is written.

    Args:
        inputs: what it needs.
        request: what the user asked for.
        device: where to compute.

    Returns:
        The session and its first state, which knows what was measured to be fast.

    Raises:
        AutosegError: if the precision asked for is not to be had here.
    """
    precision, reason = choose(device, request.precision, inputs.configuration.dimensions)
    logger.info("%s", reason)
    state = checkpoint.State(
        training=inputs.spec,
        annotated=inputs.annotated,
        configuration=inputs.configuration,
        recipe=inputs.recipe,
        split=inputs.split,
        previous_weights={} if inputs.previous is None else dict(inputs.previous.weights),
        precision=precision,
        source=request.init_from,
    )
    inputs.tell_partial_labels()
    session = _session(inputs, state, device)
    if inputs.beginning is not None:
        inputs.beginning.fill(session.network)
        told = "fine-tuning: learning rate %g, reached after %g%% of the training"
        logger.info(told, inputs.spec.learning_rate, 100 * inputs.spec.warmup)
    measured = compile_if_it_pays(session, _batch_shape(inputs))
    if measured:
        logger.info("%s", measured)
    if device.type == "cpu":
        _announce_duration(inputs, session)
    where = _wanted_place(inputs, request, device)
    if where is None:
        workers, spec = request.workers or 0, inputs.batches("train")
        where, measured = choose_place(
            session, spec, inputs.configuration, workers, _batch_shape(inputs)
        )
        if measured:
            logger.info("%s", measured)
    found = {"compiled": session.compiled is not None, "augment_on": where}
    return session, state.model_copy(update=found)


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
    before, now = dict(training), dict(inputs.spec)
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


def refuse_other_annotation(
    folder: FoldFolder, inputs: TrainingInputs, before: Mapping[str, tuple[str, ...]]
) -> None:
    """Go on only with cases that are annotated for what they were when the run was begun.

    Args:
        folder: where the run lies.
        inputs: what it would go on with.
        before: by case, as ``TrainingInputs.annotated``.

    Raises:
        AutosegError: if it is another; how many cases, and which is the first.
    """
    now = inputs.annotated
    changed = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
    if changed:
        was, is_now = (", ".join(which.get(changed[0], ("all",))) for which in (before, now))
        raise AutosegError(
            f"what {counted(len(changed), 'case')} of this fold {_are(changed)} annotated for has "
            f"changed since the run was started ({changed[0]}: {was} -> {is_now})",
            place=label(folder),
            remedy="put it back in cases.csv and repeat autoseg plan, or start over with --restart",
        )


def _are(cases: Sequence[str]) -> str:
    return "is" if len(cases) == 1 else "are"


def label(folder: FoldFolder) -> str:
    """What messages call a run."""
    return f"{folder.configuration} {folder.fold} (plan {folder.plan}, run {folder.run})"


def _session(inputs: TrainingInputs, state: checkpoint.State, device: torch.device) -> Session:
    spec, labels = inputs.spec, inputs.dataset.labels
    torch.manual_seed(spec.seed)
    network = build_network(
        inputs.configuration.network,
        inputs.configuration.num_inputs(inputs.dataset.channels, labels),
        labels.num_outputs,
        deep_supervision=spec.deep_supervision,
    )
    place(network, state.precision, device, inputs.configuration.dimensions)
    if device.type == "cpu":
        keep_freed_memory()
    options = LossOptions(
        batch_dice=inputs.configuration.batch_dice,
        ignore_index=labels.ignore_index,
        class_weights=_class_weights(inputs),
        regions=labels.regions,
    )
    loss = LOSSES.get(spec.loss)(options)
    if inputs.annotated:
        refuse_unknown(loss, spec.loss)
    return Session(
        network=network,
        optimizer=OPTIMIZERS.get(spec.optimizer)(network.parameters(), spec),
        loss=loss,
        spec=spec,
        device=device,
        precision=state.precision,
        scaler=torch.amp.GradScaler(device.type, enabled=state.precision.dtype == "float16"),
    )


def _class_weights(inputs: TrainingInputs) -> tuple[float, ...]:
    regions = inputs.dataset.labels.regions
    known = None if regions is None else inputs.known_outputs
    return class_weights(inputs.fingerprint, inputs.split.train, regions, known)


def _refuse_other_split(
    folder: FoldFolder, inputs: TrainingInputs, state: checkpoint.State
) -> None:
    if state.split != inputs.split:
        raise AutosegError(
            "the cases of this fold have changed since the run was started",
            place=label(folder),
            remedy="restore splits.json, or start over with --restart",
        )
    refuse_other_annotation(folder, inputs, state.annotated)


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


def _wanted_place(
    inputs: TrainingInputs, request: TrainRequest, device: torch.device
) -> Place | None:
    return asked_for(request.augment_on, device, inputs.configuration, inputs.spec.augmentation)


def _announce_duration(inputs: TrainingInputs, session: Session) -> None:
    """Say what training without a GPU takes, before it starts."""
    spec = inputs.spec
    step_s = measure_step_s(session, _batch_shape(inputs))
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


def _batch_shape(inputs: TrainingInputs) -> tuple[int, ...]:
    """Of the images of this process's part of a batch."""
    planned = inputs.configuration
    channels = planned.num_inputs(inputs.dataset.channels, inputs.dataset.labels)
    samples = len(share_of(planned.batch_size, *inputs.share))
    return (samples, channels, *planned.patch_size)
