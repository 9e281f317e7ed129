from itertools import combinations, product

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor, nn

from autoseg.core.progress import silent
from autoseg.errors import AutosegError
from autoseg.networks import sliding_window
from autoseg.networks.alike import alike_tiles
from autoseg.networks.precision import Precision
from autoseg.networks.sliding_window import Window, predict_logits, predict_slabs

CPU = torch.device("cpu")


def window(patch_size, num_outputs, **options) -> Window:
    defaults = {"mirror_axes": (), "precision": Precision(), "device": CPU}
    return Window(patch_size=patch_size, num_outputs=num_outputs, **(defaults | options))


def predict(network, image, patch_size, num_outputs, progress=silent, **options) -> Tensor:
    return predict_logits(network, image, window(patch_size, num_outputs, **options), progress)


class Probe(nn.Module):
    """The image, the patch's mean, and half the image flipped: neither local nor symmetric."""

    def forward(self, image: Tensor) -> Tensor:
        axes = tuple(range(2, image.ndim))
        mean = image.mean(axes, keepdim=True).expand_as(image)
        return torch.cat([image, mean, 0.5 * image.flip(2)], dim=1)


class Constant(nn.Module):
    """The same logits everywhere, whatever the image."""

    logits = (0.3, 0.4, 1.7)

    def forward(self, image: Tensor) -> Tensor:
        logits = torch.tensor(self.logits).view(1, 3, *(1,) * (image.ndim - 2))
        return logits.expand(len(image), 3, *image.shape[2:]).clone()


class Echo(nn.Module):
    """Returns the image itself and remembers the batches it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, image: Tensor) -> Tensor:
        self.seen.append(image.clone())
        return image


def waves(*shape: int) -> Tensor:
    """A wave along the flat index."""
    size = torch.Size(shape).numel()
    return torch.sin(0.03 * torch.arange(size, dtype=torch.float64)).float().view(shape)


def naive_window(image: Tensor, mirror_axes: tuple[int, ...], sums: torch.dtype) -> Tensor:
    """The window of reference/inference.md, for patches of 16 on (1, 30, 12, 25)."""
    gaussian = np.zeros((16, 16, 16))
    gaussian[8, 8, 8] = 1
    gaussian = torch.tensor(ndimage.gaussian_filter(gaussian, 2.0, mode="constant"))
    weights = (gaussian / gaussian.max() * 10).to(sums)
    weights[weights == 0] = weights[weights > 0].min()
    padded = nn.functional.pad(image, (0, 0, 2, 2))
    total, weight = torch.zeros(3, 30, 16, 25, dtype=sums), torch.zeros(30, 16, 25, dtype=sums)
    for z, x in product((0, 7, 14), (0, 4, 9)):
        patch = (..., slice(z, z + 16), slice(0, 16), slice(x, x + 16))
        subsets = [s for n in range(4) for s in combinations([axis + 2 for axis in mirror_axes], n)]
        outputs = [Probe()(padded[None][patch].flip(axes)).flip(axes)[0] for axes in subsets]
        total[patch] += torch.stack(outputs).mean(0) * weights
        weight[patch] += weights
    return (total / weight)[:, :, 2:14]


# Expected numbers: reference/inference.md, section 4.
@pytest.mark.parametrize(
    ("mirror_axes", "means"),
    [
        ((), (0.000145936, 0.000287512, 0.000233036)),
        ((0, 1, 2), (0.000146099, 0.000287512, 0.000233063)),
    ],
)
class TestAgainstTheReference:
    def test_the_naive_window_is_the_reference_when_it_sums_in_float16(self, mirror_axes, means):
        logits = naive_window(waves(1, 30, 12, 25), mirror_axes, torch.float16)
        assert logits.double().mean((1, 2, 3)).tolist() == pytest.approx(means, abs=5e-9)

    def test_the_window_is_the_naive_one_summed_exactly(self, mirror_axes, means):
        image = waves(1, 30, 12, 25)
        logits = predict(Probe(), image, (16, 16, 16), 3, mirror_axes=mirror_axes)
        expected = naive_window(image, mirror_axes, torch.float64)
        assert logits.shape == (3, 30, 12, 25)
        torch.testing.assert_close(logits.double(), expected, atol=3e-4, rtol=0)

    def test_a_voxel_has_the_value_of_the_reference(self, mirror_axes, means):
        image = waves(1, 30, 12, 25)
        logits = predict(Probe(), image, (16, 16, 16), 3, mirror_axes=mirror_axes)
        voxel = (-0.89453125, 0.00083494, 0.31518555)
        assert logits[:, 7, 5, 11].tolist() == pytest.approx(voxel, rel=1e-3)


@pytest.mark.parametrize("patch_size", [(12, 16, 10), (16, 10)])
def test_constant_logits_stay_constant_up_to_the_corners(patch_size):
    image = torch.zeros(1, 20, 33, 26)
    logits = predict(Constant(), image, patch_size, 3, mirror_axes=(0,))
    expected = torch.tensor(Constant.logits).view(3, 1, 1, 1).expand_as(logits)
    torch.testing.assert_close(logits, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("patch_size", [(8, 8, 8), (8, 8)])
@pytest.mark.parametrize("mirror_axes", [(), (1,), (0, 1)])
@pytest.mark.parametrize("patches_per_pass", [1, 5])
def test_every_voxel_comes_back_to_its_place(patch_size, mirror_axes, patches_per_pass):
    image = torch.rand(2, 5, 11, 19, generator=torch.Generator().manual_seed(0))
    logits = predict(
        Echo(), image, patch_size, 2, mirror_axes=mirror_axes, patches_per_pass=patches_per_pass
    )
    torch.testing.assert_close(logits, image, atol=1e-6, rtol=0)
    assert logits.is_contiguous()


def test_a_small_volume_lies_in_the_middle_of_zeros_with_the_odd_one_above():
    network = Echo()
    image = torch.ones(1, 3, 5, 4)
    predict(network, image, (6, 5, 8), 1, mirror_axes=())
    (batch,) = network.seen
    expected = torch.zeros(1, 1, 6, 5, 8)
    expected[:, :, 1:4, :, 2:6] = 1
    assert torch.equal(batch, expected)


def test_a_2d_network_sees_slices_in_batches():
    network = Echo()
    image = waves(2, 7, 6, 9)
    predict(network, image, (6, 9), 2, mirror_axes=(), patches_per_pass=3)
    assert [len(batch) for batch in network.seen] == [3, 3, 1]
    assert torch.equal(torch.cat(network.seen), image.transpose(0, 1))


def test_slices_do_not_influence_each_other():
    image = waves(1, 4, 13, 10)
    logits = predict(Probe(), image, (8, 8), 3, mirror_axes=(0, 1), patches_per_pass=5)
    for index in range(4):
        alone = predict(Probe(), image[:, index : index + 1], (8, 8), 3, mirror_axes=(0, 1))
        torch.testing.assert_close(logits[:, index : index + 1], alone)


def test_mirroring_visits_every_combination_of_axes_once():
    network = Echo()
    image = waves(1, 4, 6, 8)
    predict(network, image, (4, 6, 8), 1, mirror_axes=(0, 2))
    expected = [image[None].flip(axes) for axes in ((), (2,), (4,), (2, 4))]
    assert all(torch.equal(a, b) for a, b in zip(network.seen, expected, strict=True))


class Dropping(nn.Module):
    """Behaves differently in training and with deep supervision."""

    def __init__(self, training: bool, deep_supervision: bool) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)
        self.deep_supervision = deep_supervision
        self.train(training)

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        assert not torch.is_grad_enabled()
        output = self.dropout(image)
        return [output] if self.deep_supervision else output


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("deep_supervision", [True, False])
def test_the_network_predicts_in_evaluation_mode_and_is_left_as_it_was(training, deep_supervision):
    network = Dropping(training, deep_supervision)
    image = waves(1, 4, 6, 8)
    logits = predict(network, image, (4, 6, 8), 1, mirror_axes=())
    torch.testing.assert_close(logits, image)
    assert (network.training, network.deep_supervision) == (training, deep_supervision)
    assert network.dropout.training == training


def test_the_network_is_left_as_it_was_after_a_failure_too():
    network = Dropping(training=True, deep_supervision=True)
    with pytest.raises(AutosegError, match="not finite"):
        predict(network, torch.full((1, 4, 6, 8), torch.nan), (4, 6, 8), 1, mirror_axes=())
    assert network.training
    assert network.deep_supervision


def test_repeating_a_prediction_repeats_every_bit():
    torch.manual_seed(0)
    network = nn.Conv3d(1, 2, 3, padding=1)
    image = waves(1, 9, 13, 10)
    first, second = (
        predict(network, image, (6, 8, 8), 2, mirror_axes=(1,), patches_per_pass=2)
        for _ in range(2)
    )
    assert torch.equal(first, second)


def test_the_network_computes_in_the_precision_and_sums_stay_float32():
    network, dtypes = nn.Conv2d(1, 2, 1), []
    network.register_forward_hook(lambda _, __, output: dtypes.append(output.dtype))
    precision = Precision(dtype="bfloat16", channels_last=True)
    logits = predict(network, waves(1, 2, 6, 8), (6, 8), 2, mirror_axes=(0,), precision=precision)
    assert set(dtypes) == {torch.bfloat16}
    assert logits.dtype == torch.float32


def test_the_result_may_be_changed_in_place():
    logits = predict(nn.Conv2d(1, 2, 1), waves(1, 2, 6, 8), (6, 8), 2, mirror_axes=())
    logits += 1
    assert not logits.requires_grad


def test_progress_counts_patches():
    calls: list[tuple[int, int]] = []

    def progress(done: int, total: int, note: str = "") -> None:
        calls.append((done, total))

    image = waves(1, 3, 4, 6)
    predict(Echo(), image, (4, 4), 1, mirror_axes=(), patches_per_pass=4, progress=progress)
    assert calls == [(4, 6), (6, 6)]


@pytest.mark.parametrize(("shape", "patch_size"), [((4, 6, 8), (4, 6, 8)), ((1, 4, 6, 8), (8,))])
def test_a_wrong_number_of_axes_is_the_callers_mistake(shape, patch_size):
    with pytest.raises(ValueError, match="patch sizes"):
        predict(Echo(), torch.zeros(shape), patch_size, 1, mirror_axes=())


@pytest.mark.parametrize("mirror_axes", [(), (0, 2)])
@pytest.mark.parametrize("patches_per_pass", [1, 7])
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("shape", [(15, 22, 12), (3, 30, 9), (8, 8, 31)])
def test_slabs_along_any_axis_make_the_whole(shape, axis, patches_per_pass, mirror_axes):
    image = torch.rand(1, *shape, generator=torch.Generator().manual_seed(1))
    moved = window((8, 6, 10), 3, mirror_axes=mirror_axes, patches_per_pass=patches_per_pass)
    slabs = list(predict_slabs([Probe()], image, moved, axis))
    logits = torch.cat(slabs, dim=1).movedim(1, axis + 1)
    expected = predict(Probe(), image, (8, 6, 10), 3, mirror_axes=mirror_axes)
    torch.testing.assert_close(logits, expected)
    if shape[axis] > 20:
        assert len(slabs) > 3


@pytest.mark.parametrize("patch_size", [(8, 6, 10), (6, 10)])
def test_logits_of_several_networks_are_averaged(patch_size):
    torch.manual_seed(0)
    convolution = {2: nn.Conv2d, 3: nn.Conv3d}[len(patch_size)]
    networks = [convolution(1, 2, 3, padding=1) for _ in range(3)]
    image = waves(1, 9, 13, 22)
    moved = window(patch_size, 2, mirror_axes=(0,), patches_per_pass=5)
    together = torch.cat(list(predict_slabs(networks, image, moved)), dim=1)
    alone = [predict(one, image, patch_size, 2, mirror_axes=(0,)) for one in networks]
    torch.testing.assert_close(together, torch.stack(alone).mean(0))


def test_patches_of_one_pass_include_mirrored_ones():
    network = Echo()
    image = waves(2, 9, 6, 8)
    predict(network, image, (6, 6, 8), 2, mirror_axes=(0, 1, 2), patches_per_pass=6)
    assert [len(batch) for batch in network.seen] == [6, 2, 6, 2]


def test_slices_are_worked_off_along_the_first_axis_only():
    with pytest.raises(ValueError, match="along axis 1"):
        list(predict_slabs([Echo()], torch.zeros(1, 3, 4, 5), window((4, 5), 1), axis=1))


class ShortOfMemory(Echo):
    """Refuses batches beyond a size, as a GPU would."""

    def __init__(self, largest: int) -> None:
        super().__init__()
        self.largest = largest

    def forward(self, image: Tensor) -> Tensor:
        if len(image) > self.largest:
            raise torch.OutOfMemoryError
        return super().forward(image)


def test_where_memory_is_short_fewer_patches_go_through_a_pass(caplog):
    caplog.set_level("INFO")
    network = ShortOfMemory(2)
    image = waves(1, 9, 6, 8)
    logits = predict(network, image, (6, 6, 8), 1, mirror_axes=(0, 1, 2), patches_per_pass=8)
    torch.testing.assert_close(logits, image, atol=1e-6, rtol=0)
    assert {len(batch) for batch in network.seen} == {2}
    assert [record.message for record in caplog.records] == [
        "the GPU is short of memory: 4 patches per pass",
        "the GPU is short of memory: 2 patches per pass",
    ]


def test_finished_rows_that_do_not_fit_are_divided_in_main_memory(monkeypatch):
    divided, moved = sliding_window._Sweep._divided, []

    def short(sweep, count):
        if not moved:
            raise torch.OutOfMemoryError
        return divided(sweep, count)

    monkeypatch.setattr(sliding_window._Sweep, "_divided", short)
    monkeypatch.setattr(sliding_window._Sweep, "_give_way", moved.append)
    image = waves(1, 9, 6, 8)
    with pytest.raises(torch.OutOfMemoryError):  # they are in main memory already
        predict(Echo(), image, (6, 6, 8), 1)
    assert moved == []


def test_one_patch_that_does_not_fit_is_an_error():
    with pytest.raises(torch.OutOfMemoryError):
        predict(ShortOfMemory(0), waves(1, 9, 6, 8), (6, 6, 8), 1)


def test_other_errors_are_not_taken_for_lack_of_memory():
    class Broken(Echo):
        def forward(self, image: Tensor) -> Tensor:
            raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        predict(Broken(), waves(1, 9, 6, 8), (6, 6, 8), 1, patches_per_pass=4)


class TestTilesThatShowNothing:
    @staticmethod
    def body() -> Tensor:
        """Something in a corner of a wide field that has one value per channel."""
        image = torch.tensor([-0.7, 0.2]).view(2, 1, 1, 1).repeat(1, 26, 22, 34)
        image[:, 2:9, 3:8, 4:11] = waves(2, 7, 5, 7)
        return image

    @pytest.mark.parametrize("patch_size", [(8, 6, 10), (6, 10), (30, 6, 10)])
    @pytest.mark.parametrize("patches_per_pass", [1, 5])
    def test_they_go_through_the_networks_once_and_nothing_changes(
        self, patch_size, patches_per_pass, monkeypatch
    ):
        torch.manual_seed(0)
        convolution = {2: nn.Conv2d, 3: nn.Conv3d}[len(patch_size)]
        networks = [nn.Sequential(Echo(), convolution(2, 3, 3, padding=1)) for _ in range(2)]
        moved = window(patch_size, 3, mirror_axes=(0, 1), patches_per_pass=patches_per_pass)
        axis = 2 if len(patch_size) == 3 else 0
        skipping = torch.cat(list(predict_slabs(networks, self.body(), moved, axis)), dim=1)
        passes = sum(len(batch) for batch in networks[0][0].seen)
        monkeypatch.setattr(sliding_window, "alike_tiles", lambda image, tiles: [])
        plain = torch.cat(list(predict_slabs(networks, self.body(), moved, axis)), dim=1)
        all_passes = sum(len(batch) for batch in networks[0][0].seen) - passes
        torch.testing.assert_close(skipping, plain, atol=1e-6, rtol=1e-6)
        assert passes < 0.7 * all_passes

    def test_they_count_as_done(self):
        calls = []
        network = nn.Conv3d(1, 1, 1)
        image = torch.zeros(1, 16, 8, 8)
        predict(network, image, (8, 8, 8), 1, lambda done, total, note="": calls.append(done))
        assert calls == [1, 2, 3]

    def test_they_are_those_with_one_value_per_channel(self):
        image = self.body()
        tiles = [
            (slice(z, z + 4), slice(y, y + 4), slice(x, x + 4))
            for z, y, x in ((0, 0, 2), (2, 3, 4), (10, 10, 10), (22, 0, 30), (12, 9, 1))
        ]
        assert alike_tiles(image, tiles) == [(10, 10, 10), (22, 0, 30), (12, 9, 1)]
        assert alike_tiles(image, tiles[:3]) == []
        image[:, 10:26] = torch.nan
        assert alike_tiles(image, tiles) == []
