import pytest
import torch
from torch import nn

from autoseg.core.plan import NetworkSpec
from autoseg.errors import UnknownNameError
from autoseg.networks.build import NETWORKS, build_network, initialize


def spec(architecture: str, dimensions: int = 3) -> NetworkSpec:
    strides = ((1, 1, 1), (1, 2, 2), (2, 2, 2))
    kernels = ((1, 3, 3), (3, 3, 3), (3, 3, 3))
    return NetworkSpec(
        architecture=architecture,
        features_per_stage=(4, 8, 16),
        strides=tuple(row[-dimensions:] for row in strides),
        kernel_sizes=tuple(row[-dimensions:] for row in kernels),
        blocks_per_stage=(2, 1, 3),
        decoder_blocks_per_stage=(1, 2),
    )


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("architecture", list(NETWORKS))
class TestEveryNetwork:
    def test_returns_logits_of_the_patch(self, architecture: str, dimensions: int):
        network = build_network(spec(architecture, dimensions), 3, 5, deep_supervision=False)
        patch = (4, 12, 8)[-dimensions:]
        assert network(torch.zeros(2, 3, *patch)).shape == (2, 5, *patch)

    def test_returns_a_list_while_supervised_deeply(self, architecture: str, dimensions: int):
        network = build_network(spec(architecture, dimensions), 3, 5, deep_supervision=True)
        patch = (4, 12, 8)[-dimensions:]
        image = torch.randn(2, 3, *patch, generator=torch.Generator().manual_seed(0))
        outputs = network(image)
        assert [output.shape[2:] for output in outputs] == [
            patch,
            (4, 6, 4)[-dimensions:],
        ]
        network.deep_supervision = False
        assert torch.equal(network(image), outputs[0])

    def test_starts_from_the_seed(self, architecture: str, dimensions: int):
        weights = []
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            network = build_network(spec(architecture, dimensions), 1, 2, deep_supervision=True)
            weights.append(nn.utils.parameters_to_vector(network.parameters()))
        assert torch.equal(weights[0], weights[1])
        assert not torch.equal(weights[0], weights[2])


def test_an_architecture_nobody_registered_is_one_line_that_lists_those_that_are():
    with pytest.raises(UnknownNameError) as caught:
        build_network(spec("unett"), 1, 2, deep_supervision=True)
    assert str(caught.value).startswith("no network named 'unett'; did you mean 'unet'?")
    assert "available: residual_unet, unet" in str(caught.value)


@pytest.mark.parametrize(
    ("module", "fan_in"),
    [
        (nn.Conv3d(40, 50, (1, 3, 3)), 40 * 9),
        (nn.Conv2d(40, 90, 3), 40 * 9),
        (nn.ConvTranspose3d(64, 40, (1, 2, 2)), 40 * 4),
    ],
)
def test_weights_keep_the_variance_through_leaky_relus(module: nn.Module, fan_in: int):
    torch.manual_seed(0)
    initialize(module)
    expected = (2 / (1 + 0.01**2) / fan_in) ** 0.5
    assert module.weight.std().item() == pytest.approx(expected, rel=0.03)
    assert module.weight.mean().item() == pytest.approx(0, abs=expected / 20)
    assert not module.bias.any()


def test_initialisation_leaves_norms_alone():
    norm = nn.InstanceNorm2d(3, affine=True)
    nn.init.constant_(norm.weight, 0.25)
    initialize(nn.Sequential(norm, nn.Conv2d(3, 3, 1, bias=False)))
    assert norm.weight.tolist() == [0.25] * 3
