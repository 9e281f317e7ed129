import numpy as np
import pytest

from autoseg.errors import ArtifactError, WorkspaceError
from autoseg.io.previous_store import PreviousStore

SHAPE = (7, 30, 21)


@pytest.fixture
def labels():
    return np.random.default_rng(0).integers(0, 4, SHAPE).astype(np.int16)


@pytest.fixture
def store(tmp_path, labels):
    store = PreviousStore(tmp_path / "grid")
    store.write("liver_1", labels, 3, "abc", (4, 8, 8))
    return store


def test_a_box_is_read_and_padded_with_background(store, labels):
    box = store.read("liver_1", (-2, 25, 3), (5, 9, 4))
    expected = np.zeros((5, 9, 4), np.int16)
    expected[2:, :5] = labels[:3, 25:, 3:7]
    assert box.dtype == np.int16
    np.testing.assert_array_equal(box, expected)


@pytest.mark.parametrize(("num_labels", "dtype"), [(3, "uint8"), (255, "uint8"), (256, "uint16")])
def test_labels_are_stored_in_the_smallest_type_for_all_there_may_be(tmp_path, num_labels, dtype):
    from autoseg.io.chunked_arrays import open_array

    store = PreviousStore(tmp_path)
    store.write("a", np.full(SHAPE, num_labels, np.int16), num_labels, "abc", (8, 8))
    assert open_array(tmp_path / "a" / "labels.b2nd").dtype == dtype
    assert (store.read("a", (0, 0, 0), SHAPE) == num_labels).all()


def test_a_prediction_is_current_only_for_the_case_it_was_made_of(store):
    assert store.is_current("liver_1", "abc")
    assert store.is_current("liver_1", "abc", SHAPE)
    assert not store.is_current("liver_1", "other")
    assert not store.is_current("liver_1", "abc", (7, 30, 22))
    assert not store.is_current("liver_2", "abc")
    assert "liver_1" in store
    assert "liver_2" not in store


def test_a_cut_file_is_not_current_and_says_what_to_do_when_it_is_read(store):
    path = store.folder / "liver_1" / "labels.b2nd"
    path.write_bytes(path.read_bytes()[:40])
    assert not store.is_current("liver_1", "abc")
    with pytest.raises(ArtifactError, match=r"damaged prediction .*; delete its folder, then"):
        store.read("liver_1", (0, 0, 0), SHAPE)


def test_a_newer_prediction_takes_the_place_of_the_older(store, labels):
    store.write("liver_1", labels * 0, 3, "new", (4, 8, 8))
    assert store.is_current("liver_1", "new")
    assert not store.read("liver_1", (0, 0, 0), SHAPE).any()


def test_a_prediction_that_is_not_there_is_named(store):
    with pytest.raises(WorkspaceError, match=r"liver_2.*does not exist; repeat the command"):
        store.read("liver_2", (0, 0, 0), SHAPE)
