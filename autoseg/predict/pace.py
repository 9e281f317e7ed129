"""A word about a slow prediction, once: what would make it faster."""

from __future__ import annotations

import logging
import time
from functools import cache

import torch

from autoseg.core.progress import Progress
from autoseg.core.words import duration
from autoseg.networks.compiled import is_installed
from autoseg.networks.inference import TYPICAL_GAIN

logger = logging.getLogger(__name__)

_SLOW_S = 60.0


def told_if_slow(progress: Progress, device: torch.device) -> Progress:
    """Have a user told what OpenVINO would bring, if an image takes more than a minute.

    Args:
        progress: told about every pass.
        device: where the networks compute.

    Returns:
        What is to be told instead; it passes everything on.
    """
    if device.type != "cpu" or is_installed():
        return progress
    return _Pace(progress)


class _Pace:
    """Passes on what is told, and looks at the clock for the first two times."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._first: tuple[float, int] | None = None
        self._is_known = False

    def __call__(
        self, done: int, total: int, note: str = "", *, share: float | None = None
    ) -> None:
        self._look(done, total)
        if share is None:
            self._progress(done, total, note)
        else:
            self._progress(done, total, note, share=share)

    def _look(self, done: int, total: int) -> None:
        if self._is_known:
            return
        if self._first is None:
            self._first = time.perf_counter(), done
            return
        started, before = self._first
        self._is_known = True
        seconds = (time.perf_counter() - started) * total / max(done - before, 1)
        if seconds > _SLOW_S:
            _tell(duration(seconds))


@cache
def _tell(length: str) -> None:
    logger.info(
        "torch computes on the CPU, about %s for this image: OpenVINO is typically %s "
        "(pip install 'autoseg[openvino]')",
        length,
        TYPICAL_GAIN,
    )
