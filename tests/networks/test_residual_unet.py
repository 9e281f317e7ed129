import pytest
import torch
from weights import count, fill

from autoseg.core.layers import num_parameters
from autoseg.core.plan import NetworkSpec
from autoseg.networks.residual_unet import ResidualUNet

FLAT = NetworkSpec(
    architecture="residual_unet",
    features_per_stage=(4, 8, 16),
    strides=((1, 1), (2, 2), (2, 2)),
    kernel_sizes=((3, 3),) * 3,
    blocks_per_stage=(1, 3, 4),
    decoder_blocks_per_stage=(1, 1),
)
SOLID = NetworkSpec(
    architecture="residual_unet",
    features_per_stage=(4, 8, 8),
    strides=((1, 1, 1), (1, 2, 2), (2, 2, 2)),
    kernel_sizes=((1, 3, 3), (3, 3, 3), (3, 3, 3)),
    blocks_per_stage=(1, 3, 4),
    decoder_blocks_per_stage=(1, 1),
)


# Expected numbers: reference/networks.md, section 6.
@pytest.mark.parametrize(
    ("spec", "channels", "patch", "expected"),
    [
        (
            FLAT,
            3,
            (16, 16),
            [
                (0.0091203666, 0.0332082507, [0.02696, 0.018547, 0.019928, 0.020898]),
                (-0.3171471715, 0.1992143318, [-0.538575, -0.514269, -0.495486, -0.584866]),
            ],
        ),
        (
            SOLID,
            1,
            (8, 16, 16),
            [
                (-0.1939474764, 0.0524832087, [-0.299064, -0.274402, -0.273806, -0.27214]),
                (0.1417281689, 0.1655831653, [0.172181, 0.144185, 0.16746, 0.179598]),
            ],
        ),
    ],
)
def test_forward_equals_the_reference(spec, channels, patch, expected):
    network = ResidualUNet(spec, channels, 2, deep_supervision=True).eval()
    fill(network)
    numbers = channels * torch.Size(patch).numel()
    image = torch.sin(0.05 * torch.arange(numbers, dtype=torch.float64)).float()

    with torch.no_grad():
        outputs = network(image.view(1, channels, *patch))

    assert [output.shape[2] for output in outputs] == [patch[0], 8]
    for output, (mean, std, first) in zip(outputs, expected, strict=True):
        assert output.mean().item() == pytest.approx(mean, abs=2e-6)
        assert output.std(correction=0).item() == pytest.approx(std, abs=2e-6)
        assert output.flatten()[:4].tolist() == pytest.approx(first, abs=2e-6)


@pytest.mark.parametrize(
    ("spec", "channels", "parameters", "tensors"), [(FLAT, 3, 23_772, 90), (SOLID, 1, 28_532, 87)]
)
def test_it_has_as_many_parameters_as_the_reference(spec, channels, parameters, tensors):
    network = ResidualUNet(spec, channels, 2, deep_supervision=True)

    assert count(network) == parameters
    assert len(network.state_dict()) == tensors
    assert num_parameters(spec, num_channels=channels, num_outputs=2) == parameters


def test_every_block_starts_as_its_shortcut():
    network = ResidualUNet(SOLID, 1, 2, deep_supervision=False).eval()
    block = network.encoder[1][1]
    features = torch.rand(1, 8, 4, 6, 6)

    assert torch.equal(block(features), features)
    assert not block.conv2.norm.bias.any()


def test_pooling_alone_needs_no_weights():
    network = ResidualUNet(SOLID, 1, 2, deep_supervision=False)

    shortcuts = {name for name in network.state_dict() if "shortcut" in name}

    assert shortcuts == {
        f"encoder.1.0.shortcut.{part}" for part in ("conv.weight", "norm.weight", "norm.bias")
    }


def test_parameters_are_named_after_their_place():
    names = set(ResidualUNet(SOLID, 1, 2, deep_supervision=True).state_dict())

    assert {
        "encoder.0.stem.conv.weight",
        "encoder.0.blocks.0.conv1.conv.weight",
        "encoder.2.3.conv2.norm.bias",
        "decoder.1.0.conv.bias",
        "upsample.0.weight",
        "heads.1.bias",
    } <= names
