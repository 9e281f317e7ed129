import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from autoseg.core.geometry import Geometry
from autoseg.core.image import LabelMap
from autoseg.errors import AutosegError, DataError
from autoseg.io.images import read_geometry, read_image, read_labels, write_labels
from autoseg.io.readers.nifti import NIFTI

AFFINE = np.array([[0.3, -0.4, 0, 12], [0.4, 0.3, 0, -33], [0, 0, 3, 101], [0, 0, 0, 1]]) * 1.0
SHEARED = np.array([[0.5, 0.2, 0, 12], [0, 0.75, 0.6, -33], [0, 0, 3, 101], [0, 0, 0, 1.0]])


def _numbers(*shape: int, dtype: str = "int16") -> np.ndarray:
    """Every voxel different, as long as the type can tell them apart."""
    return np.arange(np.prod(shape)).reshape(shape).astype(dtype)


def _save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE, **fields: object) -> Path:
    """Write x-y-z voxels and then change the header as no library would."""
    image = nibabel.Nifti1Image(array, affine, dtype=array.dtype)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, code=1)
    image.set_qform(affine if affine is AFFINE else None, code=int(affine is AFFINE))
    content = bytearray(image.to_bytes())
    header = nibabel.Nifti1Header(content[:348], check=False)
    for name, value in fields.items():
        header[name] = value
    content[:348] = header.binaryblock
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def _of_itk(path: Path) -> np.ndarray:
    """What ITK reads, ``(channels, z, y, x)``."""
    image = sitk.ReadImage(str(path))
    array = sitk.GetArrayFromImage(image)
    is_vector = image.GetNumberOfComponentsPerPixel() > 1
    return np.moveaxis(array, -1, 0) if is_vector else array.reshape(-1, *array.shape[-3:])


INTEGERS = ["uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("dtype", [*INTEGERS, "float32", "float64"])
def test_voxels_of_any_type_are_those_itk_reads(tmp_path: Path, dtype: str, ending: str):
    path = _save(tmp_path / f"a{ending}", _numbers(4, 5, 6, dtype=dtype))

    array, _ = NIFTI.read(path)

    assert array.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(array[0], _numbers(4, 5, 6, dtype=dtype).T)
    np.testing.assert_array_equal(array, _of_itk(path))


@pytest.mark.parametrize("dtype", [*INTEGERS, "float32", "float64"])
@pytest.mark.parametrize(("slope", "intercept"), [(2.0, 5.0), (0.1, -3.0), (1.0, 7.5)])
def test_slope_and_intercept_are_applied_as_itk_does(
    tmp_path: Path, dtype: str, slope: float, intercept: float
):
    numbers = _numbers(4, 5, 6, dtype=dtype)
    path = _save(tmp_path / "a.nii", numbers, scl_slope=slope, scl_inter=intercept)

    array, _ = NIFTI.read(path)

    np.testing.assert_allclose(array[0], numbers.T * slope + intercept, rtol=1e-6, atol=1e-5)
    np.testing.assert_allclose(array, _of_itk(path), rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize(("slope", "intercept"), [(1, 0), (0, 0), (0, 5), (np.nan, np.nan)])
def test_integers_without_a_scale_stay_integers(tmp_path: Path, slope: float, intercept: float):
    path = _save(tmp_path / "a.nii", _numbers(4, 5, 6), scl_slope=slope, scl_inter=intercept)

    array, _ = NIFTI.read(path)

    assert array.dtype == np.int16
    np.testing.assert_array_equal(array[0], _numbers(4, 5, 6).T)


def test_a_label_map_stored_with_a_scale_holds_whole_numbers(tmp_path: Path):
    labels = np.where(_numbers(4, 5, 6) > 60, 255, 0).astype(np.uint8)
    path = _save(tmp_path / "a.nii", labels, scl_slope=np.float32(1 / 255), scl_inter=0)

    assert set(np.unique(read_labels(path).array)) == {0, 1}


@pytest.mark.parametrize("dtype", [">i2", ">f4", ">u4", ">f8"])
def test_big_endian_files_are_read_into_native_numbers(tmp_path: Path, dtype: str):
    header = nibabel.Nifti1Header(endianness=">")
    numbers = _numbers(4, 5, 6, dtype=dtype)
    image = nibabel.Nifti1Image(numbers, AFFINE, header, dtype=numbers.dtype)
    nibabel.save(image, tmp_path / "a.nii.gz")

    array, geometry = NIFTI.read(tmp_path / "a.nii.gz")

    assert array.dtype.isnative
    np.testing.assert_array_equal(array[0], numbers.T)
    np.testing.assert_array_equal(array, _of_itk(tmp_path / "a.nii.gz"))
    np.testing.assert_allclose(geometry.spacing, (3.0, 0.5, 0.5), rtol=1e-6)


@pytest.mark.parametrize("names", ["RGB", "RGBA"])
def test_colours_are_channels(tmp_path: Path, names: str):
    colours = np.zeros((4, 5, 6), dtype=[(name, "u1") for name in names])
    for number, name in enumerate(names):
        colours[name] = _numbers(4, 5, 6, dtype="uint8") + 30 * number
    path = _save(tmp_path / "a.nii.gz", colours)

    array, geometry = NIFTI.read(path)

    assert array.shape == (len(names), 6, 5, 4)
    np.testing.assert_array_equal(array[2], colours["B"].T)
    np.testing.assert_array_equal(array, _of_itk(path))
    assert NIFTI.read_geometry(path) == (geometry, len(names))


def test_colours_over_time_are_channels_as_itk_orders_them(tmp_path: Path):
    colours = np.zeros((4, 5, 3, 2), dtype=[(name, "u1") for name in "RGB"])
    for number, name in enumerate("RGB"):
        colours[name] = _numbers(4, 5, 3, 2, dtype="uint8") + 60 * number
    path = _save(tmp_path / "a.nii.gz", colours)

    array, geometry = NIFTI.read(path)

    np.testing.assert_array_equal(array, _of_itk(path).reshape(6, 3, 5, 4))
    assert NIFTI.read_geometry(path) == (geometry, 6)


@pytest.mark.parametrize("shape", [(4, 5, 6, 2), (4, 5, 6, 1, 2), (4, 5, 6, 1, 1, 1, 2)])
def test_the_axis_behind_the_third_holds_channels(tmp_path: Path, shape: tuple[int, ...]):
    path = _save(tmp_path / "a.nii.gz", _numbers(*shape))

    array, geometry = NIFTI.read(path)

    np.testing.assert_array_equal(array, _numbers(*shape).T.reshape(2, 6, 5, 4))
    single = NIFTI.read_geometry(_save(tmp_path / "b.nii", _numbers(4, 5, 6)))[0]
    assert geometry == single
    assert NIFTI.read_geometry(path) == (geometry, 2)


@pytest.mark.parametrize("num_times", [1, 2])
def test_vectors_are_channels_as_itk_orders_them(tmp_path: Path, num_times: int):
    vectors = _numbers(4, 5, 6, num_times, 3)
    path = _save(tmp_path / "a.nii.gz", vectors, intent_code=1007)

    array, geometry = NIFTI.read(path)

    of_itk = _of_itk(path).reshape(3 * num_times, 6, 5, 4)
    np.testing.assert_array_equal(array, of_itk)
    assert NIFTI.read_geometry(path) == (geometry, 3 * num_times)


@pytest.mark.parametrize("shape", [(4, 5, 6, 2, 3), (4, 5, 6, 2, 1, 3)])
def test_two_axes_behind_the_third_are_refused(tmp_path: Path, shape: tuple[int, ...]):
    path = _save(tmp_path / "a.nii.gz", _numbers(*shape))

    with pytest.raises(DataError, match=rf"a\.nii\.gz: has {len(shape)} dimensions; images have"):
        NIFTI.read(path)
    with pytest.raises(DataError, match="dimensions"):
        NIFTI.read_geometry(path)


def test_a_fourth_axis_of_no_size_is_one_channel(tmp_path: Path):
    path = _save(tmp_path / "a.nii", _numbers(4, 5, 6), dim=[4, 4, 5, 6, 0, 0, 0, 0])

    np.testing.assert_array_equal(NIFTI.read(path)[0], _numbers(4, 5, 6).T[np.newaxis])
    np.testing.assert_array_equal(NIFTI.read(path)[0], _of_itk(path))


def test_a_single_slice_keeps_its_thickness_and_an_image_has_none(tmp_path: Path):
    slice_ = NIFTI.read_geometry(_save(tmp_path / "a.nii", _numbers(4, 5, 1)))[0]
    flat = NIFTI.read_geometry(_save(tmp_path / "b.nii", _numbers(4, 5)))[0]

    assert (slice_.shape, slice_.spacing[0]) == ((1, 5, 4), 3.0)
    assert (flat.shape, flat.spacing[0]) == ((1, 5, 4), 999.0)
    np.testing.assert_allclose(flat.spacing[1:], (0.5, 0.5), rtol=1e-6)


@pytest.mark.parametrize("affine", [AFFINE, SHEARED], ids=["upright", "sheared"])
@pytest.mark.parametrize(
    ("unit", "mm"), [("mm", 1), ("unknown", 1), ("micron", 1e-3), ("meter", 1e3)]
)
def test_positions_are_in_mm_whatever_the_unit(
    tmp_path: Path, affine: np.ndarray, unit: str, mm: float
):
    code = {"unknown": 0, "meter": 1, "mm": 2, "micron": 3}[unit]
    path = _save(tmp_path / "a.nii.gz", _numbers(4, 5, 6), affine, xyzt_units=code)

    geometry, _ = NIFTI.read_geometry(path)

    right, anterior, superior, _ = affine @ [1, 3, 2, 1] * mm
    found = geometry.voxel_to_world((2, 3, 1))
    np.testing.assert_allclose(found, (superior, -anterior, -right), rtol=1e-5)


def test_a_sheared_file_lies_where_its_affine_says(tmp_path: Path):
    path = _save(tmp_path / "a.nii.gz", _numbers(4, 5, 6), SHEARED)
    with pytest.raises(RuntimeError, match="orthonormal"):
        sitk.ReadImage(str(path))

    array, geometry = NIFTI.read(path)

    assert array.shape == (1, *geometry.shape) == (1, 6, 5, 4)
    np.testing.assert_allclose(geometry.spacing, np.linalg.norm(SHEARED[:3, :3], axis=0)[::-1])
    for z, y, x in np.ndindex(6, 5, 4):
        right, anterior, superior, _ = SHEARED @ [x, y, z, 1]
        found = geometry.voxel_to_world((z, y, x))
        np.testing.assert_allclose(found, (superior, -anterior, -right), atol=1e-4)
        assert array[0, z, y, x] == _numbers(4, 5, 6)[x, y, z]


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_labels_on_a_sheared_grid_come_back_on_it(tmp_path: Path, ending: str):
    source = _save(tmp_path / "a.nii.gz", _numbers(4, 5, 6), SHEARED)
    labels = read_labels(source)

    write_labels(tmp_path / f"b{ending}", labels)

    found = read_labels(tmp_path / f"b{ending}")
    assert labels.geometry.distance_vox(found.geometry) < 1e-5
    np.testing.assert_array_equal(found.array, labels.array)
    assert found.array.dtype == np.uint8
    affine = nibabel.load(tmp_path / f"b{ending}").affine
    np.testing.assert_allclose(affine, SHEARED, atol=1e-5)


def test_a_sheared_2d_image_comes_back_2d(tmp_path: Path):
    source = _save(tmp_path / "a.nii.gz", _numbers(4, 5), SHEARED)
    labels = read_labels(source)

    write_labels(tmp_path / "b.nii.gz", labels)

    assert labels.geometry.spacing[0] == 999.0
    np.testing.assert_allclose(labels.geometry.voxel_to_world((0, 2, 1))[1:], (31.5, -12.9))
    found = read_labels(tmp_path / "b.nii.gz")
    assert nibabel.load(tmp_path / "b.nii.gz").shape == (4, 5)
    assert labels.geometry.distance_vox(found.geometry) < 1e-5
    np.testing.assert_array_equal(found.array, labels.array)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"srow_x": 0, "srow_y": 0, "srow_z": 0}, "says no position of its voxels .spacing must"),
        ({"srow_x": [1, 2, 0, 0], "srow_y": [1, 2, 0, 0]}, "direction must be invertible"),
    ],
)
def test_an_affine_that_says_nothing_is_named(tmp_path: Path, fields: dict, message: str):
    path = _save(tmp_path / "a.nii", _numbers(4, 5, 6), SHEARED, **fields)

    with pytest.raises(DataError, match=rf"a\.nii: .*{message}"):
        NIFTI.read_geometry(path)


def test_a_quaternion_that_is_none_is_taken_as_itk_takes_it(tmp_path: Path):
    path = _save(tmp_path / "a.nii", _numbers(4, 5, 6), sform_code=0, quatern_b=2.0)

    geometry, _ = NIFTI.read_geometry(path)

    image = sitk.ReadImage(str(path))
    expected = image.TransformIndexToPhysicalPoint((1, 3, 2))[::-1]
    np.testing.assert_allclose(geometry.voxel_to_world((2, 3, 1)), expected, atol=1e-5)


def test_negative_voxel_sizes_without_a_position_are_sizes(tmp_path: Path):
    sizes = [1, -0.5, -0.75, -3, 0, 0, 0, 0]
    fields = {"sform_code": 0, "qform_code": 0, "pixdim": sizes}
    path = _save(tmp_path / "a.nii", _numbers(4, 5, 6), **fields)

    geometry, _ = NIFTI.read_geometry(path)

    assert geometry == Geometry(shape=(6, 5, 4), spacing=(3.0, 0.75, 0.5))


def test_nan_and_infinite_voxels_stay_what_they_are(tmp_path: Path):
    numbers = _numbers(4, 5, 6, dtype="float32")
    numbers[1, 2, 3], numbers[0, 0, 0], numbers[3, 0, 0] = np.nan, np.inf, -np.inf
    path = _save(tmp_path / "a.nii.gz", numbers)

    np.testing.assert_array_equal(NIFTI.read(path)[0][0], numbers.T)
    with pytest.raises(DataError, match="3 voxels are infinite or not a number"):
        read_image([path])


def test_complex_numbers_and_bits_are_refused(tmp_path: Path):
    complex_ = _save(tmp_path / "a.nii", _numbers(4, 5, 6, dtype="complex64"))
    bits = _save(tmp_path / "b.nii", _numbers(4, 5, 6), datatype=1, bitpix=1)

    with pytest.raises(DataError, match="voxels are complex numbers; store their magnitude"):
        NIFTI.read(complex_)
    with pytest.raises(DataError, match=r"its voxels are no numbers \(datatype 1\)"):
        NIFTI.read(bits)


def test_a_shape_that_is_none_is_refused(tmp_path: Path):
    line = _save(tmp_path / "a.nii", _numbers(4, 5, 6), dim=[1, 120, 1, 1, 1, 1, 1, 1])
    empty = _save(tmp_path / "b.nii", _numbers(4, 5, 6), dim=[3, 4, 0, 6, 1, 1, 1, 1])

    for path in (line, empty):
        with pytest.raises(DataError, match=r"has the shape \(.*\); images have 2 or 3 axes"):
            NIFTI.read_geometry(path)


def test_missing_bytes_are_counted(tmp_path: Path):
    path = _save(tmp_path / "a.nii.gz", _numbers(4, 5, 6))
    content = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(content[:-40]))

    with pytest.raises(DataError, match=r"a\.nii\.gz: incomplete: 552 of 592 bytes; copy it again"):
        NIFTI.read(path)


def _noise(path: Path) -> Path:
    noise = np.random.default_rng(0).normal(size=(60, 40, 20)).astype(np.float32)
    return _save(path, noise)


@pytest.mark.parametrize("position", [-100, -6])
def test_a_damaged_file_is_named(tmp_path: Path, position: int):
    """The last eight bytes are the check sum and the length of what was zipped."""
    path = _noise(tmp_path / "a.nii.gz")
    content = bytearray(path.read_bytes())
    content[position] ^= 0xFF
    path.write_bytes(content)

    with pytest.raises(DataError, match=r"incomplete or damaged \(.*\); copy it again"):
        NIFTI.read(path)


@pytest.mark.parametrize("missing", [1, 8, 9, 1000])
def test_a_zipped_file_that_ends_too_early_is_named(tmp_path: Path, missing: int):
    path = _noise(tmp_path / "a.nii.gz")
    path.write_bytes(path.read_bytes()[:-missing])

    with pytest.raises(DataError, match=r"damaged \(it ends too early\); copy it again"):
        NIFTI.read(path)


def test_a_header_that_cannot_be_unzipped_is_named(tmp_path: Path):
    path = _noise(tmp_path / "a.nii.gz")
    path.write_bytes(path.read_bytes()[:60])

    with pytest.raises(DataError, match=r"a\.nii\.gz: incomplete or damaged"):
        NIFTI.read_geometry(path)


def test_a_file_zipped_in_several_parts_is_complete(tmp_path: Path):
    path = _noise(tmp_path / "a.nii.gz")
    expected, _ = NIFTI.read(path)
    content = gzip.decompress(path.read_bytes())
    parts = [gzip.compress(content[start : start + 5000]) for start in range(0, len(content), 5000)]
    path.write_bytes(b"".join(parts) + bytes(700))

    np.testing.assert_array_equal(NIFTI.read(path)[0], expected)


def test_files_that_zip_unevenly_come_back_whole(tmp_path: Path):
    """Noise is read in several pieces; one of them unzips to many."""
    rng = np.random.default_rng(0)
    numbers = np.zeros((100, 120, 300), np.int16)
    numbers[..., :20] = rng.integers(-999, 999, (100, 120, 20))
    numbers[..., 280:] = rng.integers(-999, 999, (100, 120, 20))

    path = _save(tmp_path / "a.nii.gz", numbers)

    np.testing.assert_array_equal(NIFTI.read(path)[0][0], numbers.T)


@pytest.mark.parametrize("name", ["a.NII.GZ", "zipped.nii", "plain.nii.gz"])
def test_content_counts_not_the_ending(tmp_path: Path, name: str):
    source = _save(tmp_path / "a.nii.gz", _numbers(4, 5, 6))
    content = source.read_bytes()
    (tmp_path / name).write_bytes(gzip.decompress(content) if name[0] == "p" else content)

    array, geometry = NIFTI.read(tmp_path / name)

    np.testing.assert_array_equal(array[0], _numbers(4, 5, 6).T)
    expected = NIFTI.read_geometry(source)[0]
    assert expected.distance_vox(geometry) < 1e-5


def test_the_second_version_of_the_format_is_read(tmp_path: Path):
    image = nibabel.Nifti2Image(_numbers(4, 5, 6), AFFINE)
    nibabel.save(image, tmp_path / "a.nii.gz")

    array, geometry = NIFTI.read(tmp_path / "a.nii.gz")

    np.testing.assert_array_equal(array[0], _numbers(4, 5, 6).T)
    first = NIFTI.read_geometry(_save(tmp_path / "b.nii", _numbers(4, 5, 6)))[0]
    assert first.distance_vox(geometry) < 1e-5


def test_a_header_alone_is_read_from_an_incomplete_file(tmp_path: Path):
    path = _noise(tmp_path / "a.nii.gz")
    geometry = read_geometry(path)
    path.write_bytes(path.read_bytes()[:100_000])

    assert read_geometry(path) == geometry


def test_a_missing_file_is_named(tmp_path: Path):
    for read in (NIFTI.read, NIFTI.read_geometry):
        with pytest.raises(DataError, match=r"a\.nii: no such file"):
            read(tmp_path / "a.nii")


def test_voxels_may_be_changed_in_place(tmp_path: Path):
    for ending in (".nii", ".nii.gz"):
        array, _ = NIFTI.read(_save(tmp_path / f"a{ending}", _numbers(4, 5, 6)))
        array += 1
        np.testing.assert_array_equal(array[0], _numbers(4, 5, 6).T + 1)


@pytest.mark.parametrize("affine", [AFFINE, SHEARED], ids=["upright", "sheared"])
def test_a_size_the_format_cannot_hold_is_one_line(tmp_path: Path, affine: np.ndarray):
    direction = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.3 if affine is SHEARED else 0.0), (0.0, 0.0, 1.0))
    geometry = Geometry(shape=(1, 2, 40000), spacing=(1, 1, 1), direction=direction)
    labels = LabelMap(array=np.zeros(geometry.shape, np.uint8), geometry=geometry)

    with pytest.raises(AutosegError, match=r"a\.nii\.gz: cannot be written \("):
        write_labels(tmp_path / "a.nii.gz", labels)
    assert list(tmp_path.iterdir()) == []
