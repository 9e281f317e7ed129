"""A trained network from its description and its weights, which need not be copied."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from autoseg.core.model import Model
from autoseg.errors import ArtifactError
from autoseg.networks.build import build_network
from autoseg.networks.label_channels import LabelChannels

_FILLING = ("normal_", "uniform_", "trunc_normal_", "zero_", "fill_")


def network_of(model: Model, weights: Mapping[str, Tensor], place: Path) -> nn.Module:
    """The network of a model that has one set of weights.

    What a description asks for is compared with the weights that are there before any memory is
    taken for it. The network uses the tensors themselves: mapped ones stay mapped.

    Args:
        model: its first member is built.
        weights: tensors by name.
        place: where they lie, for messages.

    Returns:
        The network on the CPU, without deep supervision; that of a cascade reads the previous
        stage's labels as a channel of indices.

    Raises:
        ArtifactError: if the weights do not fit.
        UnknownNameError: if nobody registered the architecture.
    """
    num_inputs = model.configuration.num_inputs(model.channels, model.labels)
    network = _empty(model, num_inputs, len(weights))
    if network is None or not _fits(network, weights):
        raise ArtifactError("the weights do not fit the network described beside them", place=place)
    if all(t.dtype == weights[name].dtype for name, t in network.state_dict().items()):
        network.load_state_dict(weights, assign=True)
    if any(tensor.is_meta for tensor in (*network.parameters(), *network.buffers())):
        # Weights of another type, or a plug-in's network that holds more than weights; its size
        # is known by now.
        network = _build(model, num_inputs)
        network.load_state_dict(weights)
    network.requires_grad_(False)
    if model.configuration.previous is None:
        return network
    return LabelChannels(network, num_inputs - len(model.channels))


def _empty(model: Model, num_inputs: int, num_tensors: int) -> nn.Module | None:
    """The network without memory for its weights; None if it cannot be the one that is there."""
    spec = model.configuration.network
    blocks = sum(spec.blocks_per_stage) + sum(spec.decoder_blocks_per_stage)
    # Every block has weights; millions of modules take memory, too.
    if blocks > num_tensors:
        return None
    try:
        with torch.device("meta"), _LeftEmpty():
            return _build(model, num_inputs)
    except (RuntimeError, OverflowError, TypeError, ValueError):
        return None  # sizes that no tensor can have


class _LeftEmpty(TorchFunctionMode):
    """Draws no initial weights: torch would load a compiler to do that without memory."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever the function returns
        """As the base class does, but for what fills a tensor."""
        options = kwargs or {}
        if getattr(func, "__name__", "") in _FILLING:
            return args[0] if args else options["tensor"]
        return func(*args, **options)


def _build(model: Model, num_inputs: int) -> nn.Module:
    return build_network(
        model.configuration.network, num_inputs, model.labels.num_outputs, deep_supervision=False
    )


def _fits(network: nn.Module, weights: Mapping[str, Tensor]) -> bool:
    wanted = {name: tensor.shape for name, tensor in network.state_dict().items()}
    return wanted == {name: tensor.shape for name, tensor in weights.items()}
