from dataclasses import asdict

import pytest
import torch

from autoseg.core.plan import NetworkSpec
from autoseg.networks.build import build_network
from autoseg.plan.memory import training_memory

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


def saved_by_autograd(network, image):
    """Bytes of the storages autograd keeps, weights apart."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    kept = []

    def keep(tensor):
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        outputs = network(image)
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage() for tensor in kept}
    del outputs
    return sum(store.nbytes() for pointer, store in storages.items() if pointer not in weights)


def test_activations_are_what_autograd_keeps():
    torch.manual_seed(0)
    network = build_network(SPEC, 2, 3, deep_supervision=True).to(torch.bfloat16)
    image = torch.randn(2, 2, *PATCH).to(torch.bfloat16)
    assert estimate().activations == pytest.approx(saved_by_autograd(network, image), rel=2e-3)


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
    voxels = 16 * 32 * 24 + 16 * 16 * 12
    added = estimate(num_outputs=105).loss - estimate(num_outputs=5).loss
    assert added == 2 * 100 * voxels * 24


def test_more_input_channels_cost_memory():
    added = estimate(num_channels=6).activations - estimate(num_channels=2).activations
    assert added == 2 * 4 * 16 * 32 * 24 * 2


def test_float32_doubles_the_activations_and_needs_no_copy_of_the_weights():
    half, single = estimate(), estimate(bytes_per_activation=4)
    assert single.activations == 2 * half.activations
    assert single.weights == single.gradients
    assert half.weights == 1.5 * half.gradients
