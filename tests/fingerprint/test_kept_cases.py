import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
from conftest import toy_case, write_toy_dataset

from autoseg.core.image import LabelMap
from autoseg.errors import DataError
from autoseg.fingerprint.stage import keep_cases, measure_dataset
from autoseg.io.dataset_folder import find_dataset
from autoseg.io.images import write_image, write_labels
from autoseg.io.workspace import TaskFolder, Workspace
from autoseg.pipeline.data import check_folder, plan_folder
from autoseg.plan.planner import PlanRequest

NUM_CASES = 4


@pytest.fixture
def raw(tmp_path):
    return write_toy_dataset(tmp_path / "Task01_Ball", NUM_CASES)


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "workspace")


@pytest.fixture
def task(workspace):
    return workspace.task("Task01_Ball")


def files_of(raw, number):
    name = f"ball_{number:02d}.nii.gz"
    return raw / "imagesTr" / name, raw / "labelsTr" / name


def spoil(raw, *numbers):
    """Make cases unreadable without a trace in size and time: reading one again would show."""
    for file in (file for number in numbers for file in files_of(raw, number)):
        before = file.stat()
        file.write_bytes(b"?" * before.st_size)
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def change_label(raw, number):
    _, label_map = toy_case(number)
    rolled = np.roll(label_map.array, 2, axis=1)
    moved = LabelMap(array=rolled, geometry=label_map.geometry)
    write_labels(files_of(raw, number)[1], moved)


def declare(raw, **changes):
    text = json.loads((raw / "dataset.json").read_text())
    (raw / "dataset.json").write_text(json.dumps(text | changes))


def cases_of(numbers):
    names = [f"ball_{number:02d}.nii.gz" for number in numbers]
    return [{"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"} for name in names]


def measure(raw, task, known=None, **options):
    return measure_dataset(find_dataset(raw), known, workers=0, task=task, keep=True, **options)


def anew(raw):
    return measure_dataset(find_dataset(raw), workers=0).fingerprint


def unreadable(measured):
    return sorted({problem.case for problem in measured.problems})


def test_of_a_data_set_with_a_changed_file_only_that_case_is_read(raw, task):
    known = measure(raw, task).fingerprint
    change_label(raw, 1)
    expected = anew(raw)
    spoil(raw, 0, 2, 3)
    measured = measure(raw, task, known)
    assert measured.problems == ()
    assert list(measured.cases) == ["ball_01"]
    assert measured.fingerprint.model_dump_json() == expected.model_dump_json()
    assert measured.fingerprint.case("ball_01") != known.case("ball_01")


def test_a_changed_image_changes_the_intensities_of_the_whole(raw, task):
    known = measure(raw, task).fingerprint
    image, _ = toy_case(2)
    write_image(files_of(raw, 2)[0], replace(image, array=image.array * 3 + 0.123))
    expected = anew(raw)
    spoil(raw, 0, 1, 3)
    measured = measure(raw, task, known).fingerprint
    assert measured.intensities == expected.intensities != known.intensities


def test_an_added_case_is_read_and_the_others_are_not(raw, task):
    declare(raw, training=cases_of([0, 2, 3]))
    known = measure(raw, task).fingerprint
    declare(raw, training=cases_of(range(4)))
    expected = anew(raw)
    spoil(raw, 0, 2, 3)
    assert measure(raw, task, known).fingerprint == expected


def test_without_a_removed_case_nothing_is_read_and_nothing_of_it_is_kept(raw, task):
    known = measure(raw, task).fingerprint
    declare(raw, training=cases_of([0, 1, 3]))
    expected = anew(raw)
    spoil(raw, 0, 1, 3)
    measured = measure(raw, task, known)
    assert measured.fingerprint == expected
    assert measured.cases == {}
    assert sorted(file.name for file in task.measured.iterdir()) == [
        "ball_00.npz",
        "ball_01.npz",
        "ball_03.npz",
    ]


def test_a_touched_file_is_not_read_again(raw, task):
    measure(raw, task)
    image, label = files_of(raw, 0)
    os.utime(image, ns=(1, 1))
    os.utime(label, ns=(7, 7))
    change_label(raw, 3)
    measured = measure(raw, task)
    assert list(measured.cases) == ["ball_03"]


@pytest.mark.parametrize(
    "labels",
    [
        {"0": "background", "1": "rim", "2": "core"},
        {"0": "background", "1": "core", "2": "shell"},
        {"0": "background", "1": "shell", "2": "ignore"},
    ],
)
def test_with_labels_declared_otherwise_every_case_is_read(raw, task, labels):
    known = measure(raw, task).fingerprint
    declare(raw, labels=labels)
    expected = anew(raw)
    measured = measure(raw, task, known)
    assert len(measured.cases) == NUM_CASES
    assert measured.fingerprint == expected


def test_with_another_number_of_channels_every_case_is_read(raw, task):
    known = measure(raw, task).fingerprint
    declare(raw, modality={"0": "T1", "1": "T2"})
    measured = measure(raw, task, known)
    assert [problem.kind for problem in measured.problems] == ["channels"] * NUM_CASES


def test_a_case_whose_files_were_in_error_is_read_again(raw, task):
    good = files_of(raw, 2)[1].read_bytes()
    files_of(raw, 2)[1].write_bytes(b"")
    assert unreadable(measure(raw, task)) == ["ball_02"]
    assert not task.measured_file("ball_02").exists()
    assert unreadable(measure(raw, task)) == ["ball_02"]
    files_of(raw, 2)[1].write_bytes(good)
    expected = anew(raw)
    spoil(raw, 0, 1, 3)
    assert measure(raw, task).fingerprint == expected


def test_what_was_remarked_about_a_case_is_told_again(raw, task):
    _, label_map = toy_case(1)
    z, y, x = label_map.geometry.origin
    near = replace(label_map.geometry, origin=(z + 0.05, y, x))
    label = files_of(raw, 1)[1]
    write_labels(label, LabelMap(array=label_map.array, geometry=near))
    first = measure(raw, task)
    change_label(raw, 0)
    again = measure(raw, task, first.fingerprint)
    assert list(again.cases) == ["ball_00"]
    assert [(problem.kind, problem.file) for problem in again.problems] == [
        ("geometry-slight", label)
    ]
    assert again.problems == first.problems


def cut(file):
    file.write_bytes(file.read_bytes()[:-40])


def flip(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 0x10
    file.write_bytes(content)


def pickle_into(file):
    np.savez(file, record=np.array([{"case": "ball_01"}], dtype=object))


def make_older(file):
    with np.load(file) as arrays:
        content = dict(arrays)
    record = json.loads(content["record"].tobytes())
    record["format"] -= 1
    content["record"] = np.frombuffer(json.dumps(record).encode(), np.uint8)
    np.savez(file, **content)


def exchange(file):
    shutil.copy(file.with_name("ball_00.npz"), file)


@pytest.mark.parametrize(
    "damage", [cut, flip, pickle_into, make_older, exchange, os.unlink, lambda f: f.write_text("")]
)
def test_a_case_of_which_nothing_usable_is_kept_is_read_again(raw, task, damage):
    expected = measure(raw, task).fingerprint
    good = task.measured_file("ball_01").read_bytes()
    damage(task.measured_file("ball_01"))
    measured = measure(raw, task)
    assert list(measured.cases) == ["ball_01"]
    assert measured.fingerprint == expected
    assert len(task.measured_file("ball_01").read_bytes()) == len(good)
    assert measure(raw, task).cases == {}


def test_what_is_kept_of_one_case_is_not_taken_for_another_with_the_same_files(raw, task):
    for file, copy in zip(files_of(raw, 0), files_of(raw, 1), strict=True):
        shutil.copy2(file, copy)
    expected = measure(raw, task).fingerprint
    exchange(task.measured_file("ball_01"))
    assert measure(raw, task).fingerprint == expected


def test_a_measuring_that_was_stopped_goes_on_where_it_was(raw, task):
    def stop(done, total, name):
        if done == 3:
            raise KeyboardInterrupt

    expected = anew(raw)
    with pytest.raises(KeyboardInterrupt):
        measure(raw, task, progress=stop)
    spoil(raw, 0, 1, 2)
    told = []
    measured = measure(raw, task, progress=lambda *step: told.append(step))
    assert measured.fingerprint == expected
    assert told == [(1, 1, "ball_03")]


def test_what_a_killed_writer_left_is_cleared_away(raw, task):
    task.measured.mkdir(parents=True)
    (task.measured / ".partial-1-00-ball_00.npz").write_bytes(b"half")
    measure(raw, task)
    assert len(list(task.measured.iterdir())) == NUM_CASES


def test_nothing_is_written_unless_it_is_wished(raw, task):
    measured = measure_dataset(find_dataset(raw), workers=0, task=task)
    assert not task.root.exists()
    keep_cases(task, find_dataset(raw).labels, measured.cases)
    spoil(raw, 0, 1, 2, 3)
    again = measure_dataset(find_dataset(raw), workers=0, task=task)
    assert again.fingerprint == measured.fingerprint


def test_where_nothing_can_be_kept_measuring_goes_on(raw, tmp_path):
    (tmp_path / "task").mkdir()
    (tmp_path / "task" / "measured").write_text("in the way")
    assert measure(raw, TaskFolder(tmp_path / "task")).fingerprint == anew(raw)


def test_a_case_without_foreground_is_kept_too(raw, task):
    _, label_map = toy_case(2)
    empty = LabelMap(array=np.zeros_like(label_map.array), geometry=label_map.geometry)
    write_labels(files_of(raw, 2)[1], empty)
    expected = measure(raw, task).fingerprint
    spoil(raw, 0, 1, 2, 3)
    assert measure(raw, task).fingerprint == expected


# Through the commands


def plan(workspace, raw):
    plan_folder(workspace, raw, PlanRequest(), workers=0)


def test_a_plan_that_was_refused_has_read_the_sound_cases_for_the_next(workspace, raw, task):
    good = files_of(raw, 2)[1].read_bytes()
    files_of(raw, 2)[1].write_bytes(b"")
    with pytest.raises(DataError, match="cannot be read"):
        plan(workspace, raw)
    files_of(raw, 2)[1].write_bytes(good)
    spoil(raw, 0, 1, 3)
    plan(workspace, raw)
    assert task.exists


def test_a_check_reads_what_has_changed_since_the_plan(workspace, raw):
    plan(workspace, raw)
    change_label(raw, 1)
    spoil(raw, 0, 2, 3)
    assert check_folder(workspace, raw, workers=0).problems == ()


def test_a_plan_reads_what_has_changed_since_the_check(workspace, raw, task):
    assert check_folder(workspace, raw, workers=0).problems == ()
    change_label(raw, 1)
    spoil(raw, 0, 2, 3)
    plan(workspace, raw)
    assert task.exists


def test_a_check_keeps_sound_cases_of_broken_data_only_where_there_is_a_task(workspace, raw, task):
    files_of(raw, 2)[1].write_bytes(b"")
    check_folder(workspace, raw, workers=0)
    assert not workspace.root.exists()
    task.root.mkdir(parents=True)
    check_folder(workspace, raw, workers=0)
    assert not task.fingerprint_file.exists()
    spoil(raw, 0, 1, 3)
    problems = check_folder(workspace, raw, workers=0).problems
    assert {problem.case for problem in problems if problem.is_error} == {"ball_02"}
