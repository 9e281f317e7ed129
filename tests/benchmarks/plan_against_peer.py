"""Check, measure and plan a data set: autoseg against nnU-Net v2, both in turn.

usage: python tests/benchmarks/plan_against_peer.py TASK_FOLDER --peer PEER_PYTHON [--rounds 3]

TASK_FOLDER is in the Decathlon's layout with 3D images. PEER_PYTHON is the interpreter of a
virtual environment with nnunetv2. autoseg's one command includes the check; the peer's are
nnUNetv2_extract_fingerprint (with --verify its check, too) and nnUNetv2_plan_experiment.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

from measuring import Figures, measure, medians


def main() -> None:
    """Run both sides in turn and print medians and ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("task", type=Path)
    parser.add_argument("--peer", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--verify", action="store_true")
    options = parser.parse_args()
    ours: list[Figures] = []
    theirs: list[Figures] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_for_peer(options.task, folder / "raw" / "Dataset004_Peer")
        for _ in range(options.rounds):
            ours.append(_plan_ours(options.task, folder / "ours"))
            theirs.append(_plan_theirs(options.peer.parent, folder, options.verify))
    _tell("autoseg", medians(ours))
    _tell("nnU-Net", medians(theirs))
    one, other = medians(ours), medians(theirs)
    print(
        f"ratio: wall {other.wall_s / one.wall_s:.1f}, CPU {other.cpu_s / one.cpu_s:.1f}, "
        f"memory {other.pss_bytes / one.pss_bytes:.1f}"
    )


def _plan_ours(task: Path, folder: Path) -> Figures:
    shutil.rmtree(folder, ignore_errors=True)
    words = ["plan", str(task.resolve()), "-w", str(folder), "-q"]
    return measure([sys.executable, "-m", "autoseg", *words])


def _plan_theirs(bin_folder: Path, folder: Path, verify: bool) -> Figures:
    shutil.rmtree(folder / "preprocessed", ignore_errors=True)
    places = {f"nnUNet_{name}": str(folder / name) for name in ("raw", "preprocessed", "results")}
    check = ["--verify_dataset_integrity"] if verify else []
    extract = measure([str(bin_folder / "nnUNetv2_extract_fingerprint"), "-d", "4", *check], places)
    plan = measure([str(bin_folder / "nnUNetv2_plan_experiment"), "-d", "4"], places)
    return Figures(
        wall_s=extract.wall_s + plan.wall_s,
        cpu_s=extract.cpu_s + plan.cpu_s,
        pss_bytes=max(extract.pss_bytes, plan.pss_bytes),
    )


def _write_for_peer(task: Path, target: Path) -> None:
    """The same cases in the peer's layout."""
    description = json.loads((task / "dataset.json").read_text())
    for name in ("imagesTr", "labelsTr"):
        (target / name).mkdir(parents=True)
    rows = description["training"]
    for row in rows:
        case = Path(row["label"]).name.removesuffix(".nii.gz")
        shutil.copy(task / row["image"], target / "imagesTr" / f"{case}_0000.nii.gz")
        shutil.copy(task / row["label"], target / "labelsTr" / f"{case}.nii.gz")
    content = {
        "channel_names": description["modality"],
        "labels": {name: int(value) for value, name in description["labels"].items()},
        "numTraining": len(rows),
        "file_ending": ".nii.gz",
    }
    (target / "dataset.json").write_text(json.dumps(content))


def _tell(who: str, figures: Figures) -> None:
    print(
        f"{who}: {figures.wall_s:.1f} s, {figures.cpu_s:.1f} s of CPU time, "
        f"{figures.pss_bytes / 1e6:.0f} MB"
    )


if __name__ == "__main__":
    main()
