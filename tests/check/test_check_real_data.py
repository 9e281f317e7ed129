"""One run finds everything that is wrong with real data, and nothing where nothing is."""

import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from autoseg.check.findings import judge
from autoseg.core.dataset import Case, Dataset
from autoseg.core.fingerprint import CaseFingerprint, ChannelRange, Fingerprint, StructureMeasure
from autoseg.core.labels import LabelSpace, Structure
from autoseg.io.formats import READERS
from autoseg.io.images import read_geometry
from autoseg.io.readers.nifti import NiftiReader
from autoseg.io.workspace import Workspace
from autoseg.pipeline.data import check_folder, plan_folder
from autoseg.plan.planner import PlanRequest

DATA = Path(__file__).parents[3] / "shared" / "data"
HIPPOCAMPUS = DATA / "Task04_Hippocampus"
CHEST = DATA / "chest_ct"
KITS = DATA / "KiTS19_geometry"
needs_data = pytest.mark.skipif(not HIPPOCAMPUS.is_dir(), reason="the real data are not here")


class CountingReader(NiftiReader):
    """Counts how often the voxels of a file are read."""

    def __init__(self):
        self.counts = {}

    def read(self, path):
        self.counts[path] = self.counts.get(path, 0) + 1
        return super().read(path)


@needs_data
def test_a_clean_data_set_is_clean_and_planned_from_one_reading(tmp_path, monkeypatch):
    reader = CountingReader()
    monkeypatch.setitem(READERS._entries, "nifti", reader)
    workspace = Workspace(tmp_path / "workspace")
    result = check_folder(workspace, HIPPOCAMPUS, workers=0)
    assert (result.problems, result.num_cases) == ((), 208)
    plan_folder(workspace, HIPPOCAMPUS, PlanRequest(), workers=0)
    assert len(reader.counts) == 416
    assert set(reader.counts.values()) == {1}


@pytest.mark.skipif(not KITS.is_dir(), reason="the label maps are not here")
def test_grids_as_different_as_those_of_kits_are_usual():
    files = sorted(KITS.glob("case_*/segmentation.nii.gz"))
    there = StructureMeasure(centroid=(0, 0, 0), means=(1.0,), stds=(1.0,))
    cases = []
    for file in files:
        geometry, _ = read_geometry(file)
        case = CaseFingerprint(
            name=file.parent.name,
            shape=geometry.shape,
            spacing=geometry.spacing,
            relative_size=1,
            label_voxels=(1, 1),
            original_shape=geometry.shape,
            orientation=geometry.orientation,
            channels=(ChannelRange(min=-1024, max=2000, is_whole=True),),
            structures=(there, there),
            files=(),
        )
        cases.append(case)
    names = ("kidney", "tumour")
    dataset = Dataset(
        name="KiTS",
        root=KITS,
        layout="case_folders",
        channels=("CT",),
        labels=LabelSpace(
            structures=tuple(Structure(name=n, values=(v,)) for v, n in enumerate(names, 1))
        ),
        cases=tuple(Case(name=c.name, images=(Path("i"),), label=Path("l")) for c in cases),
    )
    fingerprint = Fingerprint(label_values=(0, 1, 2), cases=tuple(cases), intensities=())
    assert judge(dataset, fingerprint) == ()


# Broken data


def _edit(path, change):
    sitk.WriteImage(change(sitk.ReadImage(str(path))), str(path))


def _voxels(path, change, dtype=None):
    """Change the array of a file as nibabel sees it (x, y, z); NaN stays NaN."""
    image = nibabel.load(path)
    array = np.asarray(image.dataobj)
    changed = change(array if dtype is None else array.astype(dtype))
    nibabel.save(nibabel.Nifti1Image(changed, image.affine), path)


def _moved(mm):
    def change(image):
        x, y, z = image.GetOrigin()
        image.SetOrigin((x + mm, y, z))
        return image

    return change


def _mirrored(image):
    image.SetOrigin(image.TransformIndexToPhysicalPoint((image.GetWidth() - 1, 0, 0)))
    direction = np.reshape(image.GetDirection(), (3, 3)) * [-1, 1, 1]
    image.SetDirection(direction.ravel().tolist())
    return image


def _spaced(*spacing):
    def change(image):
        image.SetSpacing(spacing)
        return image

    return change


def _hole(array):
    array[0, 0, :5], array[1, 1, 1] = np.nan, np.inf
    return array


def _truncate(path):
    path.write_bytes(path.read_bytes()[:3000])


BROKEN = {
    "hippocampus_001": [("imagesTr", _truncate)],
    "hippocampus_003": [("labelsTr", Path.unlink)],
    "hippocampus_004": [("imagesTr", Path.unlink)],
    "hippocampus_006": [("labelsTr", lambda p: _edit(p, _moved(5)))],
    "hippocampus_007": [("labelsTr", lambda p: _edit(p, _mirrored))],
    "hippocampus_008": [("labelsTr", lambda p: _edit(p, lambda image: image[:, :, :-3]))],
    "hippocampus_011": [("labelsTr", lambda p: _voxels(p, lambda a: np.where(a == 2, 255, a)))],
    "hippocampus_014": [("labelsTr", lambda p: _voxels(p, lambda a: a * 0.5, np.float32))],
    "hippocampus_015": [("imagesTr", lambda p: _voxels(p, _hole, np.float32))],
    "hippocampus_017": [
        (folder, lambda p: _edit(p, _spaced(0.001, 0.001, 0.001)))
        for folder in ("imagesTr", "labelsTr")
    ],
    "hippocampus_019": [("labelsTr", lambda p: _voxels(p, lambda a: a * 0))],
    "hippocampus_024": [("imagesTr", lambda p: _voxels(p, lambda a: a * 0 + 7))],
    "hippocampus_025": [
        (folder, lambda p: _edit(p, lambda image: sitk.PermuteAxes(image, (2, 0, 1))))
        for folder in ("imagesTr", "labelsTr")
    ],
    "hippocampus_026": [("labelsTr", lambda p: _edit(p, _moved(0.05)))],
    "hippocampus_033": [
        (folder, lambda p: _edit(p, _spaced(1, 1, 30))) for folder in ("imagesTr", "labelsTr")
    ],
}
SOUND = ["hippocampus_020", "hippocampus_034", "hippocampus_035", "hippocampus_036"]
PATIENTS = ["sub-7_ses-1", "sub-7_ses-2"]


def _write_broken(folder):
    (folder / "imagesTr").mkdir(parents=True)
    (folder / "labelsTr").mkdir()
    sources = {name: name for name in (*BROKEN, *SOUND)}
    sources |= {"hippocampus_020_again": "hippocampus_020"}
    sources |= dict(zip(PATIENTS, ("hippocampus_037", "hippocampus_038"), strict=True))
    for name, source in sources.items():
        for part in ("imagesTr", "labelsTr"):
            shutil.copy(HIPPOCAMPUS / part / f"{source}.nii.gz", folder / part / f"{name}.nii.gz")
    # The same voxels in another compression are the same image.
    again = folder / "imagesTr" / "hippocampus_020_again.nii.gz"
    sitk.WriteImage(sitk.ReadImage(str(again)), str(again), True, 1)
    for name, breaks in BROKEN.items():
        for part, break_file in breaks:
            break_file(folder / part / f"{name}.nii.gz")
    shutil.copy(
        folder / "labelsTr" / "hippocampus_034.nii.gz", folder / "labelsTr" / "extra.nii.gz"
    )
    description = {
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "head left", "2": "head right", "3": "tail"},
        "training": [
            {"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"}
            for name in sources
        ],
    }
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


@needs_data
def test_one_run_finds_everything_that_was_broken(tmp_path):
    folder = _write_broken(tmp_path / "Task04_Broken")
    result = check_folder(Workspace(tmp_path / "workspace"), folder, workers=0)
    found = {(p.case or "", p.kind): p.finding for p in result.problems}
    assert set(found) == {
        ("hippocampus_001", "unreadable"),
        ("hippocampus_003", "missing-label"),
        ("hippocampus_004", "missing-image"),
        ("hippocampus_006", "geometry"),
        ("hippocampus_007", "geometry"),
        ("hippocampus_008", "shape"),
        ("hippocampus_011", "undeclared-labels"),
        ("hippocampus_014", "fractional-labels"),
        ("hippocampus_015", "not-finite"),
        ("hippocampus_017", "spacing"),
        ("hippocampus_019", "empty-label"),
        ("hippocampus_020_again", "duplicate"),
        ("hippocampus_024", "constant-channel"),
        ("hippocampus_025", "axis-order"),
        ("hippocampus_026", "geometry-slight"),
        ("hippocampus_033", "spacing-outlier"),
        ("", "sides"),
        ("", "patient"),
        ("", "absent-structure"),
        ("extra", "unlisted"),
    }
    assert found["hippocampus_006", "geometry"].startswith("origin off by (0, 0, 5) mm")
    assert found["hippocampus_007", "geometry"].startswith("mirrored along x")
    assert "6 of " in found["hippocampus_015", "not-finite"]
    assert "sub-7 has 2 cases by name" in found["", "patient"]


@pytest.mark.skipif(not CHEST.is_dir(), reason="the chest CT is not here")
def test_a_ct_by_another_name_and_a_shifted_ct_are_found(tmp_path):
    folder = tmp_path / "Task05_Chest"
    image = sitk.ReadImage(str(CHEST / "ct.nii.gz"))[::3, ::3, ::3]
    organs = sitk.ReadImage(str(CHEST / "organs.nii.gz"))[::3, ::3, ::3]
    first = min(int(value) for value in np.unique(sitk.GetArrayViewFromImage(organs)) if value)
    label = sitk.Cast(organs == first, sitk.sitkUInt8)
    kinds = {}
    for channel, shift in (("image", 0), ("CT", 0), ("CT", 1024)):
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "imagesTr").mkdir(parents=True)
        (folder / "labelsTr").mkdir()
        names = ["a", "b"]
        for number, name in enumerate(names):
            shifted = sitk.Clamp(image + number, lowerBound=-1024, upperBound=3071) + shift
            sitk.WriteImage(shifted, str(folder / "imagesTr" / f"{name}.nii.gz"))
            sitk.WriteImage(label, str(folder / "labelsTr" / f"{name}.nii.gz"))
        description = {
            "modality": {"0": channel},
            "labels": {"0": "background", "1": "organ"},
            "training": [
                {"image": f"imagesTr/{n}.nii.gz", "label": f"labelsTr/{n}.nii.gz"} for n in names
            ],
        }
        (folder / "dataset.json").write_text(json.dumps(description))
        result = check_folder(Workspace(tmp_path / f"w{shift}{channel}"), folder, workers=0)
        kinds[channel, shift] = [problem.kind for problem in result.problems]
    assert kinds == {
        ("image", 0): ["maybe-ct"],
        ("CT", 0): [],
        ("CT", 1024): ["not-ct", "not-ct"],
    }
