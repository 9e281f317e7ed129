"""Connections that tell every process of a training when one of them ends, and why.

A process that waits for others in a collective operation cannot be talked to, and on GPUs it
would wait until the operation's time limit. So each holds a connection to the lead that says
nothing as long as all is well. The system closes it when a process dies, however that happens.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from autoseg.errors import AutosegError
from autoseg.train.launch import Launch

logger = logging.getLogger(__name__)

EXIT_CODE = 2
GRACE_S = 10.0
"""Time for a process that has heard of the end to finish its own way; it is ended then."""

CONNECT_S = 120.0
_UNEXPECTED = (
    "ended without a word (killed? out of memory?); the same command goes on from where the run "
    "was saved last"
)
_KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where the lead waits for the others.

    Attributes:
        host: its host, as the others reach it.
        port: its port.
        password: what a caller has to know.
        name: what messages call the lead.
    """

    host: str
    port: int
    password: str
    name: str


class Lifeline:
    """The connections of one process: the lead's to all others, another's to the lead.

    Args:
        launch: the place of this process.
        end: called with an exit code to end this process at once.
    """

    def __init__(self, launch: Launch, end: Callable[[int], object] = os._exit) -> None:
        self._launch, self._end = launch, end
        self._links: dict[int, socket.socket] = {}
        self._guard = threading.RLock()
        self._heard = threading.Event()
        self._answered = threading.Event()
        self._lead_silent = False
        self._reason: str | None = None
        self._closing = False

    @property
    def name(self) -> str:
        """What messages call this process."""
        return _name(self._launch.rank, socket.gethostname())

    def connect(self, exchange: Callable[[Address | None], Address]) -> None:
        """Connect the lead with all others.

        Args:
            exchange: hands the lead's address to the others; given None by those.

        Raises:
            AutosegError: if some cannot reach the lead.
        """
        if self._launch.rank == 0:
            host = "127.0.0.1" if self._launch.is_one_host else ""
            with socket.create_server((host, 0)) as server:
                address = Address(
                    host=host or self._launch.address,
                    port=server.getsockname()[1],
                    password=secrets.token_hex(),
                    name=self.name,
                )
                exchange(address)
                self._accept(server, address)
        else:
            self._call(exchange(None))

    def why(self, wait_s: float = 0.0) -> str | None:
        """The reason for which a process ended, if one has.

        Args:
            wait_s: how long to wait for it.
        """
        self._heard.wait(wait_s)
        return self._reason

    @property
    def speaks(self) -> bool:
        """Whether it is up to this process to say why the training ends."""
        return self._launch.rank == 0 or (self._launch.rank == 1 and self._lead_silent)

    def tell(self, reason: str) -> None:
        """Say that this process ends before its time; it has to end soon then."""
        with self._guard:
            self._closing = True
            self._send({"failed": reason})

    def wait_for_answer(self, wait_s: float) -> bool:
        """Wait until the lead knows that the training ends; whether it does."""
        return self._answered.wait(wait_s)

    def close(self) -> None:
        """Say that all is well and hang up."""
        with self._guard:
            self._closing = True
            self._send({"done": True})
            for link in self._links.values():
                with contextlib.suppress(OSError):
                    link.shutdown(socket.SHUT_RDWR)
                link.close()

    def _accept(self, server: socket.socket, address: Address) -> None:
        expected = set(range(1, self._launch.size))
        deadline_s = time.monotonic() + CONNECT_S
        while missing := sorted(expected - self._links.keys()):
            server.settimeout(max(0.01, deadline_s - time.monotonic()))
            try:
                link = server.accept()[0]
            except TimeoutError:
                ranks = ", ".join(map(str, missing))
                raise AutosegError(
                    f"rank {ranks} did not reach port {address.port} of {address.host}",
                    remedy="open the network between the hosts",
                ) from None
            self._admit(link, address.password)

    def _admit(self, link: socket.socket, password: str) -> None:
        """Take a caller in; one that is not of this training is sent away."""
        link.settimeout(10.0)
        lines = link.makefile(encoding="utf-8")
        try:
            hello = json.loads(lines.readline())
            rank, host = int(hello["rank"]), str(hello["host"])
            known = secrets.compare_digest(str(hello["password"]), password)
        except (OSError, ValueError, KeyError, TypeError):
            known, rank, host = False, 0, ""
        if not known:
            link.close()
            return
        self._follow(link, lines, rank, _name(rank, host))

    def _call(self, address: Address) -> None:
        try:
            link = socket.create_connection((address.host, address.port), CONNECT_S)
        except OSError as error:
            raise AutosegError(
                f"{self.name} cannot reach port {address.port} of {address.host} ({error})",
                remedy="open the network between the hosts",
            ) from None
        hello = {"rank": self._launch.rank, "password": address.password}
        _send(link, hello | {"host": socket.gethostname()})
        self._follow(link, link.makefile(encoding="utf-8"), 0, address.name)

    def _follow(self, link: socket.socket, lines: Any, rank: int, name: str) -> None:  # noqa: ANN401
        """Listen to a process from now on."""
        link.settimeout(None)
        _keep_alive(link)
        self._links[rank] = link
        threading.Thread(target=self._listen, args=(lines, rank, name), daemon=True).start()

    def _listen(self, lines: Any, rank: int, name: str) -> None:  # noqa: ANN401 - a text file
        said_goodbye = False
        with contextlib.suppress(OSError, ValueError), lines:  # closed meanwhile, or half a line
            for line in lines:
                message = json.loads(line)
                said_goodbye = True
                self._answered.set()
                if "failed" in message:
                    self._learn(message["failed"])
        if rank == 0:
            self._lead_silent = not said_goodbye
            self._answered.set()
        if not said_goodbye:
            self._learn(f"{name} {_UNEXPECTED}")

    def _learn(self, reason: str) -> None:
        """Another process has ended before its time: pass it on, and see that this one ends."""
        with self._guard:
            if self._closing or self._reason is not None:
                return
            self._reason = reason
            self._heard.set()
            if self._launch.rank == 0:
                self._send({"failed": reason})
        time.sleep(GRACE_S)
        if not self._closing:
            if self.speaks:
                logger.error("%s", reason)
            self._end(EXIT_CODE)

    def _send(self, message: dict[str, Any]) -> None:
        for link in self._links.values():
            with contextlib.suppress(OSError):  # it has ended: its listener finds out
                _send(link, message)


def _name(rank: int, host: str) -> str:
    return f"rank {rank} on {host}"


def _send(link: socket.socket, message: dict[str, Any]) -> None:
    link.sendall((json.dumps(message) + "\n").encode())


def _keep_alive(link: socket.socket) -> None:
    """Find out about a host that lost its power, too."""
    link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE.items():
        if hasattr(socket, option):
            link.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
