import logging
import shutil
from dataclasses import replace

import numpy as np
import pytest
from conftest import make_toy, toy_case

from autoseg.core.labels import Structure
from autoseg.core.plan import Plan
from autoseg.core.words import size_in_words
from autoseg.errors import AutosegError, UnknownNameError
from autoseg.imaging.prepare import Trace, prepare
from autoseg.io import artifacts, atomic
from autoseg.io.case_store import CaseStore
from autoseg.io.images import read_image, read_labels, write_image, write_labels
from autoseg.io.task import load_dataset, load_fingerprint
from autoseg.pipeline.data import plan_folder
from autoseg.plan.planner import PlanRequest
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


def test_a_case_whose_files_changed_is_refused_until_they_are_measured_again(tmp_path):
    toy = make_toy(tmp_path, num_cases=3)
    before = {name: store_of(toy.task).info(name) for name in ("ball_00", "ball_01", "ball_02")}
    image = toy.raw / "imagesTr" / "ball_01.nii.gz"
    old = toy_case(1)[0]
    write_image(image, replace(old, array=old.array + 7))
    shutil.rmtree(store_of(toy.task).folder / "ball_01")
    [failure] = preprocess_task(toy.task, ["3d_fullres"], workers=0)
    assert failure.name == "ball_01"
    assert "imagesTr/ball_01.nii.gz: has changed since it was measured" in failure.error
    assert failure.error.endswith("run: autoseg plan TASK")
    assert store_of(toy.task).names() == ["ball_00", "ball_02"]

    plan_folder(toy.workspace, toy.raw, PlanRequest(), workers=0)
    assert preprocess_task(toy.task, ["3d_fullres"], workers=0) == []
    after = {name: store_of(toy.task).info(name) for name in before}
    assert after["ball_01"].source != before["ball_01"].source
    assert after["ball_02"] == before["ball_02"]


def test_a_missing_file_is_told(tmp_path):
    toy = make_toy(tmp_path, num_cases=2)
    shutil.rmtree(store_of(toy.task).folder / "ball_01")
    (toy.raw / "labelsTr" / "ball_01.nii.gz").unlink()
    [failure] = preprocess_task(toy.task, ["3d_fullres"], workers=0)
    assert "labelsTr/ball_01.nii.gz: is gone" in failure.error


def test_other_structures_of_the_same_labels_are_prepared_anew(tmp_path):
    toy = make_toy(tmp_path, num_cases=2)
    dataset = load_dataset(toy.task)
    shell, core = dataset.labels.structures
    whole = Structure(name="whole", values=(*shell.values, *core.values))
    labels = dataset.labels.model_copy(
        update={"structures": (whole, core), "output_values": (1, 2)}
    )
    artifacts.save(toy.task.task_file, dataset.model_copy(update={"labels": labels}))
    assert preprocess_task(toy.task, ["3d_fullres"], workers=0) == []
    info = store_of(toy.task).info("ball_01")
    assert info.position_counts == (sum(info.label_voxels), info.label_voxels[1])


def test_a_broken_case_is_named_and_the_others_are_prepared(tmp_path, caplog):
    toy = make_toy(tmp_path, num_cases=3)
    store = store_of(toy.task)
    for case in ("ball_00", "ball_01"):
        (store.folder / case).rename(tmp_path / case)
    image = toy.raw / "imagesTr" / "ball_00.nii.gz"
    image.write_bytes(image.read_bytes()[:500])
    with caplog.at_level(logging.INFO, logger="autoseg"):
        failures = preprocess_task(toy.task, ["3d_fullres"], workers=0)
    assert "3d_fullres: 2 of 3 cases are prepared" in caplog.text
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
    assert "MB of memory" in caplog.text


def test_it_says_what_the_prepared_cases_take_and_what_no_plan_uses(tmp_path, caplog):
    toy = make_toy(tmp_path, num_cases=2)
    store = store_of(toy.task)
    size = size_in_words(store.size_bytes())
    left_over = store.folder.with_name("3d_fullres-00c0ffee")
    shutil.copytree(store.folder, left_over)
    with caplog.at_level(logging.INFO, logger="autoseg"):
        assert preprocess_task(toy.task, ["3d_fullres"], workers=0) == []
    assert f"3d_fullres: all 2 cases are prepared, {size} in {store.folder}" in caplog.text
    assert f"{left_over} ({size}) belongs to no plan: it may be deleted" in caplog.text
    assert f"{store.folder} (" not in caplog.text

    caplog.clear()
    toy.task.plan_file("edited").write_text("{")
    with caplog.at_level(logging.INFO, logger="autoseg"):
        preprocess_task(toy.task, ["3d_fullres"], workers=0)
    assert "belongs to no plan" not in caplog.text


def test_a_file_that_is_replaced_while_it_is_read_is_refused(tmp_path, monkeypatch):
    toy = make_toy(tmp_path, num_cases=2)
    shutil.rmtree(store_of(toy.task).folder / "ball_01")
    old = toy_case(1)[0]

    def read_and_replace(paths):
        write_image(paths[0], replace(old, array=old.array + 7))
        return read_image(paths)

    monkeypatch.setattr(stage, "read_image", read_and_replace)
    [failure] = preprocess_task(toy.task, ["3d_fullres"], workers=0)
    assert "imagesTr/ball_01.nii.gz: has changed since it was measured" in failure.error
    assert store_of(toy.task).names() == ["ball_00"]


def test_it_warns_of_prepared_cases_whose_files_have_changed(tmp_path, caplog):
    toy = make_toy(tmp_path, num_cases=3)
    image, label = (toy.raw / kind / "ball_01.nii.gz" for kind in ("imagesTr", "labelsTr"))
    image.touch()
    (toy.raw / "labelsTr" / "ball_02.nii.gz").unlink()
    with caplog.at_level(logging.WARNING, logger="autoseg"):
        assert preprocess_task(toy.task, workers=0) == []
    assert caplog.messages == []

    old = toy_case(1)[1]
    write_labels(label, replace(old, array=old.array // 2))
    with caplog.at_level(logging.WARNING, logger="autoseg"):
        assert preprocess_task(toy.task, workers=0) == []
    (message,) = caplog.messages
    assert message == (
        "files of 1 case changed since the plan was made (the first is 'ball_01'), what is "
        "prepared is of the old ones: repeat autoseg plan Task01_Ball"
    )


def test_with_an_ignore_label_all_that_is_annotated_has_positions(tmp_path):
    toy = make_toy(tmp_path, num_cases=2)
    image = toy_case(1)[0]
    image.array[:, :4, :5] = 0  # an open edge: outside, and annotated nevertheless
    write_image(toy.raw / "imagesTr" / "ball_01.nii.gz", image)
    plan_folder(toy.workspace, toy.raw, PlanRequest(), workers=0)
    dataset = load_dataset(toy.task)
    shell, _ = dataset.labels.structures
    labels = dataset.labels.model_copy(update={"structures": (shell,), "ignore": 2})
    artifacts.save(toy.task.task_file, dataset.model_copy(update={"labels": labels}))
    store = store_of(toy.task)
    assert preprocess_task(toy.task, ["3d_fullres"], workers=0) == []
    info = store.info("ball_01")
    _, stored = store.read("ball_01", (0, 0, 0), info.shape)
    assert info.label_voxels == (int((stored == 1).sum()),)
    annotated = int((stored <= 1).sum())
    assert info.position_counts == (info.label_voxels[0], min(annotated, 10_000))
    assert set(stored.ravel()[store.positions("ball_01", 1)].tolist()) == {-1, 0, 1}
    assert (stored == 2).any()


def test_two_configurations_of_one_recipe_share_what_is_prepared(tmp_path, caplog):
    toy = make_toy(tmp_path, num_cases=2)
    file = toy.task.plan_file("default")
    plan = artifacts.load(file, Plan)
    twin = plan.configurations["3d_fullres"].model_copy(update={"batch_size": 1})
    configurations = {**plan.configurations, "twin": twin}
    artifacts.save(file, plan.model_copy(update={"configurations": configurations}))
    with caplog.at_level(logging.INFO, logger="autoseg"):
        assert preprocess_task(toy.task, ["3d_fullres", "twin"], workers=0) == []
    assert caplog.text.count("all 2 cases are prepared") == 1


def test_the_largest_case_is_begun_first(tmp_path, monkeypatch):
    toy = make_toy(tmp_path, num_cases=4)
    store = store_of(toy.task)
    sizes = {name: int(np.prod(store.shape(name))) for name in store.names()}
    assert list(sizes.values()) != sorted(sizes.values(), reverse=True)
    shutil.rmtree(store.folder)
    begun = []
    original = stage._prepare_case
    monkeypatch.setattr(
        stage, "_prepare_case", lambda job: (begun.append(sizes[job.name]), original(job))[1]
    )
    assert preprocess_task(toy.task, ["3d_fullres"], workers=0) == []
    assert begun == sorted(sizes.values(), reverse=True)


def test_a_store_that_another_command_fills_is_left_alone(toy):
    folder = store_of(toy.task).folder
    with (
        atomic.lock(folder.with_name(f".{folder.name}.lock")),
        pytest.raises(AutosegError, match=r"in use by process \d+ on .*wait until it has finished"),
    ):
        preprocess_task(toy.task, ["3d_fullres"], workers=0)


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
    with pytest.raises(AutosegError, match=r"kB are needed, 10 bytes are free.*--workspace"):
        preprocess_task(toy.task, ["3d_fullres"], workers=0)


@pytest.mark.parametrize(
    ("workers", "remedy"), [(0, "end other programs"), (2, "take fewer --workers")]
)
def test_a_memory_that_may_be_too_small_is_told(tmp_path, monkeypatch, caplog, workers, remedy):
    toy = make_toy(tmp_path, num_cases=2)
    shutil.rmtree(store_of(toy.task).folder)
    monkeypatch.setattr(stage, "available_memory_bytes", lambda: 100_000_000)
    with caplog.at_level(logging.WARNING, logger="autoseg"):
        assert preprocess_task(toy.task, ["3d_fullres"], workers=workers) == []
    assert caplog.messages == [
        f"this may not fit into the memory that is free now (100 MB): {remedy}"
    ]


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
