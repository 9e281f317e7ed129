import pytest

from autoseg.io import machine

GIB = 2**30


def write(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return root


def test_available_memory_is_the_machine_s_without_limits(tmp_path):
    write(tmp_path, {"proc/meminfo": "MemTotal: 9000000 kB\nMemAvailable:    5000000 kB"})
    assert machine.available_memory_bytes(root=tmp_path) == 5000000 * 1024


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
    assert machine.available_memory_bytes(root=root) == 4 * GIB


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
    assert machine.available_memory_bytes(root=root) == 3 * GIB // 2


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
    assert machine.available_cores(root=write(tmp_path, files)) == 1


@pytest.mark.parametrize("quota", ["max 100000", "90000000 100000"])
def test_a_generous_quota_leaves_all_cores(tmp_path, quota):
    files = {"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": quota}
    cores = machine.available_cores(root=write(tmp_path, files))
    assert cores == machine.available_cores(root=tmp_path / "nothing")
