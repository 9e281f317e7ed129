"""What computes fast on a device: number format and memory layout, measured where it varies."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import product
from typing import Literal, TypeVar, get_args

import torch
from torch import nn

from autoseg.core.artifact import Frozen
from autoseg.errors import AutosegError, unknown_name
from autoseg.networks.unet import ConvBlock

DtypeName = Literal["float32", "bfloat16", "float16"]
K = TypeVar("K")

# What is not clearly faster is not worth its rounding, or the copies of the other layout.
_WORTHWHILE_SPEEDUP = 1.2
_HOPELESS_SLOWDOWN = 8.0
_PROBE_ROUNDS = 5
_PROBE_LIMIT_S = 1.2
_PROBE_SIZE = {2: 128, 3: 24}


class Precision(Frozen):
    """How a network computes; stored with a run so that it resumes as it began.

    Attributes:
        dtype: what convolutions compute in; weights and results stay float32.
        channels_last: whether channels are the fastest axis in memory.
    """

    dtype: DtypeName = "float32"
    channels_last: bool = False

    def memory_format(self, dimensions: int) -> torch.memory_format:
        """Layout of batches and weights of a network.

        Args:
            dimensions: 2 or 3.
        """
        if not self.channels_last:
            return torch.contiguous_format
        return torch.channels_last if dimensions == 2 else torch.channels_last_3d


def choose_device(name: str) -> torch.device:
    """Find the device a user means.

    Args:
        name: ``auto`` (a GPU if there is one), ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.

    Raises:
        AutosegError: if this machine has no such device; names those it has.
    """
    available = _available_devices()
    if name == "auto":
        return torch.device(available[0])
    if name not in available:
        raise AutosegError(
            f"there is no device '{name}' here",
            remedy=f"choose one of: {', '.join(('auto', *available))}",
        )
    return torch.device(name)


def _available_devices() -> list[str]:
    """Names of the usable devices, the fastest first."""
    devices = ["cpu"]
    if torch.backends.mps.is_available():
        devices.insert(0, "mps")
    if torch.cuda.is_available():
        numbered = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
        devices = ["cuda", *numbered, *devices]
    return devices


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Compute in a precision within a ``with`` block.

    float32 also shields against an autocast further out.
    """
    if precision.dtype == "float32":
        return torch.autocast(device.type, enabled=False)
    return torch.autocast(device.type, dtype=getattr(torch, precision.dtype))


def place(network: nn.Module, precision: Precision, device: torch.device, dimensions: int) -> None:
    """Move a network to a device, its weights in the precision's layout.

    Args:
        network: changed in place.
        precision: decides the layout; weights stay float32.
        device: where it will compute.
        dimensions: 2 or 3, of its convolutions.
    """
    layout = precision.memory_format(dimensions)
    network.to(device).to(memory_format=layout)  # type: ignore[call-overload] - torch's stub omits it


def choose(
    device: torch.device, requested: str = "auto", dimensions: int = 3, *, probe: bool = True
) -> tuple[Precision, str]:
    """Choose number format and layout for a device.

    On a CPU the candidates are timed on a small block, in under two seconds; the caller stores
    the outcome, as another time it may differ. On GPUs the choice follows from the kind.

    Args:
        device: where the network will run.
        requested: ``auto``, ``float32``, ``bfloat16`` or ``float16``.
        dimensions: 2 or 3, of the network's convolutions.
        probe: whether a CPU may be timed; without it an open choice falls to the plain one.

    Returns:
        The choice, and the reason for it in a sentence without a full stop.

    Raises:
        UnknownNameError: if ``requested`` is not a precision.
        AutosegError: if the device cannot compute in it.
    """
    dtypes = get_args(DtypeName)
    if requested not in ("auto", *dtypes):
        raise unknown_name("precision", requested, ("auto", *dtypes))
    _check_support(device, requested)
    if device.type == "cpu" and probe:
        open_dtypes = ("float32", "bfloat16") if requested == "auto" else (requested,)
        return _fastest(_candidates(open_dtypes), device, dimensions)
    if requested != "auto":
        return _precision(requested), f"{requested} was asked for"
    if device.type == "cuda":
        return _for_capability(torch.cuda.get_device_capability(device))
    return _precision("float32"), f"float32 is what always works on {device.type}"


def _precision(dtype: str, channels_last: bool = False) -> Precision:
    return Precision.model_validate({"dtype": dtype, "channels_last": channels_last})


def _candidates(dtypes: Sequence[str]) -> list[Precision]:
    """All combinations; of the layouts first the one that large networks need least memory with."""
    return [_precision(dtype, last) for dtype, last in product(dtypes, (True, False))]


def _check_support(device: torch.device, requested: str) -> None:
    if device.type == "cpu" and requested == "float16":
        raise AutosegError(
            "CPUs do not compute in float16", remedy="choose auto, float32 or bfloat16"
        )
    if device.type == "cuda" and requested == "bfloat16":
        major, minor = torch.cuda.get_device_capability(device)
        if major < 8:
            raise AutosegError(
                f"this GPU (capability {major}.{minor}) has no bfloat16",
                remedy="choose auto, float32 or float16",
            )


def _for_capability(capability: tuple[int, int]) -> tuple[Precision, str]:
    """Tensor cores came with 7.0.

    bfloat16 (8.0) is as fast at best, keeps three bits less, and several cuDNN versions compute
    its 3D convolutions slowly or with far more memory.
    """
    version = ".".join(map(str, capability))
    if capability >= (7, 0):
        return _precision("float16"), f"float16 runs on the tensor cores (capability {version})"
    return _precision("float32"), f"this GPU (capability {version}) has no tensor cores"


def _fastest(
    candidates: Sequence[Precision], device: torch.device, dimensions: int
) -> tuple[Precision, str]:
    """Time the candidates; an earlier one is kept unless a later one is clearly faster."""
    seconds = _time_candidates(candidates, device, dimensions)
    best = next(iter(seconds))
    for candidate in seconds:
        if seconds[candidate] * _WORTHWHILE_SPEEDUP < seconds[best]:
            best = candidate
    timings = ", ".join(f"{_describe(c)} {1000 * s:.0f} ms" for c, s in seconds.items())
    return best, f"{_describe(best)} suits this CPU: a test block takes {timings}"


def _describe(precision: Precision) -> str:
    return precision.dtype + (" channels-last" if precision.channels_last else "")


def _time_candidates(
    candidates: Sequence[Precision], device: torch.device, dimensions: int
) -> dict[Precision, float]:
    """Seconds of a training step of a small block, without the hopeless candidates.

    A tiny step first sorts out what this CPU only emulates, which can be a hundred times slower.
    """
    # The run's own random numbers must not depend on what was timed before.
    with torch.random.fork_rng(devices=[]):
        tiny = {c: _training_step(c, device, dimensions, size=12) for c in candidates}
        quick = {c: min(_seconds(step), _seconds(step)) for c, step in tiny.items()}
        limit = _HOPELESS_SLOWDOWN * min(quick.values())
        size = _PROBE_SIZE[dimensions]
        return least_seconds(
            {
                candidate: _training_step(candidate, device, dimensions, size)
                for candidate in candidates
                if quick[candidate] <= limit
            }
        )


def least_seconds(steps: Mapping[K, Callable[[], object]]) -> dict[K, float]:
    """Time some steps in turn; the least time is the one other load disturbed least.

    Args:
        steps: what is compared, by any key.

    Returns:
        Seconds of each, in the same order.
    """
    samples: dict[K, list[float]] = {candidate: [] for candidate in steps}
    start = time.perf_counter()
    for _ in range(_PROBE_ROUNDS):
        for candidate, step in steps.items():
            samples[candidate].append(_seconds(step))
        if time.perf_counter() - start > _PROBE_LIMIT_S:
            break
    return {candidate: min(times) for candidate, times in samples.items()}


def _training_step(
    precision: Precision, device: torch.device, dimensions: int, size: int
) -> Callable[[], None]:
    """Forward and backward through two blocks as a U-Net has at full resolution."""
    layout = precision.memory_format(dimensions)
    kernel, stride = (3,) * dimensions, (1,) * dimensions
    blocks = nn.Sequential(*(ConvBlock(32, 32, kernel, stride) for _ in range(2)))
    place(blocks, precision, device, dimensions)
    batch = torch.randn(2, 32, *(size,) * dimensions, device=device).to(memory_format=layout)

    def step() -> None:
        with autocast(precision, device):
            output = blocks(batch)
        output.float().mean().backward()

    return step


def _seconds(step: Callable[[], object]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start
