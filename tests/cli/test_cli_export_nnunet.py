import shlex

import pytest
from commands import assert_done, assert_refused, call
from random_folds import CASCADE, LOW, make_fold, small_cascade_task


@pytest.fixture
def task(toy, tmp_path):
    return small_cascade_task(toy, tmp_path)


def test_the_command_writes_all_folds_and_says_how_to_go_on(task, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    low = [make_fold(task, LOW, fold, seed) for seed, fold in enumerate(("fold0", "fold1"))]
    make_fold(task, CASCADE, previous=low)
    words = ("-w", "workspace", "--nnunet", "out")
    called = call("export", f"{task.name}/{CASCADE}", *words)
    assert_done(called)
    lines = called.out.splitlines()
    assert lines[0] == "written: out/nnUNetTrainer__nnUNetPlans__3d_lowres"
    assert lines[2] == "images must be named CASE_0000.nii.gz; then, with nnU-Net:"
    assert lines[3].endswith("-o OUT_3d_lowres -m " + lines[0].split()[1] + " -f 0 1")
    assert lines[4].endswith("-f 0 -prev_stage_predictions OUT_3d_lowres")
    again = call("export", f"{task.name}/{LOW}/fold1", "-w", "workspace", "--nnunet", "one", "-q")
    assert_done(again)
    assert [p.name for p in (tmp_path / "one").glob("*/fold_*")] == ["fold_1"]


def test_a_folder_of_folds_is_a_model_too(task, tmp_path):
    made = [make_fold(task, fold=fold, seed=n) for n, fold in enumerate(("fold0", "fold1"))]
    called = call("export", made[0].parents[1], "--nnunet", tmp_path / "out")
    assert_done(called)
    assert called.out.splitlines()[-1].endswith("-f 0 1")


def test_a_folder_with_a_space_is_quoted_in_the_command(task, tmp_path):
    made = make_fold(task)
    called = call("export", made, "--nnunet", tmp_path / "for them")
    assert_done(called)
    assert shlex.split(called.out.splitlines()[-1])[6] == called.out.splitlines()[0][9:]


def test_a_model_without_a_place_to_go_is_refused(task):
    assert_refused(call("export", "x"), "'x' does not end in .autoseg, as the file to write must")
