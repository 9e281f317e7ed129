"""The generated data set, on disk."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from autoseg.core.progress import Progress, silent
from autoseg.demo.phantom import CHANNELS, LABELS, make_case
from autoseg.io import atomic
from autoseg.io.images import write_image, write_labels

NAME = "Task00_Kidneys"
NUM_TRAINING = 20
NUM_TEST = 5
WITHOUT_TUMOUR_EVERY = 5
SEED = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoData:
    """Folders of the generated data set.

    Attributes:
        root: the data set, in the Decathlon layout.
        test_images: images that are not for training.
        test_labels: their references.
    """

    root: Path
    test_images: Path
    test_labels: Path


def write_dataset(folder: Path, progress: Progress = silent) -> DemoData:
    """Generate and write the data set; equal on every call.

    Args:
        folder: where its folder is made.
        progress: called after each case.

    Raises:
        AutosegError: if it cannot be written.
    """
    root = folder / NAME
    rng = np.random.default_rng(SEED)
    names = [f"kidneys_{number:02d}" for number in range(NUM_TRAINING + NUM_TEST)]
    for number, name in enumerate(names):
        part = "Tr" if number < NUM_TRAINING else "Ts"
        with_tumour = number % WITHOUT_TUMOUR_EVERY != WITHOUT_TUMOUR_EVERY - 1
        image, labels = make_case(rng, with_tumour=with_tumour)
        write_image(root / f"images{part}" / f"{name}.nii.gz", image)
        write_labels(root / f"labels{part}" / f"{name}.nii.gz", labels)
        progress(number + 1, len(names), name)
    atomic.write_text(root / "dataset.json", json.dumps(_description(names), indent=2))
    return DemoData(root=root, test_images=root / "imagesTs", test_labels=root / "labelsTs")


def _description(names: list[str]) -> dict[str, object]:
    structures = {str(i): s.name for i, s in enumerate(LABELS.structures, start=1)}
    return {
        "name": NAME.partition("_")[2],
        "description": "Generated abdomens: kidneys, some with a tumour",
        "modality": {str(i): channel for i, channel in enumerate(CHANNELS)},
        "labels": {"0": "background"} | structures,
        "numTraining": NUM_TRAINING,
        "numTest": NUM_TEST,
        "training": [
            {"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"}
            for name in names[:NUM_TRAINING]
        ],
        "test": [f"./imagesTs/{name}.nii.gz" for name in names[NUM_TRAINING:]],
    }
