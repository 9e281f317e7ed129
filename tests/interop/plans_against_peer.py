"""Plans of random data sets: ours against those nnU-Net makes at the same moment.

usage: python tests/interop/plans_against_peer.py --peer PEER/bin/python [--number 300]
       [--first 0] [--max-minutes 60] [--record FILE]

PEER is a virtual environment with nnunetv2. With --record, each outcome is kept in a file of JSON
lines, and a further run goes on with the data sets that are not in it. The exit code is 1 if
plans differ.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "plan"))

from drawn_data_sets import draw_data_set  # noqa: E402
from plain_plans import differences, our_plan, reference_as_plain  # noqa: E402

from autoseg.errors import AutosegError  # noqa: E402

Outcome = dict[str, Any]


class Peer:
    """nnU-Net's planner in its own process."""

    def __init__(self, python: str) -> None:
        command = [python, str(HERE / "peer_planner.py")]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def plan(self, data_set: dict[str, Any]) -> dict[str, Any]:
        """Its answer: ``plans``, or ``error``."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(data_set) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit(f"the peer ended with exit code {self._process.wait()}")
        return json.loads(answer)

    def close(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.wait()


def compare(peer: Peer, seed: int) -> Outcome:
    """Plan one data set twice."""
    data_set = draw_data_set(seed)
    answer = peer.plan(data_set)
    try:
        ours = our_plan(data_set)
    except AutosegError as error:
        found = [f"ours refuses: {error}"]
    else:
        theirs = answer.get("plans")
        found = differences(ours, reference_as_plain(theirs)) if theirs else [answer["error"]]
    facts = {"seed": seed, "kind": data_set["kind"], "preset": data_set["preset"]}
    return {**facts, "differences": found}


def recorded(record: Path | None) -> list[Outcome]:
    """Outcomes of earlier runs."""
    if record is None or not record.is_file():
        return []
    return [json.loads(line) for line in record.read_text().splitlines()]


def run(options: argparse.Namespace) -> list[Outcome]:
    """Compare what is not yet recorded until all is done or time is up."""
    outcomes = recorded(options.record)
    for outcome in outcomes:
        report(outcome)
    done = {outcome["seed"] for outcome in outcomes}
    end = time.monotonic() + 60 * options.max_minutes
    peer = Peer(options.peer)
    try:
        for seed in range(options.first, options.first + options.number):
            if seed in done:
                continue
            if time.monotonic() > end:
                break
            outcomes.append(compare(peer, seed))
            report(outcomes[-1])
            if options.record is not None:
                with options.record.open("a") as file:
                    file.write(json.dumps(outcomes[-1]) + "\n")
    finally:
        peer.close()
    return outcomes


def report(outcome: Outcome) -> None:
    """Print a data set whose plans differ."""
    if outcome["differences"]:
        seed = outcome["seed"]
        print(f"seed {seed}: {json.dumps(draw_data_set(seed))}")
        for difference in outcome["differences"]:
            print(f"  {difference}")


def has_nnunet(python: str) -> bool:
    """Whether there is such a python, and nnunetv2 in it."""
    command = [python, "-c", "import nnunetv2"]
    return (
        Path(python).exists()
        and not subprocess.run(command, check=False, capture_output=True).returncode
    )


def main() -> None:
    """Compare and print how many plans were equal."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--peer", required=True, help="python of an environment with nnunetv2")
    parser.add_argument("--number", type=int, default=300)
    parser.add_argument("--first", type=int, default=0, help="seed of the first data set")
    parser.add_argument("--max-minutes", type=float, default=60)
    parser.add_argument("--record", type=Path)
    options = parser.parse_args()
    if not has_nnunet(options.peer):
        print(f"skipped: {options.peer} is no python with nnunetv2 (pip install nnunetv2)")
        return
    outcomes = run(options)
    equal = sum(not outcome["differences"] for outcome in outcomes)
    print(f"{equal} of {len(outcomes)} plans equal")
    raise SystemExit(equal < len(outcomes))


if __name__ == "__main__":
    main()
