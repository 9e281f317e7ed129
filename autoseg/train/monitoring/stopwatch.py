"""Times the parts of training steps."""

from __future__ import annotations

import time
from collections import defaultdict
from itertools import pairwise

import torch

from autoseg.train.loop import wait_for


class Stopwatch:
    """Adds up how long the parts of steps take: ``start``, then a call after every part.

    On CUDA it is the time that passes on the GPU, which notes it by itself and is not held up; on
    other devices each part is waited for.

    Args:
        device: where the network is computed.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._last_s = 0.0
        self._events: list[tuple[str, torch.cuda.Event]] = []

    def start(self) -> None:
        """A step begins."""
        if self._device.type == "cuda":
            self._note("")
        self._last_s = time.perf_counter()

    def __call__(self, part: str) -> None:
        """A part of the step has been asked for."""
        if self._device.type == "cuda":
            self._note(part)
            return
        wait_for(self._device)
        now_s = time.perf_counter()
        self._seconds[part] += now_s - self._last_s
        self._last_s = now_s

    def seconds(self) -> dict[str, float]:
        """Seconds of each part, added up over all steps, in the order they were met."""
        wait_for(self._device)
        for (_, begun), (part, ended) in pairwise(self._events):
            if part:  # between two steps time is nobody's
                self._seconds[part] += begun.elapsed_time(ended) / 1000
        del self._events[:-1]
        return dict(self._seconds)

    def _note(self, part: str) -> None:
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        self._events.append((part, event))
