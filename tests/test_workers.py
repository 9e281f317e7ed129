"""Processes die in here; nothing else may."""

import logging
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from autoseg import workers
from autoseg.errors import DataError
from autoseg.workers import Outcome, map_cases

GIB = 2**30


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
    assert outcomes[3].error == "worker was killed (SIGKILL; out of memory?)"
    assert "case_3" in caplog.records[0].getMessage()


def test_a_case_killed_in_company_is_tried_again(tmp_path):
    marker = tmp_path / "died"
    outcomes = map_cases(die_in_company, named((i, marker) for i in range(4)), 2)
    assert marker.exists()
    assert [(outcome.value, outcome.error) for outcome in outcomes] == [(i, None) for i in range(4)]


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


INTERRUPTED = """
    import os, sys, time
    from pathlib import Path
    from autoseg.workers import map_cases

    def sleep(folder):
        (folder / str(os.getpid())).touch()
        time.sleep(60)

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


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupt_leaves_no_orphans(tmp_path, number):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(INTERRUPTED))
    folder = tmp_path / "pids"
    folder.mkdir()
    process = subprocess.Popen([sys.executable, script, folder], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while len(list(folder.iterdir())) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    pids = [int(path.name) for path in folder.iterdir()]
    assert len(pids) == 2
    process.send_signal(number)
    process.wait(timeout=30)
    while any(map(is_running, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(is_running, pids))


def write(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return root


def test_available_memory_is_the_machine_s_without_limits(tmp_path):
    write(tmp_path, {"proc/meminfo": "MemTotal: 9000000 kB\nMemAvailable:    5000000 kB"})
    assert workers.available_memory_bytes(root=tmp_path) == 5000000 * 1024


def test_a_version_2_group_limits_memory_even_from_above(tmp_path):
    root = write(
        tmp_path,
        {
            "proc/meminfo": "MemAvailable: 500000000 kB",
            "proc/self/cgroup": "0::/slice/job",
            "sys/fs/cgroup/slice/memory.max": 8 * GIB,
            "sys/fs/cgroup/slice/memory.current": 5 * GIB,
            "sys/fs/cgroup/slice/memory.stat": f"active_file 7\ninactive_file {GIB}",
            "sys/fs/cgroup/slice/job/memory.max": "max",
            "sys/fs/cgroup/slice/job/memory.current": 5 * GIB,
        },
    )
    assert workers.available_memory_bytes(root=root) == 4 * GIB


def test_a_version_1_group_limits_memory_at_the_mount_point_of_a_container(tmp_path):
    root = write(
        tmp_path,
        {
            "proc/meminfo": "MemAvailable: 500000000 kB",
            "proc/self/cgroup": "3:memory:/docker/outside\n0::/",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": 2 * GIB,
            "sys/fs/cgroup/memory/memory.usage_in_bytes": GIB,
            "sys/fs/cgroup/memory/memory.stat": f"total_inactive_file {GIB // 2}",
        },
    )
    assert workers.available_memory_bytes(root=root) == 3 * GIB // 2


@pytest.mark.parametrize(
    "files",
    [
        {"proc/self/cgroup": "0::/job", "sys/fs/cgroup/job/cpu.max": "60000 100000"},
        {
            "proc/self/cgroup": "4:cpu,cpuacct:/job",
            "sys/fs/cgroup/cpu/job/cpu.cfs_quota_us": 60000,
            "sys/fs/cgroup/cpu/job/cpu.cfs_period_us": 100000,
        },
    ],
)
def test_a_quota_of_less_than_a_core_is_one_core(tmp_path, files):
    assert workers.available_cores(root=write(tmp_path, files)) == 1


@pytest.mark.parametrize("quota", ["max 100000", "90000000 100000"])
def test_a_generous_quota_leaves_all_cores(tmp_path, quota):
    files = {"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": quota}
    cores = workers.available_cores(root=write(tmp_path, files))
    assert cores == workers.available_cores(root=tmp_path / "nothing")


def test_memory_decides_when_it_is_short(tmp_path):
    root = write(tmp_path, {"proc/meminfo": f"MemAvailable: {4 * GIB // 1024} kB"})
    assert workers.num_workers(None, bytes_per_case=3 * GIB, root=root) == 1
    assert workers.num_workers(None, root=root) == workers.available_cores(root=root)


def test_a_requested_number_of_workers_is_obeyed():
    assert [workers.num_workers(requested) for requested in (0, 1, 37)] == [1, 1, 37]
    with pytest.raises(ValueError, match="negative"):
        workers.num_workers(-1)
