"""``autoseg train``: prepared cases -> weights of one fold."""

from __future__ import annotations

import logging
import math
import threading
import time
from contextlib import closing
from dataclasses import dataclass, replace

import torch

from autoseg.core.plan import TrainingSpec
from autoseg.core.progress import Progress, silent
from autoseg.errors import AutosegError
from autoseg.io import atomic, bundle
from autoseg.io.fold_folder import FoldFolder
from autoseg.io.machine import available_cores
from autoseg.io.workspace import EVERYTHING, TaskFolder
from autoseg.networks.precision import choose
from autoseg.train import checkpoint
from autoseg.train.augmenting import asked_for
from autoseg.train.batches import Batch, BatchSource
from autoseg.train.checkpoint import State
from autoseg.train.inputs import TrainingInputs, TrainRequest, load_inputs
from autoseg.train.interruption import interruptible
from autoseg.train.loop import (
    NotFiniteError,
    Session,
    Validation,
    draw_anew,
    has_finite_weights,
    train_step,
    validate,
)
from autoseg.train.memory import explaining_memory
from autoseg.train.monitoring.history import EpochRecord, log_to, smoothed
from autoseg.train.monitoring.scalars import require_tensorboard
from autoseg.train.monitoring.watch import Watch
from autoseg.train.objective.optimizers import set_learning_rate
from autoseg.train.plateau import WORTHWHILE, Plateau
from autoseg.train.previous import keep_previous
from autoseg.train.start import label, start_together, to_train
from autoseg.train.team import ALONE, Team

logger = logging.getLogger(__name__)

CHECKPOINT_EVERY_S = 240.0
MOST_WORKERS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """What stays the same from the first step to the last."""

    folder: FoldFolder
    inputs: TrainingInputs
    session: Session
    train_batches: BatchSource
    validation_batches: BatchSource
    team: Team
    signalled: threading.Event
    interrupted: threading.Event
    progress: Progress
    watch: Watch


def train_fold(
    task: TaskFolder, request: TrainRequest, progress: Progress = silent, team: Team = ALONE
) -> bool:
    """Train one fold of one configuration, or go on where an earlier call stopped.

    Args:
        task: the task's folder in the workspace.
        request: what to train.
        progress: called after every step with steps done and planned in this epoch.
        team: the processes that train it together.

    Returns:
        Whether the fold is finished; False if the user interrupted (all is saved).

    Raises:
        AutosegError: if an earlier stage is missing or out of date, the run was started with
            another recipe, or training failed.
    """
    if request.restart and request.extend is not None:
        raise AutosegError("--restart leaves nothing to --extend", remedy="leave one of them out")
    if request.tensorboard:
        require_tensorboard()
    inputs = team.deal(load_inputs(task, request), request)
    if request.fold == EVERYTHING:
        logger.info("everything is trained on: the Dice of the epochs is of cases already seen")
    device = team.device(request.device)
    choose(device, request.precision, probe=False)
    asked_for(request.augment_on, device, inputs.configuration, inputs.spec.augmentation)
    request = replace(request, workers=num_workers(request.workers, device, team.local_size))
    folder = task.fold_folder(request.plan, request.configuration, request.run, request.fold)
    with team.leading(atomic.lock(folder.lock)):
        if request.restart and team.is_lead:
            atomic.remove_folder(folder.root)
        left = _left_to_train(folder, inputs, request, team)
        if left is None:
            return True
        logging_to = team.leading(log_to(folder.log))
        with logging_to, explaining_memory(left.plan, device, task.name):
            session, state = start_together(folder, left, request, device, team)
            if team.is_lead:
                keep_previous(task, folder, left.previous)
            if not _train(folder, left, session, state, request, progress, team):
                return False
            if team.is_lead:
                with checkpoint.saving():
                    bundle.save_weights(folder.weights, session.network.state_dict())
                    bundle.save_model(folder.bundle, left.model(request, folder.weights.name))
    return True


def _left_to_train(
    folder: FoldFolder, inputs: TrainingInputs, request: TrainRequest, team: Team
) -> TrainingInputs | None:
    """As ``to_train``, which looks at the run's folder and is for the lead only."""

    def left() -> TrainingSpec | None:
        found = to_train(folder, inputs, request)
        return None if found is None else found.spec

    spec = team.decide(left)
    return None if spec is None else replace(inputs, spec=spec)


def _train(
    folder: FoldFolder,
    inputs: TrainingInputs,
    session: Session,
    state: State,
    request: TrainRequest,
    progress: Progress,
    team: Team,
) -> bool:
    """Train to the end; False if interrupted. The batch makers live as long as this runs."""
    workers = num_workers(request.workers, session.device, team.local_size)
    later = state.augment_on == "device"
    train_batches = BatchSource(replace(inputs.batches("train"), finished_later=later), workers)
    validation_batches = BatchSource(inputs.batches("validation"), min(workers, 1))
    try:
        watching = Watch(folder, inputs, session, team.showing(request), state, train_batches)
        with interruptible() as signalled, closing(watching) as watch:
            run = _Run(
                folder=folder,
                inputs=inputs,
                session=session,
                train_batches=train_batches,
                validation_batches=validation_batches,
                team=team,
                signalled=signalled,
                interrupted=team.stopping(signalled),
                progress=progress,
                watch=watch,
            )
            return _train_epochs(run, state)
    finally:
        train_batches.close()
        validation_batches.close()


def _train_epochs(run: _Run, state: State) -> bool:
    while not state.is_over:
        run.watch.start_epoch(state)
        state = _train_epoch(run, state)
        if run.interrupted.is_set():
            run.team.decide(lambda state=state: _save(run, state))
            return False
        state = _finish_epoch(run, state)
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
            state = _agree(run, state)
            if run.interrupted.is_set() or state.time_is_up:
                break
            if run.team.is_lead and now_s - saved_s > CHECKPOINT_EVERY_S:
                state, saved_s = _save(run, state), now_s
    except AutosegError:
        # Who ends a job may end the makers of its batches first.
        if not run.interrupted.is_set():
            raise
    return state


def _agree(run: _Run, state: State) -> State:
    """Stop in all processes after the same step, and by one clock."""
    stop, elapsed_s = run.team.agree(run.signalled.is_set(), state.elapsed_s)
    if stop:
        run.interrupted.set()
    return state.model_copy(update={"elapsed_s": elapsed_s})


def _train_step(run: _Run, state: State, batch: Batch) -> State:
    spec = run.inputs.spec
    set_learning_rate(run.session.optimizer, state.learning_rate)
    draw_anew(spec.seed, state.epoch, state.step, run.team.rank)
    try:
        loss = train_step(run.session, batch)
    except NotFiniteError as error:
        raise _not_finite(run, state, error) from None
    done = state.step + 1
    run.progress(done, spec.steps_per_epoch, f"epoch {state.epoch + 1} loss {loss:.3f}")
    return state.model_copy(update={"step": done, "loss_sum": state.loss_sum + loss})


def _finish_epoch(run: _Run, state: State) -> State:
    """Validate, save and show; the time it takes is training time too."""
    labels, spec = run.inputs.dataset.labels, run.inputs.spec
    run.watch.end_steps()
    validation_s = time.monotonic()
    # The same patches after every epoch, so that epochs can be compared.
    batches = run.validation_batches(0, range(spec.validation_steps))
    try:
        validation = validate(run.session, batches, labels)
    except NotFiniteError as error:
        raise _not_finite(run, state, error) from None
    return run.team.decide(lambda: _conclude(run, state, validation, validation_s))


def _conclude(run: _Run, state: State, validation: Validation, validation_s: float) -> State:
    """Save and show an epoch whose validation began at a time."""
    labels = run.inputs.dataset.labels
    run.watch.preview(state)
    elapsed_s = state.elapsed_s + time.monotonic() - validation_s
    took = run.watch.measure(state, elapsed_s)
    record = EpochRecord(
        epoch=state.epoch,
        steps=state.step,
        train_loss=state.loss_sum / max(state.step, 1),
        validation_loss=validation.loss,
        dice=dict(zip(labels.output_names, validation.dice, strict=True)),
        mean_dice=validation.mean_dice,
        ema_dice=smoothed(state.ema_dice, validation.mean_dice),
        learning_rate=float(run.session.optimizer.param_groups[0]["lr"]),
        epoch_s=took.epoch_s,
        elapsed_s=elapsed_s,
        left_s=took.left_s,
        waiting=took.waiting,
        gpu_peak_bytes=took.gpu_peak_bytes,
    )
    run.watch.add(state, record, validation)
    state = _note_epoch(run, state, record)
    run.watch.show(state, record)
    return state


def _note_epoch(run: _Run, state: State, record: EpochRecord) -> State:
    """Save the state after an epoch, and the weights if they are the best so far."""
    best = state.best_dice
    if record.ema_dice is not None and (best is None or record.ema_dice > best):
        best = record.ema_dice
        with checkpoint.saving():
            bundle.save_weights(run.folder.best, run.session.network.state_dict())
    state = state.model_copy(
        update={
            "epoch": state.epoch + 1,
            "step": 0,
            "loss_sum": 0.0,
            "elapsed_s": record.elapsed_s,
            "ema_dice": record.ema_dice,
            "best_dice": best,
            "plateau": _plateau(run, state, record),
        }
    )
    return _save(run, state)


def _plateau(run: _Run, state: State, record: EpochRecord) -> Plateau:
    spec = run.inputs.spec
    plateau = state.plateau.after(spec, state.epoch + 1, record.ema_dice)
    if plateau.found_after is not None and state.plateau.found_after is None:
        logger.info(
            "the validation Dice has not risen by %g for %d epochs: the learning rate goes down "
            "to 0, training ends after %d epochs",
            *(WORTHWHILE, plateau.waited, min(plateau.last_epoch or 0, spec.last_epoch)),
        )
    return plateau


def _save(run: _Run, state: State) -> State:
    """Save where the run stands, unless its weights are no numbers: the saved ones are then."""
    if not has_finite_weights(run.session.network):
        raise _not_finite(run, state, NotFiniteError("weights", math.nan, ()))
    if not run.team.is_lead:
        return state
    return checkpoint.save(run.folder.resume, state, run.session)


def _not_finite(run: _Run, state: State, found: NotFiniteError) -> AutosegError:
    """What to tell before weights that are no numbers are saved over good ones."""
    spec, folder = run.inputs.spec, run.folder
    became = "became" if found.cases else "have become"
    names = {name for some in run.team.gather(found.cases) for name in some} if found.cases else ()
    cases = f", cases {', '.join(sorted(names))}" if names else ""
    precise = "" if state.precision.dtype == "float32" else ", or with --precision float32"
    return AutosegError(
        f"the {found.what} {became} {found.value} in epoch {state.epoch + 1}, "
        f"step {state.step + 1}{cases}; the last good weights are kept in "
        f"{folder.resume / state.tensors}, and the same command goes on from there",
        place=label(folder),
        remedy="look at these cases; or train under another --run with a --lr below "
        f"{spec.learning_rate:g}{precise}",
    )


def num_workers(requested: int | None, device: torch.device, sharing: int = 1) -> int:
    """Processes that make batches.

    Without a GPU the cores are needed for the network: one process makes the batches.

    Args:
        requested: what the user wants; None for as many as fit.
        device: where the network is computed.
        sharing: trainings on this host, among which the cores are divided.
    """
    if requested is not None:
        return requested
    cores = available_cores() // sharing
    return min(MOST_WORKERS, max(1, cores - 1)) if device.type == "cuda" else 1
