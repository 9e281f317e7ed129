from itertools import combinations

import numpy as np
import pytest
import torch

from autoseg.networks.agreement import Agreement
from autoseg.networks.precision import Precision
from autoseg.networks.sliding_window import Window, predict_logits, predict_slabs


class Fixed(torch.nn.Module):
    """Looks at neighbours on one side, so that what is mirrored comes out otherwise."""

    def __init__(self, seed: int, dimensions: int = 3, outputs: int = 3) -> None:
        super().__init__()
        torch.manual_seed(seed)
        kind = torch.nn.Conv2d if dimensions == 2 else torch.nn.Conv3d
        self.convolution = kind(1, outputs, 3, padding=1)

    def forward(self, image):
        return self.convolution(image)


def window(*patch: int, mirror_axes: tuple[int, ...] = (0, 2), outputs: int = 3) -> Window:
    return Window(
        patch_size=patch,
        num_outputs=outputs,
        mirror_axes=mirror_axes,
        precision=Precision(dtype="float32", channels_last=False),
        device=torch.device("cpu"),
    )


def smooth_image(*shape: int) -> torch.Tensor:
    torch.manual_seed(1)
    return torch.nn.functional.avg_pool3d(torch.randn(1, 1, *shape), 3, 1, 1)[0]


def run(networks, image, how: Window, regions: bool = False) -> tuple[Agreement, torch.Tensor]:
    agreement = Agreement(regions)
    slabs = predict_slabs(networks, image, how, agreement=agreement)
    return agreement, torch.cat(list(agreement.watch(slabs)), dim=1)


def winners_of(network, image, how: Window) -> list[np.ndarray]:
    """What each mirrored pass decides, of an image that is one patch."""
    with torch.inference_mode():
        outputs = [network(image.flip(flip)[None])[0].flip(flip) for flip in how.flips]
    return [output.argmax(0).numpy() for output in outputs]


def pairwise(masks: list[np.ndarray]) -> float:
    pairs = list(combinations(masks, 2))
    overlap = sum(2 * (a & b).sum() for a, b in pairs)
    return overlap / sum(a.sum() + b.sum() for a, b in pairs)


def test_mirrors_are_compared_pair_by_pair():
    image, how = smooth_image(9, 12, 7), window(9, 12, 7)
    network = Fixed(0)
    winners = winners_of(network, image, how)

    agreement, _ = run([network], image, how)

    expected = [pairwise([winner == index for winner in winners]) for index in (1, 2)]
    assert agreement.mirrors == pytest.approx(expected)
    assert 0.05 < min(expected) < 0.95


def test_networks_are_compared_by_their_mean_over_mirrors():
    image, how = smooth_image(9, 12, 7), window(9, 12, 7)
    networks = [Fixed(seed) for seed in range(3)]
    winners = [predict_logits(one, image, how).argmax(0).numpy() for one in networks]

    agreement, _ = run(networks, image, how)

    expected = [pairwise([winner == index for winner in winners]) for index in (1, 2)]
    assert agreement.folds == pytest.approx(expected)


def test_the_expected_dice_takes_the_probabilities_at_their_word():
    image = smooth_image(20, 12, 17)
    agreement, logits = run([Fixed(2)], image, window(8, 8, 8))
    likely, winner = logits.softmax(0).numpy(), logits.argmax(0).numpy()
    expected = [
        2 * likely[i][winner == i].sum() / (likely[i].sum() + (winner == i).sum()) for i in (1, 2)
    ]
    assert agreement.expected == pytest.approx(expected, rel=1e-5)


def test_regions_decide_each_for_itself():
    image, how = smooth_image(9, 12, 7), window(9, 12, 7, outputs=2)
    network = Fixed(4, outputs=2)
    with torch.inference_mode():
        found = [
            (network(image.flip(flip)[None])[0].flip(flip) > 0).numpy()
            for flip in how.flips
        ]

    agreement, logits = run([network], image, how, regions=True)

    assert agreement.mirrors == pytest.approx([pairwise([f[i] for f in found]) for i in (0, 1)])
    likely, decided = logits.sigmoid().numpy(), logits.numpy() > 0
    assert agreement.expected == pytest.approx(
        [2 * (p * d).sum() / (p.sum() + d.sum()) for p, d in zip(likely, decided, strict=True)],
        rel=1e-5,
    )


@pytest.mark.parametrize("patch", [(6, 5, 4), (6, 30, 4), (5, 4)])
def test_every_voxel_counts_once_however_tiles_overlap(patch):
    """Of a network that decides for one class everywhere, each pass decides for all voxels."""
    image, how = smooth_image(13, 11, 10), window(*patch, mirror_axes=(1,), outputs=2)
    network = Fixed(0, len(patch), outputs=2)
    torch.nn.init.zeros_(network.convolution.weight)
    network.convolution.bias.data = torch.tensor([-1.0, 1.0])

    agreement, _ = run([network], image, how)

    assert agreement.mirrors == [1.0]
    assert agreement._mirrors._sum.tolist() == [2 * 13 * 11 * 10]


def test_tiles_do_not_change_what_a_network_without_margins_agrees_on():
    class Pointwise(Fixed):
        def forward(self, image):
            ramp = torch.linspace(0, 0.2, image.shape[-1])
            return torch.stack([image[:, 0] * 0, image[:, 0] + 0.05, ramp - image[:, 0]], dim=1)

    image = smooth_image(16, 16, 8)
    whole, _ = run([Pointwise(0)], image, window(16, 16, 8, mirror_axes=(2,)))
    tiled, _ = run([Pointwise(0)], image, window(8, 6, 8, mirror_axes=(2,)))
    assert tiled.mirrors == pytest.approx(whole.mirrors)


def test_what_there_is_one_of_is_not_compared():
    agreement, _ = run([Fixed(0)], smooth_image(9, 12, 7), window(9, 12, 7, mirror_axes=()))
    assert (agreement.mirrors, agreement.folds) == ([], [])
    assert len(agreement.expected) == 2


def test_a_structure_nobody_decides_for_has_no_agreement():
    network = Fixed(0)
    network.convolution.bias.data[2] = -100
    agreement, _ = run([network, network], smooth_image(9, 12, 7), window(9, 12, 7))
    for values in (agreement.mirrors, agreement.folds, agreement.expected):
        assert values[0] is not None
        assert values[1] is None


def test_logits_are_the_same_whether_anybody_watches():
    image, how = smooth_image(20, 12, 17), window(8, 8, 8)
    networks = [Fixed(0), Fixed(1)]
    _, watched = run(networks, image, how)
    alone = torch.cat(list(predict_slabs(networks, image, how)), dim=1)
    torch.testing.assert_close(watched, alone, rtol=0, atol=0)


def test_many_classes_are_looked_at_in_some_rows_only(monkeypatch):
    rows: list[int] = []
    look = Agreement._expect
    monkeypatch.setattr(
        Agreement, "_expect", lambda self, row: (rows.append(len(row)), look(self, row))
    )
    image = smooth_image(20, 12, 17)
    run([Fixed(0, outputs=41)], image, window(20, 12, 17, mirror_axes=(), outputs=41))
    assert rows == [41] * 2  # of 20: 41 values per voxel are more than ten times what is allowed


def test_without_room_on_the_gpu_the_result_is_made_all_the_same(monkeypatch):
    def full(*_: object) -> torch.Tensor:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(Agreement, "_votes", full)
    image, how = smooth_image(9, 12, 7), window(9, 12, 7)
    agreement, logits = run([Fixed(0), Fixed(1)], image, how)
    assert (agreement.mirrors, agreement.folds) == ([], [])
    alone = torch.cat(list(predict_slabs([Fixed(0), Fixed(1)], image, how)), dim=1)
    torch.testing.assert_close(logits, alone, rtol=0, atol=0)
