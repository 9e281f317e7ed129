import os
import signal
from dataclasses import dataclass, replace
from multiprocessing import active_children, parent_process
from pathlib import Path

import numpy as np
import pytest

from autoseg.errors import AutosegError
from autoseg.io.case_store import CaseInfo, CaseStore, write_case
from autoseg.train.batches import BatchSource, BatchSpec, case_of, make_batch, num_random

SHAPES = {"first": (10, 25, 20), "second": (12, 24, 21), "third": (9, 26, 22)}


def write(folder: Path, name: str, image, labels, positions) -> None:
    info = CaseInfo(
        name=name,
        source="generated",
        shape=labels.shape,
        trace={},
        position_counts=tuple(len(part) for part in positions),
        label_voxels=tuple(int((labels == value).sum()) for value in (1, 2)),
    )
    write_case(folder, name, [image], labels, positions, info, (8, 12, 16))


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    """Three cases with an off-centre box of label 1 and a core of label 2, -1 at one side."""
    folder = tmp_path_factory.mktemp("store")
    for number, (name, shape) in enumerate(SHAPES.items()):
        rng = np.random.default_rng(number)
        labels = np.zeros(shape, dtype=np.int16)
        labels[2:7, 4:12, 9:17] = 1
        labels[3:5, 6:9, 11:14] = 2
        labels[:, -1] = -1
        image = (10 * labels + rng.normal(100, 1, shape)).astype(np.float32)[None]
        write(folder, name, image, labels, [np.flatnonzero(labels == value) for value in (1, 2)])
    return folder


@pytest.fixture(scope="module")
def spec(store) -> BatchSpec:
    return BatchSpec(
        folder=store,
        cases=tuple(SHAPES),
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


def assert_same(batches, others):
    assert len(batches) == len(others)
    for one, other in zip(batches, others, strict=True):
        np.testing.assert_array_equal(one.images, other.images)
        np.testing.assert_array_equal(one.labels, other.labels)
        assert one.cases == other.cases


def plain(spec, **changes) -> BatchSpec:
    return replace(spec, part="validation", **changes)


# Which samples a batch holds ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("batch_size", "forced"),
    [(2, 1), (3, 1), (4, 1), (5, 2), (6, 2), (8, 3), (12, 4), (13, 4), (49, 16)],
)
def test_the_number_of_forced_samples_equals_the_published(batch_size, forced):
    assert batch_size - num_random(batch_size, 0.33) == forced


def test_the_last_samples_of_a_batch_hold_a_structure(spec):
    small = plain(spec, patch_size=(2, 2, 2))
    batches = [make_batch(small, 0, step) for step in range(20)]
    assert min(batch.labels[2].max() for batch in batches) > 0
    assert min(batch.labels[0].max() for batch in batches) == 0


def test_forced_samples_ask_for_every_structure_equally_often(spec):
    point = plain(spec, patch_size=(1, 1, 1))
    labels = [int(make_batch(point, 0, step).labels[2].item()) for step in range(600)]
    assert set(labels) == {1, 2}
    assert labels.count(2) / 600 == pytest.approx(0.5, abs=0.07)


def test_cases_are_drawn_equally_often(spec):
    drawn = [case_of(spec, 0, index) for index in range(3000)]
    for name in SHAPES:
        assert drawn.count(name) / 3000 == pytest.approx(1 / 3, abs=0.04)


def test_the_case_of_a_sample_is_known_without_making_it(spec):
    batch = make_batch(spec, 2, 5)
    assert batch.cases == tuple(case_of(spec, 2, 5 * 3 + i) for i in range(3))


@pytest.mark.parametrize("corner", [(0, 0, 0), (9, 24, 19)])
def test_a_patch_at_either_border_is_moved_back_into_the_image(tmp_path, spec, corner):
    labels = np.zeros((10, 25, 20), dtype=np.int16)
    labels[corner] = 1
    image = np.ones((1, *labels.shape), dtype=np.float32)
    write(tmp_path, "edge", image, labels, [np.flatnonzero(labels), np.empty(0, np.int64)])
    forced = plain(spec, folder=tmp_path, cases=("edge",), foreground_fraction=1.0)
    batch = make_batch(forced, 0, 0)
    assert (batch.images == 1).all()
    assert (batch.labels.sum(axis=(1, 2, 3)) == 1).all()


def test_a_structure_the_case_lacks_is_not_asked_for(tmp_path, spec):
    labels = np.zeros((10, 25, 20), dtype=np.int16)
    image = np.ones((1, *labels.shape), dtype=np.float32)
    write(tmp_path, "empty", image, labels, [np.empty(0, np.int64)] * 2)
    forced = plain(spec, folder=tmp_path, cases=("empty",), foreground_fraction=1.0)
    assert make_batch(forced, 0, 0).labels.max() == 0


def test_with_an_ignore_label_every_sample_is_centred_on_an_annotated_voxel(spec):
    # The last list now stands for the annotated voxels: here, those of the core.
    annotated = plain(spec, patch_size=(1, 1, 1), centre_on_annotated=True)
    labels = np.stack([make_batch(annotated, 0, step).labels for step in range(10)])
    assert (labels[:, :2] == 2).all()
    assert (labels[:, 2] == 1).all()


# The same samples for everybody ---------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 3])
def test_batches_are_the_same_for_any_number_of_workers(spec, workers):
    source = BatchSource(spec, workers)
    together = list(source(1, range(5)))
    source.close()
    assert_same(list(BatchSource(spec, 0)(1, range(5))), together)


def test_a_batch_does_not_depend_on_those_before_it(spec):
    later = list(BatchSource(spec, 0)(2, range(3, 5)))
    assert_same(later[1:], [make_batch(spec, 2, 4)])


def test_epochs_seeds_and_parts_have_samples_of_their_own(spec):
    first = make_batch(spec, 0, 0).images
    for other in (
        make_batch(spec, 1, 0),
        make_batch(spec, 0, 1),
        make_batch(replace(spec, seed=5), 0, 0),
        make_batch(plain(spec), 0, 0),
    ):
        assert not np.array_equal(first, other.images)


def test_validation_samples_are_the_same_in_every_epoch(spec):
    assert_same([make_batch(plain(spec), 0, 3)], [make_batch(plain(spec), 7, 3)])


def test_an_epoch_left_early_does_not_disturb_the_next(spec):
    source = BatchSource(spec, 1)
    abandoned = source(0, range(50))
    next(abandoned)
    abandoned.close()
    following = list(source(1, range(2)))
    source.close()
    assert_same(following, list(BatchSource(spec, 0)(1, range(2))))


# What a sample looks like ---------------------------------------------------------------------


def test_validation_samples_are_parts_of_the_prepared_image(spec):
    batch = make_batch(plain(spec), 0, 0)
    store = CaseStore(spec.folder)
    image, _ = store.read(batch.cases[0], (0, 0, 0), store.shape(batch.cases[0]))
    inside = batch.images[0][batch.images[0] != 0]
    assert inside.size > 0
    assert np.isin(inside, image).all()


@pytest.mark.parametrize("augmentation", ["default", "light", "strong"])
def test_a_2d_patch_is_one_slice(spec, augmentation):
    flat = replace(spec, patch_size=(12, 16), mirror_axes=(0, 1), augmentation=augmentation)
    for step in range(5):
        batch = make_batch(flat, 0, step)
        assert batch.images.shape == (3, 1, 12, 16)
        assert batch.labels.shape == (3, 12, 16)


def test_a_flat_patch_is_warped_within_its_slices(spec):
    for step in range(5):
        batch = make_batch(replace(spec, patch_size=(4, 16, 16)), 0, step)
        assert batch.images.shape == (3, 1, 4, 16, 16)


def test_structures_stay_bright_wherever_a_sample_is_moved(spec):
    for step in range(10):
        batch = make_batch(replace(spec, augmentation="light"), 0, step)
        inner = batch.images[:, 0][batch.labels == 2]
        assert inner.size == 0 or np.median(inner) == pytest.approx(120, abs=4)


@pytest.mark.parametrize("part", ["train", "validation"])
def test_labels_of_padding_become_background(spec, part):
    large = replace(spec, patch_size=(32, 48, 48), part=part, augmentation="light")
    batch = make_batch(large, 0, 0)
    assert batch.labels.min() == 0
    assert batch.labels.max() == 2
    assert (batch.images[0] == 0).mean() > 0.5


@pytest.mark.parametrize("part", ["train", "validation"])
def test_masked_channels_are_zero_outside_the_mask(spec, part):
    whole = replace(spec, patch_size=(16, 32, 32), part=part, augmentation="none")
    masked = replace(whole, masked_channels=(0,))
    differs = make_batch(whole, 0, 0).images != make_batch(masked, 0, 0).images
    # One row of each case is outside its mask; all else is as it was.
    rows = differs[:, 0].any(axis=(1, 3)).sum(axis=1)
    np.testing.assert_array_equal(rows, 1)
    assert (make_batch(masked, 0, 0).images[differs] == 0).all()


# Processes that die ---------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class DeadlySpec(BatchSpec):
    """Kills the process that makes a sample, as the system does when memory is short."""

    lives: Path

    def __getattribute__(self, name: str):
        if name == "masked_channels" and parent_process() is not None:
            lives = object.__getattribute__(self, "lives")
            left = int(lives.read_text())
            if left:
                lives.write_text(str(left - 1))
                os.kill(os.getpid(), signal.SIGKILL)
        return object.__getattribute__(self, name)


def deadly(spec: BatchSpec, lives: Path, deaths: int) -> DeadlySpec:
    lives.write_text(str(deaths))
    fields = {name: getattr(spec, name) for name in BatchSpec.__dataclass_fields__}
    return DeadlySpec(**fields, lives=lives)


def test_a_killed_worker_is_replaced_and_nothing_is_lost(spec, caplog):
    source = BatchSource(spec, 2)
    batches = source(0, range(12))
    made = [next(batches)]
    victim = active_children()[0]
    os.kill(victim.pid, signal.SIGKILL)
    made += list(batches)
    source.close()
    assert_same(made, list(BatchSource(spec, 0)(0, range(12))))
    (warning,) = caplog.messages
    assert "was killed" in warning
    assert warning.endswith("going on with --workers 1")


def test_the_cases_in_the_making_are_named(spec, tmp_path, caplog):
    source = BatchSource(deadly(spec, tmp_path / "lives", 1), 1)
    made = list(source(3, range(2)))
    source.close()
    assert_same(made, list(BatchSource(spec, 0)(3, range(2))))
    (warning,) = caplog.messages
    assert (
        f"was killed (SIGKILL; out of memory?); cases in the making: {case_of(spec, 3, 0)};"
        in warning
    )


def test_a_case_that_kills_a_lonely_worker_twice_is_named(spec, tmp_path, caplog):
    source = BatchSource(deadly(spec, tmp_path / "lives", 9), 1)
    with pytest.raises(AutosegError, match="twice in a row and with no other beside it") as caught:
        list(source(3, range(2)))
    source.close()
    assert caught.value.place == f"case {case_of(spec, 3, 0)}"
    assert "the same command goes on" in str(caught.value)
    assert len(caplog.messages) == 1


def test_workers_are_halved_down_to_one(spec, caplog):
    source = BatchSource(spec, 5)
    sizes = []
    while not sizes or sizes[-1] > 1:
        # As if one had died, without starting any.
        source._pool = source._smaller_pool(source._pool)
        sizes.append(source._pool.size)
    source.close()
    assert sizes == [2, 1]


def test_a_worker_that_was_told_to_end_is_not_called_short_of_memory(spec, caplog):
    source = BatchSource(spec, 1)
    batches = source(0, range(8))
    next(batches)
    active_children()[0].terminate()
    assert len(list(batches)) == 7
    source.close()
    (warning,) = caplog.messages
    assert warning.startswith("a process that makes training batches died (SIGTERM); cases")


def test_an_error_in_a_worker_is_the_callers(spec):
    source = BatchSource(replace(spec, cases=("nowhere",)), 1)
    with pytest.raises(AutosegError, match="nowhere"):
        list(source(0, range(2)))
    source.close()


# Waiting --------------------------------------------------------------------------------------


def test_the_time_spent_waiting_is_counted(spec, monkeypatch):
    from autoseg.train import batches

    now = iter(range(1000))
    monkeypatch.setattr(batches.time, "monotonic", lambda: float(next(now)))
    source = BatchSource(spec, 0)
    assert source.waited_s == 0.0
    list(source(0, range(3)))
    assert source.waited_s == 3.0


def test_workers_use_one_thread_and_leave_the_environment_alone(spec, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    source = BatchSource(spec, 1)
    next(source(0, range(1)))
    environ = Path(f"/proc/{active_children()[0].pid}/environ")
    if environ.exists():
        assert b"OMP_NUM_THREADS=1\0" in environ.read_bytes()
    source.close()
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "OPENBLAS_NUM_THREADS" not in os.environ


# What a batch knows of its cases --------------------------------------------------------------

KNOWN = ((True, True, True), (True, False, True), (True, True, False))


def test_a_batch_knows_the_outputs_of_its_samples_cases(spec):
    by_case = dict(zip(SHAPES, KNOWN, strict=True))
    for step in range(4):
        batch = make_batch(replace(spec, known=KNOWN), 0, step)
        assert batch.known is not None
        assert (batch.known.dtype, batch.known.shape) == (np.bool_, (3, 3))
        assert [tuple(row) for row in batch.known.tolist()] == [by_case[c] for c in batch.cases]


def test_what_is_known_changes_nothing_else_about_a_batch(spec):
    assert make_batch(spec, 1, 2).known is None
    assert_same([make_batch(replace(spec, known=KNOWN), 1, 2)], [make_batch(spec, 1, 2)])


def test_processes_make_batches_that_know_the_same(spec):
    partial = replace(spec, known=KNOWN)
    source = BatchSource(partial, 1)
    try:
        for step, batch in zip(range(2), source(0, range(2)), strict=True):
            expected = make_batch(partial, 0, step).known
            assert batch.known is not None
            assert expected is not None
            assert batch.known.tolist() == expected.tolist()
    finally:
        source.close()


def test_a_sample_is_forced_onto_structures_its_case_is_annotated_for(tmp_path):
    labels = np.zeros((10, 20, 22), dtype=np.int16)
    labels[4:6, 8:11, 9:12] = 2
    image = labels.astype(np.float32)[None]
    nothing = np.empty(0, dtype=np.int64)
    write(tmp_path, "partial", image, labels, [nothing, np.flatnonzero(labels == 2)])
    spec = BatchSpec(
        folder=tmp_path,
        cases=("partial",),
        batch_size=2,
        patch_size=(1, 1, 1),
        centre_on_annotated=False,
        foreground_fraction=1.0,
        augmentation="none",
        mirror_axes=(),
        masked_channels=(),
        seed=0,
        part="train",
        known=((True, False, True),),
    )
    assert {int(v) for s in range(10) for v in make_batch(spec, 0, s).labels.ravel()} == {2}
