"""Combinations of candidates, counted in one pass over their probabilities."""

import numpy as np
import pytest

from autoseg.core.labels import LabelSpace, Structure
from autoseg.evaluate import combining
from autoseg.evaluate.combining import count_slab, ensembles_of
from autoseg.evaluate.overlap import confusion_matrix
from autoseg.imaging.decide import indices_from

CLASSES = LabelSpace(
    structures=(Structure(name="shell", values=(1,)), Structure(name="core", values=(2,))),
    ignore=9,
)
REGIONS = LabelSpace(
    structures=(Structure(name="whole", values=(4, 7)), Structure(name="core", values=(7,))),
    output_values=(4, 7),
)
SHAPE = (3, 7, 5)


def candidates(labels: LabelSpace, count: int = 3):
    """Probabilities of models that agree on the first row and differ on the others."""
    rng = np.random.default_rng(5)
    first = rng.normal(0, 2, (labels.num_outputs, *SHAPE))
    for n in range(count):
        logits = first + rng.normal(0, 1.5, first.shape)
        logits[:, 0] = 0.0
        logits[0, 0] = 6.0 + n
        if labels.has_regions:
            yield (1 / (1 + np.exp(-logits))).astype(np.float32)
        else:
            powers = np.exp(logits)
            yield (powers / powers.sum(axis=0)).astype(np.float32)


@pytest.mark.parametrize("labels", [CLASSES, REGIONS], ids=["classes", "regions"])
def test_every_combination_is_counted_as_if_it_had_been_averaged_alone(labels):
    slabs = list(candidates(labels))
    reference = np.random.default_rng(1).integers(0, len(labels.values), SHAPE).astype(np.int8)
    combined = [(0,), (2,), (0, 1), (1, 2), (0, 1, 2)]
    counts = count_slab(slabs, reference, labels, combined)
    for members, found in zip(combined, counts, strict=True):
        mean = sum(slabs[m] for m in members) / np.float32(len(members))
        np.testing.assert_array_equal(
            found, confusion_matrix(indices_from(mean, labels), reference, labels)
        )
    assert len({found.tobytes() for found in counts}) == len(combined)


def test_only_what_candidates_differ_in_is_combined(monkeypatch):
    slabs = list(candidates(CLASSES))
    seen = []
    honest = combining._mean
    monkeypatch.setattr(combining, "_mean", lambda m: seen.append(m[0].shape) or honest(m))
    count_slab(slabs, np.zeros(SHAPE, dtype=np.int8), CLASSES, [(0, 1), (0, 2)])
    assert len(set(seen)) == 1
    assert 0 < seen[0][1] <= 2 * 7 * 5  # the first row is agreed upon


def test_ensembles_are_all_twos_threes_and_more():
    assert ensembles_of([3, 0, 1]) == [(0, 1), (0, 3), (1, 3), (0, 1, 3)]
    assert ensembles_of([0]) == []
    assert len(ensembles_of(range(5))) == 26
