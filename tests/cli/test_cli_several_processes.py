from contextlib import contextmanager

import pytest
from commands import assert_refused, call

from autoseg.cli import several_processes
from autoseg.train import distributed
from autoseg.train.launch import Launch
from autoseg.train.team import Team

TWO = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "a", "MASTER_PORT": "1"}


@pytest.fixture
def under_torchrun(monkeypatch):
    """The first of two processes, which has not met the other."""
    for name, value in TWO.items():
        monkeypatch.setenv(name, value)
    begun = []

    @contextmanager
    def together(launch):
        begun.append(launch)
        yield Team()

    monkeypatch.setattr(distributed, "together", together)
    return begun


@pytest.mark.parametrize("command", ["predict", "validate", "plan", "run", "doctor"])
def test_torchrun_is_for_train_only(under_torchrun, command):
    refused = f"is for 'autoseg train', not for 'autoseg {command}'; start it without torchrun"
    assert_refused(call(command), "torchrun, whose RANK and WORLD_SIZE are set, ", refused)
    assert under_torchrun == []


def test_of_a_refusal_the_others_say_nothing(under_torchrun, monkeypatch):
    monkeypatch.setattr(several_processes, "_WAIT_FOR_FIRST_S", 0.0)
    monkeypatch.setenv("RANK", "1")
    called = call("predict")
    assert (called.code, called.out, called.err) == (2, "", "")


def test_the_version_is_told_under_torchrun_too(under_torchrun):
    assert call("--version").out.startswith("autoseg ")
    assert under_torchrun == []


def test_gpus_are_refused_under_torchrun(toy, under_torchrun):
    where = ("-w", toy.workspace.root, "-t", toy.task.name)
    called = call("train", "2d", "all", "--gpus", "0,1", *where)
    assert_refused(called, "--gpus 0,1 trains folds side by side, a process each, while torchrun")
    assert [launch.size for launch in under_torchrun] == [2]


def test_a_profile_is_refused_under_torchrun(toy, under_torchrun):
    where = ("-w", toy.workspace.root, "-t", toy.task.name)
    called = call("train", "2d", "0", "--profile", *where)
    assert_refused(called, "--profile measures one process, while torchrun has started several")


def test_without_torchrun_nobody_is_looked_for(under_torchrun, monkeypatch):
    monkeypatch.delenv("RANK")
    assert call("train", "--help").code == 0
    assert under_torchrun == []


def test_only_the_first_process_talks(under_torchrun, monkeypatch, capsys):
    monkeypatch.setenv("RANK", "1")
    assert call("train", "--help").out == ""
    monkeypatch.setenv("RANK", "0")
    assert "--epochs" in call("train", "--help").out


@pytest.mark.parametrize("name", ["cuda:1", "mps"])
def test_one_device_for_all_processes_is_refused(monkeypatch, name):
    launch = Launch(rank=0, size=2, local_rank=0, local_size=2, address="a")
    found = f"--device {name} is one device for 2 processes; leave it out"
    with pytest.raises(distributed.AutosegError, match=found):
        distributed._device_of(launch, name)


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    launch = Launch(rank=3, size=8, local_rank=3, local_size=4, address="a")
    found = r"^4 processes on .* cannot have a GPU each, there are 2; start .*--nproc-per-node 2$"
    with pytest.raises(distributed.AutosegError, match=found):
        distributed._device_of(launch, "auto")


def test_every_process_has_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    launch = Launch(rank=7, size=8, local_rank=3, local_size=4, address="a")
    assert [str(distributed._device_of(launch, name)) for name in ("auto", "cuda", "cpu")] == [
        "cuda:3",
        "cuda:3",
        "cpu",
    ]
