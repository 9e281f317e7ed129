"""The path end to end, as a user walks it, at toy size."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import SimpleITK
from commands import ON_CPU, Called, assert_done, assert_refused, call, edit
from conftest import toy_case

from autoseg.io.images import write_image, write_labels

pytestmark = pytest.mark.slow

TASK = "Task01_Ball"
NEW_CASES = (6, 7)


@dataclass(frozen=True, kw_only=True)
class Walked:
    """A workspace with a trained fold, new images, and what every command said."""

    root: Path
    workspace: Path
    images: Path
    references: Path
    said: dict[str, Called]

    @property
    def task(self) -> Path:
        return self.workspace / TASK

    def report(self, configuration: str) -> Path:
        parts = ("predictions", "default", configuration, "default", "fold0", "report.json")
        return self.task.joinpath(*parts)

    def model(self, configuration: str) -> Path:
        return self.task.joinpath("models", "default", configuration, "default", "fold0")


def shorten(plan: Path) -> None:
    """Edit a plan by hand: three steps per epoch, one epoch."""
    for configuration in json.loads(plan.read_text())["configurations"]:
        place = f"configurations__{configuration}__training__"
        edit(plan, **{place + "steps_per_epoch": 3, place + "validation_steps": 1})


def write_new_cases(images: Path, references: Path) -> None:
    for number in NEW_CASES:
        image, labels = toy_case(number)
        write_image(images / f"new_{number}.nii.gz", image)
        write_labels(references / f"new_{number}.nii.gz", labels)


@pytest.fixture(scope="module")
def walked(toy, tmp_path_factory):
    root = tmp_path_factory.mktemp("path")
    workspace, images, references = root / "workspace", root / "new", root / "references"
    write_new_cases(images, references)
    where = ("-w", workspace)
    said = {
        "plan": call("plan", toy.raw, *where, "--base-features", 8, "--workers", 0),
        "preprocess": call("preprocess", *where, "--workers", 0),
    }
    shorten(workspace / TASK / "plans" / "default.json")
    short = ("--epochs", 1, "--workers", 0, *where, *ON_CPU)
    said["train"] = call("train", "3d_fullres", "fold0", *short)
    said["train 2d"] = call("train", "2d", "0", *short)
    predict = ("predict", "-i", images, *where, *ON_CPU)
    said["predict"] = call(*predict, "-o", root / "out", "-c", "3d_fullres")
    said["predict 2d"] = call(*predict, "-o", root / "out_2d", "-c", "2d")
    evaluate = ("--workers", 0, *where)
    said["evaluate"] = call("evaluate", root / "out", references, *evaluate)
    said["evaluate 2d"] = call("evaluate", root / "out_2d", references, *evaluate)
    return Walked(root=root, workspace=workspace, images=images, references=references, said=said)


@pytest.fixture
def own(walked, tmp_path):
    """A copy of the workspace, to be changed."""
    shutil.copytree(walked.workspace, tmp_path / "workspace")
    return Walked(
        root=tmp_path,
        workspace=tmp_path / "workspace",
        images=walked.images,
        references=walked.references,
        said={},
    )


def predict(where: Walked, *words: object) -> Called:
    output = () if "-o" in words else ("-o", where.root / "out")
    source = () if "-i" in words else ("-i", where.images)
    return call("predict", *source, *output, "-w", where.workspace, *ON_CPU, *words)


def test_every_command_of_the_path_comes_to_its_end(walked):
    for called in walked.said.values():
        assert_done(called)


def test_a_plan_edited_by_hand_is_what_is_trained(walked):
    for configuration in ("3d_fullres", "2d"):
        rows = (walked.model(configuration) / "history.jsonl").read_text().splitlines()
        assert [json.loads(row)["steps"] for row in rows] == [3]
        bundle = json.loads((walked.model(configuration) / "bundle.json").read_text())
        assert bundle["training"]["steps_per_epoch"] == 3
        assert bundle["training"]["epochs"] == 1


def test_training_ends_with_the_scores_of_the_held_out_cases(walked):
    held_out = json.loads((walked.task / "splits.json").read_text())["folds"][0]["validation"]
    for command, configuration in (("train", "3d_fullres"), ("train 2d", "2d")):
        cases = json.loads(walked.report(configuration).read_text())["cases"]
        assert [case["name"] for case in cases] == held_out
        for name in held_out:
            assert name in walked.said[command].out


@pytest.mark.parametrize("folder", ["out", "out_2d"])
def test_predictions_lie_exactly_where_their_images_lie(walked, folder):
    for number in NEW_CASES:
        image = SimpleITK.ReadImage(walked.images / f"new_{number}.nii.gz")
        prediction = SimpleITK.ReadImage(walked.root / folder / f"new_{number}.nii.gz")
        assert prediction.GetPixelID() == SimpleITK.sitkUInt8
        assert prediction.GetSize() == image.GetSize()
        assert prediction.GetSpacing() == pytest.approx(image.GetSpacing(), abs=1e-6)
        assert prediction.GetOrigin() == pytest.approx(image.GetOrigin(), abs=1e-6)
        assert prediction.GetDirection() == pytest.approx(image.GetDirection(), abs=1e-6)
        assert image.GetDirection() != pytest.approx((1, 0, 0, 0, 1, 0, 0, 0, 1), abs=1e-2)
        values = SimpleITK.GetArrayViewFromImage(prediction)
        assert set(values.ravel().tolist()) <= {0, 1, 2}


@pytest.mark.parametrize(("command", "folder"), [("evaluate", "out"), ("evaluate 2d", "out_2d")])
def test_scores_are_printed_as_a_table_and_written_without_nan(walked, command, folder):
    def refuse(constant):
        raise AssertionError(constant)

    text = (walked.root / folder / "report.json").read_text()
    report = json.loads(text, parse_constant=refuse)
    _, *lines = walked.said[command].out.splitlines()
    assert lines[0].split() == ["case", "shell", "Dice", "IoU", "core", "Dice", "IoU"]
    rows = {line.split()[0]: line.split()[1:] for line in lines[1:3]}
    assert set(rows) == {"new_6", "new_7"}
    for case in report["cases"]:
        expected = []
        for structure in ("shell", "core"):
            scores = case["structures"][structure]
            expected += [f"{scores['dice']:.3f}", f"{scores['iou']:.3f}"]
        assert rows[case["name"]] == expected
    assert lines[-1] == f"report: {walked.root / folder / 'report.json'}"


def test_scores_are_those_of_counting_voxels(walked):
    report = json.loads((walked.root / "out" / "report.json").read_text())
    for number, case in zip(NEW_CASES, report["cases"], strict=True):
        file = f"new_{number}.nii.gz"
        predicted = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(walked.root / "out" / file))
        reference = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(walked.references / file))
        for value, structure in ((1, "shell"), (2, "core")):
            both = int(((predicted == value) & (reference == value)).sum())
            sizes = int((predicted == value).sum() + (reference == value).sum())
            assert case["structures"][structure]["dice"] == pytest.approx(2 * both / sizes)


def test_predicting_again_gives_the_same_labels(walked, tmp_path):
    assert_done(predict(walked, "-o", tmp_path, "-c", "3d_fullres", "-i", walked.images))
    for number in NEW_CASES:
        file = f"new_{number}.nii.gz"
        first = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(walked.root / "out" / file))
        assert (first == SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(tmp_path / file))).all()


def test_a_single_image_is_predicted_from_a_model_file_without_a_workspace(
    walked, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    image = walked.images / "new_6.nii.gz"
    called = call("predict", "-i", image, "-o", "out", "-m", walked.model("2d"), *ON_CPU)
    assert_done(called)
    assert [path.name for path in Path("out").glob("*.nii.gz")] == ["new_6.nii.gz"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(("best", "other"), [("2d", "3d_fullres"), ("3d_fullres", "2d")])
def test_the_best_by_held_out_dice_is_chosen_and_said_so(own, best, other):
    for configuration, dice in ((best, 0.75), (other, 0.25)):
        report = json.loads(own.report(configuration).read_text())
        for case in report["cases"]:
            for scores in case["structures"].values():
                scores["dice"] = dice
        own.report(configuration).write_text(json.dumps(report))
    called = predict(own)
    assert_done(called)
    first, *_, last = called.out.splitlines()
    assert first == f"model: {best} fold0: best held-out Dice, 0.750 (others: {other} fold0 0.250)"
    assert last == f"2 label maps in {own.root / 'out'}"


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["-c", "3d_lowres"], ["'3d_lowres'", "2d, 3d_fullres"]),
        (["-f", "3"], ["'fold3'", "fold0"]),
        (["-f", "banana"], ["'banana'", "fold0"]),
        (["--run", "other"], ["'other'", "default"]),
        (["-i", "nowhere"], ["nowhere", "no such file or folder"]),
        (["--device", "tpu"], ["'tpu'", "cpu"]),
        (["-t", "Task02"], ["'Task02'", "autoseg plan"]),
    ],
)
def test_what_cannot_be_predicted_is_one_line(walked, words, parts, tmp_path):
    assert_refused(predict(walked, "-o", tmp_path / "out", *words), *parts)
    assert not (tmp_path / "out").exists()


def test_a_fold_named_twice_counts_once(walked, tmp_path):
    called = predict(walked, "-o", tmp_path / "out", "-c", "2d", "-f", "0,fold0")
    assert called.out.startswith("model: 2d fold0: the only one to choose from; held-out Dice ")


def test_a_folder_without_images_says_what_was_looked_for(walked, tmp_path):
    called = predict(walked, "-o", tmp_path / "out", "-i", tmp_path)
    assert_refused(called, str(tmp_path), "no images found", ".nii.gz")


def test_an_output_folder_with_a_file_in_its_way_is_refused(walked, tmp_path):
    (tmp_path / "file").touch()
    called = predict(walked, "-o", tmp_path / "file" / "out")
    assert_refused(called, str(tmp_path / "file"), "is a file")
    assert_refused(predict(walked, "-o", tmp_path / "file"), str(tmp_path / "file"), "is a file")


def test_images_are_never_written_over(walked, tmp_path):
    shutil.copytree(walked.images, tmp_path / "new")
    before = {path: path.read_bytes() for path in (tmp_path / "new").iterdir()}
    (tmp_path / "link").symlink_to(tmp_path / "new")
    for output in ("new", "link"):
        called = predict(walked, "-i", tmp_path / "new", "-o", tmp_path / output)
        assert_refused(called, "the predictions would lie among the images", "--output")
    assert {path: path.read_bytes() for path in (tmp_path / "new").iterdir()} == before


def test_a_broken_image_does_not_stop_the_others(walked, tmp_path):
    shutil.copytree(walked.images, tmp_path / "new")
    whole = (tmp_path / "new" / "new_6.nii.gz").read_bytes()
    (tmp_path / "new" / "a_broken.nii.gz").write_bytes(whole[: len(whole) // 2])
    called = predict(walked, "-i", tmp_path / "new", "-o", tmp_path / "out", "-c", "2d")
    assert called.code == 1
    assert "2 label maps" in called.out
    written = sorted(path.name for path in (tmp_path / "out").glob("*.nii.gz"))
    assert written == ["new_6.nii.gz", "new_7.nii.gz"]
    failed = [line for line in called.err.splitlines() if line.startswith("failed:")]
    assert len(failed) == 1
    assert failed[0].startswith("failed: a_broken: ")
    assert "a_broken.nii.gz" in failed[0].removeprefix("failed: a_broken: ")
    assert len(called.err.splitlines()) <= 3
    assert "Traceback" not in called.err


def test_validating_again_scores_anew(own):
    before = json.loads(own.report("2d").read_text())
    edit(own.report("2d"), cases=[])
    called = call("validate", "2d", "fold0", "--workers", 0, "-w", own.workspace, *ON_CPU)
    assert_done(called)
    again = json.loads(own.report("2d").read_text())
    assert again["cases"] == before["cases"]


def test_a_trained_fold_is_not_trained_again(own):
    weights = own.model("2d") / "weights.safetensors"
    before = weights.stat().st_mtime_ns
    words = ("--epochs", 1, "--workers", 0, "-w", own.workspace, *ON_CPU)
    called = call("train", "2d", "0", *words)
    assert_done(called)
    assert "2d fold0 is trained already" in called.out
    assert weights.stat().st_mtime_ns == before
    refused = call("train", "2d", "0", *words, "--epochs", 2)
    assert_refused(refused, "epochs 1 -> 2", "--restart")


def test_the_whole_path_in_one_command_makes_nothing_twice(toy, tmp_path):
    words = [
        *("run", toy.raw, "-w", tmp_path / "workspace", "-c", "2d", "--fold", "1"),
        *("--epochs", 1, "--max-time", "0.5s", "--base-features", 4, "--workers", 0, *ON_CPU),
    ]
    called = call(*words)
    assert_done(called)
    assert "mean of 1" in called.out
    task = tmp_path / "workspace" / TASK
    assert [path.name.partition("-")[0] for path in (task / "prepared").glob("[!.]*")] == ["2d"]
    made = sorted(task.glob("models/*/*/*/*/*.safetensors"))
    assert {path.parent.name for path in made} == {"fold1"}
    before = [path.stat().st_mtime_ns for path in made]
    again = call(*words)
    assert_done(again)
    assert "2d: all 6 cases are prepared" in again.out
    assert "2d fold1 is trained already" in again.out
    assert [path.stat().st_mtime_ns for path in made] == before
    assert again.out.splitlines()[-2:] == called.out.splitlines()[-2:]
