"""Which plans the rules of autoseg's own change, and how long planning takes.

usage: python tests/benchmarks/plans_that_differ.py REFERENCE_FOLDER

REFERENCE_FOLDER holds msd_plans.json: fingerprints of data sets of the Medical Segmentation
Decathlon. They and the data sets the planner's tests invent are planned with every preset, with
and without --compatible; a row per difference.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[1] / "plan"))

from test_planner import DATA_SETS, labels, measured

from autoseg.core.fingerprint import Fingerprint
from autoseg.core.labels import LabelSpace
from autoseg.core.plan import Plan
from autoseg.plan.planner import PlanRequest, make_plan

PRESETS = ("default", "resenc", "resenc-m", "resenc-l", "resenc-xl")
DataSet = tuple[str, Fingerprint, tuple[str, ...], LabelSpace]


def main() -> None:
    """Print the differences, the number of plans without any, and the times."""
    parser = argparse.ArgumentParser()
    parser.add_argument("reference", type=Path)
    options = parser.parse_args()
    seconds: dict[bool, list[float]] = {False: [], True: []}
    num_equal = 0
    print("data set | preset | configuration | rule | change")
    for name, fingerprint, channels, space in _data_sets(options.reference):
        for preset in PRESETS:
            plans: dict[bool, Plan] = {}
            for compatible in (True, False):
                request = PlanRequest(preset=preset, compatible=compatible)
                start = time.perf_counter()
                plans[compatible] = make_plan(fingerprint, channels, space, request)
                seconds[compatible].append(time.perf_counter() - start)
            told = [d for d in plans[False].decisions if d.what.startswith("rule ")]
            for effect in told:
                rule = effect.what.removeprefix("rule ")
                print(f"{name} | {preset} | {effect.configuration} | {rule} | {effect.value}")
            num_equal += not told
    print(f"{num_equal} of {len(seconds[True])} plans are those of --compatible")
    for compatible, taken in seconds.items():
        mode = "--compatible" if compatible else "default"
        print(f"{mode}: median {1000 * median(taken):.0f} ms, at most {1000 * max(taken):.0f} ms")


def _data_sets(reference: Path) -> Iterator[DataSet]:
    published = json.loads((reference / "msd_plans.json").read_text())["tasks"]
    for task, content in published.items():
        facts = content["fingerprint"]
        channels = tuple(facts["channel_names"].values())
        fingerprint = measured(
            facts["spacings"],
            facts["shapes_after_crop"],
            facts["median_relative_size_after_cropping"],
            len(channels),
        )
        yield task, fingerprint, channels, labels(len(facts["labels"]))
    for name, (spacings, shape, relative_size, channels, num_entries) in DATA_SETS.items():
        fingerprint = measured(spacings, [shape] * len(spacings), relative_size, len(channels))
        yield name, fingerprint, channels, labels(num_entries)


if __name__ == "__main__":
    main()
