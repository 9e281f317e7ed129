import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from autoseg.core.plan import NetworkSpec
from autoseg.networks import compiled
from autoseg.networks.build import build_network
from autoseg.networks.compiled import CompiledNetwork, ConversionError, is_installed
from autoseg.networks.label_channels import LabelChannels
from autoseg.networks.precision import Precision
from autoseg.networks.sliding_window import Window, predict_slabs

needs_openvino = pytest.mark.skipif(not is_installed(), reason="openvino is not installed")
CPU = torch.device("cpu")


def network(architecture: str, dimensions: int, channels: int = 1) -> nn.Module:
    stages = 3
    spec = NetworkSpec(
        architecture=architecture,
        features_per_stage=(4, 8, 12),
        strides=((1,) * dimensions, *((2,) * dimensions,) * 2),
        kernel_sizes=((3,) * dimensions,) * stages,
        blocks_per_stage=(1, 2, 2),
        decoder_blocks_per_stage=(1,) * (stages - 1),
    )
    torch.manual_seed(0)
    return build_network(spec, channels, 3, deep_supervision=False).eval()


def reference(one: nn.Module, batch: Tensor) -> Tensor:
    with torch.inference_mode():
        return one(batch.clone())


def spread(expected: Tensor) -> float:
    return float(expected.abs().max())


@needs_openvino
@pytest.mark.parametrize("architecture", ["unet", "residual_unet"])
@pytest.mark.parametrize("size", [(16, 24, 8), (24, 16)])
def test_openvino_computes_what_torch_does(architecture, size):
    one = network(architecture, len(size))
    found = CompiledNetwork(one, "float32", (1, 1, *(4,) * (len(size) - 1), 8))
    batch = torch.randn(3, 1, *size)
    expected = reference(one, batch)
    torch.testing.assert_close(found(batch), expected, atol=2e-4 * spread(expected), rtol=0)


@needs_openvino
def test_bfloat16_rounds_and_nothing_more():
    one = network("unet", 3)
    found = CompiledNetwork(one, "bfloat16", (1, 1, 4, 4, 8))
    batch = torch.randn(1, 1, 16, 16, 16)
    expected = reference(one, batch)
    assert found(batch).dtype == torch.float32
    torch.testing.assert_close(found(batch), expected, atol=0.05 * spread(expected), rtol=0)


@needs_openvino
def test_a_network_that_reads_labels_is_converted_too():
    one = LabelChannels(network("unet", 3, channels=3), 2).eval()
    found = CompiledNetwork(one, "float32", (1, 2, 4, 4, 8))
    batch = torch.stack([torch.randn(8, 8, 8), torch.randint(0, 3, (8, 8, 8)).float()])[None]
    expected = reference(one, batch)
    torch.testing.assert_close(found(batch), expected, atol=2e-4 * spread(expected), rtol=0)


@needs_openvino
def test_the_window_does_not_notice_what_computes():
    one = network("unet", 3)
    found = CompiledNetwork(one, "float32", (1, 1, 4, 4, 8))
    window = Window(
        patch_size=(8, 12, 8),
        num_outputs=3,
        mirror_axes=(0, 2),
        # Layout and autocast are torch's, and must do no harm.
        precision=Precision(dtype="bfloat16", channels_last=True),
        device=CPU,
        patches_per_pass=3,
    )
    plain = replace(window, precision=Precision(), patches_per_pass=1)
    image = torch.randn(1, 13, 17, 9)
    logits = torch.cat(list(predict_slabs([found], image, window)), dim=1)
    expected = torch.cat(list(predict_slabs([one], image, plain)), dim=1)
    torch.testing.assert_close(logits, expected, atol=2e-4 * spread(expected), rtol=0)


@needs_openvino
def test_nothing_is_reported_to_the_makers_of_openvino():
    code = (
        "import sys, torch\n"
        "from autoseg.networks.compiled import CompiledNetwork\n"
        "CompiledNetwork(torch.nn.Conv2d(1, 2, 3).eval(), 'float32', (1, 1, 8, 8))\n"
        "assert not [name for name in sys.modules if name.startswith('openvino_telemetry')]\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@needs_openvino
def test_a_network_that_depends_on_the_size_of_its_first_batch_is_refused():
    class Sized(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return image * image.shape[2] if image.shape[2] < 10 else image

    with pytest.raises(ConversionError, match="off by"):
        CompiledNetwork(Sized().eval(), "float32", (1, 1, 8, 8))


def test_whatever_the_converter_stumbles_over_is_one_line(monkeypatch):
    def broken(network, example):
        raise RuntimeError("no such\n operation")

    monkeypatch.setattr(compiled, "_convert", broken)
    with pytest.raises(ConversionError) as caught:
        CompiledNetwork(nn.Conv2d(1, 2, 3), "float32", (1, 1, 8, 8))
    assert str(caught.value) == "RuntimeError: no such operation"


def test_sizes_that_cannot_be_compiled_are_left_to_torch(monkeypatch, caplog):
    monkeypatch.setattr(compiled, "_convert", lambda network, example: (None, None))
    monkeypatch.setattr(compiled, "_difference", lambda network, model, example: 0.0)

    def refuse(model, shape, dtype):
        raise RuntimeError("too large")

    monkeypatch.setattr(compiled, "_compile", refuse)
    one = nn.Conv2d(1, 2, 3)
    batch = torch.randn(2, 1, 8, 9)
    with torch.inference_mode():
        torch.testing.assert_close(CompiledNetwork(one, "float32", (1, 1, 8, 8))(batch), one(batch))
    assert [record.message for record in caplog.records] == [
        "OpenVINO cannot compile the network, torch computes: RuntimeError: too large"
    ]


def test_the_weights_stay_where_openvino_reads_them(monkeypatch):
    monkeypatch.setattr(compiled, "_convert", lambda network, example: (None, None))
    monkeypatch.setattr(compiled, "_difference", lambda network, model, example: 0.0)
    one = nn.Conv2d(1, 2, 3)
    found = CompiledNetwork(one, "float32", (1, 1, 8, 8))
    assert list(found.parameters()) == []
    assert found.network is one


def test_the_library_is_not_imported_to_see_whether_it_is_there(monkeypatch):
    monkeypatch.setattr(compiled, "find_spec", lambda name: SimpleNamespace(name=name))
    assert is_installed()
    monkeypatch.setattr(compiled, "find_spec", lambda name: None)
    assert not is_installed()
