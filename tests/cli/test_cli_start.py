import json
import subprocess
import sys
from pathlib import Path

import pytest
from commands import assert_done, assert_refused, call

import autoseg

COMMANDS = [
    *("plan", "preprocess", "train", "predict", "validate"),
    *("evaluate", "compare", "overlay", "run", "demo", "doctor"),
]
# typer itself imports pydantic from some version on: what autoseg makes of it must stay out.
HEAVY = ("torch", "SimpleITK", "matplotlib", "scipy", "numpy", "autoseg.core.artifact")


def test_alone_it_prints_the_newcomers_path():
    called = call()
    assert_done(called)
    path = ["autoseg plan", "autoseg preprocess", "autoseg train", "autoseg predict"]
    places = [called.out.index(command) for command in path]
    assert places == sorted(places)
    assert "autoseg demo" in called.out
    assert "autoseg --help" in called.out


def test_the_version_is_printed():
    assert call("--version").out == f"autoseg {autoseg.__version__}\n"


def test_help_lists_every_command():
    called = call("--help")
    assert_done(called)
    listed = [line.split()[0] for line in called.out.splitlines() if line.startswith("  ")]
    assert [name for name in listed if name in COMMANDS] == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_names_its_options(command):
    called = call(command, "-h")
    assert_done(called)
    assert f"Usage: autoseg {command}" in called.out
    assert "--help" in called.out


def test_help_imports_nothing_heavy():
    code = f"""
import json, sys
from autoseg.cli.main import main
codes = []
for words in [[], ["--help"], *([name, "--help"] for name in {COMMANDS})]:
    try:
        main(words)
    except SystemExit as left:
        codes.append(left.code)
print(json.dumps([codes, [name for name in {HEAVY} if name in sys.modules]]))
"""
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.home()
    )
    codes, loaded = json.loads(output.stdout.splitlines()[-1])
    assert codes == [0] * (len(COMMANDS) + 2)
    assert loaded == []


def test_a_process_of_its_own_ends_with_the_exit_code(tmp_path):
    command = [sys.executable, "-m", "autoseg", "plan", "Task99_Nothing"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.startswith("error: no task named 'Task99_Nothing'")
    assert len(ended.stderr.splitlines()) == 1


def test_a_reader_that_leaves_early_sees_no_traceback(tmp_path):
    command = [sys.executable, "-m", "autoseg", "--help"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait() in (0, 1)
    assert err == ""


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["trian", "3d_fullres", "0"], ["'trian'", "'train'", "autoseg --help"]),
        (["train", "2d", "0", "--epoch", "3"], ["--epoch", "--epochs", "autoseg train --help"]),
        (["plan", "X", "--gpu-memry", "8GB"], ["--gpu-memry", "--gpu-memory"]),
        (["predict", "--inptu", "a", "-o", "b"], ["--inptu", "--input"]),
        (["train", "2d"], ["FOLD", "autoseg train --help"]),
        (["predict", "-i", "images"], ["--output", "autoseg predict --help"]),
        (["train", "2d", "0", "--epochs", "many"], ["--epochs", "integer"]),
        (["train", "2d", "0", "--epochs", "0"], ["--epochs", "1"]),
        (["train", "2d", "0", "--workers", "-1"], ["--workers", "0"]),
        (["train", "2d", "0", "1"], ["(1)", "autoseg train --help"]),
    ],
)
def test_words_that_do_not_fit_are_answered_with_those_that_do(words, parts):
    assert_refused(call(*words), *parts)
