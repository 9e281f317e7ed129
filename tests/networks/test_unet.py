import pytest
import torch
from weights import count, fill

from autoseg.core.plan import NetworkSpec
from autoseg.networks.unet import UNet

SMALL = NetworkSpec(
    architecture="unet",
    features_per_stage=(4, 8, 16),
    strides=((1, 1, 1), (1, 2, 2), (2, 2, 2)),
    kernel_sizes=((1, 3, 3), (3, 3, 3), (3, 3, 3)),
    blocks_per_stage=(2, 2, 2),
    decoder_blocks_per_stage=(2, 2),
)
BIG = NetworkSpec(
    architecture="unet",
    features_per_stage=(32, 64, 128, 256, 320, 320),
    strides=((1, 1, 1), *((2, 2, 2),) * 5),
    kernel_sizes=((3, 3, 3),) * 6,
    blocks_per_stage=(2,) * 6,
    decoder_blocks_per_stage=(2,) * 5,
)


@pytest.fixture(scope="module")
def outputs() -> list[torch.Tensor]:
    network = UNet(SMALL, 1, 2, deep_supervision=True).eval()
    fill(network)
    image = torch.sin(0.05 * torch.arange(8 * 16 * 16, dtype=torch.float64)).float()
    with torch.no_grad():
        return network(image.view(1, 1, 8, 16, 16))


# Expected numbers: reference/networks.md, section 6.
@pytest.mark.parametrize(
    ("index", "shape", "mean", "std", "first"),
    [
        (
            0,
            (1, 2, 8, 16, 16),
            0.2199769138,
            0.2510459766,
            [0.054257, 0.056873, 0.057492, 0.057585],
        ),
        (
            1,
            (1, 2, 8, 8, 8),
            0.2109046791,
            0.0927674737,
            [0.191489, 0.141262, 0.122932, 0.152022],
        ),
    ],
)
def test_forward_equals_the_reference(outputs, index, shape, mean, std, first):
    output = outputs[index]
    assert output.shape == shape
    assert output.mean().item() == pytest.approx(mean, abs=2e-6)
    assert output.std(correction=0).item() == pytest.approx(std, abs=2e-6)
    assert output.flatten()[:4].tolist() == pytest.approx(first, abs=2e-6)


def test_the_small_network_has_as_many_parameters_as_the_reference():
    network = UNet(SMALL, 1, 2, deep_supervision=True)
    assert count(network) == 20_188
    assert len(network.state_dict()) == 48


def test_the_big_network_has_as_many_parameters_as_the_reference():
    with torch.device("meta"):
        assert count(UNet(BIG, 1, 2, deep_supervision=True)) == 31_195_594


def test_weights_do_not_depend_on_deep_supervision():
    shapes = [
        {name: tensor.shape for name, tensor in UNet(SMALL, 1, 2, deep).state_dict().items()}
        for deep in (False, True)
    ]
    assert shapes[0] == shapes[1]


def test_parameters_are_named_after_their_place():
    names = set(UNet(SMALL, 1, 2, deep_supervision=True).state_dict())
    assert {
        "encoder.0.1.conv.weight",
        "encoder.2.0.norm.bias",
        "decoder.1.0.conv.bias",
        "upsample.0.weight",
        "heads.1.bias",
    } <= names


def test_two_stages_give_one_deep_output_that_trains_every_weight():
    spec = NetworkSpec(
        architecture="unet",
        features_per_stage=(3, 5),
        strides=((1, 1), (2, 1)),
        kernel_sizes=((3, 3), (3, 1)),
        blocks_per_stage=(1, 2),
        decoder_blocks_per_stage=(1,),
    )
    network = UNet(spec, 2, 4, deep_supervision=True)
    outputs = network(torch.rand(2, 2, 6, 5))
    assert [tuple(output.shape) for output in outputs] == [(2, 4, 6, 5)]
    outputs[0].square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
