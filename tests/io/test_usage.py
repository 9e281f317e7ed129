import os
import sys
from pathlib import Path

import pytest

from autoseg.io.usage import processor_time, queued_s, resident_bytes

TICK_S = 1 / os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 0.01

# user nice system idle iowait irq softirq steal guest guest_nice
STAT = """cpu  999 999 999 999 999 999 999 999 0 0
cpu0 100 20 30 5000 700 4 5 6 90 0
cpu1 200 0 0 5000 0 0 0 0 0 0
cpu2 400 0 0 5000 0 0 0 0 0 0
intr 12345
"""


def written(root: Path, **files: str) -> Path:
    for name, text in files.items():
        file = root / "proc" / name.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


@pytest.fixture
def two_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 2}, raising=False)


def process(user: int, system: int) -> str:
    return f"7 (a (b) c) S {' '.join(['0'] * 10)} {user} {system} 50 60 20 0"


def test_only_the_cores_this_process_may_use_count_and_only_while_busy(tmp_path, two_cores):
    root = written(tmp_path, stat=STAT, **{"7__stat": process(30, 4), "8__stat": process(1, 0)})
    found = processor_time([7, 8, 9], root=root)
    assert found is not None
    assert found.cores == 2
    assert found.busy_s == pytest.approx((100 + 20 + 30 + 4 + 5 + 6 + 400) * TICK_S)
    assert found.own_s == pytest.approx(35 * TICK_S)


def test_where_the_system_does_not_tell_nothing_is_known(tmp_path, two_cores):
    assert processor_time([7], root=tmp_path) is None
    assert resident_bytes([7], root=tmp_path) is None
    assert queued_s(root=tmp_path) == 0.0


def test_memory_of_processes_is_added_up(tmp_path):
    status = "Name:\tpython\nVmPeak:\t 900 kB\nVmRSS:\t  {} kB\n"
    root = written(tmp_path, **{"7__status": status.format(10), "8__status": status.format(5)})
    assert resident_bytes([7, 8], root=root) == 15 * 1024
    assert resident_bytes([], root=root) == 0


def test_time_in_the_queue_for_a_core_is_told_in_seconds(tmp_path):
    root = written(tmp_path, **{"thread-self__schedstat": "8000000000 2500000000 42\n"})
    assert queued_s(root=root) == 2.5


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_this_process_has_memory_and_has_computed():
    found = processor_time([os.getpid()])
    assert found is not None
    assert found.own_s > 0
    assert (resident_bytes([os.getpid()]) or 0) > 10**6
