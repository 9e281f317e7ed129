import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
from conftest import toy_case, write_toy_dataset

from autoseg.core.image import LabelMap
from autoseg.fingerprint import stage
from autoseg.fingerprint.stage import measure_dataset
from autoseg.io.dataset_folder import find_dataset
from autoseg.io.images import write_labels


@pytest.fixture
def dataset(tmp_path):
    return find_dataset(write_toy_dataset(tmp_path / "Task01_Ball", 3))


@pytest.fixture
def measured(monkeypatch):
    """Names of the cases that are measured."""
    names = []
    original = stage._measure
    monkeypatch.setattr(stage, "_measure", lambda job: (names.append(job.name), original(job))[1])
    return names


def kinds(measured):
    return [(problem.case, problem.kind) for problem in measured.problems]


def test_every_case_is_measured_and_stored(dataset):
    measured = measure_dataset(dataset, workers=0)
    fingerprint = measured.fingerprint
    assert measured.problems == ()
    assert [case.name for case in fingerprint.cases] == ["ball_00", "ball_01", "ball_02"]
    assert fingerprint.cases[1].shape == (11, 25, 20)
    assert fingerprint.cases[1].spacing == pytest.approx((2.5, 1.25, 1.125))
    assert fingerprint.label_values == (0, 1, 2)


def test_unchanged_files_are_not_read_again(dataset, measured):
    first = measure_dataset(dataset, workers=0).fingerprint
    assert len(measured) == 3
    assert measure_dataset(dataset, first, workers=0).fingerprint is first
    assert len(measured) == 3


def test_a_copy_with_a_new_time_but_the_same_content_is_unchanged(dataset, measured, tmp_path):
    known = measure_dataset(dataset, workers=0).fingerprint
    image = tmp_path / "Task01_Ball" / "imagesTr" / "ball_01.nii.gz"
    os.utime(image, ns=(1, 1))
    assert measure_dataset(dataset, known, workers=0).fingerprint is known
    assert len(measured) == 3


def test_a_changed_file_is_noticed(dataset, measured, tmp_path):
    before = measure_dataset(dataset, workers=0).fingerprint
    labels = tmp_path / "Task01_Ball" / "labelsTr"
    _, label_map = toy_case(1)
    shifted = np.roll(label_map.array, 1, axis=1)
    write_labels(labels / "ball_01.nii.gz", LabelMap(array=shifted, geometry=label_map.geometry))
    after = measure_dataset(dataset, before, workers=0).fingerprint
    assert len(measured) == 6
    assert after.case("ball_01").source != before.case("ball_01").source
    assert after.case("ball_00").source == before.case("ball_00").source


def test_the_problems_of_all_cases_are_found_at_once(dataset, tmp_path):
    labels = tmp_path / "Task01_Ball" / "labelsTr"
    shutil.copy(labels / "ball_02.nii.gz", labels / "ball_00.nii.gz")
    _, label_map = toy_case(1)
    wrong = LabelMap(array=label_map.array * 7, geometry=label_map.geometry)
    write_labels(labels / "ball_01.nii.gz", wrong)
    measured = measure_dataset(dataset, workers=0)
    assert kinds(measured) == [("ball_00", "shape"), ("ball_01", "undeclared-labels")]
    assert [case.structures == () for case in measured.fingerprint.cases] == [True, True, False]


def test_a_case_whose_image_is_broken_is_in_no_fingerprint(dataset, tmp_path):
    for number in range(3):
        image = tmp_path / "Task01_Ball" / "imagesTr" / f"ball_0{number}.nii.gz"
        image.write_bytes(b"")
        measured = measure_dataset(dataset, workers=0)
        assert kinds(measured) == [(f"ball_0{i}", "unreadable") for i in range(number + 1)]
        names = [case.name for case in measured.fingerprint.cases] if number < 2 else []
        assert names == [f"ball_0{i}" for i in range(number + 1, 3)]
    assert measured.fingerprint is None


def test_cases_measured_a_moment_ago_are_not_read_again(dataset, measured):
    first = measure_dataset(dataset, workers=0)
    kept = {name: case for name, case in first.cases.items() if name != "ball_01"}
    again = measure_dataset(dataset, workers=0, done=kept)
    assert measured == ["ball_00", "ball_01", "ball_02", "ball_01"]
    assert again.fingerprint == first.fingerprint


def test_what_was_remarked_is_told_again_though_nothing_is_read(dataset, measured, tmp_path):
    label = tmp_path / "Task01_Ball" / "labelsTr" / "ball_01.nii.gz"
    _, label_map = toy_case(1)
    z, y, x = label_map.geometry.origin
    near = replace(label_map.geometry, origin=(z + 0.05, y, x))
    write_labels(label, LabelMap(array=label_map.array, geometry=near))
    first = measure_dataset(dataset, workers=0)
    again = measure_dataset(dataset, first.fingerprint, workers=0)
    assert len(measured) == 3
    assert kinds(first) == [("ball_01", "geometry-slight")]
    assert again.problems == first.problems
    assert again.problems[0].file == label


def test_a_case_that_fails_for_a_reason_nobody_foresaw_is_unreadable(dataset, monkeypatch):
    original = stage.measure_case

    def fail(name, *others):
        if name == "ball_01":
            raise RuntimeError("odd")
        return original(name, *others)

    monkeypatch.setattr(stage, "measure_case", fail)
    measured = measure_dataset(dataset, workers=0)
    assert [(p.case, p.finding) for p in measured.problems] == [("ball_01", "RuntimeError: odd")]
    assert len(measured.fingerprint.cases) == 2


def test_other_label_values_are_noticed(dataset, measured):
    known = measure_dataset(dataset, workers=0).fingerprint
    core, shell = reversed(dataset.labels.structures)
    swapped = dataset.labels.model_copy(
        update={"structures": (shell.model_copy(update={"values": (3,)}), core)}
    )
    changed = dataset.model_copy(update={"labels": swapped})
    found = measure_dataset(changed, known, workers=0)
    assert {kind for _, kind in kinds(found)} == {"undeclared-labels"}
    assert len(measured) == 6
