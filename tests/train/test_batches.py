from dataclasses import replace

import numpy as np
import pytest

from autoseg.core.plan import Plan
from autoseg.io import artifacts
from autoseg.io.case_store import CaseStore
from autoseg.train.batches import BatchSource, BatchSpec, make_batch, num_random


@pytest.fixture(scope="module")
def spec(toy) -> BatchSpec:
    plan = artifacts.load(toy.task.plan_file("default"), Plan)
    folder = toy.task.prepared("3d_fullres", plan.recipe("3d_fullres").key)
    return BatchSpec(
        folder=folder,
        cases=tuple(CaseStore(folder).names()),
        batch_size=3,
        patch_size=(8, 12, 16),
        centre_on_annotated=False,
        foreground_fraction=0.33,
        augmentation="default",
        mirror_axes=(0, 1, 2),
        masked_channels=(),
        seed=4,
        part="train",
    )


@pytest.mark.parametrize(
    ("batch_size", "forced"),
    [(2, 1), (3, 1), (4, 1), (5, 2), (6, 2), (8, 3), (12, 4), (13, 4), (49, 16)],
)
def test_the_number_of_forced_samples_equals_the_published(batch_size, forced):
    assert batch_size - num_random(batch_size, 0.33) == forced


def test_batches_are_the_same_for_any_number_of_workers(spec):
    alone = list(BatchSource(spec, 0)(1, range(5)))
    source = BatchSource(spec, 2)
    together = list(source(1, range(5)))
    source.close()
    assert len(together) == 5
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one.images, other.images)
        np.testing.assert_array_equal(one.labels, other.labels)
        assert one.cases == other.cases


def test_a_batch_does_not_depend_on_those_before_it(spec):
    later = list(BatchSource(spec, 0)(2, range(3, 5)))
    np.testing.assert_array_equal(later[1].images, make_batch(spec, 2, 4).images)


def test_epochs_seeds_and_parts_have_samples_of_their_own(spec):
    first = make_batch(spec, 0, 0).images
    assert not np.array_equal(first, make_batch(spec, 1, 0).images)
    assert not np.array_equal(first, make_batch(replace(spec, seed=5), 0, 0).images)
    validation = make_batch(replace(spec, part="validation"), 0, 0).images
    assert not np.array_equal(first, validation)


def test_the_last_samples_of_a_batch_hold_a_structure(spec):
    small = replace(spec, patch_size=(2, 2, 2), part="validation")
    batches = [make_batch(small, 0, step) for step in range(20)]
    forced = [batch.labels[2].max() for batch in batches]
    assert min(forced) > 0
    rarely = [batch.labels[0].max() for batch in batches]
    assert min(rarely) == 0


def test_validation_samples_are_parts_of_the_prepared_image(spec):
    batch = make_batch(replace(spec, part="validation"), 0, 0)
    image, _ = CaseStore(spec.folder).read(
        batch.cases[0], (0, 0, 0), CaseStore(spec.folder).shape(batch.cases[0])
    )
    inside = batch.images[0][batch.images[0] != 0]
    assert np.isin(inside, image).all()


def test_a_2d_patch_is_one_slice(spec):
    batch = make_batch(replace(spec, patch_size=(12, 16), mirror_axes=(0, 1)), 0, 0)
    assert batch.images.shape == (3, 1, 12, 16)
    assert batch.labels.shape == (3, 12, 16)


def test_labels_of_padding_become_background(spec):
    batch = make_batch(replace(spec, patch_size=(32, 48, 48), part="validation"), 0, 0)
    assert batch.labels.min() == 0
    assert (batch.images[0] == 0).mean() > 0.5


def test_masked_channels_are_zero_outside_the_mask(spec, monkeypatch):
    original = CaseStore.read

    def with_outside(self, name, lower, size):
        image, labels = original(self, name, lower, size)
        labels[:, :, 0] = -1
        image[:, :, :, 0] = 7.0
        return image, labels

    monkeypatch.setattr(CaseStore, "read", with_outside)
    plain = replace(spec, part="validation")
    assert (make_batch(plain, 0, 0).images == 7.0).any()
    assert not (make_batch(replace(plain, masked_channels=(0,)), 0, 0).images == 7.0).any()


def test_with_an_ignore_label_every_sample_is_centred_on_an_annotated_voxel(spec, monkeypatch):
    original = CaseStore.info
    # The last list now stands for the annotated voxels: here, those of the core.
    annotated = replace(spec, patch_size=(1, 1, 1), part="validation", centre_on_annotated=True)
    assert original(CaseStore(spec.folder), spec.cases[0]).position_counts[-1] > 0
    labels = np.concatenate([make_batch(annotated, 0, step).labels for step in range(10)])
    assert labels.min() > 0
