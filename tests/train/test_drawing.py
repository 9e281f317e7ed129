import os
import signal
import time

import pytest

from autoseg.train.monitoring.pictures import Pictures
from autoseg.train.monitoring.side_files import SideFiles


def write_once_there_is(awaited, path):
    patience_s = time.monotonic() + 300
    while not awaited.exists():
        assert time.monotonic() < patience_s
        time.sleep(0.01)
    write(path)


def write(path):
    path.write_text(str(os.getpid()))


def fail(reason):
    raise ValueError(reason)


def end_abruptly():
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def pictures():
    drawing = Pictures(SideFiles())
    yield drawing
    drawing.finish()


@pytest.mark.slow
def test_who_asks_does_not_wait_and_who_finishes_does(tmp_path, pictures):
    pictures.ask("a picture", write_once_there_is, tmp_path / "asked", tmp_path / "a")
    assert not (tmp_path / "a").exists()
    (tmp_path / "asked").touch()
    pictures.finish()
    assert (tmp_path / "a").read_text() != str(os.getpid())


@pytest.mark.slow
def test_what_cannot_be_drawn_is_said_once_and_the_next_picture_is_drawn(
    tmp_path, pictures, caplog
):
    for _ in range(2):
        pictures.ask("progress.png", fail, "no space left")
    pictures.ask("progress.png", write, tmp_path / "next")
    pictures.finish()
    assert (tmp_path / "next").exists()
    assert caplog.text.count("training goes on without progress.png: no space left") == 1


@pytest.mark.slow
def test_after_a_killed_process_another_one_draws(tmp_path, pictures, caplog):
    pictures.ask("progress.png", end_abruptly)
    pictures.finish()
    pictures.ask("progress.png", write, tmp_path / "next")
    pictures.finish()
    assert (tmp_path / "next").exists()
    assert caplog.text.count("training goes on without progress.png") == 1


def test_without_a_picture_there_is_no_process(pictures):
    pictures.finish()
    assert pictures._executor is None
