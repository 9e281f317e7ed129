import shutil
from dataclasses import replace

import numpy as np
import pytest
from commands import assert_done, assert_refused, call
from conftest import toy_case, write_toy_dataset

from autoseg.io.mended import write_copy

TASK = "Task01_Ball"


@pytest.fixture
def raw(tmp_path, monkeypatch):
    monkeypatch.delenv("AUTOSEG_WORKSPACE", raising=False)
    monkeypatch.chdir(tmp_path)
    return write_toy_dataset(tmp_path / TASK)


def check(*words):
    return call("check", TASK, "--workers", "0", *words)


def label_file(raw, number):
    return raw / "labelsTr" / f"ball_{number:02d}.nii.gz"


def write_label(raw, number, array, **geometry):
    write_copy(label_file(raw, number), array, replace(toy_case(number)[1].geometry, **geometry))


def move_label(raw, number, mm):
    labels = toy_case(number)[1]
    z, y, x = labels.geometry.origin
    write_label(raw, number, labels.array, origin=(z + mm, y, x))


def test_a_clean_data_set_is_told_in_one_line(raw):
    called = check()
    assert_done(called)
    assert called.out == f"{TASK}: 6 cases, nothing wrong\n"
    assert check("-q").out == ""


def test_findings_come_by_kind_errors_first_with_what_mends_them(raw):
    move_label(raw, 0, 0.05)
    write_label(raw, 3, toy_case(3)[1].array * 100)
    label_file(raw, 5).unlink()
    called = check()
    assert (called.code, called.err) == (2, "")
    assert called.out == (
        "error: images without a label map (1)\n"
        "    labelsTr/ball_05.nii.gz: missing\n"
        "  mend: annotate them, or go on without: autoseg check Task01_Ball --mend "
        "missing-label=leave-out\n"
        "\n"
        "error: label values that are not declared (1)\n"
        f"    labelsTr/ball_03.nii.gz: {undeclared(3)}\n"
        "  mend: declare them, or translate them: autoseg check Task01_Ball --mend "
        "labels=FROM:TO,...\n"
        "\n"
        "warning: label maps or channels that lie slightly off their image (1)\n"
        "    labelsTr/ball_00.nii.gz: origin off by (0.05, 0, 0) mm; corners up to 0.02 voxels "
        "away\n"
        "  mend: nothing, or: autoseg check Task01_Ball --mend geometry=copy\n"
        "\n"
        "Task01_Ball: 5 cases, 2 errors, 1 warning\n"
    )


def undeclared(number):
    _, labels = toy_case(number)
    ones, twos = (int((labels.array == value).sum()) for value in (1, 2))
    return f"100 in {ones:,} voxels, 200 in {twos:,} voxels"


def test_warnings_alone_end_with_1_even_if_quiet(raw):
    move_label(raw, 0, 0.05)
    called = check("-q")
    assert called.code == 1
    assert called.out.endswith("Task01_Ball: 6 cases, 1 warning\n")


def test_ten_files_of_a_kind_are_listed_and_all_with_v(tmp_path, raw):
    shutil.rmtree(raw)
    write_toy_dataset(raw, num_cases=13)
    for number in range(12):
        label_file(raw, number).write_bytes(b"")
    called = check()
    assert called.code == 2
    assert "error: files that cannot be read (12)\n" in called.out
    assert "    labelsTr/ball_09.nii.gz: " in called.out
    assert "    labelsTr/ball_10.nii.gz: " not in called.out
    assert "    and 2 more (-v lists all)\n" in called.out
    called = check("-v")
    assert "    labelsTr/ball_11.nii.gz: " in called.out
    assert "more (-v" not in called.out


def test_what_was_mended_is_told_and_the_exit_code_is_of_what_is_left(raw):
    move_label(raw, 1, 30.0)
    label_file(raw, 2).write_bytes(b"")
    label_file(raw, 3).unlink()
    called = check("--mend", "geometry=copy", "--mend", "missing-label=leave-out")
    assert called.code == 2
    assert called.out.startswith(
        "geometry=copy: 1 file mended\n"
        "missing-label=leave-out: 1 case left out\n"
        "mended copies take the place of 1 file\n"
        "left out: ball_03 (missing-label)\n"
        "error: files that cannot be read (1)\n"
    )
    called = check("--mend", "unreadable=leave-out")
    assert_done(called)
    assert called.out.splitlines() == [
        "unreadable=leave-out: 1 case left out",
        "mended copies take the place of 1 file",
        "left out: ball_03 (missing-label), ball_02 (unreadable)",
        f"{TASK}: 4 cases, nothing wrong",
    ]


def test_the_remedy_names_the_data_set_as_the_user_did(raw, tmp_path):
    (tmp_path / "my data").mkdir()
    raw.rename(tmp_path / "my data" / TASK)
    noisy, _ = toy_case(1)
    noisy.array[0, 0, 0, 0] = np.nan
    path = tmp_path / "my data" / TASK
    write_copy(path / "imagesTr" / "ball_01.nii.gz", noisy.array[0], noisy.geometry)
    called = call("check", "my data/Task01_Ball", "--workers", "0")
    assert called.code == 2
    assert "autoseg check 'my data/Task01_Ball' --mend voxels=lowest" in called.out


def test_what_is_no_data_set_is_a_finding(tmp_path, raw):
    (tmp_path / "empty").mkdir()
    called = call("check", "empty")
    assert called.code == 2
    assert called.out.startswith(
        "error: what the description says cannot be (1)\n    not a data set"
    )
    assert called.out.endswith("empty: no case, 1 error\n")


def test_a_folder_that_does_not_exist_is_refused(raw):
    assert_refused(call("check", "Task09_None"), "no task named 'Task09_None'")


def test_a_mend_there_is_not_is_refused(raw):
    assert_refused(check("--mend", "geometry=cpoy"), "geometry=copy or geometry=resample")
