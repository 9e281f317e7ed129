from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from conftest import toy_case

from autoseg.core.labels import LabelSpace, Structure
from autoseg.io.case_files import largest_case_voxels, lowest_for_not_finite, read_case
from autoseg.io.dataset_folder import find_dataset
from autoseg.io.images import write_image
from autoseg.io.mended import write_copy
from autoseg.io.readers.dicom import read_patient

LABELS = LabelSpace(
    structures=(Structure(name="shell", values=(1,)), Structure(name="core", values=(2,)))
)
DATA = Path(__file__).parents[3] / "shared" / "data"


class OnDisk:
    """A case in two channels whose files a test breaks before it is read."""

    def __init__(self, folder: Path) -> None:
        self.image, label_map = toy_case(0)
        self.labels = label_map.array
        self.geometry = self.image.geometry
        self.paths = (folder / "a_0000.nii.gz", folder / "a_0001.nrrd")
        self.label = folder / "a.nii.gz"
        write_image(self.paths[0], self.image)
        write_image(self.paths[1], self.image)
        self.write_labels(self.labels)

    def write_channel(self, number: int, array=None, geometry=None) -> None:
        array = self.image.array[0] if array is None else array
        geometry = geometry or replace(self.geometry, shape=array.shape)
        write_copy(self.paths[number], array, geometry)

    def write_labels(self, array, geometry=None) -> None:
        write_copy(self.label, array, geometry or replace(self.geometry, shape=array.shape))

    def read(self):
        return read_case("a", self.paths, self.label, LABELS, 2)

    def kinds(self) -> list[tuple[str, str]]:
        problems = self.read().problems
        assert {problem.case for problem in problems} <= {"a"}
        return [(problem.kind, problem.file.name) for problem in problems]


@pytest.fixture
def case(tmp_path):
    return OnDisk(tmp_path)


def test_a_sound_case_is_image_and_indices(case):
    files = case.read()
    assert files.problems == ()
    assert files.image.array.shape == (2, 10, 24, 20)
    np.testing.assert_array_equal(files.image.array[1], case.image.array[0])
    np.testing.assert_array_equal(files.labels, case.labels)
    assert files.labels.dtype == np.int8
    assert files.patient is None


def test_everything_wrong_with_a_case_is_told_at_once(case):
    case.paths[0].write_bytes(case.paths[0].read_bytes()[:500])
    noisy = case.image.array[0].copy()
    noisy[1, 2, 3:5] = np.nan
    noisy[0, 0, 0] = -np.inf
    case.write_channel(1, noisy)
    z, y, x = case.geometry.origin
    case.write_labels(
        np.where(case.labels == 2, 255, case.labels), replace(case.geometry, origin=(z, y + 5, x))
    )
    assert case.kinds() == [
        ("unreadable", "a_0000.nii.gz"),
        ("not-finite", "a_0001.nrrd"),
        ("geometry", "a.nii.gz"),
        ("undeclared-labels", "a.nii.gz"),
    ]
    assert case.read().image is None


def test_voxels_that_are_not_finite_are_counted_and_get_the_lowest_value(case):
    noisy = case.image.array[0].copy()
    noisy[1, 2, 3:5] = np.nan
    noisy[0, 0, 0] = -np.inf
    case.write_channel(0, noisy)
    files = case.read()
    assert [problem.finding for problem in files.problems] == ["3 of 4,800 voxels"]
    lowest = noisy[np.isfinite(noisy)].min()
    assert files.image.array[0, 1, 2, 4] == files.image.array[0, 0, 0, 0] == lowest


def test_values_that_overflow_are_not_finite(case):
    large = case.image.array[0].astype(np.float64)
    large[0, 0, 0] = 1e300
    sitk.WriteImage(sitk.GetImageFromArray(large), str(case.paths[0]))
    assert ("not-finite", "a_0000.nii.gz") in case.kinds()


def test_undeclared_values_are_told_with_their_frequency(case):
    odd = case.labels.astype(np.int16)
    odd[0, 0, :3], odd[0, 1, 0] = 255, -7
    case.write_labels(odd)
    (problem,) = case.read().problems
    assert problem.finding == "-7 in 1 voxels, 255 in 3 voxels"
    assert case.read().labels is None
    assert case.read().image is not None


def test_many_undeclared_values_are_shortened(case):
    odd = case.labels.astype(np.int16)
    odd[0, 0, :12] = np.arange(100, 112)
    case.write_labels(odd)
    (problem,) = case.read().problems
    assert problem.finding.endswith("107 in 1 voxels, and 4 more")


def test_labels_that_are_not_whole_are_told(case):
    case.write_labels(case.labels * 0.5)
    assert case.kinds() == [("fractional-labels", "a.nii.gz")]
    assert "found 0.5 in" in case.read().problems[0].finding


def test_labels_that_are_nan_are_not_whole(case):
    odd = case.labels.astype(np.float32)
    odd[0, 0, 0] = np.nan
    case.write_labels(odd)
    assert case.kinds() == [("fractional-labels", "a.nii.gz")]


def test_labels_of_another_shape_are_told_and_not_used(case):
    case.write_labels(case.labels[:, :-3])
    assert case.kinds() == [("shape", "a.nii.gz")]
    assert case.read().labels is None


def test_labels_slightly_off_are_told_and_used(case):
    z, y, x = case.geometry.origin
    case.write_labels(case.labels, replace(case.geometry, origin=(z + 0.05, y, x)))
    assert case.kinds() == [("geometry-slight", "a.nii.gz")]
    np.testing.assert_array_equal(case.read().labels, case.labels)


def test_a_channel_elsewhere_is_told(case):
    z, y, x = case.geometry.origin
    case.write_channel(1, geometry=replace(case.geometry, origin=(z, y, x - 4)))
    assert case.kinds() == [("geometry", "a_0001.nrrd")]


def test_a_channel_of_another_shape_is_told(case):
    case.write_channel(1, case.image.array[0][1:])
    assert case.kinds() == [("shape", "a_0001.nrrd")]
    assert case.read().image is None


def test_another_number_of_channels_is_told(case):
    files = read_case("a", case.paths[:1], case.label, LABELS, 2)
    assert [(p.kind, p.finding) for p in files.problems] == [
        ("channels", "1 channel, but 2 declared")
    ]


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_a_voxel_size_of_zero_is_told_as_such(case, ending):
    path = case.label.with_name(f"b{ending}")
    sitk.WriteImage(sitk.GetImageFromArray(case.labels), str(path))
    content = path.read_bytes()
    content = content.replace(b"(0,1,0)", b"(0,0,0)").replace(b"Spacing = 1 1", b"Spacing = 1 0")
    path.write_bytes(content)
    files = read_case("a", case.paths, path, LABELS, 2)
    assert [problem.kind for problem in files.problems] == ["spacing"]


def test_a_file_that_is_not_there_is_unreadable(case):
    case.label.unlink()
    assert case.kinds() == [("unreadable", "a.nii.gz")]


def test_finite_numbers_are_not_copied():
    array = np.array([1.0, -2.0], np.float32)
    assert lowest_for_not_finite(array)[0] is array


def test_numbers_of_which_none_is_finite_become_zero():
    array, count = lowest_for_not_finite(np.array([np.nan, np.inf], np.float32))
    assert (array.tolist(), count) == ([0.0, 0.0], 2)


def test_the_largest_case_is_known_by_its_file(toy, tmp_path):
    dataset = find_dataset(toy.raw)
    shapes = [toy_case(number)[0].geometry.shape for number in range(6)]
    assert largest_case_voxels(dataset) in {a * b * c for a, b, c in shapes}
    assert largest_case_voxels(dataset.model_copy(update={"cases": ()})) == 0
    gone = dataset.model_copy(update={"root": tmp_path})
    assert largest_case_voxels(gone) == 0


def test_the_patient_of_a_dicom_series_is_a_hash(case):
    series = DATA / "dicom_hippocampus" / "series"
    if not series.is_dir():
        pytest.skip("the DICOM series is not here")
    files = read_case("a", [series], case.label, LABELS, 1)
    patient = read_patient(series)
    assert files.image is not None
    assert (files.patient is None) == (not patient)
    assert files.patient is None or (patient not in files.patient and len(files.patient) == 16)
