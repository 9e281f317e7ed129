"""Preprocess a data set: autoseg against nnU-Net v2, both in turn.

usage: python tests/benchmarks/preprocess_against_peer.py TASK --peer PEER_PYTHON
       [--configuration 3d_fullres] [--rounds 3] [--workers N] [--peer-workers 1]
       [--cases NAME ...] [--folder FOLDER]

TASK is in the Decathlon's layout, with 3D images of one channel, or in nnU-Net's. PEER_PYTHON is
the interpreter of a virtual environment with nnunetv2. Compared are the whole commands, autoseg
preprocess with as many workers as it chooses (or --workers) and nnUNetv2_preprocess; both make
every case anew in every round. Planning is not measured; with --folder, plans and prepared cases
stay there, and a further run with the same arguments plans nothing. Where the two plans disagree
about the grid, ours gets that of nnU-Net, and the output says so.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

from measuring import Figures, measure, medians

sys.path.insert(0, str(Path(__file__).parents[1] / "interop"))

from beside_peer import (
    CONFIGURATIONS,
    DATA_SET,
    Json,
    PeerFolders,
    adopt,
    our_command,
    peer_command,
    plan_with_peer,
    run,
    write_raw,
)

from autoseg.io.task import load_plan
from autoseg.io.workspace import TaskFolder

# Prepared grids of spacings that differ by less are the same.
_SAME_SPACING = 1e-6


def main() -> None:
    """Run both sides in turn and print medians and ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("task", type=Path)
    parser.add_argument("--peer", type=Path, required=True)
    parser.add_argument("--configuration", choices=CONFIGURATIONS, default="3d_fullres")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--peer-workers", type=int, default=1)
    parser.add_argument("--cases", nargs="+", default=[])
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        compare(PeerFolders((options.folder or Path(scratch)).resolve()), options)


def compare(folders: PeerFolders, options: argparse.Namespace) -> None:
    """Plan if need be, measure, print."""
    if not folders.raw.is_dir():
        write_raw(options.task, folders.raw, options.cases)
    peer_plan = plan_with_peer(options.peer, folders, options.peer_workers)
    task, configuration = TaskFolder(folders.root / "ours" / DATA_SET), options.configuration
    _plan_ours(task, folders, peer_plan, configuration)
    plan = load_plan(task, "default")
    store = task.prepared(plan.prepared_as(configuration), plan.recipe(configuration).key)
    entry = peer_plan["configurations"][configuration]
    num_cases = sum(1 for _ in (folders.raw / "labelsTr").iterdir())
    entry = peer_plan["configurations"][configuration]
    print(f"{num_cases} cases, {configuration}, spacing {entry['spacing']}", flush=True)
    _tell_rounds(*_in_turn(store, folders, options))
    ours = _bytes_below(store)
    theirs = _bytes_below(folders.preprocessed / entry["data_identifier"])
    print(
        f"on disk: autoseg {ours / 1e6:.1f} MB, nnU-Net {theirs / 1e6:.1f} MB, "
        f"ratio {theirs / ours:.2f}"
    )


def _in_turn(
    store: Path, folders: PeerFolders, options: argparse.Namespace
) -> tuple[list[Figures], list[Figures]]:
    """Measure both sides in every round."""
    ours: list[Figures] = []
    theirs: list[Figures] = []
    words = ("-c", options.configuration, "-np", str(options.peer_workers))
    command = peer_command(options.peer, "nnUNetv2_preprocess", *words)
    for number in range(options.rounds):
        ours.append(_preprocess_ours(store, folders, options.configuration, options.workers))
        _tell(f"round {number + 1}: autoseg", ours[-1])
        theirs.append(measure(command, folders.environ))
        _tell(f"round {number + 1}: nnU-Net", theirs[-1])
    return ours, theirs


def _tell_rounds(ours: list[Figures], theirs: list[Figures]) -> None:
    """Print medians and their ratios."""
    one, other = medians(ours), medians(theirs)
    _tell("autoseg", one)
    _tell("nnU-Net", other)
    print(
        f"ratio: wall {other.wall_s / one.wall_s:.1f}, CPU {other.cpu_s / one.cpu_s:.1f}, "
        f"memory {other.pss_bytes / one.pss_bytes:.1f}"
    )


def _plan_ours(task: TaskFolder, folders: PeerFolders, peer_plan: Json, configuration: str) -> None:
    """Plan, on the grid of nnU-Net's plan."""
    file = task.plan_file("default")
    if not file.is_file():
        words = ("plan", str(folders.raw), "--compatible", "-w", str(task.root.parent), "-q")
        run(our_command(*words), folders)
    plan = json.loads(file.read_text())
    entry = peer_plan["configurations"].get(configuration)
    if entry is None:
        raise SystemExit(f"nnU-Net plans no {configuration} for this data set")
    found = plan["configurations"].get(configuration, {}).get("spacing")
    if plan["transpose"] != peer_plan["transpose_forward"] or not _same(found, entry["spacing"]):
        print(f"our spacing was {found}, transpose {plan['transpose']}: nnU-Net's is taken")
        both = [name for name in CONFIGURATIONS if name in peer_plan["configurations"]]
        file.write_text(json.dumps(adopt(plan, peer_plan, both)))


def _same(spacing: list[float] | None, other: list[float]) -> bool:
    if spacing is None:
        return False
    pairs = zip(spacing, other, strict=True)
    return all(abs(one - another) <= _SAME_SPACING * another for one, another in pairs)


def _preprocess_ours(
    store: Path, folders: PeerFolders, configuration: str, workers: int | None
) -> Figures:
    shutil.rmtree(store, ignore_errors=True)
    words = ["preprocess", configuration, "-w", str(folders.root / "ours"), "-q"]
    if workers is not None:
        words += ["--workers", str(workers)]
    return measure(our_command(*words))


def _bytes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _tell(who: str, figures: Figures) -> None:
    print(
        f"{who}: {figures.wall_s:.1f} s, {figures.cpu_s:.1f} s of CPU time, "
        f"{figures.pss_bytes / 1e6:.0f} MB",
        flush=True,
    )


if __name__ == "__main__":
    main()
