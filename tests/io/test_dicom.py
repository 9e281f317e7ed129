import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from pydicom.data import get_testdata_file

from autoseg.core.geometry import Geometry
from autoseg.errors import AutosegError, DataError
from autoseg.io.formats import READERS, is_series, label_suffix, reader_of
from autoseg.io.images import read_geometry, read_image
from autoseg.io.readers.dicom import DICOM, read_patient
from autoseg.io.readers.dicom_files import find_series, object_class, other_object

REAL = Path(__file__).parents[3] / "shared" / "data" / "dicom_hippocampus" / "series"
CT, SCOUT = "1.2.826.1", "1.2.826.2"
SHUFFLED = ("b.dcm", "0", "c.IMA", "a", "9.dicom", "1.2.840.5")
"""Names of six slices from the lowest to the highest: their order says nothing."""
LONG = tuple(f"n{k:02d}" for k in range(18))
NORMAL = np.asarray([0.0, 0.0, 1.0])


def turned() -> np.ndarray:
    """Oblique about all three axes, columns in x-y-z."""
    turn = sitk.Euler3DTransform((0, 0, 0), 0.3, -0.5, 1.1)
    return np.reshape(turn.GetMatrix(), (3, 3))


def phantom(dtype: str = "int16", matrix: np.ndarray | None = None) -> sitk.Image:
    """4 x 5 x 6 (x, y, z), anisotropic, off-origin, oblique, every voxel different."""
    image = sitk.GetImageFromArray(np.arange(120).reshape(6, 5, 4).astype(dtype))
    image.SetSpacing((0.5, 0.75, 3.0))
    image.SetOrigin((-12.25, 33.5, 101.125))
    image.SetDirection((turned() if matrix is None else matrix).ravel().tolist())
    return image


def upright() -> sitk.Image:
    return phantom(matrix=np.eye(3))


def long_phantom() -> sitk.Image:
    return sitk.Tile([upright(), upright(), upright()], (1, 1, 3))


Tags = dict[str, str]


def write_series(
    folder: Path,
    image: sitk.Image,
    *,
    names: tuple[str, ...] = SHUFFLED,
    shift: Callable[[int], np.ndarray] | None = None,
    each: Callable[[int], Tags] | None = None,
    tags: Tags | None = None,
) -> list[Path]:
    """Write a volume slice by slice; InstanceNumber runs against the position.

    ``shift`` moves slices by so many mm (x, y, z), ``each`` adds tags to one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    series = (tags or {}).get("0020|000e", CT)
    files = [folder / names[k] for k in range(image.GetSize()[2])]
    for k, file in enumerate(files):
        one = image[:, :, k : k + 1]
        if shift is not None:
            one.SetOrigin((np.asarray(one.GetOrigin()) + shift(k)).tolist())
        values = {
            "0008|0016": "1.2.840.10008.5.1.4.1.1.2",
            "0008|0018": f"{series}.{k + 1}",
            "0008|0060": "CT",
            "0008|103e": "abdomen",
            "0010|0020": "P-7",
            "0020|000d": "1.2.826.9",
            "0020|000e": series,
            "0020|0013": str(90 - k),
        }
        for key, value in (values | (tags or {}) | (each(k) if each else {})).items():
            one.SetMetaData(key, value)
        write(one, file)
    return files


def write(image: sitk.Image, file: Path) -> Path:
    writer = sitk.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.KeepOriginalImageUIDOn()
    writer.SetFileName(str(file))
    writer.Execute(image)
    return file


def edit(file: Path, **values: object) -> Path:
    """Set attributes of a file by keyword; None deletes one."""
    data = pydicom.dcmread(file)
    for name, value in values.items():
        if value is None:
            delattr(data, name)
        else:
            setattr(data, name, value)
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
    data.save_as(file)
    return file


def scout(folder: Path, name: str = "scout.dcm", tags: Tags | None = None) -> Path:
    named = {"0008|103e": "scout", "0020|000e": SCOUT}
    image = phantom()[:, :, :1]
    return write_series(folder, image, names=(name,), tags=named | (tags or {}))[0]


def by_itk(folder: Path) -> sitk.Image:
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return reader.Execute()


def assert_same_place(found: Geometry, expected: Geometry) -> None:
    assert found.shape == expected.shape
    for name in ("spacing", "origin", "direction"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=1e-6)


def assert_refused(path: Path, match: str) -> None:
    """Both the image and its header are refused, in one line that begins with the place."""
    for read in (DICOM.read, DICOM.read_geometry):
        with pytest.raises(DataError, match=match) as caught:
            read(path)
        assert str(caught.value).startswith(str(path))
        assert "\n" not in str(caught.value)


# Where voxels lie


@pytest.mark.parametrize("matrix", [turned(), turned() @ np.diag([-1, -1, 1]), np.eye(3)])
def test_every_voxel_lies_where_its_slice_says(tmp_path: Path, matrix: np.ndarray):
    image = phantom(matrix=matrix)
    write_series(tmp_path, image)

    array, geometry = DICOM.read(tmp_path)

    assert array.shape == (1, 6, 5, 4)
    assert array.dtype == np.int16
    for z, y, x in np.ndindex(6, 5, 4):
        expected = image.TransformIndexToPhysicalPoint((x, y, z))[::-1]
        np.testing.assert_allclose(geometry.voxel_to_world((z, y, x)), expected, atol=1e-6)
        assert array[0, z, y, x] == image[x, y, z]


@pytest.mark.parametrize("name", ["oblique", "real"])
def test_a_series_equals_the_nifti_file_itk_makes_of_it(tmp_path: Path, name: str):
    folder = tmp_path / "series" if name == "oblique" else REAL
    if name == "oblique":
        write_series(folder, phantom())
    if not folder.is_dir():
        pytest.skip("the shared data are not here")
    sitk.WriteImage(by_itk(folder), str(tmp_path / "a.nii.gz"))

    found, expected = read_image([folder]), read_image([tmp_path / "a.nii.gz"])

    np.testing.assert_array_equal(found.array, expected.array)
    assert_same_place(found.geometry, expected.geometry)


def test_the_headers_alone_tell_the_geometry(tmp_path: Path):
    write_series(tmp_path, phantom())

    assert read_geometry(tmp_path) == (read_image([tmp_path]).geometry, 1)


@pytest.mark.parametrize(
    ("thickness", "expected"),
    [
        ({"SpacingBetweenSlices": "2.5", "SliceThickness": "4"}, 2.5),
        ({"SpacingBetweenSlices": "-2.5"}, 2.5),
        ({"SpacingBetweenSlices": None, "SliceThickness": "4"}, 4.0),
        ({"SpacingBetweenSlices": None}, 999.0),
    ],
)
def test_a_single_slice_has_its_place_and_thickness(
    tmp_path: Path, thickness: dict[str, str | None], expected: float
):
    image = phantom()[:, :, 2:3]
    file = edit(write_series(tmp_path, image, names=("a.dcm",))[0], **thickness)

    array, geometry = DICOM.read(file)

    assert array.shape == (1, 1, 5, 4)
    assert geometry.spacing == (expected, 0.75, 0.5)
    np.testing.assert_allclose(
        geometry.voxel_to_world((0, 4, 3)), image.TransformIndexToPhysicalPoint((3, 4, 0))[::-1]
    )
    assert DICOM.read(tmp_path)[1] == DICOM.read_geometry(file)[0] == geometry


def test_a_single_slice_may_have_no_place(tmp_path: Path):
    file = scout(tmp_path)
    edit(file, ImagePositionPatient=None, ImageOrientationPatient=None)

    geometry, _ = DICOM.read_geometry(file)

    assert geometry == Geometry(shape=(1, 5, 4), spacing=(3.0, 0.75, 0.5))


def test_other_spacings_stand_in_for_a_missing_one(tmp_path: Path):
    file = edit(scout(tmp_path), PixelSpacing=None, NominalScannedPixelSpacing=[0.5, 0.25])
    assert DICOM.read_geometry(file)[0].spacing == (3.0, 0.5, 0.25)

    edit(file, ImagerPixelSpacing=[0.25, 0.125])
    assert DICOM.read_geometry(file)[0].spacing == (3.0, 0.25, 0.125)

    edit(file, ImagerPixelSpacing=None, NominalScannedPixelSpacing=None)
    assert_refused(file, "the size of a pixel is not given; convert it to NIfTI")


# Values


@pytest.mark.parametrize("modality", [("CT", "2"), ("MR", "4"), ("PT", "128")])
def test_slope_and_intercept_of_each_slice_are_applied(tmp_path: Path, modality: tuple[str, str]):
    name, kind = modality
    files = write_series(tmp_path, phantom())
    for k, file in enumerate(files):
        edit(
            file,
            Modality=name,
            SOPClassUID=f"1.2.840.10008.5.1.4.1.1.{kind}",
            RescaleSlope=str(1 + 0.25 * k),
            RescaleIntercept=str(-0.5 * k),
        )

    array, _ = DICOM.read(tmp_path)

    k = np.arange(6).reshape(6, 1, 1)
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array[0], np.arange(120).reshape(6, 5, 4) * (1 + k / 4) - k / 2)


@pytest.mark.parametrize("intercepts", [(-1024,) * 6, (0, -1024, 0, 7, 0, 70000)])
def test_whole_numbers_stay_whole(tmp_path: Path, intercepts: tuple[int, ...]):
    files = write_series(tmp_path, phantom())
    for file, intercept in zip(files, intercepts, strict=True):
        edit(file, RescaleSlope="1", RescaleIntercept=str(intercept))

    array, _ = DICOM.read(tmp_path)

    expected = np.arange(120).reshape(6, 5, 4) + np.reshape(intercepts, (6, 1, 1))
    assert np.issubdtype(array.dtype, np.integer)
    np.testing.assert_array_equal(array[0], expected)


def test_colours_are_channels(tmp_path: Path):
    colours = np.arange(60, dtype=np.uint8).reshape(1, 5, 4, 3)
    file = write(sitk.GetImageFromArray(colours, isVector=True), tmp_path / "a.dcm")

    array, geometry = DICOM.read(file)

    np.testing.assert_array_equal(array, np.moveaxis(colours, -1, 0))
    assert DICOM.read_geometry(file) == (geometry, 3)


def test_white_as_lowest_value_is_inverted_as_itk_does(tmp_path: Path):
    files = write_series(tmp_path, phantom("uint16"))
    for file in files:
        edit(file, PhotometricInterpretation="MONOCHROME1", BitsStored=12, HighBit=11)

    array, _ = DICOM.read(tmp_path)

    np.testing.assert_array_equal(array[0], 4095 - np.arange(120).reshape(6, 5, 4))
    np.testing.assert_array_equal(array[0], sitk.GetArrayFromImage(by_itk(tmp_path)))


# What is a series


def test_other_files_beside_the_slices_are_let_be(tmp_path: Path):
    write_series(tmp_path, phantom())
    expected = DICOM.read(tmp_path)
    (tmp_path / "notes.txt").write_text("none" * 100)
    (tmp_path / "DICOMDIR").write_bytes((tmp_path / "a").read_bytes())
    (tmp_path / "._a").write_bytes(b"Mac OS X")
    (tmp_path / "inside").mkdir()

    found = DICOM.read(tmp_path)

    assert found[1] == expected[1]
    np.testing.assert_array_equal(found[0], expected[0])


def test_a_folder_is_known_by_what_its_files_begin_with(tmp_path: Path):
    folder, empty, pictures = (tmp_path / name for name in ("slices", "empty", "pictures"))
    write_series(folder, phantom())
    for number in range(20):
        (folder / f"0_{number}.txt").write_text("x" * 200)
    empty.mkdir()
    pictures.mkdir()
    sitk.WriteImage(phantom(), str(pictures / "a.nii.gz"))

    assert [is_series(path) for path in (folder, empty, pictures)] == [True, False, False]
    assert reader_of(folder) is reader_of(folder / "b.dcm") is READERS.get("dicom")


def test_a_folder_without_images_says_what_it_holds(tmp_path: Path):
    tmp_path.joinpath("a.txt").write_text("a")
    assert_refused(tmp_path, "holds no DICOM image$")

    edit(scout(tmp_path), SOPClassUID="1.2.840.10008.5.1.4.1.1.481.3", PixelData=None)
    assert_refused(tmp_path, r"holds no DICOM image \(only 1 RTSTRUCT\)$")
    assert_refused(tmp_path / "scout.dcm", r"holds no DICOM image \(only 1 RTSTRUCT\)$")


def test_a_path_that_is_not_there_is_named(tmp_path: Path):
    assert_refused(tmp_path / "away", "no such file or folder")


def test_scouts_and_other_objects_beside_a_volume_are_let_pass(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    write_series(tmp_path, phantom())
    expected = DICOM.read(tmp_path)
    scout(tmp_path)
    across = phantom(matrix=turned()[:, [2, 0, 1]])[:, :, :1]
    again = {"0020|000e": SCOUT, "0008|0018": f"{SCOUT}.9", "0008|103e": "scout"}
    write_series(tmp_path, across, names=("across.dcm",), tags=again)
    contours = scout(tmp_path, "contours.dcm", {"0020|000e": f"{SCOUT}.7"})
    edit(contours, SOPClassUID="1.2.840.10008.5.1.4.1.1.481.3", PixelData=None)

    with caplog.at_level(logging.DEBUG):
        found = DICOM.read(tmp_path)

    assert found[1] == expected[1]
    np.testing.assert_array_equal(found[0], expected[0])
    assert "left out 'scout' (CT, 1 slice); 1 RTSTRUCT" in caplog.text.replace(
        "2 slices", "1 slice"
    )


def test_several_volumes_are_listed(tmp_path: Path):
    write_series(tmp_path, phantom())
    other = {"0020|000e": f"{CT}.5", "0008|103e": "Schädel", "0008|0060": "MR"}
    write_series(tmp_path, phantom()[:, :, :4], names=("p", "q", "r", "s"), tags=other)
    for name in "pqrs":
        edit(tmp_path / name, SpecificCharacterSet="ISO_IR 100", SeriesDescription="Schädel")

    assert_refused(
        tmp_path,
        r"holds 2 series: 'abdomen' \(CT, 6 slices\); 'Schädel' \(MR, 4 slices\); "
        "give each series a folder of its own",
    )


def test_scouts_alone_are_no_volume(tmp_path: Path):
    scout(tmp_path)
    scout(tmp_path, "b.dcm", {"0020|000e": f"{SCOUT}.1", "0008|103e": ""})

    assert_refused(tmp_path, r"holds 2 series: .*'scout' \(CT, 1 slice\)")


def test_a_long_list_of_series_is_cut(tmp_path: Path):
    for number in range(10):
        scout(tmp_path, f"{number}.dcm", {"0020|000e": f"{SCOUT}.{number}"})

    assert_refused(tmp_path, r"holds 10 series: ('scout' \(CT, 1 slice\); ){8}2 more; give each")


@pytest.mark.parametrize(
    ("uid", "kind"),
    [
        ("1.2.840.10008.5.1.4.1.1.2", None),
        ("1.2.840.10008.5.1.4.1.1.4.1", None),
        ("1.2.840.10008.5.1.4.1.1.481.1", None),
        ("1.2.840.10008.5.1.4.1.1.481.2", "RTDOSE"),
        ("1.2.840.10008.5.1.4.1.1.481.4", "radiotherapy object"),
        ("1.2.840.10008.5.1.4.1.1.66", "raw data"),
        ("1.2.840.10008.5.1.4.1.1.66.1", "spatial registration"),
        ("1.2.840.10008.5.1.4.1.1.66.4", "SEG"),
        ("1.2.840.10008.5.1.4.1.1.88.67", "SR"),
        ("1.2.840.10008.5.1.4.1.1.11.1", "presentation state"),
        ("1.2.840.10008.1.3.10", "DICOMDIR"),
        ("1.3.12.2.1107.5.9.1", "report of a Siemens scanner"),
        ("1.2.3", None),
        ("", None),
    ],
)
def test_objects_that_are_no_images_are_told_from_images(uid: str, kind: str | None):
    assert other_object(uid) == kind


def test_a_file_may_not_say_what_it_is(tmp_path: Path):
    modality = b"\x08\x00\x60\x00CS\x02\x00CT\x08\x00\x70\x00LO\x00\x00"
    (tmp_path / "a").write_bytes(bytes(128) + b"DICM" + modality)
    (tmp_path / "b").write_bytes(bytes(132) + modality)

    assert object_class(tmp_path / "a") == ""
    assert object_class(tmp_path / "b") is None


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path):
    with pytest.raises(DataError, match=r"cannot be opened \(Is a directory\)"):
        object_class(tmp_path)


def test_the_slices_of_a_localiser_are_no_volume(tmp_path: Path):
    for number, axes in enumerate(([0, 1, 2], [1, 2, 0], [2, 0, 1])):
        image = phantom(matrix=np.eye(3)[:, axes])[:, :, :1]
        tags = {"0008|0018": f"{CT}.{number}"}
        write_series(tmp_path, image, names=(f"{number}.dcm",), tags=tags)

    assert_refused(tmp_path, "its 3 slices have 3 orientations, as those of a localiser; keep the")


# What makes no regular grid


@pytest.mark.parametrize("said", ["", "-20"])
def test_a_tilted_gantry_is_refused_with_its_angle(tmp_path: Path, said: str):
    lean = 3 * np.tan(np.radians(20))
    tags = {"0018|1120": said} if said else {}
    write_series(tmp_path, upright(), shift=lambda k: np.asarray([0, lean * k, 0]), tags=tags)

    assert_refused(
        tmp_path,
        r"slices are shifted sideways by up to 5\.46 mm, a gantry tilt of 20\.0 degrees"
        + (r"; GantryDetectorTilt says -20" if said else "")
        + "; correct it when converting to NIfTI, for instance with dcm2niix",
    )


def test_a_tilt_in_the_header_alone_is_none(tmp_path: Path):
    write_series(tmp_path, upright(), tags={"0018|1120": "-20"})

    assert DICOM.read_geometry(tmp_path)[0].spacing == (3.0, 0.75, 0.5)


def test_rounding_of_positions_is_let_pass(tmp_path: Path):
    noise = np.random.default_rng(0).uniform(-0.01, 0.01, (6, 3))
    write_series(tmp_path, upright(), shift=lambda k: noise[k])

    np.testing.assert_allclose(DICOM.read_geometry(tmp_path)[0].spacing[0], 3, atol=0.005)


def test_rounding_of_directions_and_spacings_is_let_pass(tmp_path: Path):
    files = write_series(tmp_path, upright())
    edit(files[3], ImageOrientationPatient=[1, 0.00001, 0, 0, 1, 0], PixelSpacing=[0.75, 0.50001])

    assert DICOM.read_geometry(tmp_path)[0].spacing == (3.0, 0.75, 0.5)


def test_missing_slices_are_counted_and_their_place_told(tmp_path: Path):
    write_series(tmp_path, long_phantom(), names=LONG)
    for name in ("n01", "n02", "n04"):
        (tmp_path / name).unlink()

    assert_refused(
        tmp_path,
        r"3 slices are missing along the normal \(2 between 101\.125 and 110\.125 mm, "
        r"1 between 110\.125 and 116\.125 mm; the others are 3 mm apart\); copy or export",
    )


def test_many_gaps_are_not_all_told(tmp_path: Path):
    write_series(tmp_path, long_phantom(), names=LONG)
    for k in (1, 3, 6, 9, 12):
        (tmp_path / LONG[k]).unlink()

    assert_refused(tmp_path, r"5 slices are missing .* mm and 2 more gaps; the others are 3 mm")


def test_uneven_distances_are_refused(tmp_path: Path):
    moved = [0.0, 0.0, 0.0, 1.0, 0.0, 0.0]
    write_series(tmp_path, upright(), shift=lambda k: moved[k] * NORMAL)

    assert_refused(tmp_path, "slices lie 2 to 4 mm apart, not evenly; convert it to NIfTI")


def test_distances_that_drift_are_refused(tmp_path: Path):
    write_series(tmp_path, upright(), shift=lambda k: 0.1 * k * k * NORMAL)

    assert_refused(tmp_path, r"slices lie 3\.1 to 3\.9 mm apart, not evenly")


def test_several_volumes_in_one_series_are_counted(tmp_path: Path):
    for number in range(3):
        names = tuple(f"{number}{name}" for name in SHUFFLED)
        instance = f"{CT}.{number}7"
        write_series(tmp_path, phantom() + number, names=names,
                     each=lambda k, i=instance: {"0008|0018": f"{i}{k}"})  # fmt: skip

    assert_refused(
        tmp_path,
        r"3 slices at each of 6 positions, so 3 volumes \(time points, echoes or phases\); "
        "give each volume a folder of its own",
    )


def test_a_copy_of_a_slice_is_let_pass_but_not_another_slice_there(tmp_path: Path):
    files = write_series(tmp_path, phantom())
    expected = DICOM.read(tmp_path)
    copy = tmp_path / "copy of a.dcm"
    copy.write_bytes(files[3].read_bytes())

    np.testing.assert_array_equal(DICOM.read(tmp_path)[0], expected[0])

    copy.write_bytes(files[3].read_bytes()[:-1] + b"\x77")
    assert_refused(tmp_path, r"up to 2 slices at one position \(7 at 6 positions\)")


def test_slices_of_several_sizes_are_named(tmp_path: Path):
    write_series(tmp_path, phantom())
    write_series(tmp_path, phantom()[:3], names=("b.dcm",) * 6)

    assert_refused(tmp_path, r"slices of different size, 5 x 4 in 0 and 5 x 3 in b\.dcm; give")


def test_a_grey_and_a_coloured_slice_are_of_different_size(tmp_path: Path):
    files = write_series(tmp_path, phantom("uint8"))
    colours = sitk.GetImageFromArray(np.zeros((1, 5, 4, 3), np.uint8), isVector=True)
    colours.SetMetaData("0020|000e", CT)
    write(colours, files[0])

    assert_refused(tmp_path, r"5 x 4 in 0 and 5 x 4 x 3 colours in b\.dcm")


def test_slices_of_several_pixel_spacings_are_refused(tmp_path: Path):
    files = write_series(tmp_path, phantom())
    edit(files[2], PixelSpacing=[0.75, 0.25])

    assert_refused(
        tmp_path, r"slices of different pixel spacing, 0\.75 x 0\.5 mm and 0\.75 x 0\.25 mm; give"
    )


def test_slices_without_a_position_are_counted(tmp_path: Path):
    files = write_series(tmp_path, phantom())
    edit(files[2], ImagePositionPatient=None)

    assert_refused(tmp_path, r"1 of 6 slices do not say where they lie \(ImagePositionPatient")


@pytest.mark.parametrize("cosines", [[1, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 0], [2, 0, 0, 0, 2, 0]])
def test_directions_that_are_none_are_refused(tmp_path: Path, cosines: list[int]):
    for file in write_series(tmp_path, phantom()):
        edit(file, ImageOrientationPatient=cosines)

    assert_refused(tmp_path, "ImageOrientationPatient .* is no pair of perpendicular directions")


# Damage


def test_a_pixel_size_of_zero_is_refused(tmp_path: Path):
    assert_refused(edit(scout(tmp_path), PixelSpacing=[0, 1]), "spacing must be three positive")


def test_a_number_that_is_none_is_shown(tmp_path: Path):
    file = scout(tmp_path)
    file.write_bytes(file.read_bytes().replace(b".75\\.5", b".75\\ab"))
    assert_refused(file, r"PixelSpacing is '\.75\\ab', not 2 numbers; export it again")

    file = edit(scout(tmp_path), SliceThickness="4", SpacingBetweenSlices=None)
    file.write_bytes(file.read_bytes().replace(b"\x02\x00\x00\x004 ", b"\x02\x00\x00\x00nm"))
    assert_refused(file, r"SliceThickness is 'nm', not 1 number;")


@pytest.mark.parametrize("kept", [0, 100, 133, 300, -10])
def test_a_damaged_slice_is_named_and_nothing_is_printed(
    tmp_path: Path, kept: int, capfd: pytest.CaptureFixture[str]
):
    files = write_series(tmp_path, phantom())
    files[0].write_bytes(files[0].read_bytes()[:kept])

    for read in (DICOM.read, DICOM.read_geometry):
        with pytest.raises(DataError, match=r"cannot be read .* copy it again") as caught:
            read(tmp_path)
        assert str(caught.value).startswith(str(files[0]))

    assert capfd.readouterr() == ("", "")


def write_compressed(file: Path) -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 1000, (1, 40, 30)).astype(np.int16)
    writer = sitk.ImageFileWriter()
    writer.SetCompressor("JPEG")
    writer.UseCompressionOn()
    writer.SetFileName(str(file))
    writer.Execute(sitk.GetImageFromArray(noise))
    return noise


@pytest.mark.parametrize("kept", [1, 0.9, 0.5])
def test_compressed_slices_are_read_and_truncated_ones_named(
    tmp_path: Path, kept: float, capfd: pytest.CaptureFixture[str]
):
    file = tmp_path / "a.dcm"
    expected = write_compressed(file)
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * kept)])

    if kept == 1:
        np.testing.assert_array_equal(DICOM.read(tmp_path)[0][0], expected)
    else:
        with pytest.raises(DataError, match=r"a\.dcm: cannot be read"):
            DICOM.read(tmp_path)

    assert capfd.readouterr() == ("", "")


def test_voxels_that_cannot_be_decoded_are_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    file = tmp_path / "a.dcm"
    write_compressed(file)
    content = file.read_bytes()
    middle = len(content) * 3 // 5
    file.write_bytes(content[:middle] + b"\xff" * 200 + content[middle + 200 :])

    with pytest.raises(DataError, match=r"a\.dcm: cannot be read"):
        DICOM.read(tmp_path)

    assert capfd.readouterr() == ("", "")


def test_the_decoders_do_not_speak(capfd: pytest.CaptureFixture[str]):
    array, _ = DICOM.read(Path(str(get_testdata_file("JPGExtended.dcm", download=False))))

    assert (array.shape, array.max()) == ((1, 1, 1024, 256), 264)
    assert capfd.readouterr() == ("", "")
    print("heard", file=sys.stderr)  # noqa: T201
    assert capfd.readouterr().err == "heard\n"


def test_images_are_read_where_there_is_no_terminal(tmp_path: Path):
    write_series(tmp_path, phantom())
    program = (
        "import os, sys; os.close(2); from pathlib import Path; "
        "from autoseg.io.readers.dicom import DICOM; "
        "print(DICOM.read(Path(sys.argv[1]))[0].sum())"
    )

    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path], check=True, stdout=subprocess.PIPE
    )

    assert done.stdout.split() == [b"7140"]


# Trees, patients, labels


def test_series_are_found_at_any_depth_and_links_do_not_hang(tmp_path: Path):
    folders = [tmp_path / name for name in ("p1/study/ct", "p1/study/mr", "p2", "p2/later")]
    for folder in folders:
        write_series(folder, phantom()[:, :, :2])
    scout(tmp_path / "contours")
    edit(
        tmp_path / "contours" / "scout.dcm",
        SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11",
        PixelData=None,
    )
    scout(tmp_path / ".hidden")
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "a.txt").write_text("a" * 200)
    (tmp_path / "a loop").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "a link").symlink_to(folders[0], target_is_directory=True)

    assert find_series(tmp_path) == sorted(folders)
    assert find_series(folders[0]) == [folders[0]]
    assert find_series(tmp_path / "papers") == []


def test_a_folder_that_is_not_there_cannot_be_listed(tmp_path: Path):
    with pytest.raises(DataError, match="away: cannot be listed \\(No such file"):
        find_series(tmp_path / "away")


def test_the_patient_of_a_series_is_told(tmp_path: Path):
    files = write_series(tmp_path, phantom())

    assert read_patient(tmp_path) == read_patient(files[0]) == "P-7"

    assert read_patient(edit(files[0], PatientID="")) is None
    with pytest.raises(DataError, match="no such file or folder"):
        read_patient(tmp_path / "away")


def test_label_maps_of_a_series_are_nifti_files(tmp_path: Path):
    write_series(tmp_path, phantom())

    assert label_suffix(tmp_path, 0, 3) == ".nii.gz"
    with pytest.raises(AutosegError, match=r"a\.dcm: label maps .* not written as DICOM; write"):
        DICOM.write(
            tmp_path / "a.dcm", np.ones((6, 5, 4), np.uint8), DICOM.read_geometry(tmp_path)[0]
        )
