"""``import`` and ``plan --from-nnunet`` as a user writes them."""

import json
import shlex
import shutil

import pytest
from commands import ON_CPU, assert_done, assert_refused, call, edit
from peer_models import DESCRIBED, checkpoint, peer_weights, plans, write_model
from random_models import finish_fold, score_fold, untrained_task

from autoseg.io.nnunet_plans import read_plans

NAME = "Dataset007_Ball"
TRAINED = "trainer nnUNetTrainer, mirrored axes of the patch: 0, 1"
UNKNOWN = (
    "folds whose held-out cases are unknown can predict, but not be validated or selected; "
    "--splits splits_final.json tells"
)
MODEL = f"{NAME}/nnUNetPlans/2d/default/fold0"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A model of nnU-Net in the current directory."""
    monkeypatch.delenv("AUTOSEG_WORKSPACE", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nnUNetPlans.json").write_text(json.dumps(plans()))
    spec = read_plans(tmp_path / "nnUNetPlans.json").configurations["2d"].network
    folds = {"fold_0": checkpoint(peer_weights(spec, 1, 3))}
    write_model(tmp_path / "results", plans(), folds=folds, described=DESCRIBED)
    return tmp_path


def test_what_was_imported_is_printed_and_predicts(here, toy):
    done = call("import", "results")

    assert_done(done)
    assert done.out.splitlines() == [
        f"{NAME}: channels MRI, structures shell, core",
        f"  2d fold0: {TRAINED}, held-out cases unknown",
        UNKNOWN,
        "next: autoseg predict -i IN -o OUT --plan nnUNetPlans -c 2d",
        f"or:   autoseg plan TASK --from-model {MODEL}",
    ]
    assert (
        call("import", "results")
        .out.splitlines()[1]
        .endswith("held-out cases unknown, imported before")
    )
    image = here / "in" / "ball.nii.gz"
    image.parent.mkdir()
    shutil.copy(toy.raw / "imagesTr" / "ball_00.nii.gz", image)
    assert_done(call("predict", "-i", "in", "-o", "out", *ON_CPU))
    assert (here / "out" / "ball.nii.gz").is_file()


@pytest.fixture
def beside_ours(here, toy):
    """A workspace elsewhere whose task has a scored model of its own, and the images."""
    task = untrained_task(toy, here / "some where")
    finish_fold(task, "2d")
    score_fold(task, "2d", "fold0", 0.9)
    (here / "in").mkdir()
    shutil.copy(toy.raw / "imagesTr" / "ball_00.nii.gz", here / "in" / "ball.nii.gz")
    return task


def printed(lead, done):
    """The words of the command that a line of the output shows, for ``call``."""
    (line,) = [line for line in done.out.splitlines() if line.startswith(lead)]
    words = shlex.split(line.removeprefix(lead))
    assert words[0] == "autoseg"
    return [{"IN": "in", "OUT": "out"}.get(word, word) for word in words[1:]]


def test_the_printed_command_predicts_with_what_was_imported(here, beside_ours):
    place = ("-t", beside_ours.name, "-w", beside_ours.root.parent)
    done = call("import", "results", *place)
    assert_done(done)

    predicted = call(*printed("next: ", done), *ON_CPU)

    assert_done(predicted)
    assert predicted.out.startswith("model: 2d fold0 plan nnUNetPlans: ")
    theirs = beside_ours.fold_folder("nnUNetPlans", "2d", "default", "fold0").root
    assert_done(call("predict", "-i", "in", "-o", "one", "-m", theirs, *ON_CPU))
    images = [(here / name / "ball.nii.gz").read_bytes() for name in ("out", "one")]
    assert images[0] == images[1]
    any_plan = call("predict", "-i", "in", "-o", "any", "-w", place[3], *ON_CPU)
    assert any_plan.out.startswith(
        "model: 2d fold0 plan default: best held-out Dice, 0.900 "
        "(others: 2d fold0 plan nnUNetPlans not scored)"
    )


def test_the_printed_command_names_the_run_where_there_are_several(here):
    assert_done(call("import", "results", "-q"))
    weights = peer_weights(
        read_plans(here / "nnUNetPlans.json").configurations["2d"].network, 1, 3, seed=1
    )
    folds = {"fold_0": checkpoint(weights, trainer_name="nnUNetTrainer_5epochs")}
    write_model(here / "short", plans(), folds=folds, trainer="nnUNetTrainer_5epochs")

    short = call("import", "short")
    again = call("import", "results")

    flags = ["--plan", "nnUNetPlans", "-c", "2d", "--run"]
    assert printed("next: ", short)[5:] == [*flags, "nnUNetTrainer_5epochs"]
    assert printed("next: ", again)[5:] == [*flags, "default"]


def test_names_of_task_and_plan_can_be_chosen(here):
    assert_done(call("import", "results", "-t", "Task_Ball", "--plan", "theirs", "-q"))

    models = here / "autoseg_workspace" / "Task_Ball" / "models"
    assert (models / "theirs" / "2d" / "default" / "fold0" / "bundle.json").is_file()


def test_what_cannot_be_imported_is_refused_in_a_line(here):
    assert_refused(call("import", "nowhere"), "there is no such folder or zip")


def splits_file(here, *held_out):
    names = [f"ball_{number:02d}" for number in range(6)]
    rows = [{"train": [n for n in names if n not in held], "val": held} for held in held_out]
    (here / "splits_final.json").write_text(json.dumps(rows))


def test_an_imported_fold_that_does_not_tell_what_it_held_out_is_not_scored(here, toy):
    assert_done(call("import", "results", "-t", toy.task.name, "-q"))
    assert_done(call("plan", toy.raw, "--workers", 0, "-q"))
    words = ("2d", "0", "--plan", "nnUNetPlans", "--workers", 0, *ON_CPU)
    for more in ((), ("--fast",)):
        assert_refused(
            call("validate", *words, *more),
            f"{toy.task.name} 2d fold0 (plan nnUNetPlans): it is not known which cases it held out",
            "import it again with --splits splits_final.json; or score it on images it has not "
            "seen: autoseg predict, then autoseg evaluate",
        )
    assert_refused(
        call("select"),
        "no trained fold holds out cases; 2d (plan nnUNetPlans) fold0 is left out: it is not known "
        "which cases it held out",
    )
    reported = call("report", "--plan", "nnUNetPlans")
    assert reported.code == 0
    assert (
        "left out of the scores: 2d fold0: it is not known which cases were held out"
        in reported.err
    )


def test_splits_of_nnunet_tell_what_an_imported_fold_held_out(here, toy):
    assert_done(call("import", "results", "-t", toy.task.name, "-q"))
    assert_done(call("plan", toy.raw, "--workers", 0, "-q"))
    splits_file(here, ["ball_04", "ball_01"], ["ball_00"])

    told = call("import", "results", "-t", toy.task.name, "--splits", "splits_final.json")

    assert told.out.splitlines()[1].endswith(": 0, 1, 2 held-out cases, imported before")
    assert "unknown" not in told.out
    words = ("2d", "0", "--plan", "nnUNetPlans", "--workers", 0, *ON_CPU)
    scored = call("validate", *words)
    assert scored.code == 0, scored.err
    assert [line.split()[0] for line in scored.out.splitlines()[2:4]] == ["ball_01", "ball_04"]
    assert "left out" not in call("report", "--plan", "nnUNetPlans").err


def test_what_are_no_splits_is_refused(here):
    (here / "splits_final.json").write_text('[{"train": []}]')
    words = ("import", "results", "--splits", "splits_final.json")
    assert_refused(
        call(*words),
        "splits_final.json: should list the folds, with the names of the cases in 'val'; name the "
        "splits_final.json the model was trained with",
    )
    (here / "splits_final.json").write_text("{")
    assert_refused(call(*words), "splits_final.json: cannot be read (")


def test_a_plan_of_nnunet_is_adopted_with_and_without_images(here, toy):
    done = call("plan", toy.raw, "--from-nnunet", "nnUNetPlans.json", "--workers", 0)

    assert_done(done)
    assert "adopted from nnU-Net's nnUNetPlans" in done.out
    plan = here / "autoseg_workspace" / "Task01_Ball" / "plans" / "default.json"
    assert json.loads(plan.read_text())["configurations"]["2d"]["patch_size"] == [16, 12]
    fingerprint = here / "autoseg_workspace" / "Task01_Ball" / "fingerprint.json"
    words = ("--fingerprint", fingerprint, "--from-nnunet", "nnUNetPlans.json")
    assert "patch size                 16x12" in call("plan", *words).out


@pytest.mark.slow
def test_a_training_begins_with_an_imported_model(here, toy):
    assert_done(call("import", "results", "-q"))
    assert_done(call("plan", toy.raw, "--from-model", MODEL, "--workers", 0, "-q"))
    plan = here / "autoseg_workspace" / "Task01_Ball" / "plans" / "default.json"
    for key, value in {"steps_per_epoch": 2, "validation_steps": 1, "epochs": 1}.items():
        edit(plan, **{f"configurations__2d__training__{key}": value})
    assert_done(call("preprocess", "2d", "--workers", 0, "-q"))

    done = call("train", "2d", "0", "--init-from", MODEL, "--workers", 0, "-v", *ON_CPU)

    assert_done(done)
    assert f"{NAME} 2d fold0 (plan nnUNetPlans)" in done.err + done.out
