import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name for it

from autoseg.errors import AutosegError
from autoseg.train.objective.losses import (
    LOSSES,
    LossOptions,
    deep_supervision_loss,
    supervision_weights,
)

CLASSES = 3
IGNORE = CLASSES
SHAPES = [(1, 5, 7), (3, 4, 6), (1, 3, 4, 5), (2, 4, 3, 5)]
"""Batch and space of labels, in 2D and 3D."""

each_loss = pytest.mark.parametrize("name", list(LOSSES))
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)
with_and_without_ignore = pytest.mark.parametrize("ignore_index", [None, IGNORE])
per_batch_and_sample = pytest.mark.parametrize("batch_dice", [True, False])


def make(name, *, batch_dice=True, ignore_index=None):
    options = LossOptions(
        batch_dice=batch_dice, ignore_index=ignore_index, class_weights=(0.2, 0.8, 2.0)
    )
    return LOSSES.get(name)(options)


def drawn(shape, ignore_index=None, seed=0, dtype=torch.float32):
    """Logits and labels; with an ignore label, about a fifth of the voxels have it."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn((shape[0], CLASSES, *shape[1:]), generator=generator, dtype=dtype)
    labels = torch.randint(0, CLASSES, shape, generator=generator).to(torch.int16)
    if ignore_index is not None:
        labels[torch.rand(shape, generator=generator) < 0.2] = ignore_index
    return logits, labels


def answer(labels, confidence, shift=0):
    """Logits that give every voxel its class (shift 0) or another one; ignored ones the first."""
    known = (labels.long() * (labels < CLASSES) + shift) % CLASSES
    return F.one_hot(known, CLASSES).movedim(-1, 1).float().contiguous() * confidence


def value_and_gradient(loss, logits, labels):
    logits = logits.clone().requires_grad_()
    value = loss(logits, labels)
    value.backward()
    return value.detach(), logits.grad


def full_batch():
    """Logits and labels of the published check."""
    count = 2 * 3 * 4 * 5 * 6
    logits = (2 * np.sin(0.37 * np.arange(count))).reshape(2, 3, 4, 5, 6)
    labels = (np.floor(7 * np.arange(count // 3) / 3) % 3).reshape(2, 4, 5, 6)
    return torch.tensor(logits, dtype=torch.float32), torch.tensor(labels, dtype=torch.int16)


@pytest.mark.parametrize(("batch_dice", "total"), [(True, 0.8797119856), (False, 0.8797137737)])
def test_dice_and_cross_entropy_equal_the_published_values(batch_dice, total):
    assert float(make("dice_ce", batch_dice=batch_dice)(*full_batch())) == pytest.approx(
        total, abs=2e-6
    )


@pytest.mark.parametrize(
    ("name", "batch_dice", "published"),
    [("ce", True, 1.2076935768), ("dice", True, -0.3279815912), ("dice", False, -0.3279798031)],
)
def test_either_half_alone_equals_the_published_value(name, batch_dice, published):
    value = make(name, batch_dice=batch_dice)(*full_batch())
    assert float(value) == pytest.approx(published, abs=2e-6)


@pytest.mark.parametrize(("batch_dice", "total"), [(True, 0.2320858836), (False, 0.2320855260)])
def test_an_ignored_label_counts_as_in_the_published_values(batch_dice, total):
    logits, labels = full_batch()
    loss = LOSSES.get("dice_ce")(LossOptions(batch_dice=batch_dice, ignore_index=2))
    assert float(loss(logits[:, :2], labels)) == pytest.approx(total, abs=2e-6)


@each_loss
@each_shape
@with_and_without_ignore
@per_batch_and_sample
def test_a_loss_is_lower_for_the_right_answer(name, shape, ignore_index, batch_dice):
    _, labels = drawn(shape, ignore_index)
    loss = make(name, batch_dice=batch_dice, ignore_index=ignore_index)
    values = [float(loss(answer(labels, 8.0, shift), labels)) for shift in (0, 1, 2)]
    assert values[0] < min(values[1:]) - 0.1


@each_loss
@each_shape
@with_and_without_ignore
@per_batch_and_sample
def test_a_gradient_is_that_of_the_value(name, shape, ignore_index, batch_dice):
    logits, labels = drawn(shape, ignore_index, dtype=torch.float64)
    loss = make(name, batch_dice=batch_dice, ignore_index=ignore_index)
    direction = drawn(shape, seed=1, dtype=torch.float64)[0]
    _, gradient = value_and_gradient(loss, logits, labels)

    step = 1e-5 * direction
    slope = (loss(logits + step, labels) - loss(logits - step, labels)) / 2e-5

    assert float((gradient * direction).sum()) == pytest.approx(float(slope), rel=1e-6, abs=1e-9)


@each_loss
@each_shape
@per_batch_and_sample
def test_ignored_voxels_change_neither_value_nor_gradient(name, shape, batch_dice):
    logits, labels = drawn(shape, IGNORE)
    ignored = (labels == IGNORE)[:, None]
    noise = 1e4 * drawn(shape, seed=1)[0]
    loss = make(name, batch_dice=batch_dice, ignore_index=IGNORE)

    value, gradient = value_and_gradient(loss, logits, labels)
    same, same_gradient = value_and_gradient(loss, logits + noise * ignored, labels)

    assert ignored.any()
    assert same == value
    assert torch.equal(same_gradient, gradient)
    assert not (gradient * ignored).any()


@each_loss
@each_shape
@per_batch_and_sample
def test_a_batch_without_a_valid_voxel_has_no_loss_and_no_gradient(name, shape, batch_dice):
    logits, labels = drawn(shape)
    loss = make(name, batch_dice=batch_dice, ignore_index=IGNORE)
    value, gradient = value_and_gradient(loss, logits, torch.full_like(labels, IGNORE))
    assert float(value) == 0.0
    assert torch.equal(gradient, torch.zeros_like(logits))


@each_loss
@with_and_without_ignore
@pytest.mark.parametrize("present", [(0,), (0, 1), (2,)], ids=str)
@pytest.mark.parametrize("shift", [0, 1], ids=["right", "wrong"])
def test_absent_classes_and_confident_logits_give_finite_numbers(
    name, ignore_index, present, shift
):
    shape = SHAPES[-1]
    labels = torch.tensor(present, dtype=torch.int16)[drawn(shape)[1].long() % len(present)]
    if ignore_index is not None:
        labels[:, 0] = ignore_index
    logits = answer(labels, 2e4, shift) - 1e4
    value, gradient = value_and_gradient(make(name, ignore_index=ignore_index), logits, labels)
    assert torch.isfinite(value)
    assert torch.isfinite(gradient).all()


@each_loss
@with_and_without_ignore
def test_the_order_of_the_memory_does_not_matter(name, ignore_index):
    logits, labels = drawn((2, 4, 3, 5), ignore_index)
    loss = make(name, ignore_index=ignore_index)
    value, gradient = value_and_gradient(loss, logits, labels)
    last = logits.contiguous(memory_format=torch.channels_last_3d)
    same, same_gradient = value_and_gradient(loss, last, labels)
    assert float(same) == pytest.approx(float(value), rel=1e-6)
    torch.testing.assert_close(same_gradient, gradient)


@each_loss
@pytest.mark.parametrize("kind", [torch.int8, torch.uint8, torch.int64])
def test_labels_may_be_of_any_integer_type(name, kind):
    logits, labels = drawn((2, 4, 3, 5), IGNORE)
    loss = make(name, ignore_index=IGNORE)
    assert loss(logits, labels.to(kind)) == loss(logits, labels)


@each_loss
@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_reckoned_with_in_float32(name, kind):
    logits, labels = drawn((2, 4, 3, 5))
    logits = logits.to(kind).requires_grad_()
    loss = make(name)

    value = deep_supervision_loss(loss, [logits], labels)
    value.backward()
    same, gradient = value_and_gradient(loss, logits.detach().float(), labels)

    assert value.dtype is torch.float32
    assert float(value.detach()) == pytest.approx(float(same), rel=1e-6)
    assert logits.grad is not None
    assert torch.equal(logits.grad, gradient.to(kind))


@each_loss
def test_validation_needs_no_gradient(name):
    logits, labels = drawn((2, 4, 3, 5))
    loss = make(name)
    with torch.inference_mode():
        value = loss(logits, labels)
    assert value == loss(logits, labels)


def test_losses_of_plug_ins_get_float32():
    seen = []

    def loss(logits, labels):
        seen.append(logits.dtype)
        return logits.sum()

    logits, labels = drawn((1, 4, 6))
    deep_supervision_loss(loss, [logits.bfloat16()], labels)
    assert seen == [torch.float32]


def test_an_unknown_loss_names_the_nearest():
    with pytest.raises(AutosegError, match=r"no loss named 'tverski'; did you mean 'tversky'\?"):
        LOSSES.get("tverski")


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


@pytest.mark.parametrize(
    ("fine", "coarse"),
    [((4, 8, 8), (4, 4, 4)), ((7, 9, 5), (4, 5, 3)), ((6, 15), (3, 4))],
    ids=str,
)
def test_coarser_outputs_are_compared_with_the_nearest_labels(fine, coarse):
    labels = torch.arange(2 * np.prod(fine), dtype=torch.int32).reshape(2, *fine)
    seen = []

    def loss(logits, target):
        seen.append(target)
        return logits.sum() * 0 + 1

    outputs = [torch.zeros((2, 2, *size)) for size in (fine, coarse, coarse)]
    total = deep_supervision_loss(loss, outputs, labels)

    nearest = F.interpolate(labels[:, None].double(), size=coarse, mode="nearest-exact")[:, 0]
    assert float(total) == pytest.approx(1.0)
    assert len(seen) == 2
    assert torch.equal(seen[0], labels)
    assert torch.equal(seen[1], nearest.to(labels.dtype))


def test_the_outputs_of_deep_supervision_are_weighted():
    logits, labels = drawn((2, 4, 6, 8))
    coarse = logits[..., ::2, ::2, ::2]
    coarse_labels = labels[:, 1::2, 1::2, 1::2]
    loss = make("dice_ce")
    total = deep_supervision_loss(loss, [logits, coarse, coarse[..., :1]], labels)
    expected = 2 / 3 * loss(logits, labels) + 1 / 3 * loss(coarse, coarse_labels)
    assert float(total) == pytest.approx(float(expected), rel=1e-6)
