"""Losses of regions beside their formulas, written down decision by decision in float64."""

import math

import numpy as np
import pytest
import torch

from autoseg.train.objective import comparison
from autoseg.train.objective.losses import LOSSES, LossOptions, deep_supervision_loss
from autoseg.train.objective.region_comparison import compare_regions

REGIONS = ((1, 2, 3), (1, 3), (3,))
WEIGHTS = (0.5, 2.0, 8.0)
IGNORE = 4
SMOOTH = 1e-5
KNOWN = torch.tensor([[True, False, True], [True, True, False], [False, False, True]])

each_loss = pytest.mark.parametrize("name", list(LOSSES))
per_batch_and_sample = pytest.mark.parametrize("batch_dice", [True, False])
each_known = pytest.mark.parametrize("known", [None, KNOWN], ids=["all known", "some known"])


def drawn(seed=0, shape=(3, 2, 3, 4), dtype=torch.float64, ignored=True):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn((shape[0], 3, *shape[1:]), generator=generator, dtype=dtype)
    labels = torch.randint(0, 4, shape, generator=generator).to(torch.int16)
    labels[0][labels[0] == 3] = 1
    if ignored:
        labels[:, 1, 2] = IGNORE
    return logits, labels


def make(name, batch_dice=True, ignore_index=IGNORE):
    options = LossOptions(
        batch_dice=batch_dice, ignore_index=ignore_index, class_weights=WEIGHTS, regions=REGIONS
    )
    return LOSSES.get(name)(options)


def decisions(logits, labels, known):
    """``(sample, region, inside, probability)`` of every voxel and region that counts."""
    p = 1 / (1 + np.exp(-logits.numpy().astype(np.float64)))
    for sample, *voxel in np.ndindex(labels.shape):
        label = int(labels[(sample, *voxel)])
        for region, indices in enumerate(REGIONS):
            if label != IGNORE and (known is None or known[sample, region]):
                yield sample, region, label in indices, p[(sample, region, *voxel)]


def volumes(found, batch_dice):
    """Overlap, predicted and actual volume by (group, region)."""
    sums = {}
    for sample, region, inside, p in found:
        volume = sums.setdefault((0 if batch_dice else sample, region), [0.0, 0.0, 0])
        for number, value in enumerate((p * inside, p, inside)):
            volume[number] += value
    return sums


def mean_ratio(ratio):
    def naive(found, batch_dice):
        ratios = [ratio(*volume) for volume in volumes(found, batch_dice).values()]
        return -sum(ratios) / len(ratios)

    return naive


def cost(inside, p):
    return -math.log(p if inside else 1 - p)


def naive_ce(found, batch_dice):
    del batch_dice
    return sum(cost(inside, p) for *_, inside, p in found) / len(found)


def naive_weighted(found, batch_dice):
    del batch_dice
    means = []
    for region, weight in enumerate(WEIGHTS):
        mine = [(weight if i else 1.0, cost(i, p)) for _, r, i, p in found if r == region]
        if mine:
            means.append(sum(w * c for w, c in mine) / sum(w for w, _ in mine))
    return sum(means) / len(means)


def naive_focal(found, batch_dice):
    del batch_dice
    costs = [(cost(inside, p), p if inside else 1 - p) for *_, inside, p in found]
    return sum((1 - true) ** 2 * c for c, true in costs) / len(costs)


def naive_generalised(found, batch_dice):
    groups = {}
    for (group, _), volume in volumes(found, batch_dice).items():
        groups.setdefault(group, []).append(volume)
    ratios = []
    for parts in groups.values():
        smallest = min((a for _, _, a in parts if a), default=1)
        weights = [(smallest / a) ** 2 if a else 1.0 for _, _, a in parts]
        both = sum(2 * w * o for w, (o, _, _) in zip(weights, parts, strict=True))
        volume = sum(w * (p + a) for w, (_, p, a) in zip(weights, parts, strict=True))
        ratios.append((both + SMOOTH) / (volume + SMOOTH))
    return -sum(ratios) / len(ratios)


def naive_hardest(found):
    costs = sorted(cost(inside, p) for *_, inside, p in found)
    count = max(1, int(0.1 * len(costs)))
    return sum(costs[-count:]) / count


naive_dice = mean_ratio(lambda o, p, a: (2 * o + SMOOTH) / (p + a + SMOOTH))
NAIVE = {
    "dice_ce": lambda found, bd: naive_dice(found, bd) + naive_ce(found, bd),
    "dice": naive_dice,
    "ce": naive_ce,
    "weighted_ce": naive_weighted,
    "focal": naive_focal,
    "tversky": mean_ratio(
        lambda o, p, a: (o + SMOOTH) / (o + 0.3 * (p - o) + 0.7 * (a - o) + SMOOTH)
    ),
    "jaccard": mean_ratio(lambda o, p, a: (o + SMOOTH) / (p + a - o + SMOOTH)),
    "generalised_dice": naive_generalised,
    "dice_topk": lambda found, bd: naive_dice(found, bd) + naive_hardest(found),
}


@each_loss
@per_batch_and_sample
@each_known
@pytest.mark.parametrize("seed", [0, 1])
def test_losses_of_regions_follow_their_formulas(name, batch_dice, known, seed):
    logits, labels = drawn(seed)
    expected = NAIVE[name](list(decisions(logits, labels, known)), batch_dice)
    found = make(name, batch_dice)(logits, labels, known)
    assert float(found) == pytest.approx(expected, rel=1e-6)


@each_loss
@per_batch_and_sample
@each_known
def test_gradients_of_regions_are_those_of_the_value(name, batch_dice, known):
    logits, labels = drawn()
    loss = make(name, batch_dice)
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(x, labels, known), logits)


def published():
    """Logits and labels of the published check; the regions are y > 0 and y == 2."""
    count = 2 * 3 * 4 * 5 * 6
    logits = (2 * np.sin(0.37 * np.arange(count))).reshape(2, 3, 4, 5, 6)[:, :2]
    labels = (np.floor(7 * np.arange(count // 3) / 3) % 3).reshape(2, 4, 5, 6)
    return torch.tensor(logits, dtype=torch.float32), torch.tensor(labels, dtype=torch.int16)


def of_two_regions(name, batch_dice, ignore_index=None):
    options = LossOptions(batch_dice=batch_dice, ignore_index=ignore_index, regions=((1, 2), (2,)))
    return LOSSES.get(name)(options)


@pytest.mark.parametrize(
    ("name", "batch_dice", "published_value"),
    [
        ("dice_ce", True, 0.4278256595),
        ("dice_ce", False, 0.4278258085),
        ("ce", True, 0.9158726931),
        ("dice", True, -0.4880470335),
    ],
)
def test_regions_equal_the_published_values(name, batch_dice, published_value):
    loss = of_two_regions(name, batch_dice)
    assert float(loss(*published())) == pytest.approx(published_value, abs=2e-6)


@pytest.mark.parametrize(
    ("batch_dice", "published_value"), [(True, 1.3263471127), (False, 1.3263757229)]
)
def test_ignored_voxels_do_not_multiply_cross_entropy_by_the_number_of_regions(
    batch_dice, published_value
):
    """The published value divides the sum over both regions by the voxels, counted once."""
    logits, labels = published()
    labels.view(-1)[::5] = 3
    dice, ce, both = (
        float(of_two_regions(name, batch_dice, 3)(logits, labels))
        for name in ("dice", "ce", "dice_ce")
    )
    assert dice + 2 * ce == pytest.approx(published_value, abs=2e-6)
    assert both == pytest.approx(dice + ce, abs=1e-6)
    valid = labels != 3
    regions = torch.stack([labels > 0, labels == 2], 1)
    costs = torch.nn.functional.binary_cross_entropy_with_logits(
        logits.double(), regions.double(), reduction="none"
    )
    assert ce == pytest.approx(float(costs.movedim(1, -1)[valid].mean()), abs=1e-6)


@each_loss
@per_batch_and_sample
def test_neither_ignored_voxels_nor_unknown_regions_have_any_influence(name, batch_dice):
    logits, labels = drawn(dtype=torch.float32)
    silent = (labels == IGNORE)[:, None] | ~KNOWN[:, :, None, None, None]
    noise = 1e4 * drawn(1, dtype=torch.float32)[0] * silent
    loss = make(name, batch_dice)
    first, second = logits.clone().requires_grad_(), (logits + noise).requires_grad_()
    value, same = loss(first, labels, KNOWN), loss(second, labels, KNOWN)
    value.backward()
    same.backward()
    assert value == same
    assert torch.equal(first.grad, second.grad)
    assert not (first.grad * silent).any()
    assert first.grad.any()


@each_loss
def test_a_batch_without_a_valid_voxel_has_no_loss(name):
    logits, labels = drawn(dtype=torch.float32)
    logits.requires_grad_()
    value = make(name)(logits, torch.full_like(labels, IGNORE))
    value.backward()
    assert float(value.detach()) == 0
    assert not logits.grad.any()


@each_loss
def test_a_batch_of_background_only_has_a_loss(name):
    logits, labels = drawn(dtype=torch.float32)
    logits.requires_grad_()
    make(name)(logits, torch.zeros_like(labels)).backward()
    assert logits.grad.any()


@each_loss
@pytest.mark.parametrize("sign", [1, -1], ids=["right", "wrong"])
def test_confident_logits_give_finite_numbers(name, sign):
    _, labels = drawn(dtype=torch.float32)
    inside = torch.stack([torch.isin(labels, torch.tensor(r)) for r in REGIONS], 1)
    logits = (sign * 1e4 * (2.0 * inside - 1)).requires_grad_()
    value = make(name)(logits, labels)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(logits.grad).all()


@each_loss
@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_half_precision_logits_of_regions_are_reckoned_with_in_float32(name, kind):
    logits, labels = drawn(dtype=torch.float32)
    half = logits.to(kind).requires_grad_()
    full = half.detach().float().requires_grad_()
    value, same = make(name)(half, labels), make(name)(full, labels)
    value.backward()
    same.backward()
    assert value.dtype is torch.float32
    assert value == same
    assert torch.equal(half.grad, full.grad.to(kind))


@each_loss
def test_the_order_of_the_memory_does_not_matter(name):
    logits, labels = drawn(dtype=torch.float32)
    last = logits.contiguous(memory_format=torch.channels_last_3d).requires_grad_()
    first = logits.clone().requires_grad_()
    value, same = make(name)(first, labels, KNOWN), make(name)(last, labels, KNOWN)
    value.backward()
    same.backward()
    torch.testing.assert_close(value, same)
    torch.testing.assert_close(first.grad, last.grad)


@pytest.mark.parametrize("piece", [9, 50])
def test_sums_of_regions_do_not_depend_on_the_pieces(monkeypatch, piece):
    logits, labels = drawn()

    def sums_and_gradient():
        x = logits.clone().requires_grad_()
        found = compare_regions(x, labels, REGIONS, IGNORE, KNOWN)
        total = sum(
            (factor * getattr(found, name) ** 2).sum()
            for factor, name in enumerate(found.__slots__, start=1)
        )
        total.backward()
        return total.detach(), x.grad

    whole = sums_and_gradient()
    monkeypatch.setattr(comparison, "_CPU_ELEMENTS", piece)
    torch.testing.assert_close(sums_and_gradient(), whole)


def test_nothing_of_the_size_of_the_logits_is_kept_beside_them():
    logits, labels = drawn(shape=(2, 8, 16, 16), dtype=torch.float32)
    logits.requires_grad_()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        value = make("dice")(logits, labels)
    large = {t.untyped_storage()._cdata for t in kept if t.numel() >= labels.numel()}
    assert large == {logits.untyped_storage()._cdata, labels.untyped_storage()._cdata}
    value.backward()


@pytest.mark.parametrize("stranger", [-1, 4, 7])
@pytest.mark.parametrize("ignore_index", [None, 4])
def test_a_label_that_is_in_no_region_is_refused(stranger, ignore_index):
    logits, labels = drawn(ignored=False)
    labels[0, 0, 0, 0] = stranger
    if stranger == ignore_index:
        compare_regions(logits, labels, REGIONS, ignore_index)
        return
    with pytest.raises(ValueError, match=rf"labels must be 0\.\..*{stranger}"):
        compare_regions(logits, labels, REGIONS, ignore_index)


def test_another_number_of_logits_than_regions_is_refused():
    logits, labels = drawn()
    with pytest.raises(ValueError, match="2 regions need as many logits, not 3"):
        compare_regions(logits, labels, REGIONS[:2], IGNORE)


def test_weights_are_one_for_each_region():
    loss = LOSSES.get("weighted_ce")(
        LossOptions(batch_dice=True, ignore_index=IGNORE, regions=REGIONS, class_weights=(1.0,))
    )
    with pytest.raises(ValueError, match="3 regions need as many weights, not 1"):
        loss(*drawn())


def test_coarser_outputs_of_regions_see_the_nearest_labels_and_what_is_known():
    logits, labels = drawn(shape=(3, 4, 6, 8), dtype=torch.float32, ignored=False)
    coarse = logits[..., ::2, ::2, ::2]
    loss = make("dice_ce")
    total = deep_supervision_loss(loss, [logits, coarse, coarse[..., :1]], labels, KNOWN)
    fine = loss(logits, labels, KNOWN)
    nearest = loss(coarse, labels[:, 1::2, 1::2, 1::2], KNOWN)
    assert float(total) == pytest.approx(float(2 / 3 * fine + 1 / 3 * nearest), rel=1e-6)
