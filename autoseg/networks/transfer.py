"""The weights of one network as the beginning of another: what fits, and where it goes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

from autoseg.core.ends import EndsMatch
from autoseg.core.plan import NetworkSpec
from autoseg.networks.build import build_network

Shapes = Mapping[str, tuple[int, ...]]
Pairs = tuple[tuple[int, int], ...]

_COARSEST_FIRST = re.compile(r"(decoder|upsample|heads)\.(\d+)\.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The tensors of a network, and which of their axes count inputs or outputs.

    Attributes:
        spec: the network.
        shapes: of the tensors, by name.
        input_axes: axis that counts the input channels, of the tensors that have one.
        output_axes: axis that counts the outputs.
    """

    spec: NetworkSpec
    shapes: Shapes
    input_axes: Mapping[str, int]
    output_axes: Mapping[str, int]


def layout_of(spec: NetworkSpec, num_inputs: int, num_outputs: int) -> Layout:
    """Find out which tensors depend on the numbers of inputs and outputs, and how.

    Two more networks are made, with one input and one output more, so that the names inside an
    architecture do not matter. No memory is taken.

    Args:
        spec: the network; ``spec.architecture`` is a name in ``NETWORKS``.
        num_inputs: channels of its input.
        num_outputs: channels of its output.

    Raises:
        UnknownNameError: if nobody registered the architecture.
    """
    shapes = _shapes(spec, num_inputs, num_outputs)
    return Layout(
        spec=spec,
        shapes=shapes,
        input_axes=_growing(shapes, _shapes(spec, num_inputs + 1, num_outputs), num_inputs),
        output_axes=_growing(shapes, _shapes(spec, num_inputs, num_outputs + 1), num_outputs),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """Where a tensor comes from.

    Attributes:
        source: name of the tensor it comes from.
        axis: axis along which only some entries correspond; None if the whole tensor is taken.
        pairs: those entries, ``(to, from)``.
    """

    source: str
    axis: int | None = None
    pairs: Pairs = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """What of a network is taken from another one.

    Attributes:
        moves: by name of the tensor that is filled.
        left: tensors that stay as they are initialised, with the reason.
        num_taken: numbers that are taken.
        num_weights: numbers the network has.
    """

    moves: Mapping[str, Move]
    left: Mapping[str, str]
    num_taken: int
    num_weights: int

    @property
    def share(self) -> float:
        """Share of the network's numbers that are taken, 0..1."""
        return self.num_taken / self.num_weights

    @property
    def num_tensors(self) -> int:
        """Tensors the network has."""
        return len(self.moves) + len(self.left)


def find_transfer(layout: Layout, source: Shapes, source_stages: int, match: EndsMatch) -> Transfer:
    """Find what fits by name and shape; inputs and outputs correspond as the match says.

    The stages of decoders are counted from full resolution, so that networks of different depth
    share their fine stages.

    Args:
        layout: the network to be filled.
        source: tensors of the other network.
        source_stages: its number of resolutions.
        match: how inputs and outputs correspond.
    """
    known = {_by_level(name, source_stages): name for name in source}
    moves: dict[str, Move] = {}
    left: dict[str, str] = {}
    for name, shape in layout.shapes.items():
        origin = known.get(_by_level(name, layout.spec.num_stages))
        if origin is None:
            left[name] = "the model has none"
            continue
        move = _move(name, origin, source[origin], layout, match)
        if move is None:
            left[name] = f"{_by(shape)} here, {_by(source[origin])} there"
        elif move.axis is not None and not move.pairs:
            left[name] = "nothing in it corresponds"
        else:
            moves[name] = move
    return Transfer(
        moves=moves,
        left=left,
        num_taken=sum(_size(layout.shapes[name], move) for name, move in moves.items()),
        num_weights=sum(prod(shape) for shape in layout.shapes.values()),
    )


def fill(network: nn.Module, source: Mapping[str, Tensor], transfer: Transfer) -> None:
    """Put the weights of another network where they belong; the rest stays as it is.

    Args:
        network: changed in place; keeps device, type and memory layout.
        source: the other network's tensors.
        transfer: as ``find_transfer`` found it for the two.
    """
    weights = network.state_dict()
    with torch.no_grad():
        for name, move in transfer.moves.items():
            _fill(weights[name], source[move.source], move)


def _fill(target: Tensor, values: Tensor, move: Move) -> None:
    values = values.to(target.device, target.dtype)
    if move.axis is None:
        target.copy_(values)
        return
    for to, origin in move.pairs:
        target.select(move.axis, to).copy_(values.select(move.axis, origin))


def _move(
    name: str, origin: str, shape: tuple[int, ...], layout: Layout, match: EndsMatch
) -> Move | None:
    """How a tensor is filled; None if the shapes do not allow it."""
    wanted = layout.shapes[name]
    ends: list[tuple[int | None, int, Pairs]] = [
        (layout.input_axes.get(name), _num_inputs(match), match.input_pairs),
        (layout.output_axes.get(name), len(match.outputs.known), match.outputs.pairs),
    ]
    at_ends = [end for end in ends if end[0] is not None]
    if not at_ends:
        return Move(source=origin) if shape == wanted else None
    axis, num_known, pairs = at_ends[0]
    assert axis is not None
    fits = len(shape) == len(wanted) and shape == _with(wanted, axis, num_known)
    # A tensor between both ends would have to be picked along two axes.
    return Move(source=origin, axis=axis, pairs=pairs) if fits and len(at_ends) == 1 else None


def _num_inputs(match: EndsMatch) -> int:
    return len(match.channels.known) + len(match.predicted.known)


def _size(shape: tuple[int, ...], move: Move) -> int:
    """Numbers of a tensor that are taken."""
    if move.axis is None:
        return prod(shape)
    return prod(shape) // shape[move.axis] * len(move.pairs)


def _shapes(spec: NetworkSpec, num_inputs: int, num_outputs: int) -> Shapes:
    with torch.device("meta"):
        network = build_network(spec, num_inputs, num_outputs, deep_supervision=True)
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def _growing(shapes: Shapes, grown: Shapes, number: int) -> dict[str, int]:
    """The axis of each tensor that got longer by one when a number did."""
    axes: dict[str, int] = {}
    for name, shape in shapes.items():
        for axis, size in enumerate(shape):
            if size == number and grown.get(name) == _with(shape, axis, number + 1):
                axes[name] = axis
    return axes


def _by_level(name: str, num_stages: int) -> str:
    """A tensor's name with the stage of its decoder counted from full resolution."""
    found = _COARSEST_FIRST.match(name)
    if found is None:
        return name
    return f"{found[1]}.level{num_stages - 2 - int(found[2])}.{name[found.end() :]}"


def _with(shape: Sequence[int], axis: int, size: int) -> tuple[int, ...]:
    return (*shape[:axis], size, *shape[axis + 1 :])


def _by(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "a number"
