import json
import os
import signal
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
import torch
import two_processes
from training_runs import InterruptAfter, folder_of, request, rows_of, small_task, weights_of

from autoseg.errors import AutosegError
from autoseg.io import bundle
from autoseg.train import checkpoint, distributed
from autoseg.train.batches import case_of
from autoseg.train.inputs import load_inputs
from autoseg.train.launch import Launch
from autoseg.train.objective.losses import LOSSES
from autoseg.train.stage import train_fold

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1"}
BATCH = 3
FOUR = Launch(rank=0, size=4, local_rank=0, local_size=4, address="localhost")


def of_threes(toy, folder, monkeypatch):
    """The small task with a batch that does not go even."""
    task = small_task(toy, folder, monkeypatch)
    plan = json.loads(task.plan_file("default").read_text())
    plan["configurations"]["2d"]["batch_size"] = BATCH
    task.plan_file("default").write_text(json.dumps(plan))
    return task


@pytest.fixture(scope="module")
def patched():
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield monkeypatch


@pytest.fixture(scope="module")
def both(toy, tmp_path_factory, patched):
    """What two processes have found; beside it, what one finds."""
    folder = tmp_path_factory.mktemp("both")
    task = of_threes(toy, folder, patched)
    script = Path(two_processes.__file__)
    command = [*TORCHRUN, str(script), str(task.root), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=ONE_THREAD, check=False)
    assert (folder / "found.json").is_file(), done.stderr
    assert train_fold(task, request(run="alone"))
    return task, folder, json.loads((folder / "found.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("batch_dice", [True, False])
@pytest.mark.parametrize(
    ("name", "ignores"), [*product(LOSSES, (False, True)), ("plain", False)], ids=str
)
def test_a_loss_of_two_processes_is_that_of_the_whole_batch(both, name, batch_dice, ignores):
    values, gradient = torch.load(both[1] / "losses.pt")[f"{name} {batch_dice} {ignores}"]
    given = two_processes.options(batch_dice, ignores)
    loss = two_processes.plain_loss if name == "plain" else LOSSES.get(name)(given)
    logits, labels = two_processes.drawn(ignores)
    logits.requires_grad_()
    whole = loss(logits, labels)
    whole.backward()
    assert values == pytest.approx([float(whole.detach())] * 2, rel=1e-6)
    torch.testing.assert_close(gradient, logits.grad, rtol=1e-5, atol=1e-8)


def assert_alike(task, run, other):
    """To rounding, which batches dealt otherwise differ by."""
    one, two = weights_of(task, run), weights_of(task, other)
    assert one.keys() == two.keys()
    for name, weight in one.items():
        torch.testing.assert_close(weight, two[name], rtol=1e-5, atol=1e-6)
    pairs = list(zip(rows_of(task, run), rows_of(task, other), strict=True))
    assert len(pairs) == 2
    for row, another in pairs:
        for key in ("train_loss", "validation_loss", "mean_dice", "learning_rate", "steps"):
            assert row[key] == pytest.approx(another[key], rel=1e-5), key


@pytest.mark.slow
def test_two_processes_train_as_one_with_the_whole_batch(both):
    task, _, found = both
    assert found["trained"]["whole"]
    assert_alike(task, "alone", "together")


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_processes(both):
    task, _, found = both
    assert found["trained"]["stopped"] == [False, False]
    assert found["trained"]["alone"] is False
    assert found["trained"]["finished"] == [True, True]
    assert_alike(task, "alone", "parts")


@pytest.mark.slow
def test_the_state_of_two_processes_is_that_of_one(both):
    task, _, _ = both
    one, two = (folder_of(task, run).resume for run in ("alone", "together"))
    states = [checkpoint.load_state(folder) for folder in (one, two)]
    by_clock_or_rounding = ("elapsed_s", "ema_dice", "best_dice")
    assert states[0].model_dump(exclude={*by_clock_or_rounding}) == states[1].model_dump(
        exclude={*by_clock_or_rounding}
    )
    tensors = [
        bundle.load_weights(folder / state.tensors)
        for folder, state in zip((one, two), states, strict=True)
    ]
    assert tensors[0].keys() == tensors[1].keys()


@pytest.mark.slow
def test_the_clock_of_the_first_ends_both(both):
    task, _, found = both
    assert found["trained"]["timed"] == [True, True]
    assert len(rows_of(task, "timed")) < 2000
    assert found["agreed"] == [True, 10.0]


@pytest.mark.slow
def test_what_is_finished_is_not_trained_again(both):
    assert both[2]["trained"]["again"] == [True, True]


@pytest.mark.slow
def test_a_loss_that_is_no_number_names_the_cases_of_all(both):
    task, _, found = both
    spec = load_inputs(task, request()).batches("train")
    # The first step is fine; the second sees what became of the weights.
    cases = sorted({case_of(spec, 0, BATCH + number) for number in range(BATCH)})
    assert f"step 2, cases {', '.join(cases)}; " in found["trained"]["not finite"]


@pytest.mark.slow
def test_processes_started_for_different_trainings_are_refused(both):
    assert "rank 1 on " in both[2]["refused"]
    assert "was started with another recipe than rank 0; give every host the" in both[2]["refused"]


@pytest.mark.slow
def test_a_process_that_fails_ends_the_other_with_its_reason(both):
    said = (both[1] / "error0").read_text()
    assert said.startswith("rank 1 on ")
    assert said.endswith(": /data: no space left; make some")
    assert not (both[1] / "error1").exists()


def test_more_processes_than_samples_are_refused(toy, tmp_path, monkeypatch):
    task = of_threes(toy, tmp_path, monkeypatch)
    monkeypatch.setattr(distributed, "_new_group", lambda *_: None)
    found = r"^2d: 4 processes cannot share batches of 3 samples; start 3 processes at most, or "
    with pytest.raises(AutosegError, match=f"{found}.*autoseg plan Task01_Ball --batch-size 4"):
        distributed._Processes(FOUR).deal(load_inputs(task, request()), request())


def test_processes_that_do_not_meet_say_so(monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("connection refused\nmore")

    monkeypatch.setattr(distributed.dist, "init_process_group", fail)
    found = (
        r"^rank 0 does not find the other processes of torchrun \(connection refused\); see that"
    )
    with pytest.raises(AutosegError, match=found), distributed.together(FOUR):
        pass


def test_a_torch_that_is_built_for_one_process_says_so(monkeypatch):
    monkeypatch.setattr(distributed.dist, "is_available", lambda: False)
    found = "^this torch cannot train in several processes$"
    with pytest.raises(AutosegError, match=found), distributed.together(FOUR):
        pass


class Torchrun:
    """``autoseg train`` in two processes; reads what they say line by line."""

    def __init__(self, task, *options):
        command = [*TORCHRUN, "-m", "--", "autoseg", "train", "2d", "fold0"]
        command += ["--workspace", str(task.root.parent), "--task", task.root.name]
        command += ["--device", "cpu", "--precision", "float32", "--workers", "0", *options]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=ONE_THREAD
        )
        self.lines = []

    def wait_for(self, words):
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            if words in line:
                return
        raise AssertionError("\n".join(self.lines))

    def pid_of(self, rank):
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        for pid in children.read_text().split():
            if f"RANK={rank}" in Path(f"/proc/{pid}/environ").read_text().split("\0"):
                return int(pid)
        raise AssertionError(f"no rank {rank}")

    def end(self):
        with self.process.stdout as rest:
            self.lines += [line.rstrip() for line in rest]
        return self.process.wait()

    def said(self, words):
        return [line for line in self.lines if words in line]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").is_file(), reason="looks into /proc")
def test_a_run_that_is_stopped_and_killed_goes_on(toy, tmp_path, monkeypatch):
    task = of_threes(toy, tmp_path, monkeypatch)
    many = ("--epochs", "400", "--seed", "5", "--run", "disturbed")

    stopped = Torchrun(task, *many)
    stopped.wait_for("epoch 2/400")
    stopped.process.send_signal(signal.SIGTERM)
    assert stopped.end() != 0
    assert stopped.said("saved") == ["stopped; all is saved; repeat the command to go on"]
    after_stop = checkpoint.load_state(folder_of(task, "disturbed").resume)
    assert (after_stop.epoch, after_stop.step) >= (2, 0)

    killed = Torchrun(task, *many)
    killed.wait_for("going on after")
    killed.wait_for("epoch ")
    os.kill(killed.pid_of(1), signal.SIGKILL)
    assert killed.end() != 0
    assert [line.partition(" on ")[0] for line in killed.said("error: ")] == ["error: rank 1"]
    assert len(killed.said("ended without a word")) == 1
    state = checkpoint.load_state(folder_of(task, "disturbed").resume)
    assert state.epoch > after_stop.epoch

    options = {"run": "disturbed", "epochs": 400, "seed": 5}
    assert not train_fold(task, request(**options), InterruptAfter(4))
    later = checkpoint.load_state(folder_of(task, "disturbed").resume)
    assert (later.epoch, later.step) == (state.epoch + (state.step + 4) // 3, (state.step + 4) % 3)
    rows = [row["epoch"] for row in rows_of(task, "disturbed")]
    assert rows == list(range(later.epoch))
