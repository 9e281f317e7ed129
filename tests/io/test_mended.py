import logging
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
from conftest import toy_case, write_toy_dataset

from autoseg.core.dataset import Split
from autoseg.core.problem import Problem
from autoseg.errors import ArtifactError
from autoseg.io.dataset_folder import find_dataset
from autoseg.io.formats import reader_of
from autoseg.io.images import read_image, read_labels
from autoseg.io.mended import (
    LeftOut,
    MendedFile,
    Mends,
    left_out_names,
    load_mends,
    put_in_place,
    save_mends,
    sources_of,
    without_left_out,
    write_copy,
)
from autoseg.io.workspace import Workspace


@pytest.fixture
def raw(tmp_path):
    return find_dataset(write_toy_dataset(tmp_path / "Task01_Ball", 3))


@pytest.fixture
def task(tmp_path):
    return Workspace(tmp_path / "workspace").task("Task01_Ball")


def mend_label(task, raw, name="ball_01"):
    """A mended copy of one label map, which is the same file elsewhere."""
    case = raw.case(name)
    label = raw.label_path(case)
    task.mended.mkdir(parents=True, exist_ok=True)
    shutil.copy(label, task.mended / f"{name}_label.nii.gz")
    return MendedFile(
        raw=label,
        copies=(f"{name}_label.nii.gz",),
        done=("geometry=copy",),
        sources=sources_of((*raw.image_paths(case), label)),
    )


def leave_out(raw, name="ball_02"):
    case = raw.case(name)
    sources = sources_of((*raw.image_paths(case), raw.label_path(case)))
    return LeftOut(case=name, kind="unreadable", finding="odd", sources=sources)


def test_nothing_was_mended_where_there_is_no_file(task):
    assert load_mends(task) == Mends()


def test_what_was_mended_is_read_back(task, raw):
    mends = Mends(files=(mend_label(task, raw),), left_out=(leave_out(raw),))
    save_mends(task, mends)
    assert load_mends(task) == mends


def test_a_mended_copy_takes_the_place_of_its_raw_file(task, raw):
    mends = Mends(files=(mend_label(task, raw),))
    dataset = put_in_place(raw, mends, task.mended)
    case = dataset.case("ball_01")
    assert dataset.label_path(case) == task.mended / "ball_01_label.nii.gz"
    assert dataset.image_paths(case) == raw.image_paths(raw.case("ball_01"))
    assert dataset.case("ball_00") == raw.case("ball_00")


def test_a_file_of_several_channels_becomes_a_copy_each(task, raw):
    image = raw.image_paths(raw.case("ball_00"))[0]
    entry = MendedFile(raw=image, copies=("a_0000.nii.gz", "a_0001.nii.gz"), done=(), sources=())
    dataset = put_in_place(raw, Mends(files=(entry,)), task.mended)
    names = [path.name for path in dataset.image_paths(dataset.case("ball_00"))]
    assert names == ["a_0000.nii.gz", "a_0001.nii.gz"]


@pytest.mark.parametrize("folder", ["imagesTr", "labelsTr"])
def test_a_changed_raw_file_makes_the_copies_of_its_case_stale(task, raw, caplog, folder):
    save_mends(task, Mends(files=(mend_label(task, raw),), left_out=(leave_out(raw, "ball_01"),)))
    with (raw.root / folder / "ball_01.nii.gz").open("ab") as file:
        file.write(b"more")
    with caplog.at_level(logging.WARNING, logger="autoseg"):
        assert load_mends(task) == Mends()
    assert caplog.messages == [
        "2 mends of Task01_Ball hold no more, because the raw files have changed: they are ignored"
    ]


def test_a_new_time_of_a_raw_file_alone_changes_nothing(task, raw):
    mends = Mends(files=(mend_label(task, raw),))
    save_mends(task, mends)
    os.utime(raw.label_path(raw.case("ball_01")), ns=(1, 1))
    assert load_mends(task) == mends


def test_a_mended_copy_that_is_gone_is_not_used(task, raw):
    save_mends(task, Mends(files=(mend_label(task, raw),)))
    (task.mended / "ball_01_label.nii.gz").unlink()
    assert load_mends(task) == Mends()


def test_a_broken_list_is_named(task):
    task.mended.mkdir(parents=True)
    task.mended_file.write_text("{")
    with pytest.raises(ArtifactError, match=r"mended\.json"):
        load_mends(task)


def test_cases_left_out_are_in_no_fold_either(task, raw):
    fold = Split(train=("ball_00", "ball_02"), validation=("ball_01",))
    dataset = raw.model_copy(update={"folds": (fold,)})
    found = put_in_place(dataset, Mends(left_out=(leave_out(raw),)), task.mended)
    assert [case.name for case in found.cases] == ["ball_00", "ball_01"]
    assert found.folds == (Split(train=("ball_00",), validation=("ball_01",)),)


def test_an_incomplete_case_stays_left_out_until_it_is_complete(raw):
    entry = LeftOut(case="ball_09", kind="missing-label", finding="missing")
    complete = LeftOut(case="ball_01", kind="missing-label", finding="missing")
    mends = Mends(left_out=(entry, complete))
    assert left_out_names(raw, mends) == {"ball_09"}


def test_problems_of_cases_left_out_are_told_no_more():
    problems = [Problem(kind="shape", finding="", case=name) for name in ("a", "b", None)]
    assert without_left_out(problems, {"a"}) == tuple(problems[1:])


def test_sources_that_cannot_be_read_are_left_out(tmp_path):
    (tmp_path / "a").write_bytes(b"a")
    found = sources_of([tmp_path / "a", tmp_path / "b"])
    assert [source.path for source in found] == [tmp_path / "a"]


@pytest.mark.parametrize(
    ("array", "dtype"),
    [
        (np.array([0.0, 1.0, 255.0]), np.uint8),
        (np.array([-1024.0, 3071.0]), np.int16),
        (np.array([0.5, 1.0], np.float32), np.float32),
        (np.array([np.nan, 1.0], np.float32), np.float32),
    ],
)
def test_copies_are_written_in_the_smallest_type_that_holds_them(tmp_path, array, dtype):
    geometry = toy_case(0)[0].geometry
    shape = (1, 1, len(array))
    write_copy(tmp_path / "a.nii.gz", array.reshape(shape), replace(geometry, shape=shape))
    found, _ = reader_of(tmp_path / "a.nii.gz").read(tmp_path / "a.nii.gz")
    assert found.dtype == dtype
    np.testing.assert_array_equal(found.ravel(), array)


def test_a_copy_lies_where_it_should(tmp_path):
    image, labels = toy_case(1)
    write_copy(tmp_path / "i.nii.gz", image.array[0], image.geometry)
    write_copy(tmp_path / "l.nii.gz", labels.array, labels.geometry)
    assert image.geometry.distance_vox(read_image([tmp_path / "i.nii.gz"]).geometry) < 1e-4
    found = read_labels(tmp_path / "l.nii.gz")
    np.testing.assert_array_equal(found.array, labels.array)
