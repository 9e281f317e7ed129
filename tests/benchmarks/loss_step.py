"""Time and memory of Dice plus cross-entropy, forward and backward, beside nnU-Net's.

usage: python tests/benchmarks/loss_step.py PEER_PYTHON

PEER_PYTHON is the Python of an environment with nnunetv2. The sides run in turn, on one core;
the memory is what is allocated at the peak beyond the logits and labels.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

SHAPES = ((7, 3, 40, 56, 40), (2, 3, 128, 128, 128))
ROUNDS = 3
STEPS = 9


def our_loss() -> Callable[[Tensor, Tensor], Tensor]:
    """Ours, as the registry has it."""
    from autoseg.train.objective.losses import LOSSES, LossOptions

    return LOSSES.get("dice_ce")(LossOptions(batch_dice=True))


def peer_loss() -> Callable[[Tensor, Tensor], Tensor]:
    """The one its trainer uses."""
    from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
    from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss

    options = {"batch_dice": True, "smooth": 1e-5, "do_bg": False, "ddp": False}
    loss = DC_and_CE_loss(options, {}, dice_class=MemoryEfficientSoftDiceLoss)
    return lambda logits, labels: loss(logits, labels[:, None])


def measure(loss: Callable[[Tensor, Tensor], Tensor], shape: tuple[int, ...]) -> str:
    """CPU time and peak of a step on random numbers."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(shape, generator=generator).requires_grad_()
    labels = torch.randint(0, shape[1], (shape[0], *shape[2:]), generator=generator).short()
    times_s = []
    for _ in range(STEPS):
        logits.grad = None
        start = time.process_time()
        value = loss(logits, labels)
        value.backward()
        times_s.append(time.process_time() - start)
    logits.grad = None
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as run:
        loss(logits, labels).backward()
    peak = peak_bytes(run) / (logits.numel() * 4)
    return (
        f"{shape}: {min(times_s) * 1e3:.1f} ms, peak {peak:.2f} times the logits, "
        f"loss {value.item():.6f}"
    )


def peak_bytes(run: profile) -> int:
    """Largest sum of what was allocated and not yet freed."""
    assert run.profiler is not None
    assert run.profiler.kineto_results is not None
    events = [e for e in run.profiler.kineto_results.events() if e.name() == "[memory]"]
    alive = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        alive += event.nbytes()
        peak = max(peak, alive)
    return peak


def main() -> None:
    """Measure one side, or let both be measured in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer_python")
    parser.add_argument("--side", choices=("ours", "peer"))
    arguments = parser.parse_args()
    if arguments.side is not None:
        torch.set_num_threads(1)
        loss = our_loss() if arguments.side == "ours" else peer_loss()
        for shape in SHAPES:
            print(f"{arguments.side:5s}", measure(loss, shape))
        return
    pythons = {"ours": sys.executable, "peer": arguments.peer_python}
    for _ in range(ROUNDS):
        for side, python in pythons.items():
            command = [python, "-W", "ignore", __file__, arguments.peer_python, "--side", side]
            environ = os.environ | {"OMP_NUM_THREADS": "1"}
            subprocess.run(command, check=True, env=environ, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
