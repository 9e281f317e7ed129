"""Compiling the network where it pays: measured, not believed."""

from __future__ import annotations

import logging
from typing import cast

import torch
from torch import Tensor

from autoseg.train.loop import Forward, Session, measure_step_s

logger = logging.getLogger(__name__)

# Compiling takes a minute or more, and again after every interruption.
_WORTHWHILE_SPEEDUP = 1.1
_TRIES = 6


def may_compile(device: torch.device) -> bool:
    """Whether compiling may pay on a device: on CUDA only.

    On a CPU and on MPS it needs tools that are often missing, and was not found to pay.
    """
    return device.type == "cuda"


def compile_if_it_pays(session: Session, shape: tuple[int, ...]) -> str:
    """Compile the network if its steps get clearly faster.

    Args:
        session: its ``compiled`` is set or left None.
        shape: of the images of a batch, ``(batch, channels, *patch)``.

    Returns:
        What was measured, in a sentence without a full stop; empty where nothing was.
    """
    if not may_compile(session.device):
        return ""
    plain_s = measure_step_s(session, shape, _TRIES)
    if not compile_network(session, shape):
        return ""
    compiled_s = measure_step_s(session, shape, _TRIES)
    times = f"{1000 * compiled_s:.0f} ms a step, {1000 * plain_s:.0f} ms without"
    if compiled_s * _WORTHWHILE_SPEEDUP < plain_s:
        return f"the network is compiled: {times}"
    session.compiled = None
    return f"the network is not compiled: {times} are not worth it"


def compile_network(session: Session, shape: tuple[int, ...]) -> bool:
    """Compile the network, and try it.

    Args:
        session: its ``compiled`` is set, or left None if that fails.
        shape: of the images of a batch, ``(batch, channels, *patch)``.

    Returns:
        Whether the compiled network works; if not, the reason was said.

    Raises:
        torch.OutOfMemoryError: if the memory is too small for a step.
    """
    compiled = cast("Forward", torch.compile(session.network))
    session.compiled = compiled
    try:
        measure_step_s(session, shape, tries=1)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # compilers fail in many ways, and nothing depends on them
        session.compiled = None
        session.optimizer.zero_grad(set_to_none=True)
        _warn(error)
        return False
    session.compiled = _Compiled(compiled, session.network)
    return True


class _Compiled:
    """A compiled network that has worked; should it fail later, the plain one goes on.

    It may be compiled again in the middle of a training, by when its tools may be gone.
    """

    def __init__(self, compiled: Forward, plain: Forward) -> None:
        self._forward = compiled
        self._plain = plain

    def __call__(self, images: Tensor) -> Tensor | list[Tensor]:
        if self._forward is not self._plain:
            try:
                return self._forward(images)
            except torch.OutOfMemoryError:
                raise
            except Exception as error:  # as above
                _warn(error)
                self._forward = self._plain
        return self._plain(images)


def _warn(error: Exception) -> None:
    words = str(error).strip().splitlines() or [""]
    reason = f"{type(error).__name__}: {words[0]}"
    logger.warning("torch.compile failed (%s): training goes on without it", reason)
