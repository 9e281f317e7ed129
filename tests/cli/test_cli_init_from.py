"""``train --init-from`` and ``plan --from-model`` as a user writes them."""

import json
import shutil

import pytest
from commands import ON_CPU, assert_done, assert_refused, call, edit

from autoseg.pipeline import training as pipeline_training

TASK = "Task01_Ball"
MODEL = f"{TASK}/2d/fold0"


@pytest.fixture(scope="module")
def trained(toy, tmp_path_factory):
    """A workspace with a trained fold of small networks, beside the raw data."""
    root = tmp_path_factory.mktemp("init_from")
    where = ("-w", root / "autoseg_workspace")
    assert_done(call("plan", toy.raw, "--base-features", 4, "--workers", 0, "-q", *where))
    plan = root / "autoseg_workspace" / TASK / "plans" / "default.json"
    for key, value in {"steps_per_epoch": 3, "validation_steps": 1, "epochs": 1}.items():
        edit(plan, **{f"configurations__2d__training__{key}": value})
    assert_done(call("preprocess", "2d", "--workers", 0, "-q", *where))
    assert_done(call("train", "2d", "0", "--workers", 0, "-q", *where, *ON_CPU))
    (root / TASK).symlink_to(toy.raw)
    return root


@pytest.fixture
def here(trained, tmp_path, monkeypatch):
    """A copy of it, to be changed, as the current directory."""
    monkeypatch.delenv("AUTOSEG_WORKSPACE", raising=False)
    shutil.copytree(trained, tmp_path / "here", symlinks=True)
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.fixture
def requested(monkeypatch):
    """The requests that ``train`` and ``run`` make."""
    requests = []

    def train(task, request, progress, team, scored):
        requests.append(request)

    def run(place, folder, plan, request, fold, progress):
        requests.append((plan, request))
        return {}

    monkeypatch.setattr(pipeline_training, "train_and_validate", train)
    monkeypatch.setattr(pipeline_training, "run_task", run)
    return requests


def test_train_and_run_hand_the_model_on(here, requested):
    words = ("--init-from", MODEL, "--warmup", 0.1)
    assert_done(call("train", "2d", "0", *words))
    assert_done(call("run", TASK, *words, "--from-model", MODEL))
    assert_done(call("run", TASK))
    train, (plan, run), (derived, plain) = requested
    assert (train.init_from, train.changes.warmup) == (MODEL, 0.1)
    assert (run.init_from, run.changes.warmup) == (MODEL, 0.1)
    assert plan.source.label == f"{TASK} 2d fold0"
    assert (derived.source, plain.init_from, plain.changes.warmup) == (None, None, None)


@pytest.mark.slow
def test_a_training_says_what_it_took(here):
    called = call("train", "2d", "0", "--run", "tuned", "--init-from", MODEL, *ON_CPU)
    assert called.code == 0
    assert f"from {TASK} 2d fold0: 48 of 48 tensors taken (100% of the weights)" in called.out
    assert "structures: shell, core taken by name" in called.out
    again = call("train", "2d", "0", "--run", "tuned", *ON_CPU)
    assert_refused(again, "init_from Task01_Ball 2d fold0", "repeat the first command's flags")


def test_a_model_that_is_not_there_is_one_line(here):
    refused = call("train", "2d", "0", "--init-from", f"{TASK}/2d/fold3", *ON_CPU)
    assert_refused(refused, f"no model named '{TASK}/2d/fold3'", f"available: {MODEL}")


def test_run_refuses_a_model_that_does_not_fit_before_it_prepares(here):
    refused = call("run", TASK, "--fold", "0", "--init-from", MODEL, "--workers", 0, *ON_CPU)
    assert_refused(refused, "the network is 3D, the model's 2D; train a 2D configuration")
    prepared = here / "autoseg_workspace" / TASK / "prepared"
    assert not list(prepared.glob("3d*"))


@pytest.mark.parametrize("share", ["1", "-0.1", "nan"])
def test_a_warm_up_is_a_share(here, share):
    refused = call("train", "2d", "0", f"--warmup={share}")
    assert_refused(refused, "--warmup: ", "is no share of a training; write for example 0.05")


def test_a_plan_is_kept_and_the_next_commands_are_named(here):
    called = call("plan", TASK, "--plan", "kept", "--from-model", MODEL)
    assert_done(called)
    assert called.out.splitlines()[-2:] == [
        "next: autoseg preprocess",
        f"then: autoseg train 2d fold0 --plan kept --init-from {MODEL}",
    ]
    plans = here / "autoseg_workspace" / TASK / "plans"
    kept, source = (json.loads((plans / f"{n}.json").read_text()) for n in ("kept", "default"))
    assert kept["configurations"] == source["configurations"]
    derived = call("plan", TASK, "--plan", "derived")
    assert "then: " not in derived.out
    assert "kept from" not in derived.out


def test_a_plan_with_models_is_not_replaced_by_a_kept_one(here):
    again = call("plan", TASK, "--from-model", MODEL, "-q")
    assert_done(again)
    plan = here / "autoseg_workspace" / TASK / "plans" / "default.json"
    bundle = here / "autoseg_workspace" / TASK / "models/default/2d/default/fold0/bundle.json"
    edit(bundle, plan__configurations__2d__spacing=[2.0, 2.0])
    before = plan.read_text()
    refused = call("plan", TASK, "--from-model", MODEL)
    assert_refused(refused, "1 folds were trained with it", "--plan NAME")
    assert plan.read_text() == before


def test_a_fingerprint_is_planned_like_a_model(here):
    fingerprint = here / "autoseg_workspace" / TASK / "fingerprint.json"
    called = call("plan", "--fingerprint", fingerprint, "--from-model", MODEL)
    assert_done(called)
    assert f"kept from {TASK} 2d fold0" in called.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--from-model", "Task02/2d"), "no model named 'Task02/2d'"),
        (("--from-model", MODEL, "--preset", "resenc"), "--preset means nothing with --from-model"),
        (("--from-model", MODEL, "--patch-size", "9,9"), "not divisible by 4, as"),
    ],
)
def test_wishes_that_cannot_be_kept_are_one_line(here, words, message):
    assert_refused(call("plan", TASK, "--plan", "other", *words), message)
