"""``autoseg train``: prepared cases -> weights of one fold."""

from __future__ import annotations

import logging
import math
import platform
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import torch

from autoseg.core.dataset import Dataset, Split
from autoseg.core.fingerprint import Fingerprint
from autoseg.core.labels import LabelSpace
from autoseg.core.model import Member, Model
from autoseg.core.plan import Configuration, Plan, TrainingSpec
from autoseg.core.progress import Progress, silent
from autoseg.errors import AutosegError, WorkspaceError
from autoseg.figures.curves import save_curves
from autoseg.io import artifacts, bundle
from autoseg.io.case_store import CaseStore
from autoseg.io.task import (
    load_dataset,
    load_fingerprint,
    load_plan,
    load_splits,
    planned_configuration,
)
from autoseg.io.workspace import FoldFolder, TaskFolder
from autoseg.networks.build import build_network
from autoseg.networks.precision import choose, choose_device, place
from autoseg.train import checkpoint
from autoseg.train.batches import Batch, BatchSource, BatchSpec
from autoseg.train.history import EpochRecord, History, log_to, smoothed
from autoseg.train.loop import Session, measure_step_s, train_step, validate
from autoseg.train.losses import LOSSES, LossOptions
from autoseg.train.optimizers import OPTIMIZERS, SCHEDULES, set_learning_rate
from autoseg.workers import available_cores

logger = logging.getLogger(__name__)

CHECKPOINT_EVERY_S = 240.0
CURVES_EVERY_S = 60.0
MOST_WORKERS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRequest:
    """What to train.

    Attributes:
        configuration: a name in the plan.
        fold: ``"fold0"`` and so on, or ``"everything"``.
        plan: name of the plan.
        run: name of the run.
        changes: fields of the plan's ``TrainingSpec`` to change.
        restart: throw away what the run has so far.
        device: as ``choose_device`` takes it.
        precision: as ``choose`` takes it.
        workers: processes that make batches; None for as many as fit.
    """

    configuration: str
    fold: str
    plan: str = "default"
    run: str = "default"
    changes: dict[str, Any] = field(default_factory=dict)
    restart: bool = False
    device: str = "auto"
    precision: str = "auto"
    workers: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Inputs:
    """What earlier stages left."""

    dataset: Dataset
    fingerprint: Fingerprint
    plan: Plan
    configuration: Configuration
    split: Split
    store: CaseStore
    spec: TrainingSpec


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
    inputs = _load_inputs(task, request)
    folder = task.fold_folder(request.plan, request.configuration, request.run, request.fold)
    if request.restart and folder.root.exists():
        shutil.rmtree(folder.root)
    if folder.bundle.is_file():
        _refuse_other_recipe(artifacts.load(folder.bundle, Model).training, inputs.spec, folder)
        logger.info("%s %s is trained already", request.configuration, request.fold)
        return True
    with log_to(folder.log):
        session, state = _start(folder, inputs, request)
        return _run(folder, inputs, request, session, state, progress)


def _run(
    folder: FoldFolder,
    inputs: _Inputs,
    request: TrainRequest,
    session: Session,
    state: checkpoint.State,
    progress: Progress,
) -> bool:
    spec = inputs.spec
    history = History(folder.history, keep_epochs=state.epoch)
    workers = _num_workers(request.workers, session.device)
    train_batches = BatchSource(_batch_spec(inputs, "train"), workers)
    validation_batches = BatchSource(_batch_spec(inputs, "validation"), min(workers, 1))
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
    artifacts.save(folder.bundle, _model(inputs, request, folder))
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
    inputs: _Inputs,
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


def _load_inputs(task: TaskFolder, request: TrainRequest) -> _Inputs:
    plan, dataset = load_plan(task, request.plan), load_dataset(task)
    configuration = planned_configuration(plan, request.configuration)
    if configuration.previous is not None:
        raise AutosegError(
            f"training the cascade ({request.configuration}) is not possible yet",
            remedy="train 3d_fullres instead",
        )
    if dataset.labels.has_regions:
        raise AutosegError(
            "training on overlapping structures (regions) is not possible yet",
            place=dataset.name,
        )
    fingerprint = load_fingerprint(task)
    split = _split_of(task, request.fold, dataset)
    store = _open_store(task, plan, request.configuration, fingerprint, split)
    spec = TrainingSpec.model_validate(configuration.training.model_dump() | request.changes)
    return _Inputs(
        dataset=dataset,
        fingerprint=fingerprint,
        plan=plan,
        configuration=configuration,
        split=split,
        store=store,
        spec=spec,
    )


def _split_of(task: TaskFolder, fold: str, dataset: Dataset) -> Split:
    if fold == "everything":
        names = tuple(case.name for case in dataset.cases)
        return Split(train=names, validation=names)
    splits = load_splits(task)
    number = int(fold.removeprefix("fold"))
    if number >= len(splits.folds):
        raise AutosegError(
            f"there is no fold {number}: the folds are 0 to {len(splits.folds) - 1}",
            place=task.splits_file.name,
            remedy="choose one of them, 'all' or 'everything'",
        )
    return splits.folds[number]


def _open_store(
    task: TaskFolder,
    plan: Plan,
    configuration: str,
    fingerprint: Fingerprint,
    split: Split,
) -> CaseStore:
    """The prepared cases, if they are all there and made from the files as they are now."""
    remedy = f"run: autoseg preprocess {configuration}"
    folder = task.prepared(plan.prepared_as(configuration), plan.recipe(configuration).key)
    if not folder.is_dir():
        raise WorkspaceError(f"{configuration} is not prepared for this plan", remedy=remedy)
    store = CaseStore(folder)
    wanted = sorted({*split.train, *split.validation})
    known = {case.name for case in fingerprint.cases}
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise WorkspaceError(
            f"{len(unknown)} cases are in no data set, the first is '{unknown[0]}'",
            place=task.splits_file.name,
            remedy="correct the file, or delete it and run: autoseg plan",
        )
    names = set(store.names())
    missing = [name for name in wanted if name not in names]
    if missing:
        raise WorkspaceError(
            f"{len(missing)} of {len(wanted)} cases are not prepared for {configuration}, "
            f"the first is '{missing[0]}'",
            remedy=remedy,
        )
    stale = [n for n in wanted if store.info(n).source != fingerprint.case(n).source]
    if stale:
        raise WorkspaceError(
            f"{len(stale)} cases were prepared from files that have changed since, "
            f"the first is '{stale[0]}'",
            remedy=remedy,
        )
    return store


def _start(
    folder: FoldFolder, inputs: _Inputs, request: TrainRequest
) -> tuple[Session, checkpoint.State]:
    """A session and where it stands: new, or as an earlier call left it."""
    device = choose_device(request.device)
    resumed = checkpoint.exists(folder.resume)
    if resumed:
        state = checkpoint.load_state(folder.resume)
        _refuse_other_recipe(state.training, inputs.spec, folder)
    else:
        precision, reason = choose(device, request.precision, inputs.configuration.dimensions)
        logger.info("%s", reason)
        state = checkpoint.State(training=inputs.spec, precision=precision)
    session = _session(inputs, state, device)
    if resumed:
        checkpoint.restore(folder.resume, state, session)
        logger.info("going on after %d epochs and %d steps", state.epoch, state.step)
    elif device.type == "cpu":
        _announce_duration(inputs, session)
    return session, state


def _session(inputs: _Inputs, state: checkpoint.State, device: torch.device) -> Session:
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


def _announce_duration(inputs: _Inputs, session: Session) -> None:
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


def _refuse_other_recipe(started: TrainingSpec, wanted: TrainingSpec, folder: FoldFolder) -> None:
    before, now = started.model_dump(), wanted.model_dump()
    changed = [f"{key} {before[key]} -> {now[key]}" for key in now if now[key] != before[key]]
    if changed:
        raise AutosegError(
            f"this run was started with another recipe ({', '.join(changed)})",
            place=_label(folder),
            remedy="repeat the first command's flags, name another --run, or start over "
            "with --restart",
        )


def _label(folder: FoldFolder) -> str:
    return f"{folder.configuration} {folder.fold} (plan {folder.plan}, run {folder.run})"


def _batch_spec(inputs: _Inputs, part: str) -> BatchSpec:
    configuration = inputs.configuration
    return BatchSpec(
        folder=inputs.store.folder,
        cases=inputs.split.train if part == "train" else inputs.split.validation,
        batch_size=configuration.batch_size,
        patch_size=configuration.patch_size,
        num_structures=len(inputs.dataset.labels.structures),
        foreground_fraction=inputs.spec.foreground_fraction,
        augmentation=inputs.spec.augmentation,
        mirror_axes=inputs.spec.mirror_axes,
        masked_channels=tuple(i for i, used in enumerate(configuration.use_mask_for_norm) if used),
        seed=inputs.spec.seed,
        part="train" if part == "train" else "validation",
    )


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


def _model(inputs: _Inputs, request: TrainRequest, folder: FoldFolder) -> Model:
    weights = folder.weights.name
    member = Member(configuration=request.configuration, fold=request.fold, weights=weights)
    return Model(
        task=inputs.dataset.name,
        run=request.run,
        channels=inputs.dataset.channels,
        labels=inputs.dataset.labels,
        plan=inputs.plan,
        training=inputs.spec,
        members=(member,),
        min_spacing=inputs.fingerprint.min_spacing,
        max_spacing=inputs.fingerprint.max_spacing,
        versions={"python": platform.python_version()}
        | {name: version(name) for name in ("autoseg", "torch", "numpy", "batchgenerators")},
    )


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
