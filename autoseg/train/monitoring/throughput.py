"""What a training step spends its time on, and what would make it shorter: pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

from autoseg.core.words import counted

WAITING = "waiting"
_WORDS = {
    WAITING: "waiting for data",
    "copy": "copy to the device",
    "augment": "augmentation",
    "loss": "loss",
    "optimizer": "optimiser",
}
_COMPUTING = ("forward", "loss", "backward")

# Shares of a step.
_WORTHWHILE = 0.05
_MUCH_WAITING = 0.1
_MOSTLY = 0.5
_BUSY_GPU = 0.6
# More than what would just do, because nothing is ever even.
_RESERVE = 1.1
TAKEN_CORES = 0.3
"""What is a few processes that live for a moment is less."""

# Of what is chosen once for a whole training, as where a number format is.
_WORTHWHILE_SPEEDUP = 1.2
_LIGHT = ("none", "light")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rival:
    """Another number format, tried on the same network.

    Attributes:
        dtype: its name.
        step_s: seconds of a forward and backward pass in it.
        current_s: the same in the training's own.
        begun: whether the run has been begun in its own, so that it stays there.
    """

    dtype: str
    step_s: float
    current_s: float
    begun: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FewerThreads:
    """Steps computed by as many threads as others leave cores.

    Attributes:
        threads: how many.
        step_s: seconds of a step while no batches are made.
    """

    threads: int
    step_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Memory of a training, in bytes.

    Attributes:
        host: of the training process; None if unknown.
        makers: of the processes that make batches; None if unknown.
        free: that can still be had, beside the GPU's.
        gpu_peak: most that was taken from the GPU; None without CUDA.
        gpu: all there is on the GPU; None without CUDA.
    """

    host: int | None
    makers: int | None
    free: int
    gpu_peak: int | None
    gpu: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    """What was measured of a training.

    Attributes:
        device: ``cpu``, ``cuda`` or ``mps``.
        best_device: what would be chosen here without ``--device``.
        dtype: number format of the forward pass.
        compiled: whether the network is compiled.
        workers: processes that make batches; 0 if they are made between the steps.
        cores: cores that this process may use.
        cores_taken: how many of them were kept busy by other processes.
        threads: threads that an operation of the network is spread over on a CPU.
        augmentation: its name.
        steps: how many were timed.
        step_s: mean seconds of a step, waiting included.
        parts: mean seconds of each part of a step, ``waiting`` for data among them.
        kinds: share of each kind of operation in the computing; empty if unknown.
        gpu_busy: share of a step for which the GPU computes; None if unknown.
        alone_s: seconds of a step while no batches are made.
        made_s: seconds per batch that all processes together need while the network rests.
        cpu_s: processor seconds of one process to make a batch.
        disk_s: seconds for which it then waits for the disk.
        memory: what it takes and what is left.
        rival: a number format that may be faster; None if the training has the usual choice.
        fewer: fewer threads, tried where other processes take cores; None where they do not.
    """

    device: str
    best_device: str
    dtype: str
    compiled: bool
    workers: int
    cores: int
    cores_taken: float
    threads: int
    augmentation: str
    steps: int
    step_s: float
    parts: Mapping[str, float]
    kinds: Mapping[str, float]
    gpu_busy: float | None
    alone_s: float
    made_s: float
    cpu_s: float
    disk_s: float
    memory: Memory
    rival: Rival | None
    fewer: FewerThreads | None

    @property
    def busy_s(self) -> float:
        """Seconds of a step without waiting for data."""
        return self.step_s - self.parts.get(WAITING, 0.0)

    @property
    def waiting(self) -> float:
        """Share of the time spent waiting for data, 0..1.

        Batches that were made ahead hide for some steps that the network uses more of them than
        are made; after many steps it waits for all the time that is then missing.
        """
        measured = self.parts.get(WAITING, 0.0) / self.step_s
        if self.workers == 0:
            return measured
        return max(measured, 1 - self.busy_s / max(self.made_s, self.busy_s))

    @property
    def computing(self) -> float:
        """Share of a step that is forward pass, loss and backward pass."""
        return sum(self.parts.get(part, 0.0) for part in _COMPUTING) / self.step_s


def table(measured: Throughput) -> list[tuple[str, float, float]]:
    """The parts of a step: what, milliseconds, and share of the step; the last row is all of it."""
    rest_s = measured.step_s - sum(measured.parts.values())
    parts = dict(measured.parts)
    if rest_s > 0.005 * measured.step_s:
        parts["the rest"] = rest_s
    rows = [
        (_WORDS.get(part, part), 1000 * seconds, seconds / measured.step_s)
        for part, seconds in parts.items()
    ]
    return [*rows, ("a step", 1000 * measured.step_s, 1.0)]


def kind_of(operation: str) -> str:
    """What kind an operation of torch is: convolution, norm and activation, or the rest."""
    name = operation.lower()
    if "conv" in name:
        return "convolution"
    return "norm and activation" if "norm" in name or "relu" in name else "the rest"


def shares_of_kinds(operations: Mapping[str, float]) -> dict[str, float]:
    """Share of each kind, the largest first.

    Args:
        operations: time of each operation by its name, in any unit.
    """
    total = sum(operations.values()) or 1.0
    kinds: defaultdict[str, float] = defaultdict(float)
    for name, spent in operations.items():
        kinds[kind_of(name)] += spent / total
    return dict(sorted(kinds.items(), key=lambda kind: -kind[1]))


def advise(measured: Throughput) -> list[str]:
    """What would help, the most helpful first; or one sentence that nothing would.

    Args:
        measured: of the training.

    Returns:
        Sentences without a full stop, at least one.
    """
    found = [
        _use_the_gpu(measured),
        _wait_less(measured),
        _have_the_cores(measured),
        _use_the_cores(measured),
        _use_the_cores_left(measured),
        _compute_in_another_format(measured),
        _leave_the_network_its_cores(measured),
        _fill_the_gpu(measured),
    ]
    worthwhile = [advice for advice in found if advice is not None and advice[0] >= _WORTHWHILE]
    worthwhile.sort(key=lambda advice: -advice[0])
    return [sentence for _, sentence in worthwhile] or [_nothing(measured)]


def batches_per_s(seconds: float) -> str:
    """A number of batches per second, as people write it."""
    rate = 1 / seconds
    return f"{rate:.0f}" if rate >= 10 else f"{rate:.2g}"


# Each of these returns the share of the time that may be saved and how, or None.
_Advice = tuple[float, str] | None


def _use_the_gpu(measured: Throughput) -> _Advice:
    if measured.device != "cpu" or measured.best_device == "cpu":
        return None
    gpu = f"this machine has a GPU ({measured.best_device}), which is not used"
    return 1.0, f"{gpu}: leave --device out"


def _wait_less(measured: Throughput) -> _Advice:
    if measured.waiting < _MUCH_WAITING:
        return None
    waits = f"the network waits {measured.waiting:.0%} of the time for data"
    making_s = measured.cpu_s + measured.disk_s
    if measured.disk_s > _MOSTLY * making_s:
        return measured.waiting, (
            f"{waits}, and disk reads dominate: of the {_ms(making_s)} that a process takes for a "
            f"batch it waits {_ms(measured.disk_s)} for the disk: keep the workspace on a disk of "
            "this machine, an SSD if there is one"
        )
    return measured.waiting, f"{waits}: {_more_batches(measured)}"


def _more_batches(measured: Throughput) -> str:
    has = f"this machine has {_cores(measured)}"
    most = max(1, measured.cores - 1)
    if measured.workers >= most or measured.cores == 1:
        lighter = ""
        if measured.augmentation not in _LIGHT:
            lighter = "--augmentation light makes them with less work (under another --run), "
        return f"{has}, and none is left to make batches: {lighter}more cores make more of them"
    one_s = measured.made_s * max(1, measured.workers)
    wanted = ceil(_RESERVE * one_s / measured.busy_s)
    used = f"{_are(measured.workers)} used to make batches"
    if wanted <= most:
        return f"use --workers {wanted} ({has}, {used})"
    left = 1 - measured.busy_s / (one_s / most)
    return (
        f"use --workers {most}, which is all there is room for ({has}, {used}); it would then "
        f"still wait about {left:.0%}"
    )


def _have_the_cores(measured: Throughput) -> _Advice:
    if measured.cores_taken < TAKEN_CORES:
        return None
    lacking = measured.computing if measured.device == "cpu" else measured.waiting
    return lacking * measured.cores_taken / measured.cores, (
        f"{measured.cores_taken:.1f} of {_cores(measured)} were busy with something else: "
        "training is faster once that has ended"
    )


def _use_the_cores(measured: Throughput) -> _Advice:
    if measured.device != "cpu":
        return None
    threads, cores = measured.threads, measured.cores
    computed = f"the network is computed by {counted(threads, 'thread')}"
    # Where a core runs two threads at once, one of each two is enough.
    if 2 * threads < cores:
        return measured.computing * (1 - 2 * threads / cores), (
            f"{computed}, though there are {cores} cores: leave the environment variable "
            "OMP_NUM_THREADS out"
        )
    if threads > cores:
        return measured.computing * (1 - cores / threads), (
            f"{computed}, which get in each other's way on {_cores(measured)}: set the environment "
            f"variable OMP_NUM_THREADS={cores}"
        )
    return None


def _use_the_cores_left(measured: Throughput) -> _Advice:
    fewer = measured.fewer
    if fewer is None or fewer.step_s * _WORTHWHILE_SPEEDUP > measured.alone_s:
        return None
    return 1 - fewer.step_s / measured.alone_s, (
        f"a step takes {_ms(fewer.step_s)} with {counted(fewer.threads, 'thread')}, "
        f"{_ms(measured.alone_s)} with {measured.threads}, which wait for each other where cores "
        f"are busy: set the environment variable OMP_NUM_THREADS={fewer.threads} meanwhile"
    )


def _compute_in_another_format(measured: Throughput) -> _Advice:
    rival = measured.rival
    if rival is None or rival.step_s * _WORTHWHILE_SPEEDUP > rival.current_s:
        return None
    how = "leave --precision out"
    if rival.begun:
        how = "a run keeps the format it was begun with, another --run or --restart does not"
    return measured.computing * (1 - rival.step_s / rival.current_s), (
        f"forward and backward pass take {_ms(rival.step_s)} in {rival.dtype}, "
        f"{_ms(rival.current_s)} in {measured.dtype}: {how}"
    )


def _leave_the_network_its_cores(measured: Throughput) -> _Advice:
    if measured.device != "cpu" or measured.workers < 2:
        return None
    enough = ceil(_RESERVE * measured.workers * measured.made_s / measured.alone_s)
    if enough >= measured.workers:
        return None
    return 1 - measured.alone_s / measured.busy_s, (
        f"a step takes {_ms(measured.busy_s)} while {measured.workers} processes make batches, "
        f"{_ms(measured.alone_s)} while none does: use --workers {enough}, which is enough"
    )


def _fill_the_gpu(measured: Throughput) -> _Advice:
    busy = measured.gpu_busy
    if busy is None or busy > _BUSY_GPU or measured.waiting >= _MUCH_WAITING:
        return None
    return 1 - busy, (
        f"the GPU computes {busy:.0%} of the time, the rest it waits to be told what to do: the "
        "patches are small for it, and a second training beside this one (another fold, in "
        "another terminal) costs little"
    )


def _nothing(measured: Throughput) -> str:
    computing = f"{measured.computing:.0%} of a step is computing"
    if measured.device == "cpu":
        return f"nothing to gain here without a GPU: {computing} on the CPU, in {measured.dtype}"
    return f"nothing to gain here: {computing} on the GPU, in {measured.dtype}"


def _ms(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{1000 * seconds:.0f} ms"


def _cores(measured: Throughput) -> str:
    return counted(measured.cores, "core")


def _are(number: int) -> str:
    return {0: "none is", 1: "1 is"}.get(number, f"{number} are")
