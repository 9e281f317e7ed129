from dataclasses import asdict

import pytest
import torch

from autoseg.core.plan import NetworkSpec
from autoseg.networks.build import build_network
from autoseg.plan.memory import training_memory
from autoseg.train.objective.losses import LOSSES, LossOptions, deep_supervision_loss

SPEC = NetworkSpec(
    architecture="unet",
    features_per_stage=(8, 16, 32),
    strides=((1, 1, 1), (1, 2, 2), (2, 2, 2)),
    kernel_sizes=((1, 3, 3), (3, 3, 3), (3, 3, 3)),
    blocks_per_stage=(2, 2, 2),
    decoder_blocks_per_stage=(2, 2),
)
PATCH = (16, 32, 24)


def estimate(batch_size=2, num_channels=2, num_outputs=3, **options):
    return training_memory(
        SPEC, PATCH, batch_size, num_channels=num_channels, num_outputs=num_outputs, **options
    )


def network_spec(architecture="unet", dimensions=3, stages=5, coarse=False):
    """A network of the planner's usual widths; coarse: the first axis is halved later."""
    residual = architecture == "residual_unet"
    halving = [(2,) * dimensions] * (stages - 1)
    kernels = [(3,) * dimensions] * stages
    if coarse:
        halving[:2] = [(1, 2, 2)] * 2
        kernels[:2] = [(1, 3, 3)] * 2
    return NetworkSpec(
        architecture=architecture,
        features_per_stage=tuple(min(32 * 2**i, 320) for i in range(stages)),
        strides=((1,) * dimensions, *halving),
        kernel_sizes=tuple(kernels),
        blocks_per_stage=(1, 3, 4, 6, 6, 6, 6)[:stages] if residual else (2,) * stages,
        decoder_blocks_per_stage=(1 if residual else 2,) * (stages - 1),
    )


def kept_by_a_step(spec, patch, batch, channels, outputs, dtype, deep_supervision):
    """Bytes alive when the backward pass begins, of tensors that have sizes but no content."""
    with torch.device("meta"):
        network = build_network(spec, channels, outputs, deep_supervision).to(dtype)
        image = torch.empty(batch, channels, *patch, dtype=dtype)
        labels = torch.empty(batch, *patch, dtype=torch.int16)
    kept = []

    def keep(tensor):
        kept.append(tensor.untyped_storage())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        found = network(image)
        maps = found if deep_supervision else [found]
        loss = LOSSES.get("dice_ce")(LossOptions(batch_dice=False))
        deep_supervision_loss(loss, maps, labels)
    weights = {parameter.untyped_storage()._cdata for parameter in network.parameters()}
    saved = {store._cdata: store.nbytes() for store in kept if store._cdata not in weights}
    parameters = sum(parameter.numel() for parameter in network.parameters())
    # Value, gradient and momentum in float32, and autocast's copy of the value.
    copy = 2 if dtype is torch.bfloat16 else 0
    return parameters * (12 + copy) + sum(saved.values())


SHAPES = [
    (network_spec(), (128, 128, 128), 2),
    (network_spec(coarse=True, stages=6), (32, 256, 256), 2),
    (network_spec(dimensions=2, stages=7), (512, 512), 12),
    (network_spec("residual_unet"), (112, 128, 96), 2),
    (network_spec("residual_unet", dimensions=2, stages=6), (256, 320), 9),
]


OPTIONS = [
    (1, 3, torch.bfloat16, True),
    (4, 4, torch.float32, True),
    (1, 60, torch.bfloat16, True),
    (2, 2, torch.bfloat16, False),
]
"""Channels, classes, number format, deep supervision."""


@pytest.mark.parametrize("shape", SHAPES, ids=["3d", "coarse", "2d", "residual", "residual 2d"])
@pytest.mark.parametrize(("channels", "outputs", "dtype", "deep_supervision"), OPTIONS)
def test_the_estimate_is_what_a_step_keeps(shape, channels, outputs, dtype, deep_supervision):
    spec, patch, batch = shape

    estimated = training_memory(
        spec,
        patch,
        batch,
        num_channels=channels,
        num_outputs=outputs,
        bytes_per_activation=dtype.itemsize,
        deep_supervision=deep_supervision,
    ).kept

    kept = kept_by_a_step(spec, patch, batch, channels, outputs, dtype, deep_supervision)
    assert estimated == pytest.approx(kept, rel=0.01)


def test_the_total_is_the_sum_of_the_parts():
    memory = estimate()
    assert memory.total == sum(asdict(memory).values())


def test_only_the_weights_do_not_grow_with_the_batch():
    small, large = estimate(batch_size=2), estimate(batch_size=6)
    assert (large.weights, large.gradients) == (small.weights, small.gradients)
    assert large.activations == 3 * small.activations
    assert large.loss == 3 * small.loss
    assert large.transient == 3 * small.transient


def test_many_classes_cost_memory_in_the_loss():
    voxels = 16 * 32 * 24  # the coarser of the two outputs has no weight in the loss
    added = estimate(num_outputs=105).loss - estimate(num_outputs=5).loss
    assert added == 2 * 100 * voxels * 4


def test_more_input_channels_cost_memory():
    added = estimate(num_channels=6).activations - estimate(num_channels=2).activations
    assert added == 2 * 4 * 16 * 32 * 24 * 2


def test_float32_doubles_the_activations_and_needs_no_copy_of_the_weights():
    half, single = estimate(), estimate(bytes_per_activation=4)
    assert single.activations == 2 * half.activations
    assert single.weights == single.gradients
    assert half.weights == 1.5 * half.gradients
