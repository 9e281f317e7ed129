import json
import logging
import queue
import socket
import threading

import pytest

from autoseg.errors import AutosegError
from autoseg.train import lifeline
from autoseg.train.launch import Launch
from autoseg.train.lifeline import Lifeline

HOST = socket.gethostname()


def launch_of(rank, size):
    return Launch(rank=rank, size=size, local_rank=rank, local_size=size, address="localhost")


@pytest.fixture
def lines(monkeypatch):
    """Three processes' ends, connected; each notes with which code it would have ended."""
    monkeypatch.setattr(lifeline, "GRACE_S", 0.05)
    ended = [queue.Queue() for _ in range(3)]
    made = [Lifeline(launch_of(rank, 3), ended[rank].put) for rank in range(3)]
    for line, codes in zip(made, ended, strict=True):
        line.ended = codes
    connect(made)
    yield made
    for line in made:
        line.close()


def connect(made):
    address = queue.Queue()

    def hand_out(given):
        for _ in made[1:]:
            address.put(given)
        return given

    threads = [
        threading.Thread(target=line.connect, args=(lambda _: address.get(),)) for line in made[1:]
    ]
    for thread in threads:
        thread.start()
    made[0].connect(hand_out)
    for thread in threads:
        thread.join()


def die(line):
    """As a process that is killed: the system hangs up for it."""
    line._closing = True
    for link in line._links.values():
        link.shutdown(socket.SHUT_RDWR)


def test_all_hear_the_reason_of_one_that_fails(lines):
    lines[2].tell("rank 2 on a: no space left")
    assert [line.why(5.0) for line in lines[:2]] == ["rank 2 on a: no space left"] * 2
    assert lines[2].wait_for_answer(5.0)


def test_all_hear_the_reason_of_the_lead(lines):
    lines[0].tell("rank 0 on a: no such fold")
    assert [line.why(5.0) for line in lines[1:]] == ["rank 0 on a: no such fold"] * 2
    assert not any(line.speaks for line in lines[1:])


def test_one_that_is_killed_is_named(lines):
    die(lines[1])
    found = f"rank 1 on {HOST} ended without a word (killed? out of memory?); the same command "
    assert lines[2].why(5.0) == f"{found}goes on from where the run was saved last"
    assert lines[0].speaks
    assert not lines[2].speaks


def test_when_the_lead_is_killed_the_next_one_says_so(lines):
    die(lines[0])
    assert all(line.why(5.0).startswith(f"rank 0 on {HOST} ended") for line in lines[1:])
    assert [line.speaks for line in lines[1:]] == [True, False]


def test_one_that_cannot_end_itself_is_ended(lines, caplog):
    with caplog.at_level(logging.ERROR, "autoseg"):
        die(lines[1])
        assert [line.ended.get(timeout=5.0) for line in (lines[0], lines[2])] == [2, 2]
    assert len([record for record in caplog.records if "rank 1" in record.getMessage()]) == 1


def test_nobody_is_ended_who_ends_by_itself(lines, monkeypatch):
    monkeypatch.setattr(lifeline, "GRACE_S", 1.0)
    lines[1].tell("rank 1: stopped")
    assert lines[0].why(5.0)
    assert lines[2].why(5.0)
    lines[0].tell("rank 1: stopped")
    lines[2].tell("rank 1: stopped")
    with pytest.raises(queue.Empty):
        lines[0].ended.get(timeout=1.5)
    assert lines[2].ended.empty()


def test_one_that_is_done_ends_nobody(lines):
    lines[2].close()
    lines[0].close()
    assert lines[1].why(0.2) is None
    assert lines[1].ended.empty()


def test_strangers_are_sent_away(monkeypatch):
    made = [Lifeline(launch_of(rank, 2)) for rank in range(2)]
    calls = []

    def call_first(address):
        stranger = socket.create_connection((address.host, address.port))
        hello = {"rank": 1, "host": "b", "password": "guessed"}
        stranger.sendall((json.dumps(hello) + "\n").encode())
        calls.append(stranger)
        threading.Thread(target=made[1].connect, args=(lambda _: address,)).start()
        return address

    made[0].connect(call_first)
    assert calls[0].recv(1) == b""
    calls[0].close()
    made[1].tell("all is well here")
    assert made[0].why(5.0) == "all is well here"
    for line in made:
        line.close()


def test_one_that_never_comes_is_named(monkeypatch):
    monkeypatch.setattr(lifeline, "CONNECT_S", 0.05)
    with pytest.raises(AutosegError, match=r"^rank 1, 2 did not reach port \d+ of 127.0.0.1; open"):
        Lifeline(launch_of(0, 3)).connect(lambda address: address)


def test_a_lead_that_cannot_be_reached_is_named(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    nobody = lifeline.Address(host="127.0.0.1", port=port, password="", name="rank 0 on a")
    with pytest.raises(AutosegError, match=f"^rank 1 on {HOST} cannot reach port {port} of 127"):
        Lifeline(launch_of(1, 2)).connect(lambda _: nobody)
