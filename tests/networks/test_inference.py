import pytest
import torch
from torch import nn

from autoseg.core.plan import NetworkSpec
from autoseg.networks import inference
from autoseg.networks.compiled import ConversionError, is_installed
from autoseg.networks.inference import Inference, choose_inference, make_ready
from autoseg.networks.precision import Precision

CPU = torch.device("cpu")
SPEC = NetworkSpec(
    architecture="unet",
    features_per_stage=(4, 8),
    strides=((1, 1), (2, 4)),
    kernel_sizes=((3, 3), (3, 3)),
    blocks_per_stage=(1, 1),
    decoder_blocks_per_stage=(1,),
)


@pytest.fixture(autouse=True)
def nothing_measured_before():
    choose_inference.cache_clear()
    yield
    choose_inference.cache_clear()


def faster(**seconds: float) -> Inference:
    timed = {name or None: value for name, value in seconds.items() if name != "torch"}
    return inference._faster(Precision(dtype="bfloat16"), timed | {None: seconds["torch"]})


class TestChoice:
    def test_what_is_clearly_faster_computes(self):
        found = faster(float32=3.0, bfloat16=1.0, torch=2.0)
        assert (found.openvino, found.gain) == ("bfloat16", 2.0)
        assert found.precision == Precision(dtype="bfloat16")
        assert found.reason == (
            "OpenVINO predicts: a test network takes OpenVINO float32 3000 ms, bfloat16 1000 ms, "
            "torch bfloat16 2000 ms"
        )

    def test_float32_is_kept_where_rounding_gains_little(self):
        assert faster(float32=1.1, bfloat16=1.0, torch=2.0).openvino == "float32"

    def test_torch_computes_where_openvino_is_not_faster(self):
        found = faster(float32=3.0, bfloat16=1.0, torch=1.05)
        assert found.openvino is None
        assert found.reason.startswith("torch predicts")

    def test_without_openvino_torch_computes_as_it_was_probed(self, monkeypatch):
        monkeypatch.setattr(inference, "is_installed", lambda: False)
        found = choose_inference(CPU, "float32", 2)
        assert (found.openvino, found.gain, found.precision.dtype) == (None, None, "float32")

    def test_gpus_are_left_to_torch(self, monkeypatch):
        monkeypatch.setattr(inference, "is_installed", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))
        found = choose_inference(torch.device("cuda"))
        assert (found.openvino, found.precision.dtype) == (None, "float16")

    def test_a_request_limits_what_is_compared(self, monkeypatch):
        monkeypatch.setattr(inference, "is_installed", lambda: True)
        asked = []

        def compared(precision, reason, dtypes, dimensions):
            asked.append(dtypes)
            return Inference(precision=precision, reason=reason)

        monkeypatch.setattr(inference, "_compared", compared)
        choose_inference(CPU, "float32", 2)
        choose_inference(CPU, "auto", 2)
        choose_inference(CPU, "auto", 2)
        assert asked == [("float32",), ("float32", "bfloat16")]

    def test_where_openvino_does_not_work_torch_computes_and_it_is_said(self, monkeypatch, caplog):
        def broken(*_):
            raise ConversionError("no library")

        monkeypatch.setattr(inference, "is_installed", lambda: True)
        monkeypatch.setattr(inference, "CompiledNetwork", broken)
        assert choose_inference(CPU, "float32", 2).openvino is None
        assert [record.message for record in caplog.records] == [
            "OpenVINO does not work here, torch computes: no library"
        ]

    @pytest.mark.skipif(not is_installed(), reason="openvino is not installed")
    @pytest.mark.parametrize("dimensions", [2, 3])
    def test_openvino_is_measured_where_it_is_installed(self, dimensions):
        torch.manual_seed(7)
        expected = torch.rand(3)
        torch.manual_seed(7)
        found = choose_inference(CPU, "auto", dimensions)
        assert found.gain is not None
        assert "OpenVINO float32" in found.reason
        assert torch.equal(torch.rand(3), expected)


class TestMakeReady:
    def test_where_torch_computes_the_network_stays(self):
        network = nn.Conv2d(1, 2, 1)
        assert make_ready(network, Inference(precision=Precision(), reason=""), SPEC, 1) is network

    def test_openvino_gets_an_example_with_more_than_one_coarsest_voxel(self, monkeypatch):
        monkeypatch.setattr(inference, "CompiledNetwork", lambda network, *rest: rest)
        chosen = Inference(precision=Precision(), openvino="bfloat16", reason="")
        assert make_ready(nn.Conv2d(5, 2, 1), chosen, SPEC, 5) == ("bfloat16", (1, 5, 2, 8))

    def test_a_network_that_cannot_be_converted_is_left_to_torch_in_a_line(
        self, monkeypatch, caplog
    ):
        def broken(*_):
            raise ConversionError("unknown operation")

        monkeypatch.setattr(inference, "CompiledNetwork", broken)
        network = nn.Conv2d(1, 2, 1)
        chosen = Inference(precision=Precision(), openvino="float32", reason="")
        assert make_ready(network, chosen, SPEC, 1) is network
        assert [record.message for record in caplog.records] == [
            "OpenVINO cannot take over the network, torch computes: unknown operation"
        ]
