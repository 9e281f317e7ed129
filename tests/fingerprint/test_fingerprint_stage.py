import os
import shutil

import numpy as np
import pytest
from conftest import toy_case, write_toy_dataset

from autoseg.core.image import LabelMap
from autoseg.errors import DataError
from autoseg.fingerprint import stage
from autoseg.fingerprint.stage import fingerprint_dataset
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


def test_every_case_is_measured_and_stored(dataset):
    fingerprint = fingerprint_dataset(dataset, workers=0)
    assert [case.name for case in fingerprint.cases] == ["ball_00", "ball_01", "ball_02"]
    assert fingerprint.cases[1].shape == (11, 25, 20)
    assert fingerprint.cases[1].spacing == pytest.approx((2.5, 1.25, 1.125))
    assert fingerprint.label_values == (0, 1, 2)


def test_unchanged_files_are_not_read_again(dataset, measured):
    first = fingerprint_dataset(dataset, workers=0)
    assert len(measured) == 3
    assert fingerprint_dataset(dataset, first, workers=0) is first
    assert len(measured) == 3


def test_a_copy_with_a_new_time_but_the_same_content_is_unchanged(dataset, measured, tmp_path):
    known = fingerprint_dataset(dataset, workers=0)
    image = tmp_path / "Task01_Ball" / "imagesTr" / "ball_01.nii.gz"
    os.utime(image, ns=(1, 1))
    assert fingerprint_dataset(dataset, known, workers=0) is known
    assert len(measured) == 3


def test_a_changed_file_is_noticed(dataset, measured, tmp_path):
    before = fingerprint_dataset(dataset, workers=0)
    labels = tmp_path / "Task01_Ball" / "labelsTr"
    _, label_map = toy_case(1)
    shifted = np.roll(label_map.array, 1, axis=1)
    write_labels(labels / "ball_01.nii.gz", LabelMap(array=shifted, geometry=label_map.geometry))
    after = fingerprint_dataset(dataset, before, workers=0)
    assert len(measured) == 6
    assert after.case("ball_01").source != before.case("ball_01").source
    assert after.case("ball_00").source == before.case("ball_00").source


def test_all_unusable_cases_are_named_at_once(dataset, tmp_path):
    labels = tmp_path / "Task01_Ball" / "labelsTr"
    shutil.copy(labels / "ball_02.nii.gz", labels / "ball_00.nii.gz")
    _, label_map = toy_case(1)
    wrong = LabelMap(array=label_map.array * 7, geometry=label_map.geometry)
    write_labels(labels / "ball_01.nii.gz", wrong)
    with pytest.raises(DataError) as caught:
        fingerprint_dataset(dataset, workers=0)
    message = str(caught.value)
    assert "2 cases cannot be used" in message
    assert "ball_00.nii.gz" in message
    assert "label values [7, 14] are not declared" in message


def test_other_label_values_are_noticed(dataset, measured):
    known = fingerprint_dataset(dataset, workers=0)
    core, shell = reversed(dataset.labels.structures)
    swapped = dataset.labels.model_copy(
        update={"structures": (shell.model_copy(update={"values": (3,)}), core)}
    )
    changed = dataset.model_copy(update={"labels": swapped})
    with pytest.raises(DataError, match="not declared"):
        fingerprint_dataset(changed, known, workers=0)
    assert len(measured) == 6
