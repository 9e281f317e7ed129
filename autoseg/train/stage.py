"""``autoseg train``: prepared cases -> weights of one fold."""

from __future__ import annotations

import logging
import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from autoseg.core.labels import LabelSpace
from autoseg.core.progress import Progress, silent
from autoseg.errors import AutosegError
from autoseg.figures.curves import save_curves
from autoseg.io import atomic, bundle
from autoseg.io.workspace import EVERYTHING, FoldFolder, TaskFolder
from autoseg.networks.precision import choose, choose_device
from autoseg.train import checkpoint
from autoseg.train.batches import Batch, BatchSource
from autoseg.train.checkpoint import State
from autoseg.train.history import EpochRecord, History, log_to, smoothed
from autoseg.train.inputs import TrainingInputs, TrainRequest, load_inputs
from autoseg.train.loop import Session, train_step, validate
from autoseg.train.optimizers import set_learning_rate
from autoseg.train.schedules import learning_rate
from autoseg.train.start import label, refuse_other_recipe, start
from autoseg.workers import available_cores

logger = logging.getLogger(__name__)

CHECKPOINT_EVERY_S = 240.0
CURVES_EVERY_S = 60.0
MOST_WORKERS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """What stays the same from the first step to the last."""

    folder: FoldFolder
    inputs: TrainingInputs
    session: Session
    train_batches: BatchSource
    validation_batches: BatchSource
    interrupted: threading.Event
    progress: Progress


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
    if request.fold == EVERYTHING:
        logger.info("everything is trained on: the Dice of the epochs is of cases already seen")
    device = choose_device(request.device)
    choose(device, request.precision, probe=False)
    folder = task.fold_folder(request.plan, request.configuration, request.run, request.fold)
    with atomic.lock(folder.lock):
        if request.restart:
            atomic.remove_folder(folder.root)
        if folder.is_finished:
            model = bundle.load_model(folder.bundle)
            refuse_other_recipe(folder, inputs, model.training, model.configuration, model.recipe)
            logger.info("%s %s is trained already", request.configuration, request.fold)
            return True
        with log_to(folder.log):
            session, state = start(folder, inputs, request, device)
            if not _train(folder, inputs, session, state, request, progress):
                return False
            bundle.save_weights(folder.weights, session.network.state_dict())
            bundle.save_model(folder.bundle, inputs.model(request, folder.weights.name))
    return True


def _train(
    folder: FoldFolder,
    inputs: TrainingInputs,
    session: Session,
    state: State,
    request: TrainRequest,
    progress: Progress,
) -> bool:
    """Train to the end; False if interrupted. The batch makers live as long as this runs."""
    workers = _num_workers(request.workers, session.device)
    train_batches = BatchSource(inputs.batches("train"), workers)
    validation_batches = BatchSource(inputs.batches("validation"), min(workers, 1))
    try:
        with _interruptible() as interrupted:
            run = _Run(
                folder=folder,
                inputs=inputs,
                session=session,
                train_batches=train_batches,
                validation_batches=validation_batches,
                interrupted=interrupted,
                progress=progress,
            )
            return _train_epochs(run, state)
    finally:
        train_batches.close()
        validation_batches.close()


def _train_epochs(run: _Run, state: State) -> bool:
    history = History(run.folder.history, keep_epochs=state.epoch)
    curves_due_s = 0.0
    while not state.is_over:
        started_s = time.monotonic()
        state = _train_epoch(run, state)
        if run.interrupted.is_set():
            checkpoint.save(run.folder.resume, state, run.session)
            return False
        record = _finish_epoch(run, state, started_s)
        history.add(record)
        state = _note_epoch(run, state, record)
        logger.info("%s", record.line(run.inputs.spec, _names(run.inputs.dataset.labels)))
        if state.is_over or time.monotonic() >= curves_due_s:
            save_curves(run.folder.progress_png, history.rows())
            curves_due_s = time.monotonic() + CURVES_EVERY_S
    return True


def _train_epoch(run: _Run, state: State) -> State:
    """Train until the epoch's end, the time's, or an interruption."""
    steps = range(state.step, run.inputs.spec.steps_per_epoch)
    saved_s = last_s = time.monotonic()
    try:
        for batch in run.train_batches(state.epoch, steps):
            state = _train_step(run, state, batch)
            now_s = time.monotonic()
            state = state.model_copy(update={"elapsed_s": state.elapsed_s + now_s - last_s})
            last_s = now_s
            if run.interrupted.is_set() or state.time_is_up:
                break
            if now_s - saved_s > CHECKPOINT_EVERY_S:
                state, saved_s = checkpoint.save(run.folder.resume, state, run.session), now_s
    except AutosegError:
        # Who ends a job may end the makers of its batches first.
        if not run.interrupted.is_set():
            raise
    return state


def _train_step(run: _Run, state: State, batch: Batch) -> State:
    spec = run.inputs.spec
    set_learning_rate(run.session.optimizer, learning_rate(spec, state.progress))
    loss = train_step(run.session, batch)
    _stop_on_nan(run, state, "loss", loss, batch.cases)
    done = state.step + 1
    run.progress(done, spec.steps_per_epoch, f"epoch {state.epoch + 1} loss {loss:.3f}")
    return state.model_copy(update={"step": done, "loss_sum": state.loss_sum + loss})


def _finish_epoch(run: _Run, state: State, started_s: float) -> EpochRecord:
    """Validate; the time it takes is training time too."""
    labels, spec = run.inputs.dataset.labels, run.inputs.spec
    validation_s = time.monotonic()
    # The same patches after every epoch, so that epochs can be compared.
    batches = run.validation_batches(0, range(spec.validation_steps))
    validation = validate(run.session, batches, labels.num_classes, labels.ignore_index)
    _stop_on_nan(run, state, "validation loss", validation.loss, run.inputs.split.validation)
    now_s = time.monotonic()
    return EpochRecord(
        epoch=state.epoch,
        steps=state.step,
        train_loss=state.loss_sum / max(state.step, 1),
        validation_loss=validation.loss,
        dice=dict(zip(_names(labels), validation.dice, strict=True)),
        mean_dice=validation.mean_dice,
        ema_dice=smoothed(state.ema_dice, validation.mean_dice),
        learning_rate=float(run.session.optimizer.param_groups[0]["lr"]),
        epoch_s=now_s - started_s,
        elapsed_s=state.elapsed_s + now_s - validation_s,
    )


def _note_epoch(run: _Run, state: State, record: EpochRecord) -> State:
    """Save the state after an epoch, and the weights if they are the best so far."""
    best = state.best_dice
    if record.ema_dice is not None and (best is None or record.ema_dice > best):
        best = record.ema_dice
        bundle.save_weights(run.folder.best, run.session.network.state_dict())
    state = state.model_copy(
        update={
            "epoch": state.epoch + 1,
            "step": 0,
            "loss_sum": 0.0,
            "elapsed_s": record.elapsed_s,
            "ema_dice": record.ema_dice,
            "best_dice": best,
        }
    )
    return checkpoint.save(run.folder.resume, state, run.session)


def _stop_on_nan(run: _Run, state: State, what: str, value: float, cases: tuple[str, ...]) -> None:
    """Stop before weights that are no numbers are saved over good ones."""
    if not math.isfinite(value):
        raise AutosegError(
            f"the {what} became {value} in epoch {state.epoch + 1}, step {state.step + 1}, "
            f"cases {', '.join(sorted(set(cases)))}",
            place=label(run.folder),
            remedy="look at these cases, or lower the learning rate with --lr under another --run",
        )


def _num_workers(requested: int | None, device: torch.device) -> int:
    """Without a GPU the cores are needed for the network: one process makes the batches."""
    if requested is not None:
        return requested
    return min(MOST_WORKERS, max(1, available_cores() - 1)) if device.type == "cuda" else 1


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
