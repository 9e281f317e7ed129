"""What computes predictions fast on a device: torch or OpenVINO, and in which number format."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from math import inf

import torch
from torch import Tensor, nn

from autoseg.core.plan import NetworkSpec
from autoseg.networks.build import build_network
from autoseg.networks.compiled import CompiledNetwork, ConversionError, is_installed
from autoseg.networks.precision import (
    DtypeName,
    Precision,
    autocast,
    choose,
    least_seconds,
    place,
)

logger = logging.getLogger(__name__)

TYPICAL_GAIN = "1.2 to 2 times as fast"
"""What OpenVINO brings where nothing was measured: of a U-Net on a CPU with bfloat16."""

# What is not faster is not worth the seconds that a conversion takes, nor float32's digits.
_WORTHWHILE_GAIN = 1.1
_WORTHWHILE_ROUNDING = 1.2
_PROBE_SIZE = {2: 256, 3: 48}
_PROBE_FEATURES = (32, 64, 128)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inference:
    """How a device computes predictions.

    Attributes:
        precision: of torch.
        openvino: number format of OpenVINO where it computes; None where torch does.
        reason: in a sentence without a full stop.
        gain: how much faster OpenVINO was than torch here; None if it was not measured.
    """

    precision: Precision
    openvino: DtypeName | None = None
    reason: str
    gain: float | None = None


@cache
def choose_inference(
    device: torch.device, requested: str = "auto", dimensions: int = 3
) -> Inference:
    """Choose what computes predictions; measured once per process where it varies.

    Args:
        device: where the network will run.
        requested: as ``choose`` takes it.
        dimensions: 2 or 3, of the network's convolutions.

    Raises:
        UnknownNameError: if ``requested`` is not a precision.
        AutosegError: if the device cannot compute in it.
    """
    precision, reason = choose(device, requested, dimensions)
    if device.type != "cpu" or not is_installed():
        return Inference(precision=precision, reason=reason)
    dtypes: tuple[DtypeName, ...] = ("float32", "bfloat16")
    if requested != "auto":
        dtypes = (precision.dtype,)
    return _compared(precision, reason, dtypes, dimensions)


def make_ready(
    network: nn.Module, inference: Inference, spec: NetworkSpec, num_inputs: int
) -> nn.Module:
    """Give a network to what computes it.

    Args:
        network: in float32 on its device, without deep supervision; not to be changed later.
        inference: how.
        spec: its shape.
        num_inputs: channels it takes.

    Returns:
        What takes and returns the same batches: the network itself where torch computes.
    """
    if inference.openvino is None:
        return network
    try:
        return _compiled(network, inference.openvino, spec.downsampling, num_inputs)
    except ConversionError as error:
        logger.warning("OpenVINO cannot take over the network, torch computes: %s", error)
        return network


def _compiled(
    network: nn.Module, dtype: DtypeName, downsampling: Sequence[int], num_inputs: int
) -> CompiledNetwork:
    # The smallest patch whose coarsest features are more than one voxel, which has no variance.
    *others, last = downsampling
    return CompiledNetwork(network.eval(), dtype, (1, num_inputs, *others, 2 * last))


def _compared(
    precision: Precision, reason: str, dtypes: Sequence[DtypeName], dimensions: int
) -> Inference:
    """Time OpenVINO on a small U-Net beside torch as it was chosen."""
    network, spec = _small_network(dimensions)
    batch = torch.zeros(1, 1, *(_PROBE_SIZE[dimensions],) * dimensions)
    passes: dict[DtypeName | None, Callable[[], object]] = {}
    try:
        for dtype in dtypes:
            passes[dtype] = _pass(_compiled(network, dtype, spec.downsampling, 1), batch)
    except ConversionError as error:
        logger.warning("OpenVINO does not work here, torch computes: %s", error)
        return Inference(precision=precision, reason=reason)
    passes[None] = _pass(_placed(deepcopy(network), precision, dimensions), batch, precision)
    for run in passes.values():
        run()
    return _faster(precision, least_seconds(passes))


def _faster(precision: Precision, seconds: dict[DtypeName | None, float]) -> Inference:
    """Choose by the seconds of a pass: of OpenVINO by number format, of torch for None."""
    of_torch = seconds[None]
    timed: dict[DtypeName, float] = {dtype: s for dtype, s in seconds.items() if dtype is not None}
    best = min(timed, key=lambda dtype: timed[dtype])
    if timed.get("float32", inf) < _WORTHWHILE_ROUNDING * timed[best]:
        best = "float32"
    timings = ", ".join(f"{dtype} {1000 * s:.0f} ms" for dtype, s in timed.items())
    gain = of_torch / timed[best]
    takes_over = gain >= _WORTHWHILE_GAIN
    return Inference(
        precision=precision,
        openvino=best if takes_over else None,
        reason=f"{'OpenVINO' if takes_over else 'torch'} predicts: a test network takes OpenVINO "
        f"{timings}, torch {precision.dtype} {1000 * of_torch:.0f} ms",
        gain=gain,
    )


def _small_network(dimensions: int) -> tuple[nn.Module, NetworkSpec]:
    stages = len(_PROBE_FEATURES)
    stride, kernel = (2,) * dimensions, (3,) * dimensions
    spec = NetworkSpec(
        architecture="unet",
        features_per_stage=_PROBE_FEATURES,
        strides=((1,) * dimensions, *(stride,) * (stages - 1)),
        kernel_sizes=(kernel,) * stages,
        blocks_per_stage=(2,) * stages,
        decoder_blocks_per_stage=(2,) * (stages - 1),
    )
    # Whoever draws random numbers later must not notice.
    with torch.random.fork_rng(devices=[]):
        return build_network(spec, 1, 3, deep_supervision=False).eval(), spec


def _placed(network: nn.Module, precision: Precision, dimensions: int) -> nn.Module:
    place(network, precision, torch.device("cpu"), dimensions)
    return network


def _pass(
    network: nn.Module, batch: Tensor, precision: Precision | None = None
) -> Callable[[], object]:
    given = precision or Precision()
    laid_out = batch.contiguous(memory_format=given.memory_format(batch.ndim - 2))

    def run() -> object:
        with torch.inference_mode(), autocast(given, batch.device):
            return network(laid_out)

    return run
