import numpy as np
import pytest

from autoseg.plan.topology import features_per_stage, pooling_topology


def test_a_coarse_axis_waits_until_the_others_have_caught_up():
    topology = pooling_topology((3.0, 0.6125, 0.6125), (24, 256, 256))
    assert topology.strides == (
        *((1, 1, 1), (1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2), (1, 2, 2), (1, 2, 2)),
    )
    assert topology.kernel_sizes[:3] == ((1, 3, 3), (1, 3, 3), (3, 3, 3))
    assert topology.num_poolings == (2, 6, 6)


def test_a_single_axis_of_eight_voxels_is_not_halved_any_more():
    topology = pooling_topology((1.5, 1.5, 1.5), (128, 112, 112))
    assert topology.num_stages == 5
    assert pooling_topology((1.5, 1.5, 1.5), (192, 112, 112)).strides[-1] == (2, 1, 1)


def test_the_bottleneck_has_a_full_kernel():
    assert pooling_topology((10.0, 1.0, 1.0), (4, 16, 16)).kernel_sizes[-1] == (3, 3, 3)


def test_the_patch_is_rounded_up_to_what_the_pooling_divides():
    topology = pooling_topology((1.0, 1.0, 1.0), (36, 50, 35))
    assert topology.patch_size == (40, 56, 40)
    assert topology.divisor == (8, 8, 8)


def test_half_voxels_of_a_median_are_rounded_up():
    assert pooling_topology((1.0, 1.0), (50.5, 34.5)).patch_size == (56, 40)


def test_an_image_that_cannot_be_halved_has_one_stage():
    topology = pooling_topology((1.0, 1.0, 1.0), (7, 5, 6))
    assert (topology.num_stages, topology.patch_size) == (1, (7, 5, 6))


@pytest.mark.parametrize("seed", range(20))
def test_every_patch_is_divisible_and_keeps_four_voxels(seed):
    rng = np.random.default_rng(seed)
    spacing, size = rng.uniform(0.3, 6, 3), rng.uniform(8, 400, 3)
    topology = pooling_topology(spacing.tolist(), size.tolist())
    for patch, wanted, divisor in zip(topology.patch_size, size, topology.divisor, strict=True):
        assert patch % divisor == 0
        assert wanted <= patch < wanted + divisor
        assert patch // divisor >= 4


def test_features_double_up_to_the_maximum():
    assert features_per_stage(6, 320) == (32, 64, 128, 256, 320, 320)
    assert features_per_stage(3, 512, base=24) == (24, 48, 96)
