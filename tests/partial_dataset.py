"""The toy data set as two joined ones: some cases have the shell only, others the core."""

from __future__ import annotations

import json
from pathlib import Path

from conftest import toy_case

from autoseg.core.image import LabelMap
from autoseg.io.images import write_image, write_labels

SHELL, CORE = 1, 2
ANNOTATED = ("", "shell", "core", "", "shell", "core", "shell|core", "core", "shell")
"""Of each case in turn; the others of its voxels are background."""


def case_names(annotated: tuple[str, ...] = ANNOTATED) -> list[str]:
    """Names of the cases."""
    return [f"ball_{number:02d}" for number in range(len(annotated))]


def write_partial_dataset(folder: Path, annotated: tuple[str, ...] = ANNOTATED) -> Path:
    """Write a table of partly annotated cases and their files."""
    for number, (name, cell) in enumerate(zip(case_names(annotated), annotated, strict=True)):
        image, labels = toy_case(number)
        array = labels.array
        for value, structure in ((SHELL, "shell"), (CORE, "core")):
            if cell and structure not in cell:
                array = array * (array != value)
        write_image(folder / "images" / f"{name}.nii.gz", image)
        write_labels(
            folder / "masks" / f"{name}.nii.gz", LabelMap(array=array, geometry=labels.geometry)
        )
    write_table_of(folder, annotated)
    description = {"channels": ["MRI"], "labels": {"background": 0, "shell": 1, "core": 2}}
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


def write_table_of(folder: Path, annotated: tuple[str, ...]) -> None:
    """Write what the cases are annotated for, and nothing else."""
    rows = [
        f"{name},images/{name}.nii.gz,masks/{name}.nii.gz,{cell}"
        for name, cell in zip(case_names(annotated), annotated, strict=True)
    ]
    (folder / "cases.csv").write_text("\n".join(["case,image,label,annotated", *rows]) + "\n")
