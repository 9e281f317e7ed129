from math import prod

import pytest

from autoseg.core.plan import Plan
from autoseg.imaging.prepare import resampled_shape
from autoseg.io import artifacts
from autoseg.io.case_store import CaseStore
from autoseg.io.task import load_fingerprint
from autoseg.preprocess.estimate import estimate_work, prepared_shape
from autoseg.workers import WORKER_BYTES


@pytest.fixture
def plan(toy):
    return artifacts.load(toy.task.plan_file("default"), Plan)


@pytest.fixture
def fingerprint(toy):
    return load_fingerprint(toy.task)


def with_shape(fingerprint, shape):
    """The same measurements, of a first case that is as large before and after cropping."""
    first, *others = fingerprint.cases
    changed = first.model_copy(update={"shape": shape, "original_shape": shape})
    return fingerprint.model_copy(update={"cases": (changed, *others)})


@pytest.mark.parametrize("configuration", ["2d", "3d_fullres"])
def test_the_shape_that_is_foreseen_is_the_one_that_is_made(toy, plan, fingerprint, configuration):
    store = CaseStore(toy.task.prepared(configuration, plan.recipe(configuration).key))
    for case in fingerprint.cases:
        assert prepared_shape(case, plan, configuration) == store.shape(case.name)


@pytest.mark.parametrize("configuration", ["2d", "3d_fullres"])
def test_the_shape_is_in_the_order_of_the_plan(plan, fingerprint, configuration):
    case = with_shape(fingerprint, (30, 20, 10)).cases[0]
    turned = plan.model_copy(update={"transpose": (2, 0, 1)})
    target = turned.configurations[configuration].spacing
    spacing = tuple(case.spacing[axis] for axis in (2, 0, 1))
    whole = (spacing[0], *target) if len(target) == 2 else target
    expected = resampled_shape((10, 30, 20), spacing, whole)
    assert prepared_shape(case, turned, configuration) == expected


def test_the_memory_holds_the_largest_raw_image(plan, fingerprint):
    name = fingerprint.cases[0].name
    small, large = (
        estimate_work(
            [name], with_shape(fingerprint, shape), plan, "3d_fullres", workers=1
        ).memory_bytes
        for shape in ((10, 20, 30), (400, 200, 300))
    )
    assert small >= WORKER_BYTES
    assert large - small >= 4 * (prod((400, 200, 300)) - prod((10, 20, 30)))


def test_the_memory_holds_a_slab_of_the_patch(plan, fingerprint):
    name = fingerprint.cases[0].name
    wide = with_shape(fingerprint, (40, 300, 200))

    def memory_bytes(patch):
        configuration = plan.configurations["3d_fullres"].model_copy(update={"patch_size": patch})
        edited = plan.model_copy(
            update={"configurations": {**plan.configurations, "3d_fullres": configuration}}
        )
        return estimate_work([name], wide, edited, "3d_fullres", workers=1).memory_bytes

    # Chunks of these patches are one row and many rows thick.
    assert memory_bytes((32, 64, 64)) - memory_bytes((1, 64, 64)) > 4 * 10 * 300 * 200


def test_there_are_no_more_workers_than_cases(plan, fingerprint):
    names = [case.name for case in fingerprint.cases[:2]]
    for workers, expected in ((7, 2), (2, 2), (1, 1), (0, 0)):
        estimate = estimate_work(names, fingerprint, plan, "3d_fullres", workers)
        assert estimate.workers == expected
        assert estimate.memory_bytes % max(expected, 1) == 0
