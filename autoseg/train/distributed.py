"""The processes that torchrun starts, as one training."""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from importlib.metadata import version
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from autoseg.errors import AutosegError, InterruptedRunError
from autoseg.networks.precision import autocast, choose_device
from autoseg.train.inputs import TrainingInputs, TrainRequest
from autoseg.train.launch import Launch
from autoseg.train.lifeline import EXIT_CODE, Address, Lifeline
from autoseg.train.loop import Forward, Session
from autoseg.train.objective.losses import deep_supervision_loss
from autoseg.train.objective.sharing import Shares, shared_loss
from autoseg.train.team import Team

T = TypeVar("T")

logger = logging.getLogger(__name__)

# What the lead does alone, such as predicting the held-out cases, may take days; who has died in
# the meantime is known from the lifeline.
_PATIENCE = timedelta(days=30)
_INTERRUPTED = 130
_MEETING = timedelta(minutes=5)
_STEP_LIMIT = timedelta(minutes=30)
_WAIT_FOR_SIGNAL_S = 1.0
_WAIT_FOR_REASON_S = 3.0
_WAIT_FOR_ANSWER_S = 15.0

# Libraries that still wait for a dead process can hold up the end of this one.
_LEAVE_S = 10.0


@contextmanager
def together(launch: Launch) -> Iterator[Team]:
    """Be one of several processes while the block runs.

    If one of them fails or dies, all end, and the lead alone says why.

    Args:
        launch: the place of this process.

    Yields:
        The processes.

    Raises:
        AutosegError: in the lead, if another process failed or died.
        SystemExit: in the others, for every end that the lead tells of.
    """
    if not dist.is_available():
        raise AutosegError("this torch cannot train in several processes")
    _meet(launch)
    lifeline = Lifeline(launch)
    lifeline.connect(_hand_out)
    try:
        team = _Processes(launch)
        with _ended_by_signals(lifeline):
            yield team
    except BaseException as error:
        ending = _ending(launch, lifeline, error)
        _leave_soon()
        if ending is error:
            raise
        raise ending from None
    lifeline.close()
    dist.destroy_process_group()


class _Processes(Team):
    """The team of those that torchrun has started."""

    def __init__(self, launch: Launch) -> None:
        self.rank, self.size = launch.rank, launch.size
        self.local_size = launch.local_size
        self._launch = launch
        self._talk = _new_group("gloo", _PATIENCE)
        self._group: dist.ProcessGroup | None = None

    def deal(self, inputs: TrainingInputs, request: TrainRequest) -> TrainingInputs:
        batch_size, name = inputs.configuration.batch_size, request.configuration
        if self.size > batch_size:
            raise AutosegError(
                f"{self.size} processes cannot share batches of {batch_size} samples",
                place=name,
                remedy=f"start {batch_size} processes at most, or plan larger batches under "
                f"another name (autoseg plan {inputs.dataset.name} --batch-size {self.size} "
                "--plan NAME)",
            )
        self._require_same(_facts(inputs, request))
        return replace(inputs, share=(self.rank, self.size))

    def showing(self, request: TrainRequest) -> TrainRequest:
        return request if self.is_lead else replace(request, tensorboard=False, preview_every=0)

    def stopping(self, signalled: threading.Event) -> threading.Event:
        del signalled  # which the others do not know of
        return threading.Event()

    def device(self, name: str) -> torch.device:
        device = _device_of(self._launch, name)
        self._require_same({"kind of device": device.type})
        if device.type == "cuda":
            torch.cuda.set_device(device)
        if self._group is None:
            backend = "nccl" if device.type == "cuda" else "gloo"
            self._group = _new_group(backend, _STEP_LIMIT)
        return device

    def decide(self, make: Callable[[], T]) -> T:
        return _broadcast(make() if self.is_lead else None, self._talk)

    def agree(self, stop: bool, elapsed_s: float) -> tuple[bool, float]:
        said = torch.tensor([stop, elapsed_s if self.is_lead else 0.0], dtype=torch.float64)
        dist.all_reduce(said, group=self._talk)
        return bool(said[0] > 0), float(said[1])

    def gather(self, value: T) -> list[T]:
        values: list[T | None] = [None] * self.size
        dist.all_gather_object(values, value, group=self._talk)
        return values  # type: ignore[return-value] - all are filled in

    def join(self, session: Session, shape: tuple[int, ...]) -> None:
        _freeze_unreached(session, shape)
        session.replica = DistributedDataParallel(
            _Replica(session.network, session.forward),
            process_group=self._group,
            gradient_as_bucket_view=True,
        )
        counts = tuple(self.gather(shape[0]))
        shares = Shares(rank=self.rank, counts=counts, group=self._group)
        session.loss = shared_loss(session.loss, shares)
        session.total = self._total
        dealt = " + ".join(map(str, counts))
        logger.info("%d processes share each batch: %s samples", self.size, dealt)

    def _require_same(self, facts: Mapping[str, str]) -> None:
        """Refuse processes that were started for different trainings."""
        for rank, (host, theirs) in enumerate(self.gather((socket.gethostname(), dict(facts)))):
            other = [what for what, value in facts.items() if theirs[what] != value]
            if other and self.is_lead:
                raise AutosegError(
                    f"rank {rank} on {host} was started with another {', '.join(other)} than rank "
                    "0",
                    remedy="give every host the same command, workspace and version of autoseg",
                )

    def _total(self, counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        total = torch.tensor(counts)
        dist.all_reduce(total, group=self._talk)
        return total.numpy()


def _meet(launch: Launch) -> None:
    """Find the other processes."""
    try:
        dist.init_process_group("gloo", timeout=_MEETING)
    except RuntimeError as error:
        reason = (str(error).splitlines() or [""])[0]
        raise AutosegError(
            f"rank {launch.rank} does not find the other processes of torchrun ({reason})",
            remedy="see that the hosts reach each other, and that each runs its torchrun",
        ) from None


def _new_group(backend: str, timeout: timedelta) -> dist.ProcessGroup:
    """A way for all processes to talk, besides others."""
    group = dist.new_group(backend=backend, timeout=timeout)
    assert isinstance(group, dist.ProcessGroup)  # as each process is in it
    return group


def _hand_out(address: Address | None) -> Address:
    return _broadcast(address)


def _broadcast(value: T | None, group: dist.ProcessGroup | None = None) -> T:
    """What the lead has, in every process."""
    box: list[T | None] = [value]
    dist.broadcast_object_list(box, src=0, group=group)
    return box[0]  # type: ignore[return-value] - the lead's


def _facts(inputs: TrainingInputs, request: TrainRequest) -> dict[str, str]:
    """What has to be the same in all processes, by what users call it."""
    asked = (request.configuration, request.fold, request.plan, request.run)
    return {
        "version of autoseg": version("autoseg"),
        "command": repr((asked, request.restart, request.extend, request.precision)),
        "recipe": inputs.spec.model_dump_json(),
        "plan": inputs.configuration.model_dump_json() + inputs.recipe.model_dump_json(),
        "fold": inputs.split.model_dump_json(),
    }


class _Replica(nn.Module):
    """A network with the forward pass that a step takes, compiled or not."""

    def __init__(self, network: nn.Module, forward: Forward) -> None:
        super().__init__()
        self.network = network
        self._compute = (forward,)  # hidden, so that it is not taken for a part of its own

    def forward(self, images: Tensor) -> Tensor | list[Tensor]:
        return self._compute[0](images)


def _freeze_unreached(session: Session, shape: tuple[int, ...]) -> None:
    """Leave out what no gradient reaches, such as the head of an output that counts nothing.

    The processes would wait for its gradient. An optimiser passes it over either way.
    """
    images = torch.zeros((1, *shape[1:]), device=session.device)
    labels = torch.zeros((1, *shape[2:]), dtype=torch.int16, device=session.device)
    session.network.eval()
    with autocast(session.precision, session.device):
        outputs = session.network(images)
    outputs = outputs if isinstance(outputs, list) else [outputs]
    deep_supervision_loss(session.loss, outputs, labels).backward()
    for parameter in session.network.parameters():
        parameter.requires_grad_(parameter.grad is not None)
    session.optimizer.zero_grad(set_to_none=True)


def _device_of(launch: Launch, name: str) -> torch.device:
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if name not in ("auto", "cuda"):
        raise AutosegError(
            f"--device {name} is one device for {launch.size} processes",
            remedy="leave it out for a GPU each, or choose --device cpu",
        )
    choose_device("cuda")
    if launch.local_size > torch.cuda.device_count():
        raise AutosegError(
            f"{launch.local_size} processes on {socket.gethostname()} cannot have a GPU each, "
            f"there are {torch.cuda.device_count()}",
            remedy=f"start torchrun with --nproc-per-node {torch.cuda.device_count()}",
        )
    return torch.device("cuda", launch.local_rank)


@contextmanager
def _ended_by_signals(lifeline: Lifeline) -> Iterator[None]:
    """Let SIGTERM end the block like Ctrl-C.

    torchrun sends it when a process has died, too: the reason of that comes first.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(*_: object) -> None:
        reason = lifeline.why(_WAIT_FOR_SIGNAL_S)
        raise KeyboardInterrupt if reason is None else AutosegError(reason)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    except BaseException:
        # There are seconds left to say what happened, and torchrun's signal says nothing new.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise
    signal.signal(signal.SIGTERM, before)


def _leave_soon() -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    faulthandler.dump_traceback_later(_LEAVE_S, exit=True, file=nowhere)


def _ending(launch: Launch, lifeline: Lifeline, error: BaseException) -> BaseException:
    """What a process ends with; the lead alone gives the reason, with which all end."""
    is_mistake = isinstance(error, Exception) and not _is_explained(error)
    # What breaks off because another process has ended looks like a mistake here.
    reason = lifeline.why(_WAIT_FOR_REASON_S if is_mistake else 0.0)
    if launch.rank == 0:
        return _ending_of_lead(lifeline, error, reason if is_mistake else None)
    if reason is not None:
        lifeline.tell(reason)
        return AutosegError(reason) if lifeline.speaks else SystemExit(EXIT_CODE)
    lifeline.tell(f"{lifeline.name}: {_in_words(error)}")
    lifeline.wait_for_answer(_WAIT_FOR_ANSWER_S)
    return error if is_mistake else SystemExit(_exit_code(error))


def _ending_of_lead(lifeline: Lifeline, error: BaseException, reason: str | None) -> BaseException:
    lifeline.tell(reason or f"{lifeline.name}: {_in_words(error)}")
    return error if reason is None else AutosegError(reason)


def _is_explained(error: BaseException) -> bool:
    """Whether the command line has one line for an error, and no traceback."""
    return isinstance(error, AutosegError | OSError) or hasattr(error, "format_message")


def _in_words(error: BaseException) -> str:
    return str(error) if isinstance(error, AutosegError) else f"{type(error).__name__}: {error}"


def _exit_code(error: BaseException) -> int:
    if isinstance(error, InterruptedRunError | KeyboardInterrupt):
        return _INTERRUPTED
    return EXIT_CODE
