"""``plan --fingerprint`` and ``plan --diff``: nothing is measured, no workspace is changed."""

import json
import shutil

import pytest
from commands import assert_done, assert_refused, call, edit

from autoseg.core.plan import Plan
from autoseg.io import artifacts

TASK = "Task01_Ball"


@pytest.fixture
def here(toy, tmp_path, monkeypatch):
    """A current directory with the planned toy task; its raw data are not there."""
    monkeypatch.delenv("AUTOSEG_WORKSPACE", raising=False)
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "autoseg_workspace"
    shutil.copytree(toy.task.plans, root / TASK / "plans")
    for name in ("task.json", "fingerprint.json", "splits.json"):
        shutil.copy(toy.task.root / name, root / TASK / name)
    (root / "current").write_text(f"{TASK}\n")
    return tmp_path


@pytest.fixture
def task(here):
    return here / "autoseg_workspace" / TASK


@pytest.fixture
def theirs(tmp_path, task):
    """The toy task as nnU-Net would have measured it."""
    measured = json.loads((task / "fingerprint.json").read_text())
    folder = tmp_path / "Dataset001_Ball"
    folder.mkdir()
    (folder / "dataset_fingerprint.json").write_text(
        json.dumps(
            {
                "spacings": [case["spacing"] for case in measured["cases"]],
                "shapes_after_crop": [case["shape"] for case in measured["cases"]],
                "median_relative_size_after_cropping": 1.0,
                "foreground_intensity_properties_per_channel": {"0": measured["intensities"][0]},
            }
        )
    )
    description = {
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, "shell": 1, "core": 2},
        "numTraining": 6,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder / "dataset_fingerprint.json"


def state(folder):
    return sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*"))


def refused(*words):
    called = call("plan", *words)
    assert called.code == 2
    assert called.out == ""
    assert len(called.err.splitlines()) == 1
    return called


# A plan from a fingerprint


def test_a_fingerprint_of_ours_gives_the_plan_of_its_task(here, task):
    called = call("plan", "--fingerprint", task / "fingerprint.json", "--output", "mine.json")

    assert_done(called)
    assert artifacts.load(here / "mine.json", Plan) == artifacts.load(
        task / "plans/default.json", Plan
    )


def test_decisions_are_printed_as_for_a_task(here, task):
    out = call("plan", "--fingerprint", task / "fingerprint.json").out

    first, *lines = out.splitlines()
    assert first == f"{TASK}: 6 cases (by fingerprint.json), channels MRI, structures shell, core"
    for decision in json.loads((task / "plans/default.json").read_text())["decisions"]:
        assert any(decision["value"] in line for line in lines)
        assert any(line.strip() == decision["reason"] for line in lines)
    assert lines[-1] == "plan: not kept (--output FILE would)"


def test_nothing_is_written_without_output_and_only_that_with_it(here, task):
    before = state(here)

    assert_done(call("plan", "--fingerprint", task / "fingerprint.json", "--gpu-memory", "24GiB"))
    assert state(here) == before

    called = call("plan", "--fingerprint", task / "fingerprint.json", "--output", "mine.json")
    assert called.out.splitlines()[-1] == "plan: mine.json"
    after = state(here)
    assert [path.name for path, _ in after if path not in dict(before)] == ["mine.json"]
    assert set(before) <= set(after)


def test_no_workspace_is_needed(theirs, tmp_path, monkeypatch):
    folder = tmp_path / "elsewhere"
    theirs.parent.rename(folder)
    monkeypatch.chdir(folder)
    shutil.rmtree(tmp_path / "autoseg_workspace")

    assert_done(call("plan", "--fingerprint", "dataset_fingerprint.json"))

    assert sorted(path.name for path in folder.iterdir()) == [
        "dataset.json",
        "dataset_fingerprint.json",
    ]
    assert not (tmp_path / "autoseg_workspace").exists()


def test_nnunets_fingerprint_gives_the_compatible_plan_of_the_same_data(here, task, theirs):
    wishes = ("--compatible", "--preset", "resenc-m", "--gpu-memory", "6GB")

    for file in (task / "fingerprint.json", theirs):
        words = ("--fingerprint", file, "--output", f"{file.stem}.json", "-q")
        called = call("plan", *words, *wishes)
        assert_done(called)
        assert called.out == ""

    ours, other = (
        artifacts.load(here / f"{name}.json", Plan)
        for name in ("fingerprint", "dataset_fingerprint")
    )
    assert ours.configurations == other.configurations
    assert ours.recipes() == other.recipes()
    assert call("plan", "--diff", "fingerprint.json", "dataset_fingerprint.json").out == (
        "the plans are equal\n"
    )


def test_what_nnunet_does_not_tell_is_said(theirs):
    out = call("plan", "--fingerprint", theirs).out

    assert out.startswith("Dataset001_Ball: 6 cases (by dataset_fingerprint.json), channels MRI")
    assert out.count("the fingerprint tells nothing about structures; prediction takes") == 2


def test_planning_flags_count(here, task):
    words = ("--spacing", "3,1.5,1.5", "--base-features", "8", "--plan", "small")
    file = task / "fingerprint.json"

    assert_done(call("plan", "--fingerprint", file, "--output", "small.json", "-q", *words))

    plan = artifacts.load(here / "small.json", Plan)
    assert plan.name == "small"
    assert plan.configurations["3d_fullres"].spacing == (3, 1.5, 1.5)
    assert plan.configurations["3d_fullres"].network.features_per_stage[0] == 8


def test_a_broken_fingerprint_is_one_line_with_the_place(theirs):
    edit(theirs, foreground_intensity_properties_per_channel__0__std="wide")

    called = refused("--fingerprint", theirs)

    place = "Dataset001_Ball/dataset_fingerprint.json: foreground_intensity_properties_per_channel"
    assert f"{place}.0.std: should be a valid number" in called.err


def test_an_output_that_is_there_is_refused_before_anything_is_measured(here, toy):
    (here / TASK).symlink_to(toy.raw)
    (here / "mine.json").write_text("mine")
    before = state(here)

    for words in ([TASK], ["--fingerprint", f"autoseg_workspace/{TASK}/fingerprint.json"]):
        called = refused(*words, "--output", "mine.json")
        assert called.err == (
            "error: mine.json: exists already; name another file, or take it away\n"
        )
    assert state(here) == before


def test_a_task_may_be_written_to_a_file_too(here, task, toy):
    (here / TASK).symlink_to(toy.raw)

    called = call("plan", TASK, "--output", "out/mine.json")

    assert_done(called)
    assert called.out.splitlines()[-2:] == ["copy: out/mine.json", "next: autoseg preprocess"]
    assert (here / "out/mine.json").read_text() == (task / "plans/default.json").read_text()


# What goes together


def test_a_plan_of_nothing_says_what_may_be_planned(here):
    called = refused()

    assert called.err == (
        "error: nothing to plan; name a TASK, or give --fingerprint FILE or --diff A B\n"
    )


@pytest.mark.parametrize(
    ("words", "finding"),
    [
        ([TASK, "--fingerprint", "f.json"], "TASK and --fingerprint exclude each other"),
        ([TASK, "--diff", "a", "b"], "TASK and --diff exclude each other"),
        (["--fingerprint", "f", "--diff", "a", "b"], "--fingerprint and --diff exclude each other"),
        (["--diff", "a", "b", "--output", "c.json"], "--output means nothing with --diff"),
        (["--diff", "a", "b", "--preset", "default"], "--preset means nothing with --diff"),
        (["--diff", "a", "b", "--compatible"], "--compatible means nothing with --diff"),
        ([TASK, "-t", "Task02"], "--task means nothing with TASK"),
        (["--fingerprint", "f", "-t", "Task02"], "--task means nothing with --fingerprint"),
        (["--diff", "a"], "'--diff' requires 2 arguments"),
    ],
)
def test_what_does_not_go_together_is_refused(here, words, finding):
    assert finding in refused(*words).err


# Two plans


@pytest.fixture
def small(here, task):
    """A second plan of the task."""
    words = ("--plan", "small", "--base-features", "8", "--gpu-memory", "1GB")
    file = task / "plans" / "small.json"
    assert_done(
        call("plan", "--fingerprint", task / "fingerprint.json", "--output", file, "-q", *words)
    )
    return file


def test_two_plans_of_the_task_are_shown_side_by_side(small):
    called = call("plan", "--diff", "default", "small")

    assert_done(called)
    lines = called.out.splitlines()
    start = lines[0].index("default")
    second = lines[0].index("small")
    cells = [(line[:start].strip(), line[start:second].strip(), line[second:]) for line in lines]
    assert cells[:4] == [
        ("", "default", "small"),
        ("", "", ""),
        ("all configurations", "", ""),
        ("GPU memory", "8 GB", "1 GB"),
    ]
    assert lines.index("2d") < lines.index("3d_fullres")
    assert cells.count(("features per stage", "32, 64, 128", "8, 16, 32")) >= 1


def test_files_and_names_may_be_compared_from_anywhere(small, here, tmp_path, monkeypatch):
    shutil.move(small, tmp_path / "there.json")
    monkeypatch.chdir(here / "autoseg_workspace")

    one = call("plan", "--diff", "default", "../there.json", "-t", TASK)
    two = call("plan", "--diff", f"{TASK}/plans/default.json", tmp_path / "there.json")

    assert_done(one)
    assert_done(two)
    assert len(one.out.splitlines()) == len(two.out.splitlines()) > 5


def test_configurations_of_one_plan_only_are_named_with_it(small):
    data = json.loads(small.read_text())
    data["configurations"].pop("2d")
    small.write_text(json.dumps(data))

    lines = call("plan", "--diff", "default", "small").out.splitlines()
    reverse = call("plan", "--diff", "small", "default").out.splitlines()

    assert lines[lines.index("2d") + 1] == "  only in default"
    assert reverse[reverse.index("2d") + 1] == "  only in default"


def test_a_plan_equals_its_copy(here, task):
    shutil.copy(task / "plans" / "default.json", here / "copy.json")

    called = call("plan", "--diff", "default", "copy.json")

    assert_done(called)
    assert called.out == "the plans are equal\n"


def test_a_comparison_changes_nothing(small, here):
    before = state(here)

    assert_done(call("plan", "--diff", "default", "small"))

    assert state(here) == before


def test_a_plan_that_is_not_there_is_named_with_those_that_are(small):
    assert "no plan named 'smal'; did you mean 'small'?" in refused("--diff", "default", "smal").err
    assert_refused(
        call("plan", "--diff", "default", "smal.json"),
        "smal.json: does not exist; name a plan of the task, or the file of one",
    )


def test_a_file_that_is_no_plan_is_refused_with_the_place(small, here):
    edit(small, configurations__2d__batch_size="two")

    called = refused("--diff", "default", "small")

    assert "plans/small.json: configurations.2d.batch_size: should be a valid integer" in called.err
