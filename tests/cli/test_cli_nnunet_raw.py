"""A data set that lies where nnU-Net wants it, from check to predict."""

import json

import numpy as np
import pytest
from commands import ON_CPU, assert_done, call, edit
from conftest import toy_case

from autoseg.core.image import LabelMap
from autoseg.io.images import read_labels, write_image, write_labels

NAMES = [f"ball_{number:02d}" for number in range(5)]
IGNORED = 3


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Somewhere else, with nothing but the environment to tell where the data are."""
    for folder in ("raw", "preprocessed", "here"):
        (tmp_path / folder).mkdir()
    monkeypatch.delenv("AUTOSEG_WORKSPACE", raising=False)
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "preprocessed"))
    monkeypatch.setenv("SCANS", str(tmp_path / "scans"))
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


def write_data_set(tmp_path):
    """Regions in an order of their own, ignored voxels, files anywhere, folds."""
    raw = tmp_path / "raw" / "Dataset007_Ball"
    table = {}
    for number, name in enumerate(NAMES):
        image, labels = toy_case(number)
        array = labels.array.copy()
        array[0] = IGNORED
        write_image(tmp_path / "scans" / name / "t1.nii.gz", image)
        write_labels(
            raw / "masks" / f"{name}.nii.gz", LabelMap(array=array, geometry=labels.geometry)
        )
        table[name] = {"images": [f"$SCANS/{name}/t1.nii.gz"], "label": f"masks/{name}.nii.gz"}
    description = {
        "channel_names": {"0": "T1"},
        "labels": {"background": 0, "core": 2, "ball": [1, 2], "ignore": IGNORED},
        "regions_class_order": [2, 1],
        "numTraining": len(NAMES),
        "file_ending": ".nii.gz",
        "dataset": table,
    }
    (raw / "dataset.json").write_text(json.dumps(description))
    splits = tmp_path / "preprocessed" / raw.name / "splits_final.json"
    splits.parent.mkdir()
    splits.write_text(json.dumps([{"train": NAMES[1:], "val": NAMES[:1]}] * 2))
    return raw


@pytest.mark.slow
def test_a_data_set_of_nnunet_is_segmented_as_it_lies(here):
    raw = write_data_set(here)
    before = sorted((p, p.stat().st_mtime_ns) for p in raw.rglob("*"))
    assert call("check", "7", "--workers", 0).code in (0, 1)
    assert_done(call("plan", "Dataset007_Ball", "--workers", 0))
    folder = here / "here" / "autoseg_workspace" / "Dataset007_Ball"
    task = json.loads((folder / "task.json").read_text())
    assert task["root"] == str(raw)
    assert [s["name"] for s in task["labels"]["structures"]] == ["core", "ball"]
    assert task["labels"]["ignore"] == IGNORED
    splits = json.loads((folder / "splits.json").read_text())
    assert splits["folds"][0]["validation"] == NAMES[:1]
    edit(
        folder / "plans" / "default.json",
        configurations__2d__network__features_per_stage=[4, 8, 16],
        configurations__2d__training__steps_per_epoch=4,
        configurations__2d__training__validation_steps=1,
    )
    assert_done(call("preprocess", "2d", "--workers", 0))
    assert_done(call("train", "2d", "0", "-t", "7", "--epochs", 1, "--workers", 0, *ON_CPU))
    new, _ = toy_case(6)
    write_image(here / "in" / "new_0000.nii.gz", new)
    assert_done(call("predict", "-i", here / "in", "-o", here / "out", "-t", "7", *ON_CPU))
    (file,) = (here / "out").glob("*.nii.gz")
    found = read_labels(file)
    assert found.geometry.shape == new.geometry.shape
    assert set(np.unique(found.array)) <= {0, 1, 2}
    assert sorted((p, p.stat().st_mtime_ns) for p in raw.rglob("*")) == before
