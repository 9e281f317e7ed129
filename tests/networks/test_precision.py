from types import SimpleNamespace

import pytest
import torch

from autoseg.errors import AutosegError, UnknownNameError
from autoseg.networks.precision import Precision, autocast, choose, choose_device, place

CPU = torch.device("cpu")


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch):
    """A machine with two CUDA GPUs, capability to be set."""
    capability = [(8, 6)]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability[0])
    return capability


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


class TestChooseDevice:
    @pytest.mark.usefixtures("two_gpus")
    def test_auto_prefers_a_gpu(self):
        assert choose_device("auto") == torch.device("cuda")

    @pytest.mark.usefixtures("no_gpu")
    def test_auto_is_the_cpu_without_one(self):
        assert choose_device("auto") == CPU

    @pytest.mark.usefixtures("two_gpus")
    def test_a_gpu_is_found_by_number(self):
        assert choose_device("cuda:1") == torch.device("cuda", 1)

    @pytest.mark.usefixtures("two_gpus")
    def test_a_gpu_beyond_the_last_is_refused(self):
        with pytest.raises(AutosegError, match=r"no device 'cuda:2' here; .*cuda:0, cuda:1"):
            choose_device("cuda:2")

    @pytest.mark.usefixtures("no_gpu")
    @pytest.mark.parametrize("name", ["cuda", "mps", "gpu"])
    def test_what_is_not_there_is_refused_naming_what_is(self, name: str):
        with pytest.raises(AutosegError) as caught:
            choose_device(name)
        assert str(caught.value) == f"there is no device '{name}' here; choose one of: auto, cpu"


class TestChoose:
    @pytest.mark.parametrize("dimensions", [2, 3])
    def test_a_cpu_is_timed_and_the_reason_says_what_was_measured(self, dimensions: int):
        precision, reason = choose(CPU, "auto", dimensions)
        assert precision.dtype in ("float32", "bfloat16")
        assert reason.startswith(precision.dtype)
        assert " ms" in reason

    def test_the_clearly_fastest_candidate_wins(self, monkeypatch: pytest.MonkeyPatch):
        expected = Precision(dtype="bfloat16", channels_last=True)
        assert self.chosen(monkeypatch, bfloat16=0.4) == expected

    def test_a_small_gain_is_not_worth_it(self, monkeypatch: pytest.MonkeyPatch):
        assert self.chosen(monkeypatch, bfloat16=0.95).dtype == "float32"

    def test_channels_come_last_unless_that_is_clearly_slower(
        self, monkeypatch: pytest.MonkeyPatch
    ):
        assert self.chosen(monkeypatch, channels_last=1.1).channels_last
        assert not self.chosen(monkeypatch, channels_last=1.5).channels_last

    def test_a_hopeless_candidate_is_not_timed_at_full_size(self, monkeypatch: pytest.MonkeyPatch):
        steps: list[tuple[str, int]] = []
        assert self.chosen(monkeypatch, steps, bfloat16=50.0).dtype == "float32"
        assert len({size for _, size in steps}) == 2
        assert len({size for dtype, size in steps if dtype == "bfloat16"}) == 1

    @staticmethod
    def chosen(monkeypatch, steps: list[tuple[str, int]] | None = None, **seconds: float):
        """Let time pass only where a step takes some."""
        clock = [0.0]

        def training_step(precision, device, dimensions, size):
            def step():
                if steps is not None:
                    steps.append((precision.dtype, size))
                layout = seconds.get("channels_last", 1.0) if precision.channels_last else 1.0
                clock[0] += 0.01 * seconds.get(precision.dtype, 1.0) * layout

            return step

        monkeypatch.setattr("autoseg.networks.precision._training_step", training_step)
        monkeypatch.setattr(
            "autoseg.networks.precision.time", SimpleNamespace(perf_counter=lambda: clock[0])
        )
        precision, _ = choose(CPU, "auto", 3)
        return precision

    def test_timing_leaves_the_random_numbers_alone(self):
        torch.manual_seed(7)
        expected = torch.rand(3)
        torch.manual_seed(7)
        choose(CPU, "float32", 2)
        assert torch.equal(torch.rand(3), expected)

    def test_a_request_is_honoured_on_a_cpu(self):
        assert choose(CPU, "bfloat16", 2)[0].dtype == "bfloat16"

    def test_without_a_probe_a_cpu_computes_plainly(self):
        assert choose(CPU, "auto", 3, probe=False)[0] == Precision()

    @pytest.mark.parametrize(
        ("capability", "dtype"),
        [((6, 1), "float32"), ((7, 0), "float16"), ((9, 0), "float16")],
    )
    def test_a_gpu_computes_in_float16_from_tensor_cores_on(self, two_gpus, capability, dtype):
        two_gpus[0] = capability
        precision, reason = choose(torch.device("cuda"), "auto", 3)
        assert precision == Precision(dtype=dtype)
        assert ".".join(map(str, capability)) in reason

    def test_a_gpu_without_bfloat16_refuses_it(self, two_gpus):
        two_gpus[0] = (7, 5)
        with pytest.raises(AutosegError, match=r"capability 7\.5"):
            choose(torch.device("cuda"), "bfloat16", 3)

    def test_a_gpu_with_bfloat16_takes_it_on_request(self, two_gpus):
        two_gpus[0] = (8, 0)
        assert choose(torch.device("cuda"), "bfloat16", 3)[0] == Precision(dtype="bfloat16")

    def test_apple_gpus_compute_in_float32(self):
        assert choose(torch.device("mps"), "auto", 3)[0] == Precision()

    def test_float16_is_refused_on_a_cpu(self):
        with pytest.raises(AutosegError, match="bfloat16"):
            choose(CPU, "float16", 3)

    def test_a_misspelled_precision_is_one_line(self):
        with pytest.raises(UnknownNameError, match="did you mean 'bfloat16'"):
            choose(CPU, "bfloat", 3)


class TestPrecision:
    def test_survives_json(self):
        precision = Precision(dtype="bfloat16", channels_last=True)
        assert Precision.model_validate_json(precision.model_dump_json()) == precision

    @pytest.mark.parametrize("dimensions", [2, 3])
    def test_network_and_batch_share_a_layout(self, dimensions: int):
        network = {2: torch.nn.Conv2d, 3: torch.nn.Conv3d}[dimensions](4, 5, 3)
        precision = Precision(channels_last=True)
        place(network, precision, CPU, dimensions)
        layout = precision.memory_format(dimensions)
        batch = torch.zeros(2, 4, *(5,) * dimensions).contiguous(memory_format=layout)
        assert network.weight.is_contiguous(memory_format=layout)
        assert network(batch).is_contiguous(memory_format=layout)


class TestAutocast:
    def test_convolutions_compute_in_the_precision(self):
        with autocast(Precision(dtype="bfloat16"), CPU):
            assert torch.nn.Conv2d(1, 1, 1)(torch.zeros(1, 1, 2, 3)).dtype == torch.bfloat16

    def test_float32_holds_inside_another_autocast(self):
        with autocast(Precision(dtype="bfloat16"), CPU), autocast(Precision(), CPU):
            assert torch.nn.Conv2d(1, 1, 1)(torch.zeros(1, 1, 2, 3)).dtype == torch.float32
