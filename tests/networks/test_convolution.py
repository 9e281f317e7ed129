import pytest
import torch
from torch import Tensor, nn

from autoseg.networks.convolution import Convolution2d, Convolution3d, has_wrong_gradients


def leave_numbers_behind() -> None:
    """Fill memory with NaN and free it, so that what is read unset becomes visible."""
    for size in (1_000, 10_000, 100_000, 300_000, 1_000_000):
        torch.full((size,), torch.nan)


def gradient(convolution: nn.Module, features: Tensor, dtype: torch.dtype | None) -> Tensor:
    convolution.zero_grad()
    leave_numbers_behind()
    with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
        result = convolution(features)
    generator = torch.Generator().manual_seed(1)
    result.float().backward(torch.randn(result.shape, generator=generator))
    assert isinstance(convolution.weight, nn.Parameter)
    assert convolution.weight.grad is not None
    return convolution.weight.grad.clone()


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize(
    ("size", "stride"),
    [((2, 8, 8), 1), ((2, 2, 2), 1), ((6, 1, 6), 2), ((6, 6, 1), 2), ((5, 7, 5), 1), ((6, 8), 1)],
)
def test_gradients_in_bfloat16_are_those_in_float32(size, stride, channels_last):
    torch.manual_seed(0)
    make = {2: Convolution2d, 3: Convolution3d}[len(size)]
    convolution = make(16, 32, 3, stride, 1)
    layout = {2: torch.channels_last, 3: torch.channels_last_3d}[len(size)]
    features = torch.randn(2, 16, *size)
    if channels_last:
        features = features.contiguous(memory_format=layout)
        convolution = convolution.to(memory_format=layout)
    exact = gradient(convolution, features, None)
    for _ in range(3):
        found = gradient(convolution, features, torch.bfloat16)
        assert (found - exact).abs().max() < 0.05 * exact.abs().max()


def test_only_thin_features_are_computed_in_float32():
    convolution = Convolution3d(4, 4, 3, padding=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert convolution(torch.zeros(1, 4, 2, 8, 8)).dtype is torch.float32
        assert convolution(torch.zeros(1, 4, 3, 8, 8)).dtype is torch.bfloat16


def test_without_autocast_nothing_is_looked_at():
    assert not has_wrong_gradients(torch.zeros(1, 4, 2, 8, 8), (3, 3, 3))
