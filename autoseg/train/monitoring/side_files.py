"""Files beside the weights: when one cannot be written, the training goes on without it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

logger = logging.getLogger(__name__)


class SideFiles:
    """Writes what a training can do without, and says once what is missing."""

    def __init__(self) -> None:
        self._missing: set[str] = set()

    @contextmanager
    def writing(self, what: str) -> Iterator[None]:
        """Let the block fail, whatever the reason; the first time for a file it is said.

        Args:
            what: the file's name.
        """
        try:
            yield
        except Exception as error:  # a training of days is worth more than any picture of it
            if what not in self._missing:
                self._missing.add(what)
                logger.warning("training goes on without %s: %s", what, error)


class RunLog(logging.FileHandler):
    """A run's log; what cannot be written to it is left out, which is said once.

    Args:
        path: the file; its folder is there.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="utf-8", delay=True)
        self._failed = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, if that is possible."""
        try:
            super().emit(record)
        except OSError:  # the file cannot be opened
            self.handleError(record)

    def close(self) -> None:
        """Close the file, whether or not the rest of it can be written."""
        with suppress(OSError):
            super().close()

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802 - logging's
        """Called by ``logging`` when writing failed."""
        if not self._failed:
            self._failed = True
            logger.warning("training goes on without all of its log (%s)", self.baseFilename)
