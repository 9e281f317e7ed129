import json
import shutil

import pytest
from commands import assert_done, assert_refused, call, edit

TASK = "Task01_Ball"


@pytest.fixture
def here(toy, tmp_path, monkeypatch):
    monkeypatch.delenv("AUTOSEG_WORKSPACE", raising=False)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(toy.workspace.root, tmp_path / "autoseg_workspace")
    (tmp_path / TASK).symlink_to(toy.raw)
    return tmp_path


@pytest.fixture
def task(here):
    return here / "autoseg_workspace" / TASK


def begin_training(task):
    (task / "models" / "default" / "3d_fullres" / "default" / "fold0").mkdir(parents=True)


def test_a_plan_says_what_was_decided_and_why(here):
    called = call("plan", TASK)
    assert_done(called)
    first, *lines = called.out.splitlines()
    assert first == (f"{TASK}: 6 cases (decathlon layout), channels MRI, structures shell, core")
    decided = [line.split("  ")[1] for line in lines if line.startswith("  ") and line[2] != " "]
    assert {"patch size", "batch size"} <= set(decided)
    reasons = [line for line in lines if line.startswith("    ")]
    assert len(reasons) == len(decided) > 10
    assert lines[-1] == "next: autoseg preprocess"


def test_a_plan_says_how_the_folds_were_made(here, task):
    lines = call("plan", TASK).out.splitlines()
    (place,) = [number for number, line in enumerate(lines) if line.startswith("  folds ")]
    assert lines[place].split() == ["folds", "5"]
    assert lines[place + 1].strip() == (
        "6 cases, sorted by name, shuffled with seed 12345 and dealt into 5 folds"
    )
    splits = json.loads((task / "splits.json").read_text())
    splits["folds"].pop()
    (task / "splits.json").write_text(json.dumps(splits))
    lines = call("plan", TASK).out.splitlines()
    assert lines[place].split() == ["folds", "4"]
    assert lines[place + 1].strip().startswith("edited by hand; before: 6 cases, sorted")


def test_a_single_case_is_planned_without_folds(here):
    description = json.loads((here / TASK / "dataset.json").read_text())
    description["training"] = description["training"][:1]
    raw = here / "Task02_One"
    raw.mkdir()
    for part in ("imagesTr", "labelsTr"):
        (raw / part).symlink_to(here / TASK / part)
    (raw / "dataset.json").write_text(json.dumps(description))
    called = call("plan", "Task02_One")
    assert called.code == 0
    lines = [line.strip() for line in called.out.splitlines()]
    place = lines.index("a single case, of which none can be held out")
    assert lines[place - 1].split() == ["folds", "none"]
    refused = call("train", "2d", "0")
    assert_refused(refused, "Task02_One", "there are no folds: a single case", "'everything'")


def test_mirror_axes_are_explained_with_their_price(here):
    out = call("plan", TASK).out
    assert "no two structures forbid an axis; prediction takes 8 passes per patch" in out
    out = call("plan", TASK, "--plan", "none", "--mirror-axes", "none").out
    assert "given by the user; prediction takes 1 pass per patch" in out


def test_all_axes_are_mirrored_on_request_or_for_compatibility(here, task):
    for name, words in [("all", ["--mirror-axes", "all"]), ("like", ["--compatible"])]:
        assert_done(call("plan", TASK, "--plan", name, "-q", *words))
        plan = json.loads((task / "plans" / f"{name}.json").read_text())
        assert plan["configurations"]["3d_fullres"]["training"]["mirror_axes"] == [0, 1, 2]
    assert "as in nnU-Net (--compatible)" in (task / "plans" / "like.json").read_text()
    assert "given by the user" in (task / "plans" / "all.json").read_text()


@pytest.fixture
def grown(here, task):
    """A task that was planned before its last case came."""
    for file in (task / "task.json", task / "fingerprint.json"):
        data = json.loads(file.read_text())
        data["cases"].pop()
        file.write_text(json.dumps(data))
    splits = json.loads((task / "splits.json").read_text())
    for fold in splits["folds"]:
        for part in ("train", "validation"):
            fold[part] = [name for name in fold[part] if name != "ball_05"]
    (task / "splits.json").write_text(json.dumps(splits))


@pytest.mark.parametrize(
    "words",
    [("preprocess", "3d_fullres"), ("train", "3d_fulres", "all"), ("validate", "2d", "all")],
)
def test_later_commands_warn_once_of_cases_that_came_since_the_plan(grown, words):
    warnings = [line for line in call(*words).err.splitlines() if line.startswith("warning")]
    changed = "1 case is new (the first is 'ball_05') since the plan was made"
    assert warnings == [f"warning: {changed}: repeat autoseg plan {TASK}"]


def test_a_quiet_plan_says_nothing(here):
    called = call("plan", TASK, "-q")
    assert_done(called)
    assert called.out == ""


def test_a_planned_task_is_found_from_below_and_by_its_name(here, monkeypatch):
    (here / "deep" / "down").mkdir(parents=True)
    monkeypatch.chdir(here / "deep" / "down")
    called = call("preprocess", "3d_fullres")
    assert_done(called)
    assert called.out.startswith("3d_fullres: all 6 cases are prepared, ")
    assert call("preprocess", "3d_fullres", "-t", TASK).out == called.out


def test_the_same_plan_again_is_fine_even_with_models(here, task):
    before = (task / "plans" / "default.json").read_text()
    begin_training(task)
    assert_done(call("plan", TASK, "-q"))
    assert (task / "plans" / "default.json").read_text() == before


def test_another_plan_of_the_name_is_refused_once_there_are_models(here, task):
    before = (task / "plans" / "default.json").read_text()
    begin_training(task)
    called = call("plan", TASK, "--base-features", "8")
    assert_refused(called, "plans/default.json", "1 folds were trained with it", "--plan NAME")
    assert (task / "plans" / "default.json").read_text() == before


def test_another_plan_of_the_name_replaces_it_while_there_are_none(here, task):
    called = call("plan", TASK, "--base-features", "8", "-q")
    assert called.code == 0
    assert called.err == "warning: plan 'default' was another one; it is replaced\n"
    plan = json.loads((task / "plans" / "default.json").read_text())
    assert plan["configurations"]["2d"]["network"]["features_per_stage"] == [8, 16, 32]


def test_a_plan_of_another_name_is_a_second_file(here, task):
    before = (task / "plans" / "default.json").read_text()
    begin_training(task)
    assert_done(call("plan", TASK, "--base-features", "8", "--plan", "small", "-q"))
    assert sorted(path.name for path in (task / "plans").iterdir()) == [
        "default.json",
        "small.json",
    ]
    assert (task / "plans" / "default.json").read_text() == before
    assert json.loads((task / "plans" / "small.json").read_text())["name"] == "small"


def test_folds_stay_as_they_are_once_made(here, task):
    splits = json.loads((task / "splits.json").read_text())
    first = splits["folds"][0]
    first["train"], first["validation"] = (
        [name for name in first["train"] if name != "ball_00"] + first["validation"],
        ["ball_00"],
    )
    (task / "splits.json").write_text(json.dumps(splits))
    assert_done(call("plan", TASK, "--spacing", "2.5,1.5,1.5", "--plan", "coarse", "-q"))
    assert json.loads((task / "splits.json").read_text()) == splits


def test_options_end_up_in_the_plan(here, task):
    words = ["--gpu-memory", "4GB", "--spacing", "3,1.5,1.5", "--mirror-axes", "2"]
    assert_done(call("plan", TASK, "--plan", "mine", "-q", *words))
    plan = json.loads((task / "plans" / "mine.json").read_text())
    assert plan["budget_bytes"] == 4_000_000_000
    assert plan["configurations"]["3d_fullres"]["spacing"] == [3, 1.5, 1.5]
    assert plan["configurations"]["3d_fullres"]["training"]["mirror_axes"] == [2]
    assert plan["configurations"]["2d"]["training"]["mirror_axes"] == [1]


def test_raw_data_are_not_written_to(here, toy):
    before = sorted((path, path.stat().st_mtime_ns) for path in toy.raw.rglob("*"))
    assert_done(call("plan", TASK, "-q", "--plan", "again", "-w", here / "fresh"))
    assert sorted((path, path.stat().st_mtime_ns) for path in toy.raw.rglob("*")) == before


# Wishes, rules and edits


def planned(task, name="default"):
    return json.loads((task / "plans" / f"{name}.json").read_text())["configurations"]


def test_patch_and_batch_can_be_wished_for(here, task):
    called = call("plan", TASK, "--patch-size", "16,16,8", "--batch-size", "3", "--plan", "small")
    assert_done(called)
    full = planned(task, "small")["3d_fullres"]
    assert (full["patch_size"], full["batch_size"]) == ([16, 16, 8], 3)
    lines = [line.strip() for line in called.out.splitlines()]
    assert any(line.startswith("given by the user: 0.5") for line in lines)
    assert any(line.startswith("given by the user; 8 GB would hold") for line in lines)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--patch-size", "100,100,100"],
            "--patch-size 100,100,100: not divisible by 16; nearest: 96,96,96",
        ),
        (
            ["--gpu-memory", "0.3GB"],
            "--gpu-memory 0.3GB: the smallest network for these images needs 0.51 GB; plan for",
        ),
        (["--patch-size", "64"], "a patch of [64]; give three positive numbers for 3D or two"),
        (["--patch-size", "a,b"], "--patch-size: 'a,b' is no list of numbers"),
    ],
)
def test_impossible_wishes_are_refused_in_one_line(here, words, message):
    assert_refused(call("plan", TASK, "--plan", "other", *words), message)


def test_edits_of_a_plan_are_kept_and_told_when_planning_again(here, task):
    edit(task / "plans" / "default.json", configurations__3d_fullres__batch_size=5)
    called = call("plan", TASK)
    assert_done(called)
    lines = [line.strip() for line in called.out.splitlines()]
    (place,) = [number for number, line in enumerate(lines) if line.startswith("edits kept ")]
    assert lines[place].split() == ["edits", "kept", "3d_fullres.batch_size"]
    assert lines[place + 1].startswith("edited by hand in autoseg_workspace/")
    assert planned(task)["3d_fullres"]["batch_size"] == 5
    assert call("plan", TASK, "--batch-size", "4", "-q").code == 0
    assert planned(task)["3d_fullres"]["batch_size"] == 4


@pytest.mark.parametrize("words", [("plan", TASK), ("preprocess",), ("train", "3d_fullres", "0")])
def test_a_plan_edited_into_nonsense_is_refused_by_every_command(here, task, words):
    edit(task / "plans" / "default.json", configurations__3d_fullres__batch_size=0)
    assert_refused(call(*words), "default.json: configurations.3d_fullres.batch_size: ")


def test_a_rule_that_changed_the_plan_is_printed_by_its_name(here):
    words = ("--preset", "resenc-m", "--gpu-memory", "0.6GB")
    lines = [line.strip() for line in call("plan", TASK, "--plan", "own", *words).out.splitlines()]
    places = [number for number, line in enumerate(lines) if line.startswith("rule 'bytes'")]
    assert places
    assert all(" -> " in lines[place] for place in places)
    assert all("estimated in bytes and has to fit" in lines[place + 1] for place in places)
    assert "rule '" not in call("plan", TASK, "--plan", "like", "--compatible", *words).out
