from types import SimpleNamespace

import pytest

from autoseg.core import progress
from autoseg.core.progress import VoxelPace


@pytest.fixture
def clock(monkeypatch):
    made = SimpleNamespace(now=100.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: made.now))
    return made


def test_silence_takes_all_that_is_reported(capsys):
    progress.silent(1, 2, "case_1", share=0.25)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("voxels", "speed"),
    [
        (24, "12 voxel/s"),
        (9_000, "4.5 kvoxel/s"),
        (82_000_000, "41 Mvoxel/s"),
        (2_600_000_000, "1.3 Gvoxel/s"),
    ],
)
def test_the_speed_has_a_unit_that_fits(clock, voxels, speed):
    pace = VoxelPace([voxels])
    clock.now += 2
    pace.count(0, made=True)
    assert pace.note("case_0061") == f"case_0061, {speed}"


def test_a_case_that_failed_is_settled_but_made_nothing(clock):
    pace = VoxelPace([3000, 1000])
    clock.now += 1
    pace.count(0, made=False)
    assert pace.share == 0.75
    assert pace.note("a") == "a"
    pace.count(1, made=True)
    assert (pace.share, pace.note("b")) == (1.0, "b, 1.0 kvoxel/s")


def test_cases_without_voxels_are_no_division_by_zero(clock):
    pace = VoxelPace([0, 0])
    pace.count(0, made=True)
    assert (pace.share, pace.note("a")) == (1.0, "a")
