"""The same data set, and the same decisions, for nnU-Net and for autoseg.

Shared by the scripts that run nnU-Net's commands and ours beside each other. nnU-Net lives in a
virtual environment of its own; all its folders are below one that the script chooses.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "plan"))

from plain_plans import SCHEMES  # noqa: E402

from autoseg.core.fingerprint import IntensityStats  # noqa: E402

DATA_SET = "Dataset001_Peer"
CONFIGURATIONS = ("2d", "3d_fullres", "3d_lowres")
_SCHEME_OF_PEER = {theirs: ours for ours, theirs in SCHEMES.items()}

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class PeerFolders:
    """Where nnU-Net finds and leaves everything about one data set.

    Attributes:
        root: folder of the script's choice.
    """

    root: Path

    @property
    def raw(self) -> Path:
        """The images, in its layout, which autoseg reads too."""
        return self.root / "raw" / DATA_SET

    @property
    def preprocessed(self) -> Path:
        """Its plan and, in a folder per configuration, its prepared cases."""
        return self.root / "preprocessed" / DATA_SET

    @property
    def plan_file(self) -> Path:
        """Its plan."""
        return self.preprocessed / "nnUNetPlans.json"

    @property
    def environ(self) -> dict[str, str]:
        """The variables it finds its folders by."""
        names = ("raw", "preprocessed", "results")
        return {f"nnUNet_{name}": str(self.root / name) for name in names}


def peer_command(peer: Path, name: str, *words: str) -> list[str]:
    """The words of one of nnU-Net's commands.

    Args:
        peer: python of an environment with nnunetv2.
        name: such as ``nnUNetv2_preprocess``.
        words: further arguments.
    """
    return [str(peer.parent / name), "-d", "1", *words]


def our_command(*words: str) -> list[str]:
    """The words of a command of autoseg."""
    return [sys.executable, "-m", "autoseg", *words]


def run(command: Sequence[str], folders: PeerFolders) -> None:
    """Run a command that must succeed; what it prints is dropped.

    Raises:
        SystemExit: if it fails, with the end of what it printed.
    """
    done = subprocess.run(
        command,
        check=False,
        env=dict(os.environ) | folders.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout[-2000:]}")


def plan_with_peer(peer: Path, folders: PeerFolders, workers: int) -> Json:
    """Measure and plan with nnU-Net, unless that is done.

    Returns:
        Its plan.
    """
    if not folders.plan_file.is_file():
        for name in ("preprocessed", "results"):
            (folders.root / name).mkdir(parents=True, exist_ok=True)
        run(peer_command(peer, "nnUNetv2_extract_fingerprint", "-np", str(workers)), folders)
        run(peer_command(peer, "nnUNetv2_plan_experiment"), folders)
    return json.loads(folders.plan_file.read_text())


def adopt(plan: Json, peer_plan: Json, configurations: Sequence[str]) -> Json:
    """Our plan with the grid and the normalization of nnU-Net's.

    Args:
        plan: ours.
        peer_plan: nnU-Net's.
        configurations: those to keep; one that we did not plan is made like 3d_fullres.
    """
    planned = plan["configurations"]
    stats = peer_plan["foreground_intensity_properties_per_channel"]
    return {
        **plan,
        "transpose": peer_plan["transpose_forward"],
        "intensities": [
            {name: stats[str(channel)][name] for name in IntensityStats.model_fields}
            for channel in range(len(stats))
        ],
        "configurations": {
            name: {
                **planned.get(name, planned.get("3d_fullres")),
                **_adopted(peer_plan["configurations"][name]),
            }
            for name in configurations
        },
    }


def _adopted(entry: Json) -> Json:
    return {
        "spacing": entry["spacing"],
        "normalization": [_SCHEME_OF_PEER[scheme] for scheme in entry["normalization_schemes"]],
        "use_mask_for_norm": entry["use_mask_for_norm"],
    }


def write_raw(task: Path, raw: Path, names: Sequence[str] = ()) -> None:
    """Lay out a data set as nnU-Net wants it, with links to the files.

    Args:
        task: in the Decathlon's layout, with 3D images of one channel, or in nnU-Net's.
        raw: the folder to fill.
        names: cases; all if there is none.

    Raises:
        SystemExit: if a case is missing.
    """
    description = json.loads((task / "dataset.json").read_text())
    is_decathlon = "training" in description
    found = dict((_decathlon_cases if is_decathlon else _peer_cases)(task, description))
    unknown = set(names) - set(found)
    if unknown or not found:
        raise SystemExit(f"{task}: no case {', '.join(sorted(unknown)) or 'at all'}")
    chosen = names or sorted(found)
    for name in chosen:
        for file, place in found[name]:
            _link(file, raw / place)
    if is_decathlon:
        labels = {name: int(value) for value, name in description["labels"].items()}
        _describe(raw, description["modality"], labels, len(chosen))
    else:
        content = {**description, "numTraining": len(chosen)}
        (raw / "dataset.json").write_text(json.dumps(content))


def write_pair(image: Path, labels: Path, channel: str, raw: Path) -> None:
    """Lay out a single case as nnU-Net wants it; label values are renumbered without gaps.

    Args:
        image: its file.
        labels: its label map's file.
        channel: name of the channel, which decides the normalization.
        raw: the folder to fill.
    """
    _link(image, raw / "imagesTr" / "case_0000.nii.gz")
    read = sitk.ReadImage(str(labels))
    values, numbered = np.unique(sitk.GetArrayViewFromImage(read), return_inverse=True)
    renumbered = sitk.GetImageFromArray(numbered.reshape(read.GetSize()[::-1]).astype(np.uint8))
    renumbered.CopyInformation(read)
    (raw / "labelsTr").mkdir()
    sitk.WriteImage(renumbered, str(raw / "labelsTr" / "case.nii.gz"))
    names = ("background", *(f"value {value}" for value in values[1:]))
    _describe(raw, {"0": channel}, {name: index for index, name in enumerate(names)}, 1)


def _decathlon_cases(task: Path, description: Json) -> Iterator[tuple[str, list[tuple[Path, str]]]]:
    for row in description["training"]:
        name = Path(row["label"]).name.removesuffix(".nii.gz")
        image = (task / row["image"], f"imagesTr/{name}_0000.nii.gz")
        yield name, [image, (task / row["label"], f"labelsTr/{name}.nii.gz")]


def _peer_cases(task: Path, description: Json) -> Iterator[tuple[str, list[tuple[Path, str]]]]:
    ending = description["file_ending"]
    for label in (task / "labelsTr").glob(f"*{ending}"):
        name = label.name.removesuffix(ending)
        images = (task / "imagesTr").glob(f"{name}_[0-9][0-9][0-9][0-9]{ending}")
        yield name, [(file, f"{file.parent.name}/{file.name}") for file in (*images, label)]


def _link(file: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(file.resolve())


def _describe(raw: Path, channels: Json, labels: dict[str, int], num_cases: int) -> None:
    content = {
        "channel_names": channels,
        "labels": labels,
        "numTraining": num_cases,
        "file_ending": ".nii.gz",
    }
    (raw / "dataset.json").write_text(json.dumps(content))
