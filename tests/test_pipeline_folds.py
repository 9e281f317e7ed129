import os
import signal
import sys
import threading

import pytest

from autoseg.errors import InterruptedRunError
from autoseg.pipeline.folds import run_folds, shared_workers, visible_as

# What stands for a training: notes when it runs and on what, and ends as it is told: with an
# exit code after a moment, or well once another fold has begun.
STAND_IN = """
import os, signal, sys, time
folder, fold, told = sys.argv[1:]
device = os.environ["CUDA_VISIBLE_DEVICES"]
def save(*_):
    print("saved")
    sys.exit(130)
signal.signal(signal.SIGTERM, save)
print("begins on", device)
busy = os.path.join(folder, device)
os.mkdir(busy)
os.mkdir(os.path.join(folder, "begun " + fold))
time.sleep(0.1)
patience_s = time.monotonic() + 300
while not told.isdigit() and not os.path.exists(os.path.join(folder, "begun " + told)):
    assert time.monotonic() < patience_s
    time.sleep(0.02)
os.rmdir(busy)
print("ends", file=sys.stderr)
sys.exit(int(told) if told.isdigit() else 0)
"""


@pytest.fixture
def commands(tmp_path):
    script = tmp_path / "stand_in.py"
    script.write_text(STAND_IN)

    def make(**told):
        return {
            fold: [sys.executable, str(script), str(tmp_path), fold, str(end)]
            for fold, end in told.items()
        }

    return make


@pytest.fixture
def said():
    return []


def test_each_fold_has_a_gpu_of_its_own_and_says_so_in_its_name(commands, said):
    beside = commands(a="b", b="a", c=0)
    assert run_folds(beside, ["4", "6"], lambda *line: said.append(line)) == []
    # A second training on a busy device would have failed: its folder was there.
    begun = {fold: line for fold, line in said if line.startswith("begins")}
    assert set(begun.values()) == {"begins on 4", "begins on 6"}
    assert [said.count((fold, "ends")) for fold in "abc"] == [1, 1, 1]


def test_folds_begin_in_order_and_one_gpu_trains_one_after_another(commands, said):
    assert run_folds(commands(a=0, b=0, c=0), ["0"], lambda *line: said.append(line)) == []
    assert [fold for fold, line in said if line.startswith("begins")] == ["a", "b", "c"]


def test_a_fold_that_fails_is_said_at_once_and_the_others_go_on(commands, said):
    failed = run_folds(commands(a=2, b=0, c=0), ["0"], lambda *line: said.append(line))
    assert failed == ["a"]
    at = said.index(("a", "failed (exit code 2); the other folds go on"))
    assert ("c", "ends") in said[at:]


def test_a_command_that_cannot_be_started_is_a_failed_fold(commands, said, tmp_path):
    both = commands(b=0) | {"a": [str(tmp_path / "nowhere")]}
    assert run_folds(both, ["0"], lambda *line: said.append(line)) == ["a"]
    assert any(fold == "a" and line.startswith("cannot be started") for fold, line in said)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_all_after_saving_and_begins_no_more(commands, said, number):
    both = threading.Event()

    def say(fold, line):
        said.append((fold, line))
        if sum(text.startswith("begins") for _, text in said) == 2 and not both.is_set():
            both.set()
            os.kill(os.getpid(), number)

    endless = commands(a="nobody", b="nobody", c="nobody")
    with pytest.raises(InterruptedRunError, match="all is saved; repeat the command"):
        run_folds(endless, ["0", "1"], say)
    assert "ends" not in [line for _, line in said]
    assert sorted(fold for fold, line in said if line == "saved") == ["a", "b"]
    assert not [line for fold, line in said if fold == "c" or "failed" in line]


@pytest.mark.parametrize(
    ("environ", "seen"),
    [({}, ["2", "0"]), ({"CUDA_VISIBLE_DEVICES": "5, 3,GPU-7f"}, ["GPU-7f", "5"])],
)
def test_gpus_are_counted_among_those_this_process_may_see(environ, seen):
    assert visible_as([2, 0], environ) == seen


def test_trainings_side_by_side_share_the_cores(monkeypatch):
    monkeypatch.setattr("autoseg.pipeline.folds.available_cores", lambda: 16)
    assert [shared_workers(number) for number in (1, 2, 4, 8, 16)] == [12, 7, 3, 1, 1]
