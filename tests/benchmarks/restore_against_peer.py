"""A network's outputs back on the image's grid as a label map: autoseg against nnU-Net v2, in turn.

usage: python tests/benchmarks/restore_against_peer.py --peer PEER [--rounds 3] [--parts 16]

PEER is the interpreter of a virtual environment with nnunetv2. Float16 logits of 24 classes on
200x256x256 become a label map of 300x512x512. Every call has a process of its own, with one thread,
and is preceded by one on a tiny array. autoseg takes the logits in parts, as its window gives
them; here they exist as a whole, for nnU-Net's sake. CPU time is user and system. Memory is the
largest resident size during the call above that before it. Structures are 23 balls of different
sizes with soft borders, and noise.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Size = tuple[int, int, int]

CLASSES = 24
SHAPE, NEW_SHAPE = (200, 256, 256), (300, 512, 512)
TINY = ((12, 16, 16), (18, 32, 32))
SPACING, NEW_SPACING = (1.5, 1.6, 1.6), (1.0, 0.8, 0.8)


def main() -> None:
    """Run both sides in turn and print medians and ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--peer", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--parts", type=int, default=16, help="rows that autoseg takes at once")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        _run_one(*options.child, parts=options.parts)
        return
    rounds: dict[str, list[dict[str, float]]] = {"autoseg": [], "nnunet": []}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(options.rounds):
            for side, figures in rounds.items():
                python = options.peer if side == "nnunet" else Path(sys.executable)
                figures.append(_measure(python, side, Path(folder), options.parts))
        ours, theirs = (np.load(Path(folder) / f"{side}.npy") for side in rounds)
    one, other = (
        {name: median(figure[name] for figure in figures) for name in figures[0]}
        for figures in rounds.values()
    )
    print(
        f"autoseg {one['cpu_s']:.2f} s, nnU-Net {other['cpu_s']:.1f} s of CPU time, ratio "
        f"{other['cpu_s'] / one['cpu_s']:.1f}; memory above the input: autoseg "
        f"{one['above_bytes'] / 1e6:.0f} MB, nnU-Net {other['above_bytes'] / 1e6:.0f} MB, ratio "
        f"{other['above_bytes'] / one['above_bytes']:.1f}"
    )
    print(f"{(ours != theirs).sum()} of {ours.size} voxels differ; {(ours > 0).mean():.0%} filled")


def _measure(python: Path, side: str, folder: Path, parts: int) -> dict[str, float]:
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    words = [str(python), __file__, "--child", side, str(folder / f"{side}.npy")]
    answer = subprocess.run(
        [*words, "--parts", str(parts)],
        env=os.environ | threads,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return json.loads(answer.stdout.splitlines()[-1])


def _run_one(side: str, path: str, parts: int) -> None:
    restore = _ours if side == "autoseg" else _theirs
    restore(_logits(TINY[0]), TINY[1], parts)()
    call = restore(_logits(SHAPE), NEW_SHAPE, parts)
    # What the allocator keeps for later would hide what the call needs.
    ctypes.CDLL(None).malloc_trim(0)
    # Writing 5 sets the largest resident size back to the present one.
    Path("/proc/self/clear_refs").write_text("5")
    before, start = _status("VmRSS"), _cpu_s()
    result = call()
    figures = {"cpu_s": _cpu_s() - start, "above_bytes": _status("VmHWM") - before}
    np.save(path, result.astype(np.uint8))
    print(json.dumps(figures))


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _status(name: str) -> int:
    """A size of this process, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(name)).split()[1])


def _logits(shape: Size) -> Array:
    """Scores of balls: high inside, low outside, with noise."""
    rng = np.random.default_rng(0)
    z, y, x = (np.linspace(0, 1, size, dtype=np.float32) for size in shape)
    logits = np.empty((CLASSES, *shape), dtype=np.float16)
    logits[0] = 2.0
    for scores in logits[1:]:
        (cz, cy, cx), radius = rng.uniform(0.1, 0.9, 3), rng.uniform(0.05, 0.2)
        distance = np.sqrt((z[:, None, None] - cz) ** 2 + (y[:, None] - cy) ** 2 + (x - cx) ** 2)
        noise = rng.standard_normal(shape, dtype=np.float32)
        scores[...] = np.clip((radius - distance) * 100 + 2, -8, 10) + 0.3 * noise
    return logits


def _ours(logits: Array, new_shape: Size, parts: int) -> Callable[[], Array]:
    from autoseg.core.labels import LabelSpace, Structure
    from autoseg.imaging.boxes import Box
    from autoseg.imaging.prepare import Trace
    from autoseg.imaging.restore import restore_labels

    trace = Trace(
        shape=new_shape,
        spacing=NEW_SPACING,
        transpose=(0, 1, 2),
        box=Box(lower=(0, 0, 0), upper=new_shape),
        cropped_shape=new_shape,
        prepared_shape=(logits.shape[1], logits.shape[2], logits.shape[3]),
        target_spacing=SPACING,
    )
    names = [f"structure {index}" for index in range(1, CLASSES)]
    labels = LabelSpace(
        structures=tuple(Structure(name=n, values=(i,)) for i, n in enumerate(names, start=1))
    )
    slabs = [logits[:, start : start + parts] for start in range(0, logits.shape[1], parts)]
    return lambda: restore_labels(slabs, trace, labels)


def _theirs(logits: Array, new_shape: Size, parts: int) -> Callable[[], Array]:
    """What its export does with logits: resampled, then the largest of each voxel."""
    del parts
    import torch
    from nnunetv2.preprocessing.resampling.default_resampling import (  # pyright: ignore
        resample_data_or_seg_to_shape,
    )

    torch.set_num_threads(1)

    def restore() -> Array:
        resampled = resample_data_or_seg_to_shape(
            logits, new_shape, SPACING, NEW_SPACING, is_seg=False, order=1, order_z=0
        )
        return torch.as_tensor(resampled).argmax(0).numpy()

    return restore


if __name__ == "__main__":
    main()
