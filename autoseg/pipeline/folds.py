"""Folds side by side: a process each, one at a time on each GPU."""

from __future__ import annotations

import os
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from autoseg.errors import InterruptedRunError
from autoseg.io.machine import available_cores
from autoseg.train.interruption import interruptible

VISIBLE = "CUDA_VISIBLE_DEVICES"

Say = Callable[[str, str], None]

_MOST_WORKERS = 12


def run_folds(commands: Mapping[str, Sequence[str]], devices: Sequence[str], say: Say) -> list[str]:
    """Run a command per fold, as many at a time as there are devices.

    Ctrl-C and SIGTERM are passed on; the commands save what they have, and no other is begun.

    Args:
        commands: the words of each, by the name of its fold, in the order to begin them.
        devices: what each of those that run at the same time finds in ``CUDA_VISIBLE_DEVICES``.
        say: called with a fold and a line it wrote, never by two folds at the same time.

    Returns:
        The folds whose command failed; the first was said at once, and the others went on.

    Raises:
        InterruptedRunError: if the user stopped it.
    """
    team = _Team(commands, say)
    threads = [threading.Thread(target=team.work, args=(device,)) for device in devices]
    with interruptible(team.stop) as interrupted:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if interrupted.is_set():
        raise InterruptedRunError("stopped; all is saved", remedy="repeat the command to go on")
    return [fold for fold in commands if fold in team.failed]


def visible_as(gpus: Sequence[int], environ: Mapping[str, str]) -> list[str]:
    """What ``CUDA_VISIBLE_DEVICES`` says where only one of the GPUs is to be seen.

    Args:
        gpus: numbers as this process counts them.
        environ: its environment variables, which may show it some of the machine's GPUs only.
    """
    names = [name.strip() for name in environ.get(VISIBLE, "").split(",") if name.strip()]
    return [names[gpu] if names else str(gpu) for gpu in gpus]


def shared_workers(num_trainings: int) -> int:
    """Processes that make batches for each of some trainings, which share the cores."""
    return min(_MOST_WORKERS, max(1, available_cores() // max(1, num_trainings) - 1))


class _Team:
    """What is still to be run, and what runs."""

    def __init__(self, commands: Mapping[str, Sequence[str]], say: Say) -> None:
        self.failed: set[str] = set()
        self._waiting = deque(commands.items())
        self._say = say
        self._lock = threading.RLock()
        self._running: list[subprocess.Popen[str]] = []
        self._stopped = False

    def work(self, device: str) -> None:
        """Run one command after another on a device."""
        while (begun := self._begin(device)) is not None:
            fold, process = begun
            assert process.stdout is not None
            with process.stdout as lines:
                for line in lines:
                    with self._lock:
                        self._say(fold, line.rstrip("\n"))
            self._end(fold, process)

    def stop(self) -> None:
        """Ask what runs to save and end, and begin no more."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                process.terminate()

    def _begin(self, device: str) -> tuple[str, subprocess.Popen[str]] | None:
        with self._lock:
            while self._waiting and not self._stopped:
                fold, words = self._waiting.popleft()
                try:
                    process = _start(words, device)
                except OSError as error:
                    self._fail(fold, f"cannot be started ({error})")
                    continue
                self._running.append(process)
                return fold, process
            return None

    def _end(self, fold: str, process: subprocess.Popen[str]) -> None:
        code = process.wait()
        with self._lock:
            self._running.remove(process)
            if code != 0 and not self._stopped:
                self._fail(fold, f"failed (exit code {code}); the other folds go on")

    def _fail(self, fold: str, reason: str) -> None:
        self.failed.add(fold)
        self._say(fold, reason)


def _start(words: Sequence[str], device: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        list(words),
        env=os.environ | {VISIBLE: device, "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        # A Ctrl-C would reach it twice: from the terminal, and passed on.
        start_new_session=True,
    )
