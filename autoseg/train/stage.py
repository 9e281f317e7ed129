"""``autoseg train``: prepared cases -> weights of one fold."""

from __future__ import annotations

import logging
import math
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from autoseg.core.labels import LabelSpace
from autoseg.core.model import Model
from autoseg.core.plan import Configuration, TrainingSpec
from autoseg.core.progress import Progress, silent
from autoseg.errors import AutosegError
from autoseg.figures.curves import save_curves
from autoseg.io import artifacts, atomic, bundle
from autoseg.io.workspace import FoldFolder, TaskFolder
from autoseg.networks.build import build_network
from autoseg.networks.precision import choose, choose_device, place
from autoseg.train import checkpoint
from autoseg.train.batches import Batch, BatchSource
from autoseg.train.history import EpochRecord, History, log_to, smoothed
from autoseg.train.inputs import TrainingInputs, TrainRequest, load_inputs
from autoseg.train.loop import Session, measure_step_s, train_step, validate
from autoseg.train.losses import LOSSES, LossOptions
from autoseg.train.optimizers import OPTIMIZERS, SCHEDULES, set_learning_rate
from autoseg.workers import available_cores

logger = logging.getLogger(__name__)

CHECKPOINT_EVERY_S = 240.0
CURVES_EVERY_S = 60.0
MOST_WORKERS = 12


def train_fold(task: TaskFolder, request: TrainRequest, progress: Progress = silent) -> bool:
    """Train one fold of one configuration, or go on where an earlier call stopped.

    Args:
        task: the task's folder in the workspace.
        request: what to train.
        progress: called after every step with steps done and planned in this epoch.

    Returns:
        Whether the fold is finished; False if the user interrupted (all is saved).

    Raises:
        AutosegError: if an earlier stage is missing or out of date, the run was started with
            another recipe, or training failed.
    """
    inputs = load_inputs(task, request)
    folder = task.fold_folder(request.plan, request.configuration, request.run, request.fold)
    with atomic.lock(folder.root.with_name(f".{request.fold}.lock")):
        if request.restart and folder.root.exists():
            shutil.rmtree(folder.root)
        if folder.is_finished:
            model = artifacts.load(folder.bundle, Model)
            _refuse_other_recipe(folder, inputs, model.training, model.configuration)
            logger.info("%s %s is trained already", request.configuration, request.fold)
            return True
        with log_to(folder.log):
            session, state = _start(folder, inputs, request)
            return _run(folder, inputs, request, session, state, progress)


def _run(
    folder: FoldFolder,
    inputs: TrainingInputs,
    request: TrainRequest,
    session: Session,
    state: checkpoint.State,
    progress: Progress,
) -> bool:
    spec = inputs.spec
    history = History(folder.history, keep_epochs=state.epoch)
    workers = _num_workers(request.workers, session.device)
    train_batches = BatchSource(inputs.batches("train"), workers)
    validation_batches = BatchSource(inputs.batches("validation"), min(workers, 1))
    curves_due = 0.0
    try:
        with _interruptible() as interrupted:
            while state.epoch < spec.epochs and not _time_is_up(state):
                started = time.monotonic()
                state = _train_epoch(folder, session, state, train_batches, interrupted, progress)
                if interrupted.is_set():
                    break
                steps, state = state.step, state.model_copy(update={"step": 0})
                record = _finish_epoch(inputs, session, state, steps, validation_batches, started)
                history.add(record)
                state = _note_epoch(folder, session, state, record)
                logger.info("%s", record.line(spec, _names(inputs.dataset.labels)))
                if time.monotonic() >= curves_due:
                    save_curves(folder.progress_png, history.rows())
                    curves_due = time.monotonic() + CURVES_EVERY_S
    finally:
        train_batches.close()
        validation_batches.close()
    if interrupted.is_set():
        checkpoint.save(folder.resume, state, session)
        logger.debug("stopped in epoch %d after %d steps", state.epoch + 1, state.step)
        return False
    save_curves(folder.progress_png, history.rows())
    bundle.save_weights(folder.weights, session.network.state_dict())
    artifacts.save(folder.bundle, inputs.model(request, folder.weights.name))
    return True


def _train_epoch(
    folder: FoldFolder,
    session: Session,
    state: checkpoint.State,
    batches: BatchSource,
    interrupted: threading.Event,
    progress: Progress,
) -> checkpoint.State:
    """Train until the epoch's end, the time's, or an interruption."""
    spec = session.spec
    schedule = SCHEDULES.get(spec.schedule)
    saved = last = time.monotonic()
    for batch in batches(state.epoch, range(state.step, spec.steps_per_epoch)):
        set_learning_rate(session.optimizer, spec.learning_rate * schedule(_progress(state)))
        loss = train_step(session, batch)
        _stop_on_nan(loss, batch, state, folder)
        now = time.monotonic()
        state = state.model_copy(
            update={
                "step": state.step + 1,
                "loss_sum": state.loss_sum + loss,
                "elapsed_s": state.elapsed_s + now - last,
            }
        )
        last = now
        progress(state.step, spec.steps_per_epoch, f"epoch {state.epoch + 1} loss {loss:.3f}")
        if interrupted.is_set() or _time_is_up(state):
            break
        if now - saved > CHECKPOINT_EVERY_S:
            state, saved = checkpoint.save(folder.resume, state, session), now
    return state


def _finish_epoch(
    inputs: TrainingInputs,
    session: Session,
    state: checkpoint.State,
    steps: int,
    batches: BatchSource,
    started: float,
) -> EpochRecord:
    labels = inputs.dataset.labels
    validation = validate(
        session,
        batches(0, range(session.spec.validation_steps)),
        labels.num_classes,
        labels.ignore_index,
    )
    return EpochRecord(
        epoch=state.epoch,
        steps=steps,
        train_loss=state.loss_sum / max(steps, 1),
        validation_loss=validation.loss,
        dice=dict(zip(_names(labels), validation.dice, strict=True)),
        mean_dice=validation.mean_dice,
        ema_dice=smoothed(state.ema_dice, validation.mean_dice),
        learning_rate=float(session.optimizer.param_groups[0]["lr"]),
        epoch_s=time.monotonic() - started,
        elapsed_s=state.elapsed_s,
    )


def _note_epoch(
    folder: FoldFolder, session: Session, state: checkpoint.State, record: EpochRecord
) -> checkpoint.State:
    """Save the state after an epoch, and the weights if they are the best so far."""
    best = state.best_dice
    if record.ema_dice is not None and (best is None or record.ema_dice > best):
        best = record.ema_dice
        bundle.save_weights(folder.best, session.network.state_dict())
    state = state.model_copy(
        update={
            "epoch": state.epoch + 1,
            "loss_sum": 0.0,
            "ema_dice": record.ema_dice,
            "best_dice": best,
        }
    )
    return checkpoint.save(folder.resume, state, session)


def _start(
    folder: FoldFolder, inputs: TrainingInputs, request: TrainRequest
) -> tuple[Session, checkpoint.State]:
    """A session and where it stands: new, or as an earlier call left it."""
    device = choose_device(request.device)
    resumed = checkpoint.exists(folder.resume)
    if resumed:
        state = checkpoint.load_state(folder.resume)
        _refuse_other_recipe(folder, inputs, state.training, state.configuration)
    else:
        precision, reason = choose(device, request.precision, inputs.configuration.dimensions)
        logger.info("%s", reason)
        state = checkpoint.State(
            training=inputs.spec, configuration=inputs.configuration, precision=precision
        )
    session = _session(inputs, state, device)
    if resumed:
        checkpoint.restore(folder.resume, state, session)
        logger.info("going on after %d epochs and %d steps", state.epoch, state.step)
    elif device.type == "cpu":
        _announce_duration(inputs, session)
    return session, state


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
        batch_dice=inputs.configuration.batch_dice, ignore_index=labels.ignore_index
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


def _announce_duration(inputs: TrainingInputs, session: Session) -> None:
    """Say what training without a GPU takes, before it starts."""
    spec, planned = inputs.spec, inputs.configuration
    channels = len(inputs.dataset.channels)
    step_s = measure_step_s(session, (planned.batch_size, channels, *planned.patch_size))
    total_s = step_s * spec.steps_per_epoch * spec.epochs
    limit_s = spec.max_time_s or math.inf
    length = f"{spec.epochs} epochs of {spec.steps_per_epoch} steps, {step_s:.2g} s a step"
    if limit_s < total_s:
        logger.info("no GPU: %s; ends after %s", length, duration(limit_s))
    else:
        logger.info(
            "no GPU: %s, take about %s; to end sooner: --max-time 2h (the schedule follows)",
            length,
            duration(total_s),
        )


def duration(seconds: float) -> str:
    """A length of time as people say it, such as ``"35 min"``."""
    for unit, length in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _refuse_other_recipe(
    folder: FoldFolder, inputs: TrainingInputs, started: TrainingSpec, planned: Configuration
) -> None:
    """Go on only with what the run was started with."""
    before, now = started.model_dump(), inputs.spec.model_dump()
    changed = [f"{key} {before[key]} -> {now[key]}" for key in now if now[key] != before[key]]
    before, now = planned.model_dump(), inputs.configuration.model_dump()
    changed += [
        f"{key} of the plan" for key in now if key != "training" and now[key] != before[key]
    ]
    if changed:
        raise AutosegError(
            f"this run was started with another recipe (changed: {', '.join(changed)})",
            place=_label(folder),
            remedy="repeat the first command's flags, name another --run, or start over "
            "with --restart",
        )


def _label(folder: FoldFolder) -> str:
    return f"{folder.configuration} {folder.fold} (plan {folder.plan}, run {folder.run})"


def _num_workers(requested: int | None, device: torch.device) -> int:
    """Without a GPU the cores are needed for the network: one process makes the batches."""
    if requested is not None:
        return requested
    return min(MOST_WORKERS, max(1, available_cores() - 1)) if device.type == "cuda" else 1


def _progress(state: checkpoint.State) -> float:
    """Share of the training that is done, by steps or by time, whichever is further."""
    spec = state.training
    steps = (state.epoch + state.step / spec.steps_per_epoch) / spec.epochs
    return max(steps, state.elapsed_s / spec.max_time_s if spec.max_time_s else 0.0)


def _time_is_up(state: checkpoint.State) -> bool:
    limit = state.training.max_time_s
    return limit is not None and state.elapsed_s >= limit


def _stop_on_nan(loss: float, batch: Batch, state: checkpoint.State, folder: FoldFolder) -> None:
    if not math.isfinite(loss):
        raise AutosegError(
            f"the loss became {loss} in epoch {state.epoch + 1}, step {state.step + 1}, "
            f"cases {', '.join(sorted(set(batch.cases)))}",
            place=_label(folder),
            remedy="look at these cases, or lower the learning rate with --lr under another --run",
        )


def _names(labels: LabelSpace) -> tuple[str, ...]:
    """Names of the classes 1..n."""
    by_value = {structure.values[0]: structure.name for structure in labels.structures}
    return tuple(by_value[value] for value in labels.foreground_values)


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Turn Ctrl-C and SIGTERM into an event that is looked at between two steps."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda *_: event.set()) for number in signals]
    try:
        yield event
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)
