"""Tiles per second of a prediction on a CPU, beside nnU-Net's.

Run with the project's python; the peer's is one with nnunetv2 and the same torch:

    python tests/benchmarks/tiles_against_peer.py PEER_PYTHON [--rounds 3] [--openvino FOLDER]

A six-level U-Net with drawn weights, one tile of 112 x 160 x 128, no mirrors, through either side's
own sliding window, which for one tile is the network, Gaussian weights, and the division. Sides:
``peer`` (float32, what it does on CPUs), ``torch`` as the probe chooses, ``openvino`` where it can
be imported (``--openvino`` names a folder to import it from), ``float32`` of torch. Each side in a
process of its own, in turn.
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

PATCH = (112, 160, 128)
FEATURES = (32, 64, 128, 256, 320, 320)
STAGES = len(FEATURES)
STRIDES = ((1, 1, 1), *((2, 2, 2),) * 4, (1, 2, 2))
CLASSES = 3
SIDES = ("peer", "torch", "openvino", "float32")


def main() -> None:
    """Run the sides in turn and print medians, and ratios to the peer."""
    parser = argparse.ArgumentParser()
    parser.add_argument("peer", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tiles", type=int, default=3, help="timed per round, after one more")
    parser.add_argument("--openvino", help="a folder to import it from, if it is not installed")
    parser.add_argument("--side", choices=SIDES, help="what the script calls itself with")
    options = parser.parse_args()
    if options.side is not None:
        torch.set_num_threads(options.threads)
        _time(_peer() if options.side == "peer" else _ours(options.side), options.tiles)
        return
    sides = [side for side in SIDES if side != "openvino" or _has_openvino(options)]
    rounds: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    for _ in range(options.rounds):
        for side, figures in rounds.items():
            figures.append(_run(side, options))
    _report(rounds, options.threads)


def _environment(options: argparse.Namespace, side: str) -> dict[str, str]:
    threads = {"OMP_NUM_THREADS": str(options.threads)}
    if side == "peer":
        return os.environ | threads | {"PYTHONPATH": "", "nnUNet_compile": "false"}
    path = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), options.openvino)))
    return os.environ | threads | {"PYTHONPATH": path}


def _has_openvino(options: argparse.Namespace) -> bool:
    code = "import importlib.util as u; raise SystemExit(u.find_spec('openvino') is None)"
    done = subprocess.run(
        [sys.executable, "-c", code], env=_environment(options, "openvino"), check=False
    )
    return done.returncode == 0


def _run(side: str, options: argparse.Namespace) -> dict[str, float]:
    python = str(options.peer) if side == "peer" else sys.executable
    words = [python, "-W", "ignore", __file__, str(options.peer), "--side", side]
    done = subprocess.run(
        [*words, "--threads", str(options.threads), "--tiles", str(options.tiles)],
        env=_environment(options, side),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(done.stderr[-2000:])
    *said, figures = done.stdout.splitlines()
    print(f"{side}: {'; '.join(said)}", flush=True)
    return json.loads(figures)


def _report(rounds: dict[str, list[dict[str, float]]], threads: int) -> None:
    middle = {
        side: {name: median(one[name] for one in figures) for name in figures[0]}
        for side, figures in rounds.items()
    }
    print(f"{threads} threads, a tile of {'x'.join(map(str, PATCH))}")
    for side, figures in middle.items():
        wall, cpu = (middle["peer"][name] / figures[name] for name in ("wall_s", "cpu_s"))
        print(
            f"{side:8s}: {figures['wall_s']:.2f} s a tile, {figures['cpu_s']:.2f} s of CPU, ready "
            f"after {figures['ready_s']:.1f} s, peak {figures['peak_gb']:.2f} GB; times the "
            f"peer's tiles/s: {wall:.2f}, by CPU time {cpu:.2f}",
            flush=True,
        )


def _time(make: Callable[[], Callable[[], Any]], tiles: int) -> None:
    """Print seconds of a tile, and the largest memory of this process."""
    start = time.perf_counter()
    window = make()
    window()
    ready_s = time.perf_counter() - start
    wall_s, cpu_s = [], []
    for _ in range(tiles):
        wall, cpu = time.perf_counter(), time.process_time()
        window()
        wall_s.append(time.perf_counter() - wall)
        cpu_s.append(time.process_time() - cpu)
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    figures = {"wall_s": median(wall_s), "cpu_s": median(cpu_s)}
    print(json.dumps(figures | {"peak_gb": peak_gb, "ready_s": ready_s}))


def _image() -> torch.Tensor:
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.standard_normal((1, *PATCH), dtype=np.float32))


def _ours(side: str) -> Callable[[], Callable[[], Any]]:
    from autoseg.core.plan import NetworkSpec
    from autoseg.networks.build import build_network
    from autoseg.networks.inference import Inference, choose_inference, make_ready
    from autoseg.networks.precision import choose
    from autoseg.networks.sliding_window import Window, predict_logits

    spec = NetworkSpec(
        architecture="unet",
        features_per_stage=FEATURES,
        strides=STRIDES,
        kernel_sizes=((3, 3, 3),) * STAGES,
        blocks_per_stage=(2,) * STAGES,
        decoder_blocks_per_stage=(2,) * (STAGES - 1),
    )
    device = torch.device("cpu")

    def make() -> Callable[[], Any]:
        if side == "openvino":
            inference = choose_inference(device)
        else:
            precision, reason = choose(device, "auto" if side == "torch" else side)
            inference = Inference(precision=precision, reason=reason)
        print(inference.reason)
        network = build_network(spec, 1, CLASSES, deep_supervision=False)
        network = make_ready(network, inference, spec, 1)
        print(type(network).__name__)
        window = Window(
            patch_size=PATCH,
            num_outputs=CLASSES,
            mirror_axes=(),
            precision=inference.precision,
            device=device,
        )
        image = _image()
        return lambda: predict_logits(network, image, window)

    return make


def _peer() -> Callable[[], Callable[[], Any]]:
    from dynamic_network_architectures.architectures.unet import PlainConvUNet
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    class Configured:
        patch_size = PATCH

    class Labelled:
        num_segmentation_heads = CLASSES

    def make() -> Callable[[], Any]:
        network = PlainConvUNet(
            input_channels=1,
            n_stages=STAGES,
            features_per_stage=FEATURES,
            conv_op=torch.nn.Conv3d,
            kernel_sizes=[[3, 3, 3]] * STAGES,
            strides=[list(stride) for stride in STRIDES],
            n_conv_per_stage=[2] * STAGES,
            num_classes=CLASSES,
            n_conv_per_stage_decoder=[2] * (STAGES - 1),
            conv_bias=True,
            norm_op=torch.nn.InstanceNorm3d,
            norm_op_kwargs={"eps": 1e-5, "affine": True},
            nonlin=torch.nn.LeakyReLU,
            nonlin_kwargs={"inplace": True},
            deep_supervision=False,
        ).eval()
        predictor = nnUNetPredictor(
            tile_step_size=0.5,
            use_gaussian=True,
            use_mirroring=False,
            perform_everything_on_device=False,
            device=torch.device("cpu"),
            allow_tqdm=False,
        )
        # Of plans and labels the window only asks these.
        predictor.network = network
        predictor.configuration_manager = Configured()
        predictor.label_manager = Labelled()
        predictor.allowed_mirroring_axes = None
        image = _image()
        return lambda: predictor.predict_sliding_window_return_logits(image)

    return make


if __name__ == "__main__":
    main()
