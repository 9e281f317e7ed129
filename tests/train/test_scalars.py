import importlib.util
import warnings

import pytest

from autoseg.errors import AutosegError
from autoseg.train.monitoring import scalars
from autoseg.train.monitoring.scalars import Scalars, require_tensorboard


def row(epoch, **changes):
    values = {
        "epoch": epoch,
        "train_loss": 1.0 - epoch,
        "validation_loss": 2.0 - epoch,
        "dice": {"left atrium": 0.25 * epoch, "core": None},
        "mean_dice": 0.25 * epoch,
        "ema_dice": 0.5,
        "learning_rate": 0.01,
        "epoch_s": 3.0,
    }
    return values | changes


def events(folder):
    """(step, value) by tag."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        reading = pytest.importorskip(
            "tensorboard.backend.event_processing.event_accumulator",
            reason="needs the extra tensorboard",
        )
    accumulator = reading.EventAccumulator(str(folder)).Reload()
    tags = accumulator.Tags()["scalars"]
    return {tag: [(e.step, round(e.value, 6)) for e in accumulator.Scalars(tag)] for tag in tags}


needs_tensorboard = pytest.mark.skipif(
    importlib.util.find_spec("tensorboard") is None, reason="needs the extra tensorboard"
)


def test_without_the_package_the_remedy_is_said(monkeypatch):
    monkeypatch.setattr(scalars, "find_spec", lambda name: None)
    with pytest.raises(AutosegError, match=r'run: pip install "autoseg\[tensorboard\]"'):
        require_tensorboard()


@needs_tensorboard
def test_every_number_of_an_epoch_becomes_a_curve(tmp_path):
    writer = Scalars(tmp_path)
    writer.add(row(0, waiting=0.125, gpu_peak_bytes=4096))
    writer.add(row(1))
    writer.close()
    found = events(tmp_path)
    assert found["loss/train"] == [(1, 1.0), (2, 0.0)]
    assert found["loss/validation"] == [(1, 2.0), (2, 1.0)]
    assert found["time/share waiting for data"] == [(1, 0.125)]
    assert found["time/GPU peak bytes"] == [(1, 4096.0)]
    assert found["learning rate"] == [(1, 0.01), (2, 0.01)]
    (of_structure,) = (values for tag, values in found.items() if "left" in tag)
    assert of_structure == [(1, 0.0), (2, 0.25)]
    assert not any("core" in tag for tag in found)


@needs_tensorboard
def test_a_resumed_run_goes_on_where_its_state_stood(tmp_path):
    first = Scalars(tmp_path)
    for epoch in range(3):
        first.add(row(epoch))
    first.close()
    again = Scalars(tmp_path, [row(0)])
    again.add(row(1, train_loss=7.0))
    again.close()
    assert events(tmp_path)["loss/train"] == [(1, 1.0), (2, 7.0)]


@needs_tensorboard
def test_who_asks_late_gets_the_earlier_epochs_too(tmp_path):
    late = Scalars(tmp_path, [row(0), row(1)])
    late.add(row(2))
    late.close()
    assert events(tmp_path)["loss/train"] == [(1, 1.0), (2, 0.0), (3, -1.0)]
