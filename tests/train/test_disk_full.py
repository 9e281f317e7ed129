"""Disks that take no more, as an operating system's limit on the size of files."""

import logging
import subprocess
import sys

import pytest
from training_runs import (
    assert_same_weights,
    folder_of,
    request,
    rows_of,
    small_task,
    weights_of,
)

from autoseg.train.monitoring.side_files import RunLog, SideFiles
from autoseg.train.stage import train_fold

resource = pytest.importorskip("resource", reason="this system has no limit on file sizes")

# The limit comes before a step of the training, when a checkpoint is there already.
DRIVER = """
import resource, sys
from autoseg.networks import precision
from autoseg.train import stage
precision._seconds = lambda step: 1.0
from autoseg.cli.main import main
limit, at_step, words = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
true, calls = stage.train_step, []
def step(session, batch):
    calls.append(batch)
    if len(calls) == at_step:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    return true(session, batch)
stage.train_step = step
main(words)
"""


def call(task, driver, limit, at_step):
    words = [
        *("train", "2d", "0", "--epochs", "3", "--workers", "0"),
        *("-w", str(task.root.parent), "-t", task.name),
        *("--device", "cpu", "--precision", "float32"),
    ]
    driver.write_text(DRIVER)
    command = [sys.executable, str(driver), str(limit), str(at_step), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_checkpoint_that_cannot_be_written_ends_the_run_which_then_goes_on_exactly(
    toy, tmp_path, monkeypatch
):
    task = small_task(toy, tmp_path, monkeypatch)
    assert train_fold(task, request(run="undisturbed", epochs=3))
    size = folder_of(task, "undisturbed").weights.stat().st_size
    full = call(task, tmp_path / "driver.py", size // 2, 4)
    assert full.returncode == 2, full.stderr
    (line,) = [line for line in full.stderr.splitlines() if line.startswith("error: ")]
    assert str(folder_of(task).root) in line
    assert ".safetensors: no space left to write; free some or choose another disk" in line
    assert "the same command then goes on from where the run was saved last" in line
    assert "Traceback" not in full.stderr
    assert not list(folder_of(task).root.rglob(".partial-*"))
    free = call(task, tmp_path / "driver.py", resource.RLIM_INFINITY, 1)
    assert free.returncode == 0, free.stderr
    assert_same_weights(weights_of(task), weights_of(task, "undisturbed"))
    assert [row["epoch"] for row in rows_of(task)] == [0, 1, 2]


@pytest.mark.slow
def test_curves_history_and_log_that_cannot_be_written_do_not_end_a_training(
    toy, tmp_path, monkeypatch, caplog
):
    task = small_task(toy, tmp_path, monkeypatch)
    assert train_fold(task, request(run="undisturbed"))
    folder = folder_of(task)
    for file in (folder.history, folder.progress_png, folder.log):
        (file / "in the way").mkdir(parents=True)
    with caplog.at_level("WARNING", logger="autoseg"):
        assert train_fold(task, request())
    warnings = [record.getMessage() for record in caplog.records]
    assert len([line for line in warnings if "history.jsonl" in line]) == 1
    assert len([line for line in warnings if "progress.png" in line]) == 1
    assert len([line for line in warnings if "all of its log" in line]) == 1
    assert_same_weights(weights_of(task), weights_of(task, "undisturbed"))


def test_what_is_missing_is_said_once_for_each_file(caplog):
    files = SideFiles()
    for name in ("a.png", "a.png", "b.png", "a.png"):
        with files.writing(name):
            raise OSError("disk full")
    assert [record.getMessage() for record in caplog.records] == [
        "training goes on without a.png: disk full",
        "training goes on without b.png: disk full",
    ]


def test_a_log_on_a_full_disk_is_said_once_and_closed_quietly(tmp_path, caplog, capsys):
    class Full:
        def write(self, text):
            raise OSError(28, "no space left")

        def flush(self):
            raise OSError(28, "no space left")

        def close(self):
            raise OSError(28, "no space left")

    log = RunLog(tmp_path / "log.txt")
    log.stream = Full()
    for _ in range(3):
        log.handle(logging.makeLogRecord({"msg": "epoch"}))
    log.close()
    assert [record.getMessage() for record in caplog.records] == [
        f"training goes on without all of its log ({tmp_path / 'log.txt'})"
    ]
    assert capsys.readouterr().err == ""
