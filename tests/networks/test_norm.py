import pytest
import torch
from torch.nn import functional

from autoseg.networks.norm import InstanceNorm

SLOPE = 0.01
LAYOUTS = {
    (3, 5, 6, 4, 7): torch.channels_last_3d,
    (2, 5, 1, 3, 2): torch.channels_last_3d,
    (3, 1, 4, 6, 5): torch.channels_last_3d,
    (2, 6, 9, 8): torch.channels_last,
}


def features(shape: tuple[int, ...], channels_last: bool, dtype=torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    values = torch.randn(shape, generator=generator) * 1.5 + torch.arange(shape[1]).view(
        1, -1, *(1,) * (len(shape) - 2)
    )
    layout = LAYOUTS[shape] if channels_last else torch.contiguous_format
    return values.to(dtype).contiguous(memory_format=layout)


def norm(channels: int, slope: float, dtype=torch.float32) -> InstanceNorm:
    made = InstanceNorm(channels, slope)
    with torch.no_grad():
        made.weight.copy_(torch.linspace(-0.5, 1.5, channels))
        made.bias.copy_(torch.linspace(0.3, -0.4, channels))
    return made.to(dtype)


def expected(given: torch.Tensor, made: InstanceNorm) -> torch.Tensor:
    """By the definition, in float64."""
    axes = tuple(range(2, given.ndim))
    values = given.double()
    centred = values - values.mean(axes, keepdim=True)
    normal = centred / (centred.square().mean(axes, keepdim=True) + 1e-5).sqrt()
    shape = (1, -1, *(1,) * len(axes))
    scaled = normal * made.weight.double().view(shape) + made.bias.double().view(shape)
    return torch.where(scaled > 0, scaled, scaled * made.negative_slope)


@pytest.mark.parametrize("slope", [SLOPE, 1.0])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("shape", LAYOUTS)
class TestInstanceNorm:
    def test_follows_the_definition(self, shape, channels_last, slope):
        made, given = norm(shape[1], slope), features(shape, channels_last)
        result = made(given)
        torch.testing.assert_close(result.double(), expected(given, made), rtol=1e-6, atol=2e-6)
        assert result.stride() == given.stride()

    def test_its_gradients_are_those_of_the_definition(self, shape, channels_last, slope):
        made = norm(shape[1], slope, torch.float64)
        given = features(shape, channels_last, torch.float64).requires_grad_()
        pull = torch.sin(torch.arange(given.numel(), dtype=torch.float64)).view(shape)
        inputs = (given, made.weight, made.bias)
        found = torch.autograd.grad((made(given) * pull).sum(), inputs)
        wanted = torch.autograd.grad((expected(given, made) * pull).sum(), inputs)
        torch.testing.assert_close(found, wanted)

    def test_bfloat16_features_are_normalized_in_float32(self, shape, channels_last, slope):
        made, given = norm(shape[1], slope), features(shape, channels_last, torch.bfloat16)
        result = made(given)
        assert result.dtype is torch.bfloat16
        exact = expected(given, made)
        torch.testing.assert_close(result.double(), exact, rtol=2**-8, atol=1e-3)

    def test_without_gradients_the_result_takes_the_place_of_the_features(
        self, shape, channels_last, slope
    ):
        made, given = norm(shape[1], slope), features(shape, channels_last)
        wanted = made(given).detach()
        with torch.inference_mode():
            result = made(given)
        assert result.data_ptr() == given.data_ptr()
        assert torch.equal(result, wanted)


@pytest.mark.parametrize("channels_last", [False, True])
def test_the_gradient_passes_a_numerical_check(channels_last: bool):
    made = norm(3, SLOPE, torch.float64)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    given = torch.randn(2, 3, 2, 4, generator=torch.Generator().manual_seed(0)).double()
    given = given.contiguous(memory_format=layout).requires_grad_()

    def compute(values, weight, bias):
        return torch.func.functional_call(made, {"weight": weight, "bias": bias}, (values,))

    assert torch.autograd.gradcheck(compute, (given, made.weight, made.bias))


def test_millions_of_voxels_do_not_cost_digits():
    made = InstanceNorm(2)
    generator = torch.Generator().manual_seed(0)
    given = torch.randn(1, 2, 90, 150, 130, generator=generator) * 3 + 20
    given = given.contiguous(memory_format=torch.channels_last_3d)
    wanted = expected(given, made)
    torch.testing.assert_close(made(given).double(), wanted, rtol=2e-5, atol=2e-5)


def test_a_gradient_in_any_layout_is_taken():
    made, given = norm(5, SLOPE), features((3, 5, 6, 4, 7), channels_last=True)
    given.requires_grad_()
    made(given).mean().backward()
    by_expansion = given.grad
    given.grad = None
    made(given).backward(torch.full(given.shape, 1 / given.numel()))
    torch.testing.assert_close(given.grad, by_expansion)


def test_it_keeps_no_more_than_its_input_and_output():
    made, given = norm(5, SLOPE), features((3, 5, 6, 4, 7), channels_last=True)
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        made(given)
    assert sorted(kept.values())[-2:] == [given.numel()] * 2
    assert sum(kept.values()) - 2 * given.numel() < 50


@pytest.mark.filterwarnings("ignore:.torch.jit.trace:DeprecationWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_other_devices_and_exporters_get_operations_they_know():
    made, given = norm(5, SLOPE), features((3, 5, 6, 4, 7), channels_last=False)
    wanted = functional.leaky_relu(
        functional.instance_norm(given, weight=made.weight, bias=made.bias), SLOPE
    )
    traced = torch.jit.trace(made, given)
    assert torch.equal(traced(given), wanted)
    assert "instance_norm" in str(traced.graph)
    exported = torch.export.export(made, (given,))
    assert torch.equal(exported.module()(given), wanted)
    assert made.to("meta")(given.to("meta")).shape == given.shape


def test_a_single_voxel_is_refused():
    with pytest.raises(ValueError, match=r"one voxel per channel cannot be normalized"):
        InstanceNorm(4)(torch.zeros(2, 4, 1, 1, 1))
