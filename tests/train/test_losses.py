import numpy as np
import pytest
import torch

from autoseg.train.losses import (
    LOSSES,
    LossOptions,
    cross_entropy,
    deep_supervision_loss,
    soft_dice,
    supervision_weights,
)


def full_batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and labels of the published check."""
    count = 2 * 3 * 4 * 5 * 6
    logits = (2 * np.sin(0.37 * np.arange(count))).reshape(2, 3, 4, 5, 6)
    labels = (np.floor(7 * np.arange(count // 3) / 3) % 3).reshape(2, 4, 5, 6)
    return torch.tensor(logits, dtype=torch.float32), torch.tensor(labels, dtype=torch.int16)


@pytest.mark.parametrize(("batch_dice", "total"), [(True, 0.8797119856), (False, 0.8797137737)])
def test_dice_and_cross_entropy_equal_the_published_values(batch_dice, total):
    logits, labels = full_batch()
    loss = LOSSES.get("dice_ce")(LossOptions(batch_dice=batch_dice))
    assert float(loss(logits, labels)) == pytest.approx(total, abs=2e-6)


def test_cross_entropy_alone_equals_the_published_value():
    logits, labels = full_batch()
    options = LossOptions(batch_dice=True)
    assert float(cross_entropy(logits, labels, options)) == pytest.approx(1.2076935768, abs=2e-6)


@pytest.mark.parametrize(("batch_dice", "total"), [(True, 0.2320858836), (False, 0.2320855260)])
def test_an_ignored_label_counts_nowhere(batch_dice, total):
    logits, labels = full_batch()
    loss = LOSSES.get("dice_ce")(LossOptions(batch_dice=batch_dice, ignore_index=2))
    assert float(loss(logits[:, :2], labels)) == pytest.approx(total, abs=2e-6)


def test_a_batch_without_a_valid_voxel_has_no_cross_entropy():
    logits, labels = full_batch()
    options = LossOptions(batch_dice=True, ignore_index=2)
    nothing = torch.full_like(labels, 2)
    assert float(cross_entropy(logits[:, :2], nothing, options)) == 0.0


@pytest.mark.parametrize("name", list(LOSSES))
@pytest.mark.parametrize("ignore_index", [None, 3])
def test_every_loss_prefers_the_right_answer_and_has_a_gradient(name, ignore_index):
    _, labels = full_batch()
    right = torch.nn.functional.one_hot(labels.long(), 3).permute(0, 4, 1, 2, 3).float() * 8
    wrong = right.roll(1, dims=1).requires_grad_()
    loss = LOSSES.get(name)(LossOptions(batch_dice=True, ignore_index=ignore_index))
    value = loss(wrong, labels)
    value.backward()
    assert loss(right, labels) < value
    assert wrong.grad is not None
    assert bool(torch.isfinite(wrong.grad).all())


def test_perfect_dice_is_minus_one():
    _, labels = full_batch()
    certain = torch.nn.functional.one_hot(labels.long(), 3).permute(0, 4, 1, 2, 3).float() * 100
    assert float(soft_dice(certain, labels, LossOptions(batch_dice=False))) == pytest.approx(-1.0)


@pytest.mark.parametrize(
    ("outputs", "weights"),
    [
        (1, (1.0,)),
        (2, (1.0, 0.0)),
        (3, (2 / 3, 1 / 3, 0.0)),
        (5, (0.533333, 0.266667, 0.133333, 0.066667, 0.0)),
    ],
)
def test_supervision_weights_halve_and_the_coarsest_is_left_out(outputs, weights):
    assert supervision_weights(outputs) == pytest.approx(weights, abs=1e-6)


def test_coarser_outputs_are_compared_with_labels_of_their_size():
    labels = torch.zeros((1, 4, 8, 8), dtype=torch.int16)
    labels[:, :, 4:] = 1
    sizes = [(4, 8, 8), (4, 4, 4), (2, 2, 2)]
    seen = []

    def loss(logits, target):
        seen.append(tuple(target.shape))
        assert target[0, 0, -1, 0] == 1
        assert target[0, 0, 0, 0] == 0
        return logits.sum() * 0 + 1

    outputs = [torch.zeros((1, 2, *size)) for size in sizes]
    assert float(deep_supervision_loss(loss, outputs, labels)) == pytest.approx(1.0)
    assert seen == [(1, 4, 8, 8), (1, 4, 4, 4)]
