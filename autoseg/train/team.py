"""The processes that train one network together; usually there is one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import torch

from autoseg.networks.precision import choose_device
from autoseg.train.inputs import TrainingInputs, TrainRequest
from autoseg.train.loop import Session

T = TypeVar("T")


class Team:
    """A process that trains alone. ``distributed`` has the team of several.

    Every member calls the same methods in the same order, as each may wait for the others. The
    lead, rank 0, is the only one that writes files and talks.

    Attributes:
        rank: number of this process, from 0.
        size: number of processes.
        local_size: number of those on this host, which share its cores.
    """

    rank: int = 0
    size: int = 1
    local_size: int = 1

    @property
    def is_lead(self) -> bool:
        """Whether this process is the one that writes and talks."""
        return self.rank == 0

    def leading(self, context: AbstractContextManager[T]) -> AbstractContextManager[T | None]:
        """A context that the lead alone enters."""
        return context if self.is_lead else nullcontext()

    def deal(self, inputs: TrainingInputs, request: TrainRequest) -> TrainingInputs:
        """Give this process its part of every batch.

        Args:
            inputs: what the run needs.
            request: what the user asked for.

        Raises:
            AutosegError: if there are more processes than samples in a batch, or they were
                started for different trainings.
        """
        del request
        return inputs

    def showing(self, request: TrainRequest) -> TrainRequest:
        """The request with what this process is to show."""
        return request

    def stopping(self, signalled: threading.Event) -> threading.Event:
        """What is set once all are to stop.

        Args:
            signalled: is set when this process is asked to.
        """
        return signalled

    def device(self, name: str) -> torch.device:
        """Find the device this process is to compute on.

        Args:
            name: as ``choose_device`` takes it.

        Raises:
            AutosegError: if there is none for it.
        """
        return choose_device(name)

    def decide(self, make: Callable[[], T]) -> T:
        """What the lead makes of something; the others wait for it, however long it takes."""
        return make()

    def agree(self, stop: bool, elapsed_s: float) -> tuple[bool, float]:
        """Whether anybody wants to stop, and what the lead's clock says."""
        return stop, elapsed_s

    def gather(self, value: T) -> list[T]:
        """The value of each member."""
        return [value]

    def join(self, session: Session, shape: tuple[int, ...]) -> None:
        """Have all members take the same steps from here on.

        Args:
            session: changed in place: how it computes forward and what its loss is.
            shape: of the images of a batch, ``(batch, channels, *patch)``.
        """


ALONE = Team()
