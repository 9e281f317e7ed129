"""Resample images, label maps and probabilities: autoseg against nnU-Net v2, both in turn.

usage: python tests/benchmarks/resample_against_peer.py --peer PEER [--rounds 3] [--cases A,B]

PEER is the interpreter of a virtual environment with nnunetv2. Every call has a process of
its own, with one thread, and is preceded by one on a tiny array; autoseg writes into an array that
is there already. CPU time is user and system. Memory is the largest resident size during the call
above that before it and, for the peer, above the result as well; a slab is 32 rows of the source
or the result, whichever is larger, in float32 (labels: in their own type).
The cases with a coarse axis take the peer a minute and ten gigabytes.
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
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
SLAB_ROWS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One array to resample.

    Args:
        kind: image, labels or probabilities.
        shape: before, ``(z, y, x)``.
        new_shape: after.
        spacing: before, mm.
        new_spacing: after, mm.
    """

    kind: str
    shape: tuple[int, int, int]
    new_shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    new_spacing: tuple[float, float, float]


FINE = ((150, 300, 300), (1.0, 1.0, 1.0))
FINER = ((188, 375, 375), (0.8, 0.8, 0.8))
THICK = ((104, 512, 512), (5.0, 0.94, 0.94))
CUBES = ((658, 609, 609), (0.79, 0.79, 0.79))


def _case(kind: str, before: tuple[Any, Any], after: tuple[Any, Any]) -> Case:
    return Case(
        kind=kind, shape=before[0], spacing=before[1], new_shape=after[0], new_spacing=after[1]
    )


CASES = {
    "image": _case("image", FINE, FINER),
    "labels": _case("labels", FINE, FINER),
    "probabilities": _case("probabilities", FINER, FINE),
    "thick-image": _case("image", THICK, CUBES),
    "thick-labels": _case("labels", THICK, CUBES),
}


def main() -> None:
    """Run both sides in turn and print medians and ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--peer", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        _run_one(*options.child)
        return
    for name in options.cases.split(","):
        with tempfile.TemporaryDirectory() as folder:
            _compare(name, options.peer, options.rounds, Path(folder))


def _compare(name: str, peer: Path, rounds: int, folder: Path) -> None:
    ours: list[dict[str, float]] = []
    theirs: list[dict[str, float]] = []
    for _ in range(rounds):
        ours.append(_measure(Path(sys.executable), "ours", name, folder))
        theirs.append(_measure(peer, "theirs", name, folder))
    one, other = _medians(ours), _medians(theirs)
    print(
        f"{name}: autoseg {one['cpu_s']:.3f} s, nnU-Net {other['cpu_s']:.2f} s of CPU time, "
        f"ratio {other['cpu_s'] / one['cpu_s']:.1f}; memory above input and output: "
        f"autoseg {one['above_bytes'] / 1e6:.0f} MB "
        f"= {one['above_bytes'] / one['slab_bytes']:.2f} slabs, "
        f"nnU-Net {other['above_bytes'] / 1e6:.0f} MB"
    )
    pair = [np.load(folder / f"{side}.npy", mmap_mode="r") for side in ("ours", "theirs")]
    print("   ", _difference(CASES[name], *pair), flush=True)


def _medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {name: median(figures[name] for figures in rounds) for name in rounds[0]}


def _measure(python: Path, side: str, name: str, folder: Path) -> dict[str, float]:
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    words = [str(python), __file__, "--child", side, name, str(folder / f"{side}.npy")]
    answer = subprocess.run(
        words, env=os.environ | threads, check=True, stdout=subprocess.PIPE, text=True
    )
    return json.loads(answer.stdout.splitlines()[-1])


def _run_one(side: str, name: str, path: str) -> None:
    case = CASES[name]
    resample = _ours if side == "ours" else _theirs
    tiny = _case(case.kind, ((6, 8, 8), case.spacing), ((9, 10, 10), case.new_spacing))
    resample(tiny, _phantom(tiny))()
    call = resample(case, _phantom(case))
    # What the allocator keeps for later would hide what the call needs.
    ctypes.CDLL(None).malloc_trim(0)
    # Writing 5 sets the largest resident size back to the present one.
    Path("/proc/self/clear_refs").write_text("5")
    before, start = _status("VmRSS"), _cpu_s()
    result = call()
    cpu_s = _cpu_s() - start
    above = _status("VmHWM") - before - (0 if side == "ours" else result.nbytes)
    np.save(path, result)
    numbers = 1 if case.kind == "labels" else 4
    slab = SLAB_ROWS * numbers * max(np.prod(shape[1:]) for shape in (case.shape, case.new_shape))
    print(json.dumps({"cpu_s": cpu_s, "above_bytes": above, "slab_bytes": int(slab)}))


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _status(name: str) -> int:
    """A size of this process, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(name)).split()[1])


def _phantom(case: Case) -> Array:
    """Nested balls; waves and noise; scores that follow the balls."""
    z, y, x = (np.linspace(-1, 1, size, dtype=np.float32) for size in case.shape)
    radius = np.sqrt(z[:, None, None] ** 2 + y[:, None] ** 2 + x**2)
    if case.kind == "image":
        noise = np.random.default_rng(0).normal(scale=10, size=case.shape)
        return (100 * np.cos(7 * radius) + noise.astype(np.float32))[None]
    balls = (radius < 0.5).astype(np.int8) + (radius < 0.3)
    if case.kind == "labels":
        return balls.astype(np.int8)[None]
    scores = [8 * (balls == index) + 0.5 * np.cos(5 * radius + index) for index in range(3)]
    return np.stack(scores).astype(np.float16)


def _ours(case: Case, array: Array) -> Callable[[], Array]:
    from autoseg.imaging.resample import resample_image, resample_logits
    from autoseg.imaging.resample_labels import resample_labels

    grid = (case.new_shape, case.spacing, case.new_spacing)
    out = np.ones((len(array), *case.new_shape), dtype=array.dtype)
    if case.kind == "labels":
        return lambda: resample_labels(array[0], *grid, out=out[0])[None]
    resample = resample_image if case.kind == "image" else resample_logits
    return lambda: resample(array, *grid, out=out)


def _theirs(case: Case, array: Array) -> Callable[[], Array]:
    from nnunetv2.preprocessing.resampling.default_resampling import (  # pyright: ignore
        resample_data_or_seg_to_shape,
    )

    return lambda: resample_data_or_seg_to_shape(
        array,
        case.new_shape,
        case.spacing,
        case.new_spacing,
        is_seg=case.kind == "labels",
        order=3 if case.kind == "image" else 1,
        order_z=0,
        force_separate_z=None,
    )


def _difference(case: Case, ours: Array, theirs: Array) -> str:
    if case.kind == "labels":
        return _differing_labels(case, ours[0], theirs[0])
    largest, low, high = 0.0, np.inf, -np.inf
    for index in np.ndindex(ours.shape[:2]):
        one, other = ours[index].astype(np.float64), theirs[index].astype(np.float64)
        largest = max(largest, float(np.abs(one - other).max()))
        low, high = min(low, other.min()), max(high, other.max())
    return f"largest difference {largest / (high - low):.1e} of the range"


def _differing_labels(case: Case, ours: Array, theirs: Array) -> str:
    places = np.concatenate(
        [
            np.argwhere(one != other) + np.array([row, 0, 0])
            for row, (one, other) in enumerate(zip(ours[:, None], theirs[:, None], strict=True))
        ]
    )
    labels = _phantom(case)[0]
    is_tie = np.zeros(len(places), dtype=bool)
    for result in (ours, theirs):
        shares = _shares(case, labels, places, result[tuple(places.T)])
        is_tie |= np.abs(shares - 0.5) < 1e-6
    return f"{len(places)} voxels differ, {np.count_nonzero(~is_tie)} of them not ties"


def _shares(case: Case, labels: Array, places: Array, wanted: Array) -> Array:
    """How much of some places belongs to the wanted labels, by trilinear weights."""
    is_thick = max(case.spacing) > 3 * min(case.spacing)
    sides = []
    for axis, (old, new) in enumerate(zip(case.shape, case.new_shape, strict=True)):
        position = np.clip((places[:, axis] + 0.5) * (old / new) - 0.5, 0, old - 1)
        if is_thick and axis == 0:
            position = np.floor(position + 0.5)
        low = np.floor(position).astype(int)
        share = position - low
        sides.append([(low, 1 - share), (np.minimum(low + 1, old - 1), share)])
    total = np.zeros(len(places))
    for z, wz in sides[0]:
        for y, wy in sides[1]:
            for x, wx in sides[2]:
                total += wz * wy * wx * (labels[z, y, x] == wanted)
    return total


if __name__ == "__main__":
    main()
