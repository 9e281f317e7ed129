"""Processes die in here; nothing else may."""

import errno
import logging
import os
import signal
import subprocess
import sys
import textwrap
import time
from itertools import pairwise
from pathlib import Path

import pytest

from autoseg import workers
from autoseg.errors import AutosegError, DataError
from autoseg.workers import Outcome, map_cases

GIB = 2**30
PATIENCE_S = 300.0


def double(number):
    return 2 * number


def refuse_three(number):
    if number == 3:
        raise DataError("no voxels", place="three.nii.gz", remedy="export it again")
    if number == 4:
        raise KeyError("four\nis missing")
    return number


def die_at_three(number):
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.02)
    return number


def die_in_company(argument):
    """Die at the first call, as a worker does for which the memory is too short beside others."""
    number, marker = argument
    if number == 1 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def die_beside_others(argument):
    """Case 0 dies as soon as case 1 is under way, once; case 1 goes on long after that."""
    number, folder = argument
    (folder / f"begun_{number}_{os.getpid()}").touch()
    while number == 0 and not list(folder.glob("begun_1_*")):
        time.sleep(0.01)
    if number == 0 and len(list(folder.glob("begun_0_*"))) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 1:
        time.sleep(0.5)
    return number


def run_short_of_memory(argument):
    """Find no room at the first call, as where memory is not promised beyond what there is."""
    number, marker = argument
    if number == 1 and not marker.exists():
        marker.touch()
        raise MemoryError("Unable to allocate 3.00 GiB")
    return number


def never_find_memory(_):
    raise MemoryError("Unable to allocate 3.00 GiB")


def crash(_):
    os.abort()


def leave_at_two(number):
    if number == 2:
        sys.exit("enough")
    return number


def not_sendable(_):
    return (n for n in range(3))


def describe_worker(_):
    names = ("OMP_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "BLOSC_NTHREADS")
    return "torch" in sys.modules, [os.environ[name] for name in names], os.getpid()


def where(_):
    return os.getpid()


def named(arguments):
    return [(f"case_{i}", argument) for i, argument in enumerate(arguments)]


@pytest.mark.parametrize("count", [1, 2])
def test_outcomes_come_in_input_order(count):
    outcomes = map_cases(double, named(range(7)), count)
    assert outcomes == [Outcome(name=f"case_{i}", value=2 * i) for i in range(7)]


@pytest.mark.parametrize("count", [0, 2])
def test_a_case_that_raises_leaves_the_others_alone(count):
    outcomes = map_cases(refuse_three, named(range(6)), count)
    assert [outcome.value for outcome in outcomes] == [0, 1, 2, None, None, 5]
    assert outcomes[3].error == "three.nii.gz: no voxels; export it again"
    assert outcomes[3].trace is None
    assert outcomes[4].error is not None
    assert outcomes[4].error.startswith("KeyError: ")
    assert "\n" not in outcomes[4].error
    assert outcomes[4].trace is not None
    assert "refuse_three" in outcomes[4].trace


def test_progress_is_told_of_every_case_once():
    calls = []
    map_cases(double, named(range(5)), 2, lambda *arguments: calls.append(arguments))
    assert [call[:2] for call in calls] == [(i, 5) for i in range(1, 6)]
    assert sorted(call[2] for call in calls) == [f"case_{i}" for i in range(5)]


def test_no_cases_are_no_outcomes():
    assert map_cases(double, [], 2) == []


def test_the_case_that_kills_its_worker_is_named_and_the_others_finish(caplog):
    with caplog.at_level(logging.WARNING, logger="autoseg.workers"):
        outcomes = map_cases(die_at_three, named(range(8)), 3)
    assert [outcome.value for outcome in outcomes] == [0, 1, 2, None, 4, 5, 6, 7]
    assert outcomes[3].error == (
        "worker was killed (SIGKILL; out of memory?) with no case beside it; "
        "make room, or use a machine with more memory"
    )
    (record,) = caplog.records
    assert record.getMessage() == (
        "case_3: worker was killed (SIGKILL; out of memory?); going on with fewer workers (2), "
        "then the case again, alone (fewer from the start: --workers 2)"
    )


def test_a_case_killed_in_company_is_tried_again(tmp_path):
    marker = tmp_path / "died"
    outcomes = map_cases(die_in_company, named((i, marker) for i in range(4)), 2)
    assert marker.exists()
    assert [(outcome.value, outcome.error) for outcome in outcomes] == [(i, None) for i in range(4)]


def test_a_death_does_not_disturb_the_cases_of_other_workers(tmp_path):
    outcomes = map_cases(die_beside_others, named((i, tmp_path) for i in range(3)), 2)
    assert [outcome.value for outcome in outcomes] == [0, 1, 2]
    assert [len(list(tmp_path.glob(f"begun_{i}_*"))) for i in range(3)] == [2, 1, 1]


def test_a_case_that_kills_the_only_worker_is_named_and_the_others_finish():
    outcomes = map_cases(die_at_three, named(range(5)), 1)
    assert [outcome.value for outcome in outcomes] == [0, 1, 2, None, 4]
    assert outcomes[3].error is not None
    assert "SIGKILL" in outcomes[3].error


def test_a_case_that_finds_no_memory_in_company_is_tried_again(tmp_path, caplog):
    items = named((i, tmp_path / "tried") for i in range(4))
    with caplog.at_level(logging.WARNING, logger="autoseg.workers"):
        outcomes = map_cases(run_short_of_memory, items, 2)
    assert [(outcome.value, outcome.error) for outcome in outcomes] == [(i, None) for i in range(4)]
    assert caplog.records[0].getMessage().startswith("case_1: out of memory; going on with fewer")


@pytest.mark.parametrize("count", [0, 1])
def test_a_case_that_finds_no_memory_alone_is_told_so(count):
    (outcome,) = map_cases(never_find_memory, named([0]), count)
    assert outcome.error == (
        "out of memory: Unable to allocate 3.00 GiB; make room, or use a machine with more memory"
    )


def allow_processes(monkeypatch, count):
    """Let the system refuse to start more than some processes."""
    started = []
    start = workers.LokyProcess.start

    def limited(process):
        if len(started) == count:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        started.append(process)
        start(process)

    monkeypatch.setattr(workers.LokyProcess, "start", limited)


def test_it_goes_on_with_the_workers_that_can_be_started(monkeypatch, caplog):
    allow_processes(monkeypatch, 1)
    with caplog.at_level(logging.WARNING, logger="autoseg.workers"):
        outcomes = map_cases(double, named(range(4)), 3)
    assert [outcome.value for outcome in outcomes] == [0, 2, 4, 6]
    assert [record.getMessage() for record in caplog.records] == [
        "no more than 1 worker can be started (resource temporarily unavailable)"
    ]


def test_no_worker_at_all_is_an_error_with_a_remedy(monkeypatch):
    allow_processes(monkeypatch, 0)
    with pytest.raises(AutosegError, match=r"no worker can be started \(resource .*--workers 0"):
        map_cases(double, named(range(4)), 2)


def test_no_workers_are_this_process_and_one_worker_is_another():
    assert map_cases(where, named([0]), 0)[0].value == os.getpid()
    assert map_cases(where, named([0]), 1)[0].value != os.getpid()


@pytest.mark.parametrize("count", [0, 2])
def test_progress_is_told_the_share_of_the_voxels_and_the_speed(count):
    calls = []
    items = named([0, 1, 3, 5])  # the third is refused
    map_cases(
        refuse_three,
        items,
        count,
        lambda *words, share: calls.append((*words, share)),
        [1, 2, 3, 4],
    )
    assert [call[:2] for call in calls] == [(i, 4) for i in range(5)]
    assert calls[0] == (0, 4, 0.0)
    shares = [call[-1] for call in calls]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    sizes = [round(10 * (b - a)) for a, b in pairwise(shares)]
    told = {call[2].partition(",")[0]: size for call, size in zip(calls[1:], sizes, strict=True)}
    assert told == {"case_0": 1, "case_1": 2, "case_2": 3, "case_3": 4}
    assert all(call[2].endswith("voxel/s") for call in calls[1:])


def test_a_native_crash_is_told_from_a_kill():
    outcomes = map_cases(crash, named([0]), 2)
    assert outcomes[0].error is not None
    assert outcomes[0].error.startswith("worker died (")
    assert "SIGABRT" in outcomes[0].error


def test_a_case_that_exits_is_an_error():
    outcomes = map_cases(leave_at_two, named(range(4)), 2)
    assert [outcome.value for outcome in outcomes] == [0, 1, None, 3]
    assert outcomes[2].error == "SystemExit: enough"


def test_a_value_that_cannot_be_sent_back_is_an_error():
    (outcome,) = map_cases(not_sendable, named([0]), 2)
    assert outcome.value is None
    assert outcome.error is not None


def test_workers_have_one_thread_and_no_torch():
    torch, threads, pid = map_cases(describe_worker, named([0]), 2)[0].value
    assert not torch
    assert threads == ["1", "1", "1"]
    assert pid != os.getpid()


def refuse_to_be_told(*_):
    raise KeyboardInterrupt


def write_and_wait(argument):
    number, folder = argument
    (folder / str(os.getpid())).touch()
    time.sleep(600 * number)


def test_workers_are_gone_when_the_caller_is_interrupted(tmp_path):
    items = named((number, tmp_path) for number in (0, 1))
    with pytest.raises(KeyboardInterrupt):
        map_cases(write_and_wait, items, 2, refuse_to_be_told)
    assert not any(is_running(int(path.name)) for path in tmp_path.iterdir())


INTERRUPTED = """
    import os, sys, time
    from pathlib import Path
    from autoseg.workers import map_cases

    def sleep(folder):
        (folder / str(os.getpid())).touch()
        time.sleep(600)

    if __name__ == "__main__":
        folder = Path(sys.argv[1])
        map_cases(sleep, [("a", folder), ("b", folder)], 2)
"""


def is_running(pid):
    """Whether a process exists and is no zombie that only waits to be reaped."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def wait_until(condition):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupt_leaves_no_orphans(tmp_path, number):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(INTERRUPTED))
    folder = tmp_path / "pids"
    folder.mkdir()
    process = subprocess.Popen([sys.executable, script, folder], stderr=subprocess.DEVNULL)
    wait_until(lambda: len(list(folder.iterdir())) == 2)
    pids = [int(path.name) for path in folder.iterdir()]
    process.send_signal(number)
    process.wait(timeout=PATIENCE_S)
    wait_until(lambda: not any(map(is_running, pids)))
    assert [pid for pid in pids if is_running(pid)] == []


def test_memory_decides_when_it_is_short(tmp_path):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text(f"MemAvailable: {4 * GIB // 1024} kB\n")
    assert workers.num_workers(None, bytes_per_case=3 * GIB, root=tmp_path) == 1
    assert workers.num_workers(None, root=tmp_path) == workers.available_cores(root=tmp_path)


def test_a_requested_number_of_workers_is_obeyed():
    assert [workers.num_workers(requested) for requested in (0, 1, 37)] == [0, 1, 37]
    with pytest.raises(ValueError, match="negative"):
        workers.num_workers(-1)
