"""Every loss beside its formula, written down voxel by voxel."""

import math

import pytest
import torch

from autoseg.train.objective.losses import LOSSES, LossOptions

WEIGHTS = (0.5, 1.0, 4.0)
SMOOTH = 1e-5
IGNORE = 3


def small_batch(ignored=True):
    """Two samples of 2x3x4 voxels, the first without a voxel of class 2."""
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn((2, 3, 2, 3, 4), generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 3, (2, 2, 3, 4), generator=generator)
    labels[0][labels[0] == 2] = 1
    if ignored:
        labels[:, 1, 2] = IGNORE
    return logits, labels


def value(name, logits, labels, batch_dice=True):
    options = LossOptions(batch_dice=batch_dice, ignore_index=IGNORE, class_weights=WEIGHTS)
    return float(LOSSES.get(name)(options)(logits, labels))


def voxels_of(logits, labels):
    """``(sample, label, probabilities)`` of every voxel that is not ignored."""
    p = torch.softmax(logits, 1).flatten(2)
    flat = labels.flatten(1)
    for sample in range(len(flat)):
        for voxel in range(flat.shape[1]):
            if flat[sample, voxel] != IGNORE:
                yield sample, int(flat[sample, voxel]), p[sample, :, voxel].tolist()


def volumes(logits, labels, batch_dice):
    """Per group and class: overlap, predicted and actual volume."""
    groups = {}
    for sample, label, p in voxels_of(logits, labels):
        group = groups.setdefault(0 if batch_dice else sample, [[0.0, 0.0, 0] for _ in range(3)])
        for c in range(3):
            group[c][0] += p[c] * (label == c)
            group[c][1] += p[c]
            group[c][2] += label == c
    return list(groups.values())


def mean_over_structures(ratio, logits, labels, batch_dice):
    groups = volumes(logits, labels, batch_dice)
    ratios = [ratio(*group[c]) for group in groups for c in (1, 2)]
    return -sum(ratios) / len(ratios)


OVERLAP_RATIOS = {
    "dice": lambda o, p, a: (2 * o + SMOOTH) / (p + a + SMOOTH),
    "jaccard": lambda o, p, a: (o + SMOOTH) / (p + a - o + SMOOTH),
    "tversky": lambda o, p, a: (o + SMOOTH) / (o + 0.3 * (p - o) + 0.7 * (a - o) + SMOOTH),
}


@pytest.mark.parametrize("name", OVERLAP_RATIOS)
@pytest.mark.parametrize("batch_dice", [True, False])
def test_overlap_losses_follow_their_formulas(name, batch_dice):
    logits, labels = small_batch()
    expected = mean_over_structures(OVERLAP_RATIOS[name], logits, labels, batch_dice)
    assert value(name, logits, labels, batch_dice) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("batch_dice", [True, False])
def test_generalised_dice_follows_its_formula(batch_dice):
    logits, labels = small_batch()
    ratios = []
    for group in volumes(logits, labels, batch_dice):
        smallest = min(a for _, _, a in group if a)
        # Relative to the largest weight; an absent class weighs as much as the smallest one.
        weights = [(smallest / a) ** 2 if a else 1.0 for _, _, a in group]
        both = sum(2 * w * o for w, (o, _, _) in zip(weights, group, strict=True))
        volume = sum(w * (p + a) for w, (_, p, a) in zip(weights, group, strict=True))
        ratios.append((both + SMOOTH) / (volume + SMOOTH))
    expected = -sum(ratios) / len(ratios)
    assert value("generalised_dice", logits, labels, batch_dice) == pytest.approx(expected)


def test_cross_entropy_is_the_mean_over_valid_voxels():
    logits, labels = small_batch()
    costs = [-math.log(p[label]) for _, label, p in voxels_of(logits, labels)]
    assert value("ce", logits, labels) == pytest.approx(sum(costs) / len(costs), rel=1e-9)


def test_weighted_cross_entropy_is_a_weighted_mean():
    logits, labels = small_batch()
    found = [(WEIGHTS[label], -math.log(p[label])) for _, label, p in voxels_of(logits, labels)]
    expected = sum(w * cost for w, cost in found) / sum(w for w, _ in found)
    assert value("weighted_ce", logits, labels) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("weights", [None, (1.0, 2.0)])
def test_weighted_cross_entropy_refuses_too_few_weights(weights):
    loss = LOSSES.get("weighted_ce")(LossOptions(batch_dice=True, class_weights=weights))
    with pytest.raises(ValueError, match="3 classes need as many weights, not"):
        loss(*small_batch(ignored=False))


def test_focal_loss_follows_its_formula():
    logits, labels = small_batch()
    true = [p[label] for _, label, p in voxels_of(logits, labels)]
    expected = sum(-((1 - p) ** 2) * math.log(p) for p in true) / len(true)
    assert value("focal", logits, labels) == pytest.approx(expected, rel=1e-9)


def test_top_k_takes_the_worst_tenth_of_the_valid_voxels():
    logits, labels = small_batch()
    costs = sorted(-math.log(p[label]) for _, label, p in voxels_of(logits, labels))
    assert len(costs) == 40
    dice = value("dice", logits, labels)
    expected = dice + sum(costs[-4:]) / 4
    assert value("dice_topk", logits, labels) == pytest.approx(expected, rel=1e-9)


def test_top_k_of_few_voxels_takes_the_worst():
    logits, labels = small_batch()
    labels = torch.full_like(labels, IGNORE)
    labels[0, 0, 0, :2] = torch.tensor([0, 1])
    costs = [-math.log(p[label]) for _, label, p in voxels_of(logits, labels)]
    dice = value("dice", logits, labels)
    assert value("dice_topk", logits, labels) == pytest.approx(dice + max(costs), rel=1e-9)


@pytest.mark.parametrize("name", ["dice", "jaccard", "tversky", "generalised_dice"])
def test_a_perfect_overlap_is_minus_one(name):
    _, labels = small_batch(ignored=False)
    certain = torch.nn.functional.one_hot(labels, 3).movedim(-1, 1).double() * 100
    for batch_dice in (True, False):
        assert value(name, certain, labels, batch_dice) == pytest.approx(-1.0, abs=1e-6)


def test_tversky_blames_missed_voxels_more_than_invented_ones():
    labels = torch.zeros((1, 2, 6), dtype=torch.int16)
    labels[0, 0, :4] = 1
    too_few, too_many = labels.clone(), labels.clone()
    too_few[0, 0, 3] = 0
    too_many[0, 0, 4] = 1
    options = LossOptions(batch_dice=False)
    few, many = (
        LOSSES.get("tversky")(options)(
            torch.nn.functional.one_hot(found.long(), 2).movedim(-1, 1).float() * 50, labels
        )
        for found in (too_few, too_many)
    )
    assert float(few) == pytest.approx(-3 / 3.7, abs=1e-5)
    assert float(many) == pytest.approx(-4 / 4.3, abs=1e-5)
