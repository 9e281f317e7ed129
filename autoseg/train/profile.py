"""``autoseg train --profile``: where the time of a step goes. Nothing is trained or written."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch.profiler import ProfilerActivity, profile

from autoseg.core.progress import Progress, silent
from autoseg.errors import AutosegError
from autoseg.io.fold_folder import FoldFolder
from autoseg.io.machine import available_cores, available_memory_bytes
from autoseg.io.usage import ProcessorTime, processor_time, queued_s, resident_bytes
from autoseg.io.workspace import TaskFolder
from autoseg.networks.precision import choose, choose_device, place
from autoseg.train import checkpoint
from autoseg.train.batches import BATCHES_AHEAD, Batch, BatchSource, BatchSpec, make_batch
from autoseg.train.inputs import TrainingInputs, TrainRequest, load_inputs
from autoseg.train.loop import (
    Mark,
    NotFiniteError,
    Session,
    measure_step_s,
    train_step,
    unmarked,
    wait_for,
)
from autoseg.train.memory import explaining_memory, room_on
from autoseg.train.monitoring.stopwatch import Stopwatch
from autoseg.train.monitoring.throughput import (
    TAKEN_CORES,
    WAITING,
    FewerThreads,
    Memory,
    Rival,
    Throughput,
    shares_of_kinds,
)
from autoseg.train.objective.optimizers import set_learning_rate
from autoseg.train.stage import num_workers
from autoseg.train.start import begin

STEPS_S = 12.0
ALONE_S = 4.0
MAKING_S = 4.0
WARM_UP_S = 3.0
"""How long each measurement lasts; the numbers below may take longer."""

FEWEST_STEPS = 3
FEWEST_BATCHES = 2

_ENDLESS = range(2**31)
_PHASES = ("reading data", "computing alone", "taking steps", "making batches", "measured")


def profile_fold(
    task: TaskFolder, request: TrainRequest, progress: Progress = silent
) -> Throughput:
    """Measure some steps of a training, as it would take them, and what they wait for.

    The network is a new one whose weights stay as they are; nothing is written.

    Args:
        task: the task's folder in the workspace.
        request: what would be trained.
        progress: called whenever a measurement is done.

    Returns:
        What was measured.

    Raises:
        AutosegError: if an earlier stage is missing or out of date, or a step is not possible.
    """
    inputs = load_inputs(task, request)
    device, wished = choose_device(request.device), request.precision
    folder = task.fold_folder(request.plan, request.configuration, request.run, request.fold)
    begun = _dtype_of(folder, device) if wished == "auto" else None
    with explaining_memory(inputs.plan, device, task.name):
        workers = num_workers(request.workers, device)
        request = replace(request, workers=workers, precision=begun or request.precision)
        session, state = begin(inputs, request, device)
        set_learning_rate(session.optimizer, 0.0)
        later = state.augment_on == "device"
        source = BatchSource(replace(inputs.batches("train"), finished_later=later), workers)
        try:
            measured = _measure(inputs, session, source, workers, progress)
        finally:
            source.close()
        if begun is None and wished == "auto":
            return measured
        return replace(measured, rival=_rival(inputs, session, begun=begun is not None))


def _dtype_of(folder: FoldFolder, device: torch.device) -> str | None:
    """The number format a run has been begun in, if there is one that goes on here."""
    if not checkpoint.exists(folder.resume):
        return None
    dtype = checkpoint.load_state(folder.resume).precision.dtype
    try:
        choose(device, dtype, probe=False)
    except AutosegError:
        return None
    return dtype


@dataclass(frozen=True, slots=True, kw_only=True)
class _Steps:
    """Steps of a training: how many, and their mean seconds."""

    count: int
    step_s: float
    parts: dict[str, float]
    cores_taken: float


def _measure(
    inputs: TrainingInputs,
    session: Session,
    source: BatchSource,
    workers: int,
    progress: Progress,
) -> Throughput:
    told = _Told(progress)
    load = _load_average()
    cpu_s, disk_s = _cost_of_a_batch(source.spec)
    told()
    batch = make_batch(source.spec, 0, 0)
    # The processes that make batches are started when they are first asked for one.
    alone_s = _alone_s(session, batch)
    operations, gpu_s = _operations(session, batch)
    told()
    batches = source(0, _ENDLESS)
    steps = _take_steps(session, source, batches, load)
    memory = _memory(session.device)
    told()
    fewer = _fewer_threads(session, batch, steps.cores_taken)
    made_s = _made_s(batches, ahead=1 + max(BATCHES_AHEAD, 2 * workers) if workers else 0)
    told()
    return Throughput(
        device=session.device.type,
        best_device=choose_device("auto").type,
        dtype=session.precision.dtype,
        compiled=session.compiled is not None,
        workers=workers,
        cores=available_cores(),
        cores_taken=steps.cores_taken,
        threads=torch.get_num_threads(),
        augmentation=inputs.spec.augmentation,
        steps=steps.count,
        step_s=steps.step_s,
        parts=steps.parts,
        kinds=shares_of_kinds(operations),
        gpu_busy=None if gpu_s is None else min(1.0, gpu_s / alone_s),
        alone_s=alone_s,
        made_s=made_s,
        cpu_s=cpu_s,
        disk_s=disk_s,
        memory=memory,
        rival=None,
        fewer=fewer,
    )


def _memory(device: torch.device) -> Memory:
    """What is in use now, and what of the GPU was since the session was made."""
    room = room_on(device)
    return Memory(
        host=resident_bytes([os.getpid()]),
        makers=resident_bytes(_makers()),
        free=available_memory_bytes(),
        gpu_peak=None if room is None else torch.cuda.max_memory_reserved(device),
        gpu=None if room is None else room.total,
    )


def _makers() -> list[int]:
    """The processes that make batches."""
    return [process.pid for process in multiprocessing.active_children() if process.pid]


class _Told:
    """Tells how many of the measurements are done, and what comes next."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._done = -1
        self()

    def __call__(self) -> None:
        self._done += 1
        self._progress(self._done, len(_PHASES) - 1, _PHASES[self._done])


def _cost_of_a_batch(spec: BatchSpec) -> tuple[float, float]:
    """Seconds that a process computes for a batch, and that it waits for the disk."""
    make_batch(spec, 1, 0)  # loads what is loaded once
    count = 0
    start_s, queued = time.perf_counter(), queued_s()
    computed_s = time.process_time()
    while count < FEWEST_BATCHES or time.perf_counter() - start_s < MAKING_S / 2:
        count += 1
        make_batch(spec, 1, count)
    computed_s = time.process_time() - computed_s
    waited_s = time.perf_counter() - start_s - computed_s - (queued_s() - queued)
    return computed_s / count, max(0.0, waited_s) / count


def _alone_s(session: Session, batch: Batch) -> float:
    """Seconds of a step, again and again with the same batch."""
    _warm_up(session, batch)
    count = 0
    start_s = time.perf_counter()
    while count == 0 or time.perf_counter() - start_s < ALONE_S:
        count += 1
        _step(session, batch)
    return (time.perf_counter() - start_s) / count


def _fewer_threads(session: Session, batch: Batch, cores_taken: float) -> FewerThreads | None:
    """Steps with as many threads as there are cores left, where some are taken."""
    threads = torch.get_num_threads()
    fewer = max(1, round(available_cores() - cores_taken))
    if session.device.type != "cpu" or cores_taken < TAKEN_CORES or fewer >= threads:
        return None
    torch.set_num_threads(fewer)
    try:
        return FewerThreads(threads=fewer, step_s=_alone_s(session, batch))
    finally:
        torch.set_num_threads(threads)


def _warm_up(session: Session, batch: Batch) -> None:
    start_s = time.perf_counter()
    for _ in range(FEWEST_STEPS):
        _step(session, batch)
        if time.perf_counter() - start_s > WARM_UP_S:
            return


def _operations(session: Session, batch: Batch) -> tuple[dict[str, float], float | None]:
    """Time of each operation of a step in some unit, and the seconds its GPU computes.

    Both are what torch's profiler tells, which is nothing on MPS.
    """
    kind = session.device.type
    if kind == "mps":
        return {}, None
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if kind == "cuda" else [])]
    with _without_chatter(), profile(activities=activities) as found:
        _step(session, batch)
        wait_for(session.device)
    events = found.key_averages()
    if kind == "cpu":
        return {event.key: event.self_cpu_time_total for event in events}, None
    # What an operation has the GPU do is listed twice: with the operation, and by itself.
    asked = [event for event in events if event.device_type.name == "CPU"]
    done = [event for event in events if event.device_type.name == "CUDA"]
    gpu_s = sum(event.self_device_time_total for event in done) / 1e6
    return {event.key: event.self_device_time_total for event in asked}, gpu_s or None


@contextmanager
def _without_chatter() -> Iterator[None]:
    """Keep torch's profiler from telling the terminal that it starts and stops."""
    name = "KINETO_LOG_LEVEL"
    if name in os.environ:
        yield
        return
    os.environ[name] = "99"
    try:
        yield
    finally:
        del os.environ[name]


def _take_steps(
    session: Session, source: BatchSource, batches: Iterator[Batch], load: float
) -> _Steps:
    """Train as training does, the processes that make batches beside it.

    Args:
        session: its optimizer has a learning rate of 0.
        source: of the batches.
        batches: from it; goes on after the steps.
        load: cores that are taken where the system does not tell better.
    """
    _warm_up(session, next(batches))
    watch = Stopwatch(session.device)
    waited_s, before = source.waited_s, _processor_time()
    count = 0
    start_s = time.perf_counter()
    while count < FEWEST_STEPS or time.perf_counter() - start_s < STEPS_S:
        count += 1
        batch = next(batches)
        watch.start()
        _step(session, batch, watch)
    elapsed_s = time.perf_counter() - start_s
    parts = {WAITING: source.waited_s - waited_s} | watch.seconds()
    return _Steps(
        count=count,
        step_s=elapsed_s / count,
        parts={part: seconds / count for part, seconds in parts.items()},
        cores_taken=_cores_taken(before, _processor_time(), elapsed_s, load),
    )


def _made_s(batches: Iterator[Batch], ahead: int) -> float:
    """Seconds per batch while nobody does anything else.

    Args:
        batches: endless.
        ahead: how many of them may have been made already.
    """
    start_s = time.perf_counter()
    for _ in range(ahead):
        next(batches)
        if time.perf_counter() - start_s > MAKING_S:
            break
    count = 0
    start_s = time.perf_counter()
    while count < FEWEST_BATCHES or time.perf_counter() - start_s < MAKING_S:
        count += 1
        next(batches)
    return (time.perf_counter() - start_s) / count


def _step(session: Session, batch: Batch, mark: Mark = unmarked) -> None:
    try:
        train_step(session, batch, mark)
    except NotFiniteError as error:
        raise AutosegError(
            f"the {error.what} of a first step is {error.value}",
            place=f"cases {', '.join(sorted(set(error.cases)))}",
            remedy="look at these cases",
        ) from None


def _processor_time() -> ProcessorTime | None:
    return processor_time([os.getpid(), *_makers()])


def _cores_taken(
    before: ProcessorTime | None, after: ProcessorTime | None, elapsed_s: float, load: float
) -> float:
    """How many of the cores this process may use others kept busy meanwhile."""
    cores = available_cores()
    if before is None or after is None:
        return min(load, cores)
    others_s = after.busy_s - before.busy_s - (after.own_s - before.own_s)
    left = after.cores - max(0.0, others_s) / elapsed_s
    return max(0.0, cores - left)


def _load_average() -> float:
    """Of the last minute; 0 where the system does not tell."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def _rival(inputs: TrainingInputs, session: Session, *, begun: bool) -> Rival | None:
    """The number format that would be chosen here, tried, if the session has another."""
    dimensions = inputs.configuration.dimensions
    precision, _ = choose(session.device, "auto", dimensions)
    if precision.dtype == session.precision.dtype:
        return None
    shape = make_batch(inputs.batches("train"), 0, 0).images.shape
    current = replace(session, compiled=None)
    current_s = measure_step_s(current, shape)
    place(session.network, precision, session.device, dimensions)
    step_s = measure_step_s(replace(current, precision=precision), shape)
    return Rival(dtype=precision.dtype, step_s=step_s, current_s=current_s, begun=begun)
