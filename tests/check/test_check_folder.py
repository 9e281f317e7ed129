import gzip
import json
import logging
import shutil
from dataclasses import replace

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from conftest import toy_case, write_toy_dataset

from autoseg.core.fingerprint import Fingerprint
from autoseg.errors import AutosegError, DataError
from autoseg.io import artifacts
from autoseg.io.formats import READERS
from autoseg.io.images import read_image, read_labels
from autoseg.io.mended import load_mends, write_copy
from autoseg.io.readers.nifti import NiftiReader
from autoseg.io.task import load_dataset
from autoseg.io.workspace import Workspace
from autoseg.pipeline.data import check_folder, plan_folder
from autoseg.plan.planner import PlanRequest
from autoseg.preprocess.stage import preprocess_task


class CountingReader(NiftiReader):
    """Counts how often the voxels of a file are read."""

    def __init__(self):
        self.counts = {}

    def read(self, path):
        name = f"{path.parent.name}/{path.name}"
        self.counts[name] = self.counts.get(name, 0) + 1
        return super().read(path)


@pytest.fixture
def counts(monkeypatch):
    reader = CountingReader()
    monkeypatch.setitem(READERS._entries, "nifti", reader)
    return reader.counts


@pytest.fixture
def raw(tmp_path):
    return write_toy_dataset(tmp_path / "Task01_Ball")


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "workspace")


@pytest.fixture
def task(workspace):
    return workspace.task("Task01_Ball")


def label_file(raw, number):
    return raw / "labelsTr" / f"ball_0{number}.nii.gz"


def break_label(raw, number, change=lambda array: array, **geometry):
    _, labels = toy_case(number)
    array = change(labels.array.astype(np.float32))
    write_copy(
        label_file(raw, number),
        array,
        replace(labels.geometry, **{"shape": array.shape, **geometry}),
    )


def move_label(raw, number, mm):
    z, y, x = toy_case(number)[1].geometry.origin
    break_label(raw, number, origin=(z + mm, y, x))


def kinds(result):
    return [(problem.case, problem.kind) for problem in result.problems]


def test_a_clean_data_set_has_no_problem_and_plan_need_not_read_it_again(
    workspace, raw, task, counts
):
    result = check_folder(workspace, raw, workers=0)
    assert (result.problems, result.num_cases, result.name) == ((), 6, "Task01_Ball")
    assert set(counts.values()) == {1}
    counts.clear()
    assert not task.exists
    assert workspace.task_names() == []
    plan_folder(workspace, raw, PlanRequest(), workers=0)
    assert counts == {}


def test_planning_reads_every_file_once(workspace, raw, counts):
    plan_folder(workspace, raw, PlanRequest(), workers=0)
    assert len(counts) == 12
    assert set(counts.values()) == {1}


def test_checking_a_planned_task_leaves_its_files_as_they_are(workspace, raw, task):
    plan_folder(workspace, raw, PlanRequest(), workers=0)
    before = task.fingerprint_file.read_text()
    break_label(raw, 1, lambda array: np.roll(array, 1, axis=1))
    assert check_folder(workspace, raw, workers=0).problems == ()
    assert task.fingerprint_file.read_text() == before


def test_a_broken_data_set_leaves_nothing_behind(workspace, raw):
    label_file(raw, 2).write_bytes(b"")
    assert kinds(check_folder(workspace, raw, workers=0)) == [("ball_02", "unreadable")]
    assert not workspace.root.exists()


def test_warnings_are_told_again_from_the_fingerprint(workspace, raw, counts):
    move_label(raw, 1, 0.05)
    first = check_folder(workspace, raw, workers=0)
    counts.clear()
    again = check_folder(workspace, raw, workers=0)
    assert kinds(first) == kinds(again) == [("ball_01", "geometry-slight")]
    assert counts == {}


def test_a_folder_in_no_layout_is_a_finding(workspace, tmp_path):
    (tmp_path / "empty").mkdir()
    result = check_folder(workspace, tmp_path / "empty", ["unreadable=leave-out"], workers=0)
    assert (result.name, result.num_cases) == ("empty", 0)
    assert kinds(result) == [(None, "description")]


def test_a_data_set_of_which_no_case_can_be_read_is_told_whole(workspace, raw):
    for number in range(6):
        label_file(raw, number).write_bytes(b"")
        (raw / "imagesTr" / f"ball_0{number}.nii.gz").write_bytes(b"")
    assert len(check_folder(workspace, raw, workers=0).problems) == 12


def test_planning_refuses_errors_in_one_line_and_names_the_check(workspace, raw, task):
    label_file(raw, 2).write_bytes(b"")
    break_label(raw, 3, lambda array: array * 7)
    with pytest.raises(DataError) as caught:
        plan_folder(workspace, raw, PlanRequest(), workers=0)
    message = str(caught.value)
    assert "2 problems: files that cannot be read (1), label values that are not" in message
    assert "the first is labelsTr/ball_02.nii.gz" in message
    assert message.endswith("autoseg check TASK lists all, with what mends each")
    assert not task.exists


def test_planning_goes_on_in_spite_of_warnings_with_a_line_for_each_kind(workspace, raw, caplog):
    move_label(raw, 1, 0.05)
    move_label(raw, 2, 0.05)
    with caplog.at_level(logging.WARNING, logger="autoseg"):
        plan_folder(workspace, raw, PlanRequest(), workers=0)
    (line,) = caplog.messages
    assert line.startswith("label maps or channels that lie slightly off their image: labelsTr/ba")
    assert line.endswith("and 1 more; autoseg check TASK lists them")


@pytest.mark.parametrize("change", [{"format": 1}, {"cases": "nonsense"}])
def test_a_fingerprint_that_cannot_be_used_is_made_anew(workspace, raw, task, caplog, change):
    plan_folder(workspace, raw, PlanRequest(), workers=0)
    good = task.fingerprint_file.read_text()
    task.fingerprint_file.write_text(json.dumps(json.loads(good) | change))
    with caplog.at_level(logging.INFO, logger="autoseg"):
        plan_folder(workspace, raw, PlanRequest(), workers=0)
    assert "it is made anew" in caplog.text
    assert task.fingerprint_file.read_text() == good


def test_segments_are_known_by_their_names_all_the_way(workspace, raw, task):
    for number in range(6):
        image = sitk.ReadImage(str(label_file(raw, number)))
        for segment, (name, value) in enumerate((("core", 2), ("shell", 1))):
            image.SetMetaData(f"Segment{segment}_ID", f"id{segment}")
            image.SetMetaData(f"Segment{segment}_Name", name)
            image.SetMetaData(f"Segment{segment}_LabelValue", str(value + 5))
            image.SetMetaData(f"Segment{segment}_Layer", "0")
        shifted = image + sitk.Cast(image != 0, image.GetPixelID()) * 5
        for key in image.GetMetaDataKeys():
            shifted.SetMetaData(key, image.GetMetaData(key))
        sitk.WriteImage(shifted, str(raw / "labelsTr" / f"ball_0{number}.seg.nrrd"))
        label_file(raw, number).unlink()
    text = (raw / "dataset.json").read_text()
    lines = json.loads(text)
    for entry in lines["training"]:
        entry["label"] = entry["label"].replace(".nii.gz", ".seg.nrrd")
    (raw / "dataset.json").write_text(json.dumps(lines))
    assert check_folder(workspace, raw, workers=0).problems == ()
    plan_folder(workspace, raw, PlanRequest(), workers=0)
    assert preprocess_task(task, ["2d"], workers=0) == []
    measured = artifacts.load(task.fingerprint_file, Fingerprint).cases[0]
    expected = np.bincount(toy_case(0)[1].array.ravel())[1:]
    assert measured.label_voxels == tuple(expected.tolist())


# Mending


def test_mended_copies_are_used_by_all_that_follows(workspace, raw, task):
    before = {path: path.read_bytes() for path in raw.rglob("*") if path.is_file()}
    move_label(raw, 1, 30.0)
    break_label(raw, 2, lambda array: np.where(array == 2, 255, array))
    broken = {path: path.read_bytes() for path in raw.rglob("*") if path.is_file()}
    result = check_folder(workspace, raw, ["geometry=copy", "labels=255:2"], workers=0)
    assert result.problems == ()
    assert result.told == ("geometry=copy: 1 file mended", "labels=255:2: 1 file mended")
    assert {path: path.read_bytes() for path in raw.rglob("*") if path.is_file()} == broken
    assert sum(before[path] != broken[path] for path in before) == 2

    plan_folder(workspace, raw, PlanRequest(), workers=0)
    dataset = load_dataset(task)
    for number in (1, 2):
        image, expected = toy_case(number)
        label = dataset.label_path(dataset.case(f"ball_0{number}"))
        assert label.parent == task.mended
        found = read_labels(label)
        np.testing.assert_array_equal(found.array, expected.array)
        assert image.geometry.distance_vox(found.geometry) < 1e-3
    assert preprocess_task(task, ["2d"], workers=0) == []


def test_only_what_was_mended_is_read_again(workspace, raw, counts):
    move_label(raw, 1, 30.0)
    check_folder(workspace, raw, ["geometry=copy"], workers=0)
    assert counts.pop("mended/ball_01_label.nii.gz") == 1
    assert counts.pop("labelsTr/ball_01.nii.gz") == 2  # to find out and to mend
    assert counts.pop("imagesTr/ball_01.nii.gz") == 3
    assert set(counts.values()) == {1}


def test_several_mends_of_one_case_are_combined_also_later(workspace, raw, task):
    z, y, x = toy_case(1)[1].geometry.origin
    break_label(raw, 1, lambda array: np.where(array == 2, 255, array), origin=(z, y + 9, x))
    result = check_folder(workspace, raw, ["geometry=copy"], workers=0)
    assert kinds(result) == [("ball_01", "undeclared-labels")]
    result = check_folder(workspace, raw, ["labels=255:2"], workers=0)
    assert result.problems == ()
    (entry,) = load_mends(task).files
    assert entry.done == ("geometry=copy", "labels=255:2")
    assert entry.raw == label_file(raw, 1)
    np.testing.assert_array_equal(
        read_labels(task.mended / entry.copies[0]).array, toy_case(1)[1].array
    )


def test_a_file_of_several_channels_is_mended_into_one_copy_each(workspace, tmp_path):
    raw = write_toy_dataset(tmp_path / "Task02_Two")
    description = json.loads((raw / "dataset.json").read_text())
    description["modality"] = {"0": "T1", "1": "T2"}
    (raw / "dataset.json").write_text(json.dumps(description))
    for file in (raw / "imagesTr").glob("*.nii.gz"):
        image = sitk.Cast(sitk.ReadImage(str(file)), sitk.sitkFloat32)
        other = image + 1000
        if file.name.startswith("ball_03"):
            other[1, 2, 3] = float("nan")
        sitk.WriteImage(sitk.JoinSeries([image, other]), str(file))
    result = check_folder(workspace, raw, ["voxels=lowest"], workers=0)
    assert result.problems == ()
    plan_folder(workspace, raw, PlanRequest(), workers=0)
    dataset = load_dataset(workspace.task("Task02_Two"))
    paths = dataset.image_paths(dataset.case("ball_03"))
    assert [path.name for path in paths] == ["ball_03_0000.nii.gz", "ball_03_0001.nii.gz"]
    array = read_image(paths).array
    expected = toy_case(3)[0].array[0] + 1000
    expected[3, 2, 1] = np.inf
    expected[3, 2, 1] = expected.min()
    np.testing.assert_allclose(array[1], expected)
    np.testing.assert_allclose(array[0], toy_case(3)[0].array[0])


def test_cases_are_left_out_with_their_reason(workspace, raw, task):
    label_file(raw, 2).write_bytes(b"")
    label_file(raw, 4).unlink()
    wishes = ["unreadable=leave-out", "missing-label=leave-out"]
    result = check_folder(workspace, raw, wishes, workers=0)
    assert (result.problems, result.num_cases) == ((), 4)
    assert result.told == (
        "unreadable=leave-out: 1 case left out",
        "missing-label=leave-out: 1 case left out",
    )
    assert [(entry.case, entry.kind) for entry in result.mends.left_out] == [
        ("ball_04", "missing-label"),
        ("ball_02", "unreadable"),
    ]
    planned = plan_folder(workspace, raw, PlanRequest(), workers=0)
    assert [case.name for case in planned.dataset.cases] == [f"ball_0{i}" for i in (0, 1, 3, 5)]


def test_a_case_left_out_comes_back_with_sound_files(workspace, raw, tmp_path):
    good = label_file(raw, 2).read_bytes()
    missing = label_file(raw, 4).read_bytes()
    label_file(raw, 2).write_bytes(b"")
    label_file(raw, 4).unlink()
    check_folder(workspace, raw, ["unreadable=leave-out", "missing-label=leave-out"], workers=0)
    label_file(raw, 2).write_bytes(good)
    label_file(raw, 4).write_bytes(missing)
    assert check_folder(workspace, raw, workers=0).num_cases == 6


def test_the_first_of_several_equal_images_is_kept(workspace, raw):
    for folder in ("imagesTr", "labelsTr"):
        shutil.copy(raw / folder / "ball_01.nii.gz", raw / folder / "ball_05.nii.gz")
    result = check_folder(workspace, raw, ["duplicate=leave-out"], workers=0)
    assert (result.problems, result.num_cases) == ((), 5)
    assert [entry.case for entry in result.mends.left_out] == ["ball_05"]


def test_a_mend_with_nothing_to_mend_says_so(workspace, raw):
    result = check_folder(workspace, raw, ["voxels=lowest", "shape=leave-out"], workers=0)
    assert result.told == ("voxels=lowest: no files mended", "shape=leave-out: no cases left out")
    assert result.problems == ()


def test_what_cannot_be_mended_is_told_and_stays_a_problem(workspace, raw, caplog):
    break_label(raw, 1, lambda array: array[1:])
    label_file(raw, 1).write_bytes(label_file(raw, 1).read_bytes()[:-20])
    noisy, _ = toy_case(1)
    noisy.array[0, 0, 0, 0] = np.nan
    write_copy(raw / "imagesTr" / "ball_01.nii.gz", noisy.array[0], noisy.geometry)
    with caplog.at_level(logging.WARNING, logger="autoseg"):
        result = check_folder(workspace, raw, ["voxels=lowest"], workers=0)
    assert kinds(result) == [("ball_01", "not-finite"), ("ball_01", "unreadable")]
    assert "1 case cannot be mended: ball_01: " in caplog.text


def test_a_wish_that_cannot_be_is_refused_before_anything_is_written(workspace, raw):
    with pytest.raises(AutosegError, match="label 5 is not declared"):
        check_folder(workspace, raw, ["labels=255:5"], workers=0)
    with pytest.raises(AutosegError, match="no mend named"):
        check_folder(workspace, raw, ["nonsense"], workers=0)
    assert not (workspace.root / "Task01_Ball" / "mended").exists()


def test_the_fingerprint_of_mended_data_is_that_of_the_copies(workspace, raw, task):
    move_label(raw, 1, 30.0)
    check_folder(workspace, raw, ["geometry=copy"], workers=0)
    fingerprint = artifacts.load(task.fingerprint_file, Fingerprint)
    plan_folder(workspace, raw, PlanRequest(), workers=0)
    assert artifacts.load(task.fingerprint_file, Fingerprint) == fingerprint


def test_a_header_without_a_voxel_size_is_mended_with_one(workspace, raw, task):
    for folder in ("imagesTr", "labelsTr"):
        path = raw / folder / "ball_02.nii.gz"
        content = bytearray(gzip.decompress(path.read_bytes()))
        header = nibabel.Nifti1Header(bytes(content[:348]), check=False)
        header["qform_code"], header["pixdim"][3] = 0, 0
        for row in ("srow_x", "srow_y", "srow_z"):
            header[row][2] = 0
        path.write_bytes(gzip.compress(header.binaryblock + bytes(content[348:])))
    assert set(kinds(check_folder(workspace, raw, workers=0))) == {("ball_02", "spacing")}
    z, y, x = toy_case(2)[0].geometry.spacing
    result = check_folder(workspace, raw, [f"spacing={z},{y},{x}"], workers=0)
    assert result.told == (f"spacing={z},{y},{x}: 2 files mended",)
    assert [kind for _, kind in kinds(result)] in ([], ["axis-order"])
    label = task.mended / "ball_02_label.nii.gz"
    np.testing.assert_array_equal(read_labels(label).array, toy_case(2)[1].array)
