from types import SimpleNamespace

import pytest
import torch

from autoseg.train.monitoring import pace
from autoseg.train.monitoring.pace import Pace

CPU = torch.device("cpu")


class Clock:
    """Time that passes only when told, and the part of it that was waited."""

    def __init__(self, monkeypatch):
        self.now_s = 1000.0
        self.waited_s = 50.0
        monkeypatch.setattr(pace, "time", SimpleNamespace(monotonic=lambda: self.now_s))

    def epoch(self, pace, steps_s, rest_s, step, to_go, limit_s=None, *, first=0, waited_s=0.0):
        pace.start_epoch(first)
        self.now_s += steps_s
        self.waited_s += waited_s
        pace.end_steps()
        self.now_s += rest_s
        return pace.end_epoch(step, to_go, limit_s)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def pace_of(clock, steps_per_epoch=10):
    return Pace(steps_per_epoch, CPU, lambda: clock.waited_s)


def test_an_epoch_takes_its_steps_and_its_validation(clock):
    took = clock.epoch(pace_of(clock), 20.0, 5.0, step=10, to_go=3, waited_s=4.0)
    assert took.epoch_s == 25.0
    assert took.left_s == 75.0
    assert took.waiting == 0.2
    assert took.gpu_peak_bytes is None


def test_the_first_epoch_warms_up_and_counts_no_more_once_there_is_another(clock):
    pace = pace_of(clock)
    clock.epoch(pace, 500.0, 5.0, step=10, to_go=4)
    assert clock.epoch(pace, 20.0, 5.0, step=10, to_go=3).left_s == 75.0


def test_the_pace_is_that_of_the_last_five_epochs(clock):
    pace = pace_of(clock)
    for steps_s in (1.0, 900.0, 10.0, 10.0, 10.0, 10.0):
        clock.epoch(pace, steps_s, 0.0, step=10, to_go=9)
    assert clock.epoch(pace, 60.0, 0.0, step=10, to_go=2).left_s == 40.0


def test_a_resumed_epoch_counts_by_the_steps_it_made_here(clock):
    took = clock.epoch(pace_of(clock), 4.0, 5.0, step=10, to_go=3, first=8)
    assert took.left_s == 3 * (10 * 2.0 + 5.0)


def test_the_time_limit_ends_it_if_it_comes_first(clock):
    pace = pace_of(clock)
    assert clock.epoch(pace, 20.0, 5.0, step=10, to_go=3, limit_s=30.0).left_s == 30.0
    assert clock.epoch(pace, 20.0, 5.0, step=10, to_go=2, limit_s=999.0).left_s == 50.0
    assert clock.epoch(pace, 20.0, 5.0, step=4, to_go=2, limit_s=-1.0).left_s == 0.0


def test_what_happens_between_epochs_takes_time_too(clock):
    pace = pace_of(clock)
    clock.epoch(pace, 20.0, 5.0, step=10, to_go=3)
    clock.epoch(pace, 20.0, 5.0, step=10, to_go=3)
    clock.now_s += 10.0
    assert clock.epoch(pace, 20.0, 5.0, step=10, to_go=1).left_s == 20.0 + 5.0 + 10.0 / 2


def test_an_epoch_without_a_step_divides_by_nothing(clock):
    took = clock.epoch(pace_of(clock), 0.0, 5.0, step=10, to_go=2, first=10)
    assert (took.left_s, took.waiting) == (10.0, 0.0)


def test_on_a_gpu_the_peak_of_the_epoch_is_measured(clock, monkeypatch):
    resets = []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", resets.append)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: 3_000_000)
    gpu = torch.device("cuda:0")
    took = clock.epoch(Pace(10, gpu, lambda: 0.0), 1.0, 1.0, step=10, to_go=0)
    assert took.gpu_peak_bytes == 3_000_000
    assert resets == [gpu]
