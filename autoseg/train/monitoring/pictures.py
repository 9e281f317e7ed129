"""Pictures drawn beside the training, by a process that is started when it is first needed.

A thread would not do: it keeps the interpreter to itself while it draws, and the steps of a GPU,
which wait for the interpreter again and again, then stand still for a second.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from autoseg.train.batch_pool import end_with_parent, interrupts_held_off, one_thread_each
from autoseg.train.monitoring.side_files import SideFiles


class Pictures:
    """Draws what is asked for, in order, while the training goes on.

    Args:
        side_files: told about what could not be drawn, which ends no training.
    """

    def __init__(self, side_files: SideFiles) -> None:
        self._side_files = side_files
        self._executor: ProcessPoolExecutor | None = None
        self._asked: list[tuple[str, Future[object]]] = []

    def ask(self, what: str, draw: Callable[..., object], *arguments: object) -> None:
        """Have something drawn soon, without waiting for it.

        Args:
            what: what to call it where it fails.
            draw: an importable function that writes a picture whole or not at all.
            arguments: of that function.
        """
        self._collect(wait=False)
        with self._side_files.writing(what), interrupts_held_off(), one_thread_each():
            if self._executor is None:
                self._executor = ProcessPoolExecutor(
                    1,
                    mp_context=multiprocessing.get_context("spawn"),
                    initializer=end_with_parent,
                )
            self._asked.append((what, self._executor.submit(draw, *arguments)))

    def finish(self) -> None:
        """Wait until all that was asked for is drawn, and end the process."""
        self._collect(wait=True)
        if self._executor is not None:
            self._executor.shutdown()
            self._executor = None

    def _collect(self, *, wait: bool) -> None:
        """Look how what was asked for has come out."""
        done = [pair for pair in self._asked if wait or pair[1].done()]
        self._asked = [pair for pair in self._asked if pair not in done]
        for what, future in done:
            with self._side_files.writing(what):
                self._raise_error(future)

    def _raise_error(self, future: Future[object]) -> None:
        try:
            future.result()
        except BrokenProcessPool:
            # One that has died draws nothing more: the next picture gets another.
            if self._executor is not None:
                self._executor.shutdown()
                self._executor = None
            raise
