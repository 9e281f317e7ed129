"""The whole path on a data set: wall time of each command, held-out Dice at the end.

usage: python tests/benchmarks/path.py TASK_FOLDER [--epochs 4] [--configuration 3d_fullres]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time


def main() -> None:
    """Run plan, preprocess and train in a new folder; what they print is passed on."""
    parser = argparse.ArgumentParser()
    parser.add_argument("task")
    parser.add_argument("--epochs", default="4")
    parser.add_argument("--configuration", default="3d_fullres")
    options = parser.parse_args()
    commands = [
        ["plan", options.task, "-q"],
        ["preprocess", "-q"],
        ["train", options.configuration, "fold0", "--epochs", options.epochs],
    ]
    with tempfile.TemporaryDirectory() as folder:
        for words in commands:
            start = time.perf_counter()
            subprocess.run([sys.executable, "-m", "autoseg", *words], cwd=folder, check=True)
            print(f"autoseg {words[0]}: {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main()
