import logging

import numpy as np
import pytest
from conftest import make_toy

from autoseg.core.plan import Plan
from autoseg.errors import AutosegError, UnknownNameError
from autoseg.imaging.prepare import Trace, prepare
from autoseg.io import artifacts
from autoseg.io.case_store import CaseStore
from autoseg.io.images import read_image, read_labels
from autoseg.io.task import load_dataset, load_fingerprint
from autoseg.preprocess import stage
from autoseg.preprocess.estimate import estimate_work
from autoseg.preprocess.stage import preprocess_task


def store_of(task, configuration="3d_fullres") -> CaseStore:
    plan = artifacts.load(task.plan_file("default"), Plan)
    return CaseStore(task.prepared(configuration, plan.recipe(configuration).key))


def content(store):
    """Everything a store holds; the compressor pads its files with whatever is in memory."""
    found = {}
    for name in store.names():
        image, labels = store.read(name, (0, 0, 0), store.shape(name))
        positions = [store.positions(name, structure).tolist() for structure in (0, 1)]
        found[name] = (store.info(name), image.tobytes(), labels.tobytes(), positions)
    return found


def test_the_store_holds_what_prepare_makes(toy):
    dataset = load_dataset(toy.task)
    plan = artifacts.load(toy.task.plan_file("default"), Plan)
    store = store_of(toy.task)
    assert store.names() == [case.name for case in dataset.cases]
    case = dataset.case("ball_03")
    image, labels = read_image(dataset.image_paths(case)), read_labels(dataset.label_path(case))
    indices = dataset.labels.to_indices(labels.array)
    expected = prepare(image.array, image.geometry.spacing, plan.recipe("3d_fullres"), indices)
    stored, stored_labels = store.read("ball_03", (0, 0, 0), store.shape("ball_03"))
    np.testing.assert_array_equal(stored, expected.image)
    np.testing.assert_array_equal(stored_labels, expected.labels)
    assert Trace.from_json(store.info("ball_03").trace) == expected.trace


def test_positions_lie_in_their_structures(toy):
    store = store_of(toy.task)
    _, labels = store.read("ball_00", (0, 0, 0), store.shape("ball_00"))
    for structure, index in enumerate((1, 2)):
        positions = store.positions("ball_00", structure)
        assert len(positions) == (labels == index).sum()
        assert (labels.ravel()[positions] == index).all()


def test_what_is_prepared_is_kept_and_only_the_missing_made(tmp_path, monkeypatch):
    toy = make_toy(tmp_path, num_cases=3)
    store = store_of(toy.task)
    before = content(store)
    made = []
    original = stage._prepare_case
    monkeypatch.setattr(
        stage, "_prepare_case", lambda job: (made.append(job.name), original(job))[1]
    )
    assert preprocess_task(toy.task, workers=0) == []
    assert made == []
    for file in (store.folder / "ball_01").iterdir():
        file.unlink()
    (store.folder / "ball_01").rmdir()
    assert preprocess_task(toy.task, ["3d_fullres"], workers=0) == []
    assert made == ["ball_01"]
    assert content(store) == before


def test_a_case_whose_files_changed_is_made_again(tmp_path):
    toy = make_toy(tmp_path, num_cases=2)
    fingerprint = load_fingerprint(toy.task)
    changed = fingerprint.case("ball_01").files[0].model_copy(update={"digest": "another"})
    cases = [
        case.model_copy(update={"files": (changed, *case.files[1:])})
        if case.name == "ball_01"
        else case
        for case in fingerprint.cases
    ]
    updated = fingerprint.model_copy(update={"cases": tuple(cases)})
    artifacts.save(toy.task.fingerprint_file, updated)
    preprocess_task(toy.task, ["3d_fullres"], workers=0)
    assert store_of(toy.task).info("ball_01").source == updated.case("ball_01").source


def test_a_broken_case_is_named_and_the_others_are_prepared(tmp_path):
    toy = make_toy(tmp_path, num_cases=3)
    store = store_of(toy.task)
    for case in ("ball_00", "ball_01"):
        (store.folder / case).rename(tmp_path / case)
    image = toy.raw / "imagesTr" / "ball_00.nii.gz"
    image.write_bytes(image.read_bytes()[:500])
    failures = preprocess_task(toy.task, ["3d_fullres"], workers=0)
    assert [failure.name for failure in failures] == ["ball_00"]
    assert "ball_00.nii.gz" in failures[0].error
    assert store_of(toy.task).names() == ["ball_01", "ball_02"]


def test_it_says_what_it_will_take_before_it_starts(tmp_path, caplog):
    toy = make_toy(tmp_path, num_cases=2)
    for folder in (toy.task.root / "prepared").iterdir():
        folder.rename(tmp_path / folder.name)
    with caplog.at_level(logging.INFO, logger="autoseg"):
        preprocess_task(toy.task, ["3d_fullres"], workers=0)
    assert "3d_fullres: 2 cases, about 1 s with" in caplog.text
    assert "GB of memory" in caplog.text


def test_the_estimate_is_of_the_right_size(toy):
    plan = artifacts.load(toy.task.plan_file("default"), Plan)
    fingerprint = load_fingerprint(toy.task)
    store = store_of(toy.task)
    estimate = estimate_work(store.names(), fingerprint, plan, "3d_fullres", workers=1)
    voxels = sum(int(np.prod(store.shape(name))) for name in store.names())
    assert estimate.num_cases == len(store.names())
    assert voxels * 2 < estimate.disk_bytes < voxels * 5


def test_a_disk_that_is_too_small_is_found_before_it_starts(tmp_path, monkeypatch):
    toy = make_toy(tmp_path, num_cases=2)
    for folder in (toy.task.root / "prepared").iterdir():
        folder.rename(tmp_path / folder.name)
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr("autoseg.preprocess.stage.shutil.disk_usage", lambda path: usage)
    with pytest.raises(AutosegError, match=r"GB are needed.*--workspace"):
        preprocess_task(toy.task, ["3d_fullres"], workers=0)


def test_an_unknown_configuration_lists_the_known_before_any_work(toy):
    with pytest.raises(UnknownNameError, match=r"'4d'.*available: 2d, 3d_fullres"):
        preprocess_task(toy.task, ["2d", "4d"], workers=0)


def test_several_processes_make_the_same_store(tmp_path):
    one = store_of(make_toy(tmp_path / "a", num_cases=3).task)
    toy = make_toy(tmp_path / "b", num_cases=3)
    other = store_of(toy.task)
    other.folder.rename(tmp_path / "moved")
    assert preprocess_task(toy.task, ["3d_fullres"], workers=2) == []
    assert content(other) == content(one)
