"""Wrong input: exit code 2 and one line that names the place, the finding and the remedy."""

import json
import shutil

import pytest
import torch
from commands import ON_CPU, assert_refused, call, edit
from conftest import make_toy

TASK = "Task01_Ball"


@pytest.fixture
def here(toy, tmp_path, monkeypatch):
    """A folder with the toy data set and a workspace of its own, planned and prepared."""
    monkeypatch.delenv("AUTOSEG_WORKSPACE", raising=False)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(toy.workspace.root, tmp_path / "autoseg_workspace")
    (tmp_path / TASK).symlink_to(toy.raw)
    return tmp_path


@pytest.fixture
def task(here):
    return here / "autoseg_workspace" / TASK


@pytest.mark.parametrize(
    "words",
    [
        ["preprocess"],
        ["train", "3d_fullres", "0"],
        ["validate", "3d_fullres", "0"],
        ["predict", "-i", "images", "-o", "out"],
    ],
)
def test_before_any_plan_the_remedy_is_to_plan(words, tmp_path):
    workspace = tmp_path / "workspace"
    called = call(*words, "-w", workspace)
    assert_refused(called, "no task planned yet", "run: autoseg plan TASK")
    assert not workspace.exists()


def test_a_task_nobody_knows_suggests_a_folder_of_a_near_name(here):
    assert_refused(call("plan", "Task01_Bal"), "'Task01_Bal'", f"did you mean '{TASK}'?")


def test_a_folder_that_is_no_data_set_says_what_was_looked_for(here):
    (here / "holiday").mkdir()
    assert_refused(call("plan", "holiday"), "holiday", "not a data set", "dataset.json")
    assert not (here / "autoseg_workspace" / "holiday").exists()


def test_a_missing_label_is_named(here, toy):
    shutil.copytree(toy.raw, here / "Task02_Gap")
    (here / "Task02_Gap" / "labelsTr" / "ball_03.nii.gz").unlink()
    assert_refused(call("plan", "Task02_Gap"), "Task02_Gap", "labelsTr/ball_03.nii.gz: missing")


def test_an_unknown_task_is_not_mistaken_for_the_current_one(here):
    called = call("train", "3d_fullres", "0", "--task", "Task09")
    assert_refused(called, "no task named 'Task09'", "autoseg plan Task09")


def test_training_before_preprocessing_names_the_command(here, task):
    shutil.rmtree(task / "prepared")
    called = call("train", "3d_fullres", "0", *ON_CPU)
    assert_refused(called, "3d_fullres is not prepared", "run: autoseg preprocess 3d_fullres")
    assert not (task / "models").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["train", "3d_fulres", "0"],
        ["validate", "3d_fulres", "0"],
        ["preprocess", "3d_fulres"],
        ["run", TASK, "-c", "3d_fulres"],
    ],
)
def test_an_unknown_configuration_lists_those_there_are(words, here):
    called = call(*words)
    assert_refused(called, "'3d_fulres'", "did you mean '3d_fullres'?", "2d, 3d_fullres")


@pytest.mark.parametrize("fold", ["7", "fold7", "banana", "fold", ""])
@pytest.mark.parametrize("words", [["train", "2d"], ["validate", "2d"], ["run", TASK, "--fold"]])
def test_an_unknown_fold_says_which_there_are(words, fold, here):
    assert_refused(call(*words, fold), f"'{fold}'", "0 to 4", "all", "everything")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--gpu-memory", "banana"], ["--gpu-memory", "'banana'", "8GB"]),
        (["--gpu-memory", "1kB"], ["--gpu-memory 1e-06GB", "needs 0.51 GB"]),
        (["--preset", "resec"], ["'resec'", "did you mean 'resenc'?", "resenc-xl"]),
        (["--spacing", "1,2"], ["[1.0, 2.0]", "three", "--spacing"]),
        (["--spacing", "-1,1,1"], ["[-1.0, 1.0, 1.0]", "positive", "--spacing"]),
        (["--spacing", "nan,1,1"], ["nan", "--spacing"]),
        (["--spacing", "thin"], ["--spacing", "'thin'", "3,0.8,0.8"]),
        (["--mirror-axes", "3"], ["3", "0 (z), 1 (y), 2 (x)", "--mirror-axes"]),
        (["--mirror-axes", "left"], ["--mirror-axes", "'left'", "0,2"]),
        (["--plan", "a/b"], ["'a/b'", "plan", "letters"]),
        (["-w", f"{TASK}/workspace"], ["raw data", "-w"]),
    ],
)
def test_a_plan_that_cannot_be_made_changes_nothing(words, parts, here, task):
    before = (task / "plans" / "default.json").read_text()
    assert_refused(call("plan", TASK, *words), *parts)
    assert (task / "plans" / "default.json").read_text() == before
    assert [path.name for path in (task / "plans").iterdir()] == ["default.json"]


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--max-time", "soon"], ["--max-time", "'soon'", "20m"]),
        (["--max-time", "0"], ["--max-time", "'0'", "20m"]),
        (["--lr", "-1"], ["--lr", "-1", "0.01"]),
        (["--lr", "nan"], ["--lr", "nan", "0.01"]),
        (["--lr", "inf"], ["--lr", "inf", "0.01"]),
        (["--loss", "dise"], ["'dise'", "did you mean 'dice'?", "ce, dice, dice_ce"]),
        (["--loss", "tverski"], ["'tverski'", "did you mean 'tversky'?", "focal", "weighted_ce"]),
        (["--optimizer", "sgdd"], ["'sgdd'", "did you mean 'sgd'?", "adam, adamw, sgd"]),
        (["--schedule", "cosin"], ["'cosin'", "did you mean 'cosine'?", "cosine, poly"]),
        (["--augmentation", "much"], ["'much'", "default, light, no-mirror, none, strong"]),
        (["--device", "cuda:99"], ["'cuda:99'", "auto", "cpu"]),
        (["--device", "tpu"], ["'tpu'", "auto", "cpu"]),
        (["--device", "cpu", "--precision", "float16"], ["float16", "bfloat16"]),
        (["--precision", "half"], ["'half'", "auto, bfloat16, float16, float32"]),
        (["--plan", "other"], ["'other'", "default"]),
        (["--run", "a/b"], ["'a/b'", "run", "letters"]),
        (["--run", ""], ["''", "run", "letters"]),
    ],
)
def test_a_training_that_cannot_be_leaves_no_run(words, parts, here, task):
    assert_refused(call("train", "3d_fullres", "0", *words), *parts)
    assert list(task.glob("models/**/fold0/*.json")) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_answered_with_what_is(here):
    assert_refused(call("train", "3d_fullres", "0", "--device", "cuda"), "'cuda'", "auto, cpu")
    assert_refused(call("plan", TASK, "--gpu-memory", "auto"), "no CUDA GPU", "8GB")


def test_a_cascade_without_its_previous_stage_is_answered_with_the_command_for_that(here, task):
    path = task / "plans" / "default.json"
    planned = json.loads(path.read_text())["configurations"]
    low = planned["3d_fullres"] | {"spacing": [2.5, 2.5, 2.25]}
    cascade = planned["3d_fullres"] | {"previous": "3d_lowres"}
    edit(path, configurations=planned | {"3d_lowres": low, "3d_cascade_fullres": cascade})
    called = call("train", "3d_cascade_fullres", "0", *ON_CPU)
    refused = "no prediction of 3d_lowres; run: autoseg train 3d_lowres all"
    assert_refused(called, "(the first is '", refused)


def test_a_network_nobody_has_is_named_before_anything_is_prepared(here, task):
    path = task / "plans" / "default.json"
    planned = json.loads(path.read_text())["configurations"]
    planned["3d_fullres"]["network"]["architecture"] = "residul_unet"
    edit(path, configurations=planned)
    called = call("train", "3d_fullres", "0", *ON_CPU)
    assert_refused(called, "no network named 'residul_unet'", "did you mean 'residual_unet'?")


@pytest.mark.parametrize(
    ("place", "value", "parts"),
    [
        (
            "configurations__3d_fullres__batch_sise",
            2,
            ["configurations.3d_fullres: unknown key 'batch_sise'", "'batch_size'"],
        ),
        (
            "configurations__3d_fullres__patch_size",
            [12, 27, 20],
            ["configurations.3d_fullres:", "[12, 27, 20] is not divisible by [2, 4, 4]"],
        ),
        (
            "configurations__2d__batch_size",
            "many",
            ["configurations.2d.batch_size:", "integer", '"many"'],
        ),
        (
            "configurations__3d_fullres__training__learning_rate",
            -1,
            ["configurations.3d_fullres.training.learning_rate:", "greater than 0"],
        ),
        ("format", 99, ["newer autoseg", "update autoseg"]),
    ],
)
def test_a_plan_edited_into_nonsense_names_the_place_in_the_file(place, value, parts, here, task):
    edit(task / "plans" / "default.json", **{place: value})
    file = f"autoseg_workspace/{TASK}/plans/default.json"
    assert_refused(call("train", "3d_fullres", "0", *ON_CPU), file, *parts)


def test_a_plan_that_is_no_json_names_line_and_column(here, task):
    (task / "plans" / "default.json").write_text('{"format": 1,\n "name" "default"}')
    assert_refused(call("preprocess"), "plans/default.json", "line 2, column 9")


def test_a_workspace_that_is_a_file_is_refused(here):
    (here / "notes.txt").touch()
    assert_refused(call("preprocess", "-w", "notes.txt"), "notes.txt", "is a file")


def test_predicting_before_any_training_names_the_command(here):
    called = call("predict", "-i", f"{TASK}/imagesTr", "-o", "out")
    assert_refused(called, "no model is trained yet", "run: autoseg train 3d_fullres fold0")
    assert not (here / "out").exists()


def test_a_model_file_that_is_not_there_is_named(here):
    called = call("predict", "-i", f"{TASK}/imagesTr", "-o", "out", "-m", "model.json")
    assert_refused(called, "model.json", "no model here")


def test_validating_what_is_not_trained_names_the_command(here):
    called = call("validate", "2d", "fold1", *ON_CPU)
    assert_refused(called, "2d fold1 is not trained yet", "run: autoseg train 2d fold1")


def test_the_command_that_trains_it_names_the_run(here):
    called = call("validate", "2d", "fold1", "--run", "long", *ON_CPU)
    assert_refused(called, "run: autoseg train 2d fold1 --run long")


def test_a_model_of_everything_has_nothing_to_validate_on(here):
    called = call("validate", "2d", "everything", *ON_CPU)
    assert_refused(called, "no held-out cases", "autoseg evaluate")


@pytest.mark.parametrize(
    ("predictions", "references", "parts"),
    [
        ("nowhere", f"{TASK}/labelsTr", ["nowhere", "no such folder"]),
        (f"{TASK}/labelsTr", "nowhere", ["nowhere", "no such folder"]),
        ("empty", f"{TASK}/labelsTr", ["empty", "no label maps found"]),
        (
            f"{TASK}/labelsTr",
            "some",
            ["some", "5 of 6 predictions have no reference", "'ball_01'", "give the folder"],
        ),
    ],
)
def test_scoring_what_is_not_there_is_refused(predictions, references, parts, here):
    for folder in ("empty", "some"):
        (here / folder).mkdir()
    shutil.copy(here / TASK / "labelsTr" / "ball_00.nii.gz", here / "some")
    assert_refused(call("evaluate", predictions, references), *parts)
    assert not (here / TASK / "labelsTr" / "report.json").exists()


def test_label_maps_of_another_size_than_their_references_are_named(here):
    for folder, source in (("predictions", "ball_01"), ("references", "ball_02")):
        (here / folder).mkdir()
        file = here / TASK / "labelsTr" / f"{source}.nii.gz"
        shutil.copy(file, here / folder / "case.nii.gz")
    called = call("evaluate", "predictions", "references", "--workers", "0")
    assert_refused(called, "case", "(11, 25, 20)", "(10, 26, 20)")


def test_an_overlay_of_another_size_than_its_image_is_refused(here):
    image, labels = f"{TASK}/imagesTr/ball_00.nii.gz", f"{TASK}/labelsTr/ball_01.nii.gz"
    called = call("overlay", image, labels, "-o", "picture.png")
    assert_refused(called, "ball_01.nii.gz", "(11, 25, 20)", "(10, 24, 20)")
    assert not (here / "picture.png").exists()


def test_an_overlay_of_what_is_not_there_names_the_file(here):
    labels = f"{TASK}/labelsTr/ball_01.nii.gz"
    assert_refused(call("overlay", "missing.nii.gz", labels), "missing.nii.gz")
    assert_refused(call("overlay", labels, "missing.nii.gz"), "missing.nii.gz")


def test_a_picture_that_cannot_be_written_is_one_line(here):
    (here / "file").touch()
    image, labels = f"{TASK}/imagesTr/ball_00.nii.gz", f"{TASK}/labelsTr/ball_00.nii.gz"
    assert_refused(call("overlay", image, labels, "-o", "file/picture.png"), "file", "is a file")


def test_a_demo_that_cannot_be_kept_is_refused(here):
    (here / "file").touch()
    assert_refused(call("demo", "--keep", "file"), "file", "is a file")


def test_an_interrupt_is_told(here, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("autoseg.preprocess.stage.preprocess_task", interrupt)
    called = call("preprocess")
    assert (called.code, called.err) == (130, "error: interrupted\n")


def test_a_case_that_fails_in_every_configuration_is_listed_once(tmp_path):
    toy = make_toy(tmp_path, num_cases=2)
    shutil.rmtree(toy.task.root / "prepared")
    image = toy.raw / "imagesTr" / "ball_01.nii.gz"
    image.write_bytes(image.read_bytes()[:500])
    called = call("preprocess", "-w", toy.workspace.root, "--workers", 0)
    assert called.code == 1
    assert called.out.count("1 of 2 cases are prepared") == 2
    (failed,) = [line for line in called.err.splitlines() if line.startswith("failed:")]
    assert failed.startswith(f"failed: ball_01: {image}: has changed since it was measured")
