"""Networks computed by OpenVINO instead of torch, on CPUs; nothing here is told to anybody."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from types import ModuleType

    from autoseg.networks.precision import DtypeName

logger = logging.getLogger(__name__)

_HINTS = {"float32": "f32", "bfloat16": "bf16"}
_LARGEST_DIFFERENCE = 0.01
_TELEMETRY = "openvino_telemetry"


class _Model(Protocol):
    """What OpenVINO made of a network."""

    def reshape(self, shape: object) -> None: ...


class _Compiled(Protocol):
    """The same, ready for batches of one shape."""

    def __call__(
        self, inputs: Sequence[npt.NDArray[np.float32]]
    ) -> Mapping[int, npt.NDArray[np.float32]]: ...


class ConversionError(Exception):
    """OpenVINO cannot compute a network; the message says why."""


def is_installed() -> bool:
    """Whether OpenVINO is there; nothing is imported."""
    return find_spec("openvino") is not None


class CompiledNetwork(nn.Module):
    """A network whose forward pass OpenVINO computes; for prediction on CPUs only.

    The network is traced once, on a small example, and compiled for each size of patch it meets.
    Where OpenVINO refuses a size, torch computes it.

    Args:
        network: in evaluation mode; its weights must stay as they are from now on.
        dtype: number format, float32 or bfloat16.
        example: shape of a small batch, ``(1, channels, *size)``.

    Attributes:
        dtype: number format.

    Raises:
        ConversionError: if the network cannot be converted, or the result computes otherwise.
    """

    def __init__(self, network: nn.Module, dtype: DtypeName, example: tuple[int, ...]) -> None:
        super().__init__()
        # Hidden from torch: the model reads the weights where they lie, so nobody may move them.
        self._source = [network]
        self.dtype: DtypeName = dtype
        self._compiled: dict[tuple[int, ...], _Compiled | None] = {}
        try:
            self._decoder, self._model = _convert(network, example)
            difference = _difference(network, self._model, example)
        except Exception as error:  # whatever the converter stumbles over
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise ConversionError(reason[:200]) from error
        if not difference <= _LARGEST_DIFFERENCE:
            raise ConversionError(f"its results are off by {difference:.2g} of their range")

    @property
    def network(self) -> nn.Module:
        """The network as torch knows it."""
        return self._source[0]

    def forward(self, batch: Tensor) -> Tensor:
        """Apply the network, patch by patch: several at once are not faster.

        Args:
            batch: float32 ``(batch, channels, *patch)`` on the CPU.

        Returns:
            float32 ``(batch, classes, *patch)``, in memory of its own.
        """
        outputs = [self._one(sample) for sample in batch.split(1)]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs)

    def _one(self, sample: Tensor) -> Tensor:
        shape = tuple(sample.shape)
        if shape not in self._compiled:
            self._compiled[shape] = self._compile(shape)
        compiled = self._compiled[shape]
        if compiled is None:
            return self.network(sample)
        return _infer(compiled, sample)

    def _compile(self, shape: tuple[int, ...]) -> _Compiled | None:
        try:
            return _compile(self._model, shape, self.dtype)
        except Exception as error:  # whatever the compiler stumbles over
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            logger.warning("OpenVINO cannot compile the network, torch computes: %s", reason[:200])
            return None


@cache
def _openvino() -> ModuleType:
    """The library, imported so that it tells nobody about it."""
    with _without_telemetry():
        import_module("openvino.frontend.pytorch.ts_decoder")
        return import_module("openvino")


@contextmanager
def _without_telemetry() -> Iterator[None]:
    """Let OpenVINO believe that its package for reports to its makers is not installed.

    It would send one for the import alone, without asking.
    """
    if _TELEMETRY in sys.modules:
        yield
        return
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment] - how Python marks what cannot be imported
    try:
        yield
    finally:
        del sys.modules[_TELEMETRY]


def _convert(network: nn.Module, example: tuple[int, ...]) -> tuple[object, _Model]:
    """The network as a model of OpenVINO, for batches of any size, after what holds its weights.

    The library's ``convert_model`` does the same and reports it to its makers.
    """
    openvino = _openvino()
    frontend = openvino.frontend.FrontEndManager().load_by_framework("pytorch")
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of the tracer, about what is compared afterwards
        traced = torch.jit.trace(network, torch.zeros(example), check_trace=False)
        decoder = openvino.frontend.pytorch.ts_decoder.TorchScriptPythonDecoder(traced)
        return decoder, frontend.convert(frontend.load(decoder))


def _difference(network: nn.Module, model: _Model, example: tuple[int, ...]) -> float:
    """Largest difference from torch on a batch of another size, as a share of the range.

    A network that does something else for another size cannot be traced; this finds it out.
    """
    shape = (*example[:2], 2 * example[2], *example[3:])
    generator = torch.Generator().manual_seed(0)
    batch = torch.randn(shape, generator=generator)
    with torch.no_grad():
        expected = network(batch.clone())
    found = _infer(_compile(model, shape, "float32"), batch)
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-6))


def _compile(model: _Model, shape: tuple[int, ...], dtype: DtypeName) -> _Compiled:
    openvino = _openvino()
    model.reshape(openvino.PartialShape(list(shape)))
    options = {
        "INFERENCE_PRECISION_HINT": _HINTS[dtype],
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    return openvino.Core().compile_model(model, "CPU", options)


def _infer(compiled: _Compiled, sample: Tensor) -> Tensor:
    results = compiled([np.ascontiguousarray(sample.numpy())])
    return torch.from_numpy(results[0])
