from types import SimpleNamespace

import pytest
import torch

from autoseg.core.progress import silent
from autoseg.predict import pace
from autoseg.predict.pace import told_if_slow

CPU = torch.device("cpu")


@pytest.fixture
def clock(monkeypatch):
    """Time that passes when somebody says so, on a machine without OpenVINO."""
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(pace, "time", SimpleNamespace(perf_counter=lambda: now.seconds))
    monkeypatch.setattr(pace, "is_installed", lambda: False)
    pace._tell.cache_clear()
    return now


def passes(told, clock, seconds: float, total: int = 40) -> None:
    for done in range(2, total + 1, 2):
        clock.seconds += seconds
        told(done, total)


def test_a_slow_prediction_says_once_what_openvino_would_bring(clock, caplog):
    caplog.set_level("INFO")
    for _ in range(2):
        passes(told_if_slow(silent, CPU), clock, seconds=12)
    (record,) = caplog.records
    assert record.message == (
        "torch computes on the CPU, about 4 min for this image: OpenVINO is typically 1.2 to 2 "
        "times as fast (pip install 'autoseg[openvino]')"
    )


def test_a_quick_prediction_says_nothing(clock, caplog):
    caplog.set_level("INFO")
    passes(told_if_slow(silent, CPU), clock, seconds=2.9)
    assert caplog.records == []


def test_progress_is_passed_on(clock):
    calls = []

    def progress(done, total, note="", **more):
        calls.append((done, total, note, more))

    told = told_if_slow(progress, CPU)
    told(1, 2, "one")
    told(2, 2, share=1.0)
    assert calls == [(1, 2, "one", {}), (2, 2, "", {"share": 1.0})]


def test_where_openvino_is_or_a_gpu_computes_there_is_nothing_to_say(clock, monkeypatch):
    assert told_if_slow(silent, torch.device("cuda")) is silent
    monkeypatch.setattr(pace, "is_installed", lambda: True)
    assert told_if_slow(silent, CPU) is silent
