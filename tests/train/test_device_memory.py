import pytest
import torch
from training_runs import request, small_task

from autoseg.core.plan import Plan
from autoseg.errors import AutosegError
from autoseg.train import memory
from autoseg.train.memory import Room, budget_gb, explaining_memory
from autoseg.train.stage import train_fold

GB = 10**9
PLAN = Plan.model_construct(name="default", budget_bytes=8 * GB)


@pytest.mark.parametrize(
    ("available", "budget"), [(None, 6.0), (7.9, 6.0), (80.0, 6.0), (5.9, 5.5), (0.3, 1.0)]
)
def test_the_budget_named_is_what_is_to_be_had_but_less_than_did_not_fit(available, budget):
    room = None if available is None else Room(total=80 * GB, available=int(available * GB))
    assert budget_gb(8 * GB, room) == budget


def fail(error):
    def step(session, batch):
        raise error

    return step


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("MPS backend out of memory (MPS allocated: 8.0 GB)"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"),
        MemoryError(),
    ],
)
def test_a_lack_of_memory_names_the_command_for_the_plan_that_would_fit(
    toy, tmp_path, monkeypatch, error
):
    task = small_task(toy, tmp_path, monkeypatch)
    monkeypatch.setattr("autoseg.train.stage.train_step", fail(error))
    room = Room(total=6 * GB, available=int(5.25 * GB))
    monkeypatch.setattr(memory, "room_on", lambda device: room)
    with pytest.raises(AutosegError) as caught:
        train_fold(task, request())
    assert str(caught.value) == (
        "Task01_Ball: the memory of cpu is too small for a training step: the plan 'default' was "
        "made for 8 GB, 5.2 of 6.0 GB are to be had; plan for less under another name (autoseg "
        "plan Task01_Ball --gpu-memory 5GB --plan small), then preprocess and train with --plan "
        "small"
    )


def test_where_the_device_cannot_be_asked_the_plan_decides():
    with (
        pytest.raises(AutosegError, match=r"made for 8 GB; plan.*--gpu-memory 6GB"),
        explaining_memory(PLAN, torch.device("mps"), "Task"),
    ):
        raise MemoryError


def test_other_errors_pass_as_they_are():
    with (
        pytest.raises(RuntimeError, match="shapes"),
        explaining_memory(PLAN, torch.device("cpu"), "Task"),
    ):
        raise RuntimeError("shapes cannot be multiplied")


def test_a_card_counts_what_this_process_holds_as_to_be_had(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1 * GB, 8 * GB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 5 * GB)
    assert memory.room_on(torch.device("cuda")) == Room(total=8 * GB, available=6 * GB)
    assert memory.room_on(torch.device("mps")) is None
