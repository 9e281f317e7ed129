"""A training step of the Hippocampus network: autoseg against nnU-Net v2, both in turn.

usage: python tests/benchmarks/step_against_peer.py PEER_PYTHON [--threads 2] [--rounds 3]

PEER_PYTHON is the interpreter of a virtual environment with nnunetv2. Network, loss with deep
supervision, clipped gradients and SGD are each side's own, on the same random batch of 7 patches
of 40x56x40. nnU-Net computes in float32, as it does on CPUs; autoseg in what its probe finds,
and in float32. Wall times count on a quiet machine only, CPU times with one thread on any.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

PATCH = (40, 56, 40)
BATCH = 7
CLASSES = 3
FEATURES = (32, 64, 128, 256)
STAGES = len(FEATURES)
CLIP = 12.0
SIDES = ("peer", "probed", "float32")
WARM_UP = 2


def main() -> None:
    """Run the sides in turn and print medians, and ratios to the peer."""
    parser = argparse.ArgumentParser()
    parser.add_argument("peer", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--side", choices=SIDES, help="what the script calls itself with")
    options = parser.parse_args()
    if options.side is not None:
        torch.set_num_threads(options.threads)
        _time(_peer() if options.side == "peer" else _ours(options.side), options.steps)
        return
    rounds: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    for _ in range(options.rounds):
        for side, figures in rounds.items():
            python = options.peer if side == "peer" else Path(sys.executable)
            figures.append(_run(python, side, options))
    _report(rounds, options.threads)


def _run(python: Path, side: str, options: argparse.Namespace) -> dict[str, float]:
    words = [str(python), "-W", "ignore", __file__, str(options.peer), "--side", side]
    done = subprocess.run(
        [*words, "--threads", str(options.threads), "--steps", str(options.steps)],
        env=os.environ | {"OMP_NUM_THREADS": str(options.threads), "nnUNet_compile": "false"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])


def _report(rounds: dict[str, list[dict[str, float]]], threads: int) -> None:
    middle = {
        side: {name: median(one[name] for one in figures) for name in figures[0]}
        for side, figures in rounds.items()
    }
    print(f"{threads} threads, batch {BATCH} of {'x'.join(map(str, PATCH))}")
    for side, figures in middle.items():
        wall, cpu = (middle["peer"][name] / figures[name] for name in ("wall_s", "cpu_s"))
        print(
            f"{side:8s}: {figures['wall_s']:.2f} s a step, {figures['cpu_s']:.2f} s of CPU, "
            f"peak {figures['peak_gb']:.2f} GB; times the peer's steps/s: {wall:.2f}, "
            f"by CPU time {cpu:.2f}",
            flush=True,
        )


def _time(step: Callable[[], Any], steps: int) -> None:
    """Print seconds of a step, and the largest memory of this process."""
    for _ in range(WARM_UP):
        step()
    wall_s, cpu_s = [], []
    for _ in range(steps):
        wall, cpu = time.perf_counter(), time.process_time()
        step()
        wall_s.append(time.perf_counter() - wall)
        cpu_s.append(time.process_time() - cpu)
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    print(json.dumps({"wall_s": median(wall_s), "cpu_s": median(cpu_s), "peak_gb": peak_gb}))


def _batch() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    images = rng.standard_normal((BATCH, 1, *PATCH), dtype=np.float32)
    return images, rng.integers(0, CLASSES, (BATCH, *PATCH)).astype(np.int16)


def _ours(dtype: str) -> Callable[[], Any]:
    from autoseg.core.plan import NetworkSpec, TrainingSpec
    from autoseg.networks.build import build_network
    from autoseg.networks.host_memory import keep_freed_memory
    from autoseg.networks.precision import choose, place
    from autoseg.train.batches import Batch
    from autoseg.train.loop import Session, train_step
    from autoseg.train.objective.losses import LOSSES, LossOptions
    from autoseg.train.objective.optimizers import OPTIMIZERS

    keep_freed_memory()
    device = torch.device("cpu")
    precision, reason = choose(device, "auto" if dtype == "probed" else dtype)
    print(reason)
    network = build_network(
        NetworkSpec(
            architecture="unet",
            features_per_stage=FEATURES,
            strides=((1, 1, 1), *((2, 2, 2),) * (STAGES - 1)),
            kernel_sizes=((3, 3, 3),) * STAGES,
            blocks_per_stage=(2,) * STAGES,
            decoder_blocks_per_stage=(2,) * (STAGES - 1),
        ),
        *(1, CLASSES),
        deep_supervision=True,
    )
    place(network, precision, device, len(PATCH))
    spec = TrainingSpec()
    session = Session(
        network=network,
        optimizer=OPTIMIZERS.get("sgd")(network.parameters(), spec),
        loss=LOSSES.get("dice_ce")(LossOptions(batch_dice=False)),
        spec=spec,
        device=device,
        precision=precision,
        scaler=torch.amp.GradScaler(enabled=False),
    )
    images, labels = _batch()
    batch = Batch(images=images, labels=labels, cases=("made up",) * BATCH)
    return lambda: train_step(session, batch)


def _peer() -> Callable[[], Any]:
    network, loss = _peer_network().train(), _peer_loss()
    optimizer = torch.optim.SGD(
        network.parameters(), lr=1e-2, momentum=0.99, nesterov=True, weight_decay=3e-5
    )
    images, labels = map(torch.from_numpy, _batch())
    full = labels[:, None].float()
    targets = [full[(..., *(slice(None, None, 2**level),) * 3)] for level in range(STAGES - 1)]

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        value = loss(network(images), targets)
        value.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), CLIP)
        optimizer.step()
        return value.item()

    return step


def _peer_network() -> torch.nn.Module:
    from dynamic_network_architectures.architectures.unet import PlainConvUNet
    from dynamic_network_architectures.initialization.weight_init import InitWeights_He

    network = PlainConvUNet(
        input_channels=1,
        n_stages=STAGES,
        features_per_stage=FEATURES,
        conv_op=torch.nn.Conv3d,
        kernel_sizes=[[3, 3, 3]] * STAGES,
        strides=[[1, 1, 1], *[[2, 2, 2]] * (STAGES - 1)],
        n_conv_per_stage=[2] * STAGES,
        num_classes=CLASSES,
        n_conv_per_stage_decoder=[2] * (STAGES - 1),
        conv_bias=True,
        norm_op=torch.nn.InstanceNorm3d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=torch.nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
        deep_supervision=True,
    )
    return network.apply(InitWeights_He(1e-2))


def _peer_loss() -> Callable[[Any, Any], torch.Tensor]:
    from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
    from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
    from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss

    options = {"batch_dice": False, "smooth": 1e-5, "do_bg": False, "ddp": False}
    loss = DC_and_CE_loss(options, {}, dice_class=MemoryEfficientSoftDiceLoss)
    raw = [0.5**level for level in range(STAGES - 2)]
    return DeepSupervisionWrapper(loss, [*(weight / sum(raw) for weight in raw), 0.0])


if __name__ == "__main__":
    main()
