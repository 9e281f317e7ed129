"""How long a command takes to say how it is used: ours, and a peer's in turn.

usage: python tests/benchmarks/startup.py [--peer PATH/TO/nnUNetv2_train] [--runs 7]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

COMMANDS = (
    *("init", "check", "plan", "preprocess", "train", "predict", "validate"),
    *("evaluate", "compare", "overlay", "run", "demo", "doctor"),
)


def seconds(command: list[str]) -> float:
    """Wall time of a command whose output nobody reads."""
    start = time.perf_counter()
    subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    """Print the median of each command, and the ratio to the peer's."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--peer")
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args()
    ours: dict[str, list[float]] = {name: [] for name in ("", *COMMANDS)}
    peers: list[float] = []
    for _ in range(options.runs):
        for name, times in ours.items():
            times.append(seconds([sys.executable, "-m", "autoseg", *name.split(), "--help"]))
        if options.peer:
            peers.append(seconds([options.peer, "-h"]))
    for name, times in ours.items():
        print(f"autoseg {name} --help: {statistics.median(times):.3f} s")
    if peers:
        ratio = statistics.median(peers) / statistics.median(ours["train"])
        print(f"peer: {statistics.median(peers):.2f} s, {ratio:.0f} times as long as train --help")


if __name__ == "__main__":
    main()
