"""Losses where only some classes were annotated, beside an implementation that keeps it all."""

import pytest
import torch

from autoseg.errors import AutosegError
from autoseg.train.objective import comparison
from autoseg.train.objective.losses import (
    LOSSES,
    LossOptions,
    deep_supervision_loss,
    refuse_unknown,
)
from autoseg.train.objective.partial_comparison import compare_known_classes

CLASSES = 4
IGNORE = CLASSES
WEIGHTS = (0.5, 1.0, 2.0, 4.0)
SUMS = ("overlap", "predicted", "actual", "surprise", "voxel_surprise")
KNOWN = torch.tensor(
    [[True, True, False, False], [True, False, True, False], [True, True, True, False]]
)
"""Class 3 was annotated nowhere."""

each_loss = pytest.mark.parametrize("name", list(LOSSES))
per_batch_and_sample = pytest.mark.parametrize("batch_dice", [True, False])


def drawn(seed=0, shape=(3, 2, 3, 4), dtype=torch.float64):
    """Logits, and labels that show only what is known of a truth."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn((shape[0], CLASSES, *shape[1:]), generator=generator, dtype=dtype)
    truth = torch.randint(0, CLASSES, shape, generator=generator)
    labels = truth * KNOWN.gather(1, truth.flatten(1)).view(shape)
    labels[:, 1, 2] = IGNORE
    return logits, labels.to(torch.int16)


def make(name, batch_dice=True, ignore_index=IGNORE):
    options = LossOptions(batch_dice=batch_dice, ignore_index=ignore_index, class_weights=WEIGHTS)
    return LOSSES.get(name)(options)


def merged(logits):
    """Logits of the background or any class that is not known; minus infinity for those."""
    samples = []
    for x, known in zip(logits, KNOWN, strict=True):
        rest = [0, *(~known).nonzero().flatten().tolist()]
        columns = list(x)
        columns[0] = torch.logsumexp(x[rest], 0)
        for unknown in rest[1:]:
            columns[unknown] = torch.full_like(x[0], -1e30)
        samples.append(torch.stack(columns))
    return torch.stack(samples)


def naive(logits, labels):
    """The sums of a comparison from arrays of the full size, by ordinary differentiation."""
    valid = labels != IGNORE
    true = torch.nn.functional.one_hot(labels.long() * valid, CLASSES).movedim(-1, 1)
    true = true * valid[:, None]
    log_p = torch.log_softmax(merged(logits), 1)
    p = log_p.exp() * KNOWN[..., None, None, None]
    costs = -log_p.masked_fill(true == 0, 0)
    space = (2, 3, 4)
    return {
        "overlap": (p * true).sum(space),
        "predicted": (p * valid[:, None]).sum(space),
        "actual": true.double().sum(space),
        "surprise": costs.sum(space),
        "voxel_surprise": costs.sum(1).flatten(1),
    }


@pytest.mark.parametrize("piece", [16, 60, 1 << 20])
@pytest.mark.parametrize("name", SUMS)
def test_sums_and_gradients_equal_those_of_merged_classes(monkeypatch, piece, name):
    monkeypatch.setattr(comparison, "_CPU_ELEMENTS", piece)
    logits, labels = drawn()
    first, second = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    found = getattr(compare_known_classes(first, labels, KNOWN, IGNORE), name)
    expected = naive(second, labels)[name]
    torch.testing.assert_close(found, expected)
    if name != "actual":
        upstream = torch.rand(found.shape, generator=torch.Generator().manual_seed(1)).double()
        found.backward(upstream)
        expected.backward(upstream)
        torch.testing.assert_close(first.grad, second.grad)


def ratio_mean(logits, labels, batch_dice):
    """Soft Dice of what is known: pairs of sample and class, or classes of the whole batch."""
    sums = naive(logits, labels)
    parts = [sums["overlap"], sums["predicted"], sums["actual"]]
    known = KNOWN.clone()
    if batch_dice:
        parts = [values.sum(0, keepdim=True) for values in parts]
        known = known.any(0, keepdim=True)
    overlap, predicted, actual = (values[:, 1:][known[:, 1:]] for values in parts)
    return -((2 * overlap + 1e-5) / (predicted + actual + 1e-5)).mean()


@per_batch_and_sample
@pytest.mark.parametrize("seed", range(3))
def test_dice_and_cross_entropy_leave_out_what_nobody_annotated(batch_dice, seed):
    logits, labels = drawn(seed)
    costs = naive(logits, labels)["voxel_surprise"][(labels != IGNORE).flatten(1)]
    expected = ratio_mean(logits, labels, batch_dice) + costs.mean()
    value = make("dice_ce", batch_dice)(logits, labels, KNOWN)
    assert float(value) == pytest.approx(float(expected), rel=1e-9)


@each_loss
@per_batch_and_sample
def test_gradients_are_those_of_the_value(name, batch_dice):
    logits, labels = drawn()
    loss = make(name, batch_dice)
    x = logits.clone().requires_grad_()
    loss(x, labels, KNOWN).backward()
    numeric = torch.zeros_like(logits)
    for place in range(logits.numel()):
        step = torch.zeros(logits.numel(), dtype=torch.float64)
        step[place] = 1e-6
        step = step.view(logits.shape)
        high, low = loss(logits + step, labels, KNOWN), loss(logits - step, labels, KNOWN)
        numeric.view(-1)[place] = (high - low) / 2e-6
    torch.testing.assert_close(x.grad, numeric, rtol=1e-5, atol=1e-8)


@each_loss
@per_batch_and_sample
def test_with_all_known_nothing_changes(name, batch_dice):
    logits, labels = drawn()
    first, second = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    loss = make(name, batch_dice)
    value = loss(first, labels, torch.ones_like(KNOWN))
    same = loss(second, labels)
    value.backward()
    same.backward()
    torch.testing.assert_close(value, same)
    torch.testing.assert_close(first.grad, second.grad)


@each_loss
def test_what_is_not_known_may_be_taken_for_any_of_its_classes(name):
    """Moving probability between background and classes nobody looked for costs nothing."""
    logits, labels = drawn()
    moved = logits.clone()
    moved[2, 3], moved[2, 0] = logits[2, 0], logits[2, 3]
    value, same = (make(name)(x, labels, KNOWN) for x in (logits, moved))
    torch.testing.assert_close(value, same)


def test_a_voxel_of_a_class_that_is_not_known_counts_as_the_rest():
    logits, labels = drawn()
    strange = labels.clone()
    strange[0][labels[0] == 0] = 3
    value, same = (make("dice_ce")(logits, y, KNOWN) for y in (labels, strange))
    assert value == same


def test_a_class_annotated_nowhere_is_pushed_nowhere_by_voxels_of_others():
    labels = torch.zeros((1, 2, 5), dtype=torch.int16)
    known = torch.tensor([[True, True, False]])
    logits = torch.zeros((1, 3, 2, 5), requires_grad=True)
    loss = LOSSES.get("ce")(LossOptions(batch_dice=True))
    loss(logits, labels, known).backward()
    # Background and class 2 rise alike, as either may be what is there.
    torch.testing.assert_close(logits.grad[:, 0], logits.grad[:, 2])
    assert (logits.grad[:, 0] < 0).all()
    assert (logits.grad[:, 1] > 0).all()


@each_loss
@pytest.mark.parametrize("confidence", [2e4, -2e4])
def test_confident_logits_give_finite_numbers_where_little_is_known(name, confidence):
    _, labels = drawn()
    shown = torch.nn.functional.one_hot(labels.long() % CLASSES, CLASSES).movedim(-1, 1)
    logits = (confidence * shown.float()).requires_grad_()
    value = make(name)(logits, labels, KNOWN)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_half_precision_is_reckoned_with_in_float32(kind):
    logits, labels = drawn(dtype=torch.float32)
    half = logits.to(kind).requires_grad_()
    value = make("dice_ce")(half, labels, KNOWN)
    value.backward()
    assert value.dtype is torch.float32
    assert half.grad.dtype is kind
    torch.testing.assert_close(value, make("dice_ce")(half.detach().float(), labels, KNOWN))


def test_coarser_outputs_know_no_more():
    logits, labels = drawn(shape=(3, 4, 6, 8), dtype=torch.float32)
    coarse = logits[..., ::2, ::2, ::2]
    loss = make("dice_ce")
    total = deep_supervision_loss(loss, [logits, coarse, coarse[..., :1]], labels, KNOWN)
    nearest = loss(coarse, labels[:, 1::2, 1::2, 1::2], KNOWN)
    expected = 2 / 3 * loss(logits, labels, KNOWN) + 1 / 3 * nearest
    assert float(total) == pytest.approx(float(expected), rel=1e-6)


def test_a_label_that_means_nothing_is_refused():
    logits, labels = drawn()
    labels[0, 0, 0, :2] = 9
    with pytest.raises(ValueError, match="2 labels are neither a class nor ignored"):
        compare_known_classes(logits, labels, KNOWN, IGNORE)


def mean_logit(logits, labels):
    del labels
    return logits.mean()


def test_a_loss_of_a_plug_in_is_refused_where_not_all_is_known():
    logits, labels = drawn()
    assert deep_supervision_loss(mean_logit, [logits.float()], labels).isfinite()
    with pytest.raises(AutosegError, match="'mean_logit' cannot train on cases in which only"):
        deep_supervision_loss(mean_logit, [logits], labels, KNOWN)
    with pytest.raises(AutosegError, match=r"the loss 'mine' cannot .* --loss dice_ce"):
        refuse_unknown(mean_logit, "mine")
    refuse_unknown(make("dice_ce"), "dice_ce")
