import os
import signal
import time
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import pytest

from autoseg.errors import DataError
from autoseg.train.batch_pool import BatchPool, MakerDiedError

LARGE_BYTES = 300_000_000  # takes a while to hand over


def make(folder: Path, epoch: int, step: int, note) -> object:
    note(10 * step)
    (folder / f"{step}-{os.getpid()}").touch()
    if step == 7:
        raise DataError("is broken", place="case_07")
    if step == 8:
        raise ZeroDivisionError("nobody foresaw this")
    if step == 9:
        time.sleep(60)
    if step == 5:
        return np.zeros(LARGE_BYTES, dtype=np.uint8)
    return epoch, step


@pytest.fixture
def pool(tmp_path):
    made = BatchPool(make, tmp_path, 2)
    yield made
    made.close()
    assert active_children() == []


def test_processes_are_started_when_they_are_needed(pool, tmp_path):
    assert active_children() == []
    assert pool.submit(3, 0).result(60) == (3, 0)
    assert pool.submit(3, 1).result(60) == (3, 1)
    assert len(active_children()) == 1
    asked = [pool.submit(4, step) for step in range(4)]
    assert [future.result(60) for future in asked] == [(4, 0), (4, 1), (4, 2), (4, 3)]
    assert len(active_children()) == 2


def test_an_error_is_raised_where_the_batch_was_asked_for_and_the_process_goes_on(pool):
    with pytest.raises(DataError, match="case_07: is broken"):
        pool.submit(0, 7).result(60)
    with pytest.raises(ZeroDivisionError) as caught:
        pool.submit(0, 8).result(60)
    assert "nobody foresaw this" in caught.value.__notes__[0]
    assert "def make" not in caught.value.__notes__[0]
    assert "in make" in caught.value.__notes__[0]
    assert pool.submit(0, 1).result(60) == (0, 1)


def test_a_cancelled_batch_leaves_those_after_it(pool):
    asked = [pool.submit(0, step) for step in (0, 1, 2, 3)]
    for future in asked[:2]:
        future.cancel()
    assert [future.result(60) for future in asked[2:]] == [(0, 2), (0, 3)]


@pytest.mark.parametrize("delay_s", [0.0, 0.02, 0.05])
def test_a_process_killed_while_it_hands_a_batch_over_holds_up_nobody(pool, tmp_path, delay_s):
    large, small = pool.submit(0, 5), pool.submit(0, 1)
    while not list(tmp_path.glob("5-*")):
        time.sleep(0.005)
    while (0, 50) in pool.in_the_making():
        time.sleep(0.001)
    time.sleep(delay_s)
    [marker] = tmp_path.glob("5-*")
    os.kill(int(marker.name.removeprefix("5-")), signal.SIGKILL)
    has_died = isinstance(large.exception(60), MakerDiedError)
    assert has_died or large.result().nbytes == LARGE_BYTES
    assert small.result(60) == (0, 1)
    if has_died:
        pool.close()
        assert pool.cause_of_death() == "was killed (SIGKILL; out of memory?)"


def test_what_a_killed_process_was_at_is_known(pool):
    future = pool.submit(2, 9)
    while not pool.in_the_making():
        time.sleep(0.005)
    [process] = active_children()
    process.kill()
    with pytest.raises(MakerDiedError):
        future.result(60)
    pool.close()
    assert pool.in_the_making() == [(2, 90)]
