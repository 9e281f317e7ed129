import json
import shutil
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from commands import ON_CPU, assert_refused, call
from conftest import toy_case
from random_models import finish_fold, score_fold, untrained_task

from autoseg.core.selection import CleanUp, Group, Selection
from autoseg.io import artifacts
from autoseg.io.images import read_labels, write_image
from autoseg.networks import precision


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Every probe takes as long as any other, and no time."""
    monkeypatch.setattr(precision, "_seconds", lambda step: 1.0)


@pytest.fixture(scope="module")
def task(toy, tmp_path_factory):
    task = untrained_task(toy, tmp_path_factory.mktemp("export"))
    for seed, (configuration, fold) in enumerate(
        [("2d", "fold0"), ("2d", "fold1"), ("3d_fullres", "fold0")]
    ):
        finish_fold(task, configuration, fold, seed=seed)
    score_fold(task, "2d", "fold0", 0.7)
    score_fold(task, "3d_fullres", "fold0", 0.8)
    return task


@pytest.fixture
def export(task):
    return lambda *words: call("export", *words, "-w", task.root.parent)


def manifest(path):
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("model.json"))


def test_what_predict_would_choose_goes_into_one_file_with_its_scores(export, tmp_path):
    file = tmp_path / "ball.autoseg"
    called = export(file)
    assert called.code == 0, called.err
    lines = called.out.splitlines()
    assert lines[0] == "model: Task01_Ball 3d_fullres fold0"
    assert lines[1] == "  fold0: mean Dice 0.800 on 1 held-out case"
    assert "best held-out Dice, 0.800" in lines[2]
    assert lines[3].startswith(f"written: {file} (")
    assert "1 network, hash " in lines[3]
    assert lines[4] == "use it anywhere: autoseg predict -m ball.autoseg -i IN -o OUT"
    (group,) = manifest(file)["groups"]
    assert group["held_out"] == [
        {"fold": "fold0", "num_cases": 1, "mean_dice": 0.8, "dice": {"shell": 0.8, "core": 0.8}}
    ]
    assert b"ball_00" not in file.read_bytes()
    assert str(tmp_path).encode() not in file.read_bytes()


def test_a_file_predicts_without_its_workspace(export, task, tmp_path):
    assert export("-c", "2d", "-f", "1", tmp_path / "m.autoseg", "-q").out == ""
    write_image(tmp_path / "in" / "a.nii.gz", toy_case(0)[0])
    bundle = task.fold_folder("default", "2d", "default", "fold1").bundle
    for model, output in ((tmp_path / "m.autoseg", "one"), (bundle, "other")):
        called = call(
            "predict", "-i", tmp_path / "in", "-o", tmp_path / output, "-m", model, *ON_CPU
        )
        assert called.code == 0, called.err
    one, other = (read_labels(tmp_path / name / "a.nii.gz").array for name in ("one", "other"))
    assert (one == other).all()
    assert len(set(one.ravel().tolist())) > 1


@pytest.mark.parametrize(
    ("words", "label"),
    [
        (["Task01_Ball"], "3d_fullres fold0"),
        (["Task01_Ball/2d"], "2d fold0, Task01_Ball 2d fold1"),
        (["Task01_Ball/2d/fold1"], "2d fold1"),
        (["-t", "Task01_Ball", "-c", "2d"], "2d fold0, Task01_Ball 2d fold1"),
        (["--plan", "default", "-c", "2d"], "2d fold0, Task01_Ball 2d fold1"),
    ],
)
def test_a_model_may_be_named(export, tmp_path, words, label):
    called = export(*words, tmp_path / "m.autoseg")
    assert called.out.splitlines()[0] == f"model: Task01_Ball {label}"


def test_a_model_may_be_a_path(export, task, tmp_path):
    folder = task.fold_folder("default", "2d", "default", "fold1").root
    for place in (folder, folder / "bundle.json"):
        file = tmp_path / f"{place.name}.autoseg"
        assert "model: Task01_Ball 2d fold1" in export(place, file).out
        assert manifest(file)["summary"] == "as named"


def test_a_model_may_lie_near_the_root(export, task, tmp_path):
    folder = task.fold_folder("default", "2d", "default", "fold1").root
    with tempfile.TemporaryDirectory() as place:
        shutil.copytree(folder, place, dirs_exist_ok=True)
        called = export(Path(place) / "bundle.json", tmp_path / "m.autoseg")
    assert "model: Task01_Ball 2d fold1" in called.out, called.err
    (group,) = manifest(tmp_path / "m.autoseg")["groups"]
    assert group["held_out"] == []


def test_what_cannot_be_exported_is_refused_in_a_line(export, tmp_path):
    file = tmp_path / "m.autoseg"
    assert_refused(export(), "what to write, and where to?; write: autoseg export [MODEL]")
    assert_refused(export("a", "b", file), "what to write, and where to?")
    assert_refused(export("m.zip"), "'m.zip' does not end in .autoseg")
    assert_refused(export("--nnunet", "x", "--onnx", "y"), "--onnx and --nnunet are two exports")
    assert_refused(
        export("Task01_Ball/2d", "-c", "2d", file), "is one model, of which nothing is chosen"
    )
    assert_refused(
        export("Task01_Ball/2d", "--plan", "default", file),
        "leave out either it or all of -t, -c, -f, --plan and --run",
    )
    assert_refused(export("--plan", "theirs", file), "no plan with a trained model named 'theirs'")
    assert_refused(export("-c", "4d", file), "no trained configuration named '4d'")
    assert export(file).code == 0
    assert_refused(export(file), "exists already; name another file, or take it away")
    other = tmp_path / "other.autoseg"
    assert_refused(export(file, other), f"{file}: is a model file already; copy it")


def test_for_nnunet_goes_what_predict_would_choose(export, tmp_path):
    called = export("--nnunet", tmp_path / "best")
    assert called.code == 0, called.err
    assert [path.name for path in (tmp_path / "best").iterdir()] == [
        "nnUNetTrainer__nnUNetPlans__3d_fullres"
    ]
    assert export("--nnunet", tmp_path / "flat", "-c", "2d").out.splitlines()[-1].endswith("-f 0 1")


def test_what_nnunet_cannot_hold_is_refused(export, task, tmp_path):
    ensemble = export("--nnunet", tmp_path / "out", "-c", "2d,3d_fullres")
    assert_refused(
        ensemble,
        "what predicts is an ensemble, a model folder of nnU-Net holds one configuration; name one "
        "with --plan, -c and --run, and export each by itself",
    )
    file = tmp_path / "m.autoseg"
    assert export(file).code == 0
    assert_refused(
        export(file, "--nnunet", tmp_path / "out"),
        f"{file}: is a model file, not the folder of one; export from the workspace",
    )
    assert not (tmp_path / "out").exists()


def test_clean_up_left_out_for_nnunet_is_said(export, task, tmp_path):
    best = Group(plan="default", configuration="3d_fullres", run="default", folds=("fold0",))
    rule = CleanUp(structure="core", largest_only=True)
    artifacts.save(task.selection, Selection(groups=(best,), clean_up=(rule,)))
    try:
        called = export("--nnunet", tmp_path / "out")
    finally:
        task.selection.unlink()
    assert called.code == 0
    assert "clean-up of core is left out: nnU-Net has it beside its models" in called.err


def test_a_damaged_file_is_refused_in_a_line(export, tmp_path):
    file = tmp_path / "m.autoseg"
    export(file)
    file.write_bytes(file.read_bytes()[:-1])
    called = call("predict", "-i", tmp_path, "-o", tmp_path / "out", "-m", file, *ON_CPU)
    assert_refused(called, f"{file}: cut off, or not a model file; get it anew")


def test_networks_are_written_as_onnx(export, tmp_path):
    pytest.importorskip("onnx", reason="onnx is not installed")
    called = export("-c", "2d", "--onnx", tmp_path / "onnx")
    assert called.code == 0, called.err
    lines = called.out.splitlines()
    assert lines[0] == f"written: 2 networks and model.json in {tmp_path / 'onnx'}"
    assert "compared with torch: " in lines[1]
    names = {path.name for path in (tmp_path / "onnx").iterdir()}
    assert names == {"model.json", "2d_fold0.onnx", "2d_fold1.onnx"}


def test_without_onnx_the_package_is_named(export, tmp_path, monkeypatch):
    from autoseg.exchange import onnx_networks

    monkeypatch.setattr(onnx_networks, "find_spec", lambda name: None)
    called = export("-c", "2d", "--onnx", tmp_path / "onnx")
    assert_refused(called, "--onnx: the package onnx is not installed; run: pip install")
    assert not (tmp_path / "onnx").exists()


def test_haste_takes_one_network_of_a_file(toy, task, export, tmp_path):
    file = tmp_path / "folds.autoseg"
    assert export(file, "-c", "2d").code == 0
    image = toy.raw / "imagesTr" / "ball_00.nii.gz"

    def hasty(model):
        out = tmp_path / f"{model.parent.name} {model.stem}"
        called = call("predict", "-m", model, "-i", image, "-o", out, "--fast", *ON_CPU)
        assert called.code == 0, called.err
        assert "--fast, a single fold: what it costs is known in the model's own" in called.out
        return read_labels(out / "ball_00.nii.gz").array

    folds = [task.fold_folder("default", "2d", "default", f"fold{n}").bundle for n in (0, 1)]
    of_file, (first, second) = hasty(file), map(hasty, folds)
    np.testing.assert_array_equal(of_file, first)
    assert (of_file != second).any()
