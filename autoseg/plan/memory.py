"""What a training step needs in GPU memory, in bytes.

It stands beside ``autoseg.core.layers.feature_map_elements``, the reference's count, which
decides patch and batch so that plans agree with published ones. The bytes say what that costs,
and include what the count leaves out: weights, outputs, loss, input channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from autoseg.core.layers import Layer, list_layers, num_parameters
from autoseg.core.plan import Axes, NetworkSpec

GIGABYTE = 10**9

# Per weight: float32 value, gradient and momentum, and the copy autocast keeps at the
# precision of the activations.
_BYTES_FLOAT32 = 4
# Per output value the loss keeps the probability, in float32.
_BYTES_PER_OUTPUT = 4
# Per output voxel: the reference's label as int16.
_BYTES_PER_LABEL = 2
# Per output value while the loss is computed: the logit or its gradient, and two buffers.
_BYTES_PER_OUTPUT_BACKWARD = 12
# A convolution's backward pass holds the gradients of its input and output, and its algorithm
# asks for about as much again as workspace.
_TRANSIENT_COPIES = 2
# CUDA context, kernels of the convolution library, and what its allocator cannot reuse.
_CONTEXT_BYTES = 500_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingMemory:
    """Bytes of GPU memory at the peak of a training step.

    Attributes:
        weights: float32 weights and their copy at training precision.
        gradients: float32 gradients.
        momentum: the optimiser's state.
        activations: what autograd keeps of the network for the backward pass.
        loss: what it keeps of the loss.
        transient: the largest of what lives for a moment of the backward pass only: gradients
            and workspace of a convolution, or gradients inside the loss.
        context: what a process on a GPU costs before its first tensor.
    """

    weights: int
    gradients: int
    momentum: int
    activations: int
    loss: int
    transient: int
    context: int = _CONTEXT_BYTES

    @property
    def kept(self) -> int:
        """What is alive when the backward pass begins, momentum and gradients included."""
        return self.weights + self.gradients + self.momentum + self.activations + self.loss

    @property
    def total(self) -> int:
        """Sum of all parts."""
        return self.kept + self.transient + self.context


def training_memory(
    spec: NetworkSpec,
    patch_size: Axes,
    batch_size: int,
    *,
    num_channels: int,
    num_outputs: int,
    bytes_per_activation: int = 2,
    deep_supervision: bool = True,
) -> TrainingMemory:
    """Estimate the memory of a training step.

    What autograd keeps follows from the operations: a norm keeps the output of its
    convolution, the activation after it works in place and keeps its result, which the next
    convolution shares; a concatenation is a copy; an upsampled map is freed once copied; a
    projecting shortcut keeps its pooled input and its output. The peak lies at the start of
    the backward pass, when all of it is alive together with the loss and the largest
    convolution's gradients.

    Args:
        spec: the network's shape.
        patch_size: voxels per axis.
        batch_size: patches per step.
        num_channels: channels of the input.
        num_outputs: channels of the output.
        bytes_per_activation: 2 for bfloat16 and float16, 4 for float32.
        deep_supervision: whether coarser outputs are trained too.

    Returns:
        The parts of the estimate, in bytes.
    """
    layers = list_layers(
        spec,
        patch_size,
        num_channels=num_channels,
        num_outputs=num_outputs,
        deep_supervision=deep_supervision,
    )
    parameters = num_parameters(spec, num_channels=num_channels, num_outputs=num_outputs)
    half_copy = bytes_per_activation if bytes_per_activation < _BYTES_FLOAT32 else 0
    image = num_channels * prod(patch_size)
    saved = image + sum(_saved_elements(layer) for layer in layers)
    heads = _supervised_heads(layers)
    transient = max(_transient_bytes(layer, bytes_per_activation) for layer in (*layers, *heads))
    return TrainingMemory(
        weights=parameters * (_BYTES_FLOAT32 + half_copy),
        gradients=parameters * _BYTES_FLOAT32,
        momentum=parameters * _BYTES_FLOAT32,
        activations=batch_size * saved * bytes_per_activation,
        loss=batch_size * sum(map(_loss_bytes, heads)),
        transient=batch_size * transient,
    )


def _saved_elements(layer: Layer) -> int:
    if layer.kind in ("convolution", "activation", "concatenation"):
        return layer.num_elements
    if layer.kind == "shortcut" and layer.channels_in != layer.channels_out:
        return (layer.channels_in + layer.channels_out) * prod(layer.size)
    return 0


def _transient_bytes(layer: Layer, bytes_per_activation: int) -> int:
    if layer.kind == "head":
        return layer.num_elements * _BYTES_PER_OUTPUT_BACKWARD
    if layer.kind != "convolution":
        return 0
    gradients = (layer.channels_in + layer.channels_out) * prod(layer.size)
    return gradients * bytes_per_activation * _TRANSIENT_COPIES


def _supervised_heads(layers: Sequence[Layer]) -> list[Layer]:
    """The outputs that enter the loss: all but the coarsest, or the only one."""
    heads = [layer for layer in layers if layer.kind == "head"]
    return heads[1:] if len(heads) > 1 else heads


def _loss_bytes(head: Layer) -> int:
    return head.num_elements * _BYTES_PER_OUTPUT + prod(head.size) * _BYTES_PER_LABEL
