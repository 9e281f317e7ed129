import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from autoseg.core.geometry import Geometry
from autoseg.errors import AutosegError, DataError
from autoseg.io.readers.dicom import DICOM, read_patient

VALUES = np.arange(120, dtype=np.int16).reshape(6, 5, 4)
RISING = (0, 1, 2, 3, 4, 5)


def phantom() -> sitk.Image:
    """4 x 5 x 6 (x, y, z), anisotropic, off-origin, oblique, every voxel different."""
    image = sitk.GetImageFromArray(VALUES)
    image.SetSpacing((0.5, 0.75, 3.0))
    image.SetOrigin((-12.25, 33.5, 101.125))
    turn = sitk.Euler3DTransform((0, 0, 0), 0.3, -0.5, 1.1)
    image.SetDirection(turn.GetMatrix())
    return image


def text(values: np.ndarray) -> list[str]:
    return [f"{value:.9f}" for value in values]


def item(**values: object) -> Dataset:
    data = Dataset()
    for name, value in values.items():
        setattr(data, name, value)
    return data


def frame(k: int, slope: str | None = None) -> Dataset:
    image = phantom()
    position = np.asarray(image.TransformIndexToPhysicalPoint((0, 0, k)))
    own = item(PlanePositionSequence=[item(ImagePositionPatient=text(position))])
    if slope is not None:
        rescale = item(RescaleIntercept="0.5", RescaleSlope=slope, RescaleType="US")
        own.PixelValueTransformationSequence = [rescale]
    return own


def orientation() -> Dataset:
    matrix = np.reshape(phantom().GetDirection(), (3, 3))
    return item(ImageOrientationPatient=text(matrix[:, :2].T.ravel()))


def enhanced(order: tuple[int, ...] = RISING, slopes: tuple[str, ...] = ()) -> Dataset:
    """An enhanced MR file; ``order`` says which slice each frame holds."""
    data = item(
        SOPClassUID="1.2.840.10008.5.1.4.1.1.4.1", SOPInstanceUID="1.2.826.3", Modality="MR",
        SeriesInstanceUID="1.2.826.4", StudyInstanceUID="1.2.826.5", PatientID="P-8",
        SeriesDescription="T1", Rows=5, Columns=4, NumberOfFrames=len(order),
        SamplesPerPixel=1, PhotometricInterpretation="MONOCHROME2", BitsAllocated=16,
        BitsStored=16, HighBit=15, PixelRepresentation=1,
    )  # fmt: skip
    measures = item(PixelSpacing=["0.75", "0.5"], SliceThickness="2.5")
    shared = item(PixelMeasuresSequence=[measures], PlaneOrientationSequence=[orientation()])
    data.SharedFunctionalGroupsSequence = [shared]
    data.PerFrameFunctionalGroupsSequence = [
        frame(k, slopes[n] if slopes else None) for n, k in enumerate(order)
    ]
    data.PixelData = VALUES[list(order)].tobytes()
    return data


def save(data: Dataset, file: Path, syntax: str = ExplicitVRLittleEndian) -> Path:
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    data.save_as(file, enforce_file_format=True)
    return file


def assert_is_the_phantom(array: np.ndarray, geometry: Geometry) -> None:
    image = phantom()
    np.testing.assert_array_equal(array, VALUES[np.newaxis])
    for z, y, x in np.ndindex(6, 5, 4):
        expected = image.TransformIndexToPhysicalPoint((x, y, z))[::-1]
        np.testing.assert_allclose(geometry.voxel_to_world((z, y, x)), expected, atol=1e-5)


def assert_refused(file: Path, match: str) -> None:
    for read in (DICOM.read, DICOM.read_geometry):
        with pytest.raises(DataError, match=match):
            read(file)


@pytest.mark.parametrize("order", [RISING, RISING[::-1], (3, 0, 5, 1, 4, 2)])
def test_frames_lie_where_they_say_in_whatever_order(tmp_path: Path, order: tuple[int, ...]):
    file = save(enhanced(order), tmp_path / "a.dcm")

    array, geometry = DICOM.read(file)

    assert_is_the_phantom(array, geometry)
    assert array.dtype == np.int16
    assert DICOM.read_geometry(file) == (geometry, 1)
    assert DICOM.read_geometry(tmp_path) == (geometry, 1)
    assert read_patient(tmp_path) == "P-8"


@pytest.mark.parametrize("is_undefined", [False, True])
@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian]
)
def test_frames_are_found_in_every_encoding(tmp_path: Path, syntax: str, is_undefined: bool):
    data = enhanced()
    other = item(CodeValue="1", DerivationDescription="a" * 9)
    data.DerivationCodeSequence = [other, Dataset()]
    for group in (data.DerivationCodeSequence, data.PerFrameFunctionalGroupsSequence):
        group.is_undefined_length = is_undefined
        for one in group:
            one.is_undefined_length_sequence_item = is_undefined

    assert_is_the_phantom(*DICOM.read(save(data, tmp_path / "a.dcm", syntax)))


def test_big_endian_files_are_read(tmp_path: Path):
    data = enhanced()
    data.PixelData = VALUES.astype(">i2").tobytes()

    assert_is_the_phantom(*DICOM.read(save(data, tmp_path / "a.dcm", ExplicitVRBigEndian)))


def test_without_pydicom_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = save(enhanced(), tmp_path / "a.dcm")
    monkeypatch.setitem(sys.modules, "pydicom", None)

    with pytest.raises(AutosegError, match=r'need pydicom; pip install "autoseg\[dicom\]"'):
        DICOM.read_geometry(file)


def test_a_frame_may_say_what_others_share(tmp_path: Path):
    data = enhanced()
    del data.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence
    for own in data.PerFrameFunctionalGroupsSequence:
        own.PlaneOrientationSequence = [orientation()]

    assert_is_the_phantom(*DICOM.read(save(data, tmp_path / "a.dcm")))


def test_a_single_frame_has_its_thickness(tmp_path: Path):
    file = save(enhanced((2,)), tmp_path / "a.dcm")

    array, geometry = DICOM.read(file)

    np.testing.assert_array_equal(array[0], VALUES[2:3])
    assert geometry.spacing == (2.5, 0.75, 0.5)
    expected = phantom().TransformIndexToPhysicalPoint((0, 0, 2))[::-1]
    np.testing.assert_allclose(geometry.origin, expected, atol=1e-6)


def test_each_frame_has_its_own_slope(tmp_path: Path):
    order = (5, 0, 1, 2, 3, 4)
    slopes = ("2", "1", "1.5", "3", "0.25", "2")

    array, _ = DICOM.read(save(enhanced(order, slopes), tmp_path / "a.dcm"))

    by_slice = np.asarray([1, 1.5, 3, 0.25, 2, 2]).reshape(6, 1, 1)
    assert array.dtype == np.float32
    np.testing.assert_allclose(array[0], VALUES * by_slice + 0.5, rtol=1e-6)


def test_one_slope_for_all_frames_is_applied_once(tmp_path: Path):
    array, _ = DICOM.read(save(enhanced(RISING, ("2",) * 6), tmp_path / "a.dcm"))

    np.testing.assert_array_equal(array[0], VALUES * 2 + 0.5)


def test_time_points_in_one_file_are_counted(tmp_path: Path):
    file = save(enhanced(RISING + RISING), tmp_path / "a.dcm")

    assert_refused(file, r"a\.dcm: 2 slices at each of 6 positions, so 2 volumes")


def test_missing_and_shifted_frames_are_refused(tmp_path: Path):
    gap = save(enhanced((0, 1, 3, 4, 5)), tmp_path / "gap.dcm")
    assert_refused(gap, r"gap\.dcm: 1 slice is missing along the normal")

    data = enhanced()
    for k, own in enumerate(data.PerFrameFunctionalGroupsSequence):
        place = own.PlanePositionSequence[0]
        shifted = np.asarray(place.ImagePositionPatient, float) + k * np.asarray([1, 0, 0])
        place.ImagePositionPatient = text(shifted)
    assert_refused(save(data, tmp_path / "b.dcm"), r"b\.dcm: slices are shifted sideways")


def test_frames_that_say_no_place_are_refused(tmp_path: Path):
    data = enhanced()
    del data.PerFrameFunctionalGroupsSequence
    data.PixelSpacing = ["0.75", "0.5"]

    file = save(data, tmp_path / "a.dcm")

    assert_refused(file, r"a\.dcm: 6 of 6 slices do not say where they lie")


def test_damaged_functional_groups_are_refused(tmp_path: Path):
    file = save(enhanced(), tmp_path / "a.dcm", ImplicitVRLittleEndian)
    content = file.read_bytes()
    at = content.index(b"\x20\x00\x13\x91") + 8
    assert content[at : at + 4] == b"\xfe\xff\x00\xe0"
    file.write_bytes(content[:at] + b"\xfd" + content[at + 1 :])

    with pytest.raises(DataError, match=r"a\.dcm: (cannot be read|the positions of its frames)"):
        DICOM.read_geometry(file)


def test_several_files_with_frames_are_no_series(tmp_path: Path):
    save(enhanced(), tmp_path / "a.dcm")
    data = enhanced()
    data.SOPInstanceUID = "1.2.826.33"
    save(data, tmp_path / "b.dcm")

    assert_refused(
        tmp_path,
        "its series has 2 files, some of which hold several frames; choose one of the files",
    )
