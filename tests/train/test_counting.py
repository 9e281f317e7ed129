import numpy as np
import pytest
import torch

from autoseg.core.labels import LabelSpace, Structure
from autoseg.core.plan import TrainingSpec
from autoseg.networks.precision import Precision
from autoseg.train.batches import Batch
from autoseg.train.counting import count_outcomes
from autoseg.train.loop import Session, train_step, validate
from autoseg.train.objective.losses import LOSSES, LossOptions

SHAPE = (3, 2, 3, 4)
CLASSES = LabelSpace(
    structures=tuple(Structure(name=f"s{v}", values=(v,)) for v in (1, 2, 3)), ignore=9
)
REGIONS = LabelSpace(
    structures=(
        Structure(name="whole", values=(1, 2, 3)),
        Structure(name="core", values=(1, 3)),
        Structure(name="bright", values=(3,)),
    ),
    ignore=9,
    output_values=(2, 1, 3),
)
OF_CLASSES = torch.tensor(
    [[True, True, False, True], [True, False, False, True], [True, True, True, False]]
)
OF_REGIONS = OF_CLASSES[:, 1:]


def drawn(space, seed=0):
    generator = torch.Generator().manual_seed(seed)
    size = (SHAPE[0], space.num_outputs, *SHAPE[1:])
    logits = torch.randn(size, generator=generator)
    labels = torch.randint(0, 5, SHAPE, generator=generator).to(torch.int16)
    assert space.ignore_index == 4
    return logits, labels


@pytest.mark.parametrize("known", [None, OF_CLASSES], ids=["all known", "some known"])
def test_classes_are_counted_by_reference_and_prediction(known):
    logits, labels = drawn(CLASSES)
    expected = np.zeros((4, 4), dtype=int)
    for sample, *voxel in np.ndindex(*SHAPE):
        true = int(labels[(sample, *voxel)])
        if true == 4:
            continue
        found = int(logits[(sample, slice(None), *voxel)].argmax())
        if known is not None:
            # What nobody looked for may be background, and background may be that.
            true, found = (v if known[sample, v] else 0 for v in (true, found))
        expected[true, found] += 1
    counts = count_outcomes(logits, labels, CLASSES, known)
    assert counts.tolist() == expected.tolist()


@pytest.mark.parametrize("known", [None, OF_REGIONS], ids=["all known", "some known"])
def test_regions_are_found_missed_or_too_much_each_by_itself(known):
    logits, labels = drawn(REGIONS)
    expected = np.zeros((4, 4), dtype=int)
    for sample, *voxel in np.ndindex(*SHAPE):
        label = int(labels[(sample, *voxel)])
        for region, indices in enumerate([(1, 2, 3), (1, 3), (3,)]):
            if label == 4 or (known is not None and not known[sample, region]):
                continue
            true, found = label in indices, bool(logits[(sample, region, *voxel)] > 0)
            if true or found:
                expected[(region + 1) * true, (region + 1) * found] += 1
    counts = count_outcomes(logits, labels, REGIONS, known)
    assert counts.tolist() == expected.tolist()


def session(space):
    """A network that gives back its input, as many channels as there are outputs."""
    network = torch.nn.Conv3d(space.num_outputs, space.num_outputs, 1)
    with torch.no_grad():
        network.weight.copy_(torch.eye(space.num_outputs)[..., None, None, None])
        network.bias.zero_()
    loss = LossOptions(batch_dice=True, ignore_index=space.ignore_index, regions=space.regions)
    return Session(
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.1),
        loss=LOSSES.get("dice_ce")(loss),
        spec=TrainingSpec(),
        device=torch.device("cpu"),
        precision=Precision(),
        scaler=torch.amp.GradScaler("cpu", enabled=False),
    )


def batch(space, known=None, seed=0):
    logits, labels = drawn(space, seed)
    return Batch(
        images=logits.numpy(),
        labels=labels.numpy(),
        cases=("a", "b", "c"),
        known=None if known is None else known.numpy(),
    )


def test_validation_of_regions_scores_each_as_a_union_over_all_batches():
    batches = [batch(REGIONS, seed=seed) for seed in (0, 1)]
    found = validate(session(REGIONS), batches, REGIONS)
    labels = np.concatenate([b.labels for b in batches])
    positive = np.concatenate([b.images for b in batches]) > 0
    for region, indices in enumerate([(1, 2, 3), (1, 3), (3,)]):
        true = np.isin(labels, indices)
        mine = positive[:, region] & (labels != 4)
        assert found.dice[region] == pytest.approx(
            2 * (true & mine).sum() / (true.sum() + mine.sum())
        )
    assert found.mean_dice == pytest.approx(np.mean(found.dice))


@pytest.mark.parametrize(
    ("space", "known"), [(CLASSES, OF_CLASSES), (REGIONS, OF_REGIONS)], ids=["classes", "regions"]
)
def test_what_nobody_annotated_counts_neither_in_validation_nor_in_training(space, known):
    everything = torch.ones_like(known)
    partly, whole = (batch(space, mask) for mask in (known, everything))
    assert validate(session(space), [partly], space) != validate(session(space), [whole], space)
    logits, labels = drawn(space)
    step = session(space)
    expected = float(step.loss(logits, labels, known))  # pyright: ignore[reportCallIssue]
    assert validate(step, [partly], space).loss == pytest.approx(expected)
    assert train_step(step, partly) == pytest.approx(expected)


def test_a_structure_annotated_in_no_validation_case_has_no_dice():
    known = torch.ones_like(OF_CLASSES)
    known[:, 2] = False
    found = validate(session(CLASSES), [batch(CLASSES, known)], CLASSES)
    assert found.dice[1] is None
    assert None not in (found.dice[0], found.dice[2])


def test_all_known_is_as_good_as_nothing_said():
    step = session(CLASSES)
    one = validate(step, [batch(CLASSES, torch.ones_like(OF_CLASSES))], CLASSES)
    other = validate(step, [batch(CLASSES)], CLASSES)
    assert (one.loss, one.dice) == (other.loss, other.dice)
