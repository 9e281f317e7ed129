from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from autoseg.core.geometry import Geometry, Matrix
from autoseg.core.image import Image, LabelMap
from autoseg.errors import AutosegError, DataError
from autoseg.io.formats import label_suffix, reader_of
from autoseg.io.images import read_image, read_labels, write_image, write_labels

IN_ONE_FILE = [".nrrd", ".mha"]
DETACHED = [".nhdr", ".mhd"]
GIPL = [".gipl", ".gipl.gz"]
TURNED: Matrix = ((1.0, 0.0, 0.0), (0.0, 0.6, -0.8), (0.0, 0.8, 0.6))
SHEARED: Matrix = ((1.0, 0.0, 0.6), (0.0, 1.0, 0.0), (0.0, 0.0, 0.8))


def _grid(direction: Matrix) -> Geometry:
    return Geometry(
        shape=(6, 5, 4), spacing=(3, 0.75, 0.5), origin=(101, 33.5, -12), direction=direction
    )


def _phantom() -> sitk.Image:
    """4 x 5 x 6 (x, y, z), anisotropic, off-origin, turned, every voxel different."""
    image = sitk.GetImageFromArray(np.arange(120, dtype=np.uint8).reshape(6, 5, 4))
    image.SetSpacing((0.5, 0.75, 3.0))
    image.SetOrigin((-12.25, 33.5, 101.125))
    image.SetDirection((0.6, -0.8, 0, 0.8, 0.6, 0, 0, 0, 1))
    return image


def _write(image: sitk.Image, path: Path, compressed: bool = False) -> Path:
    sitk.WriteImage(image, str(path), compressed)
    return path


@pytest.mark.parametrize("ending", [*IN_ONE_FILE, *DETACHED, *GIPL])
def test_nan_and_infinite_voxels_stay_what_they_are(tmp_path: Path, ending: str):
    numbers = np.arange(120, dtype=np.float32).reshape(6, 5, 4)
    numbers[1, 2, 3], numbers[0, 0, 0], numbers[5, 0, 0] = np.nan, np.inf, -np.inf
    path = _write(sitk.GetImageFromArray(numbers), tmp_path / f"a{ending}")

    np.testing.assert_array_equal(reader_of(path).read(path)[0][0], numbers)
    with pytest.raises(DataError, match="3 voxels are infinite or not a number"):
        read_image([path])


@pytest.mark.parametrize("ending", IN_ONE_FILE)
def test_an_oblique_4d_file_lies_where_its_volumes_lie(tmp_path: Path, ending: str):
    path = _write(sitk.JoinSeries([_phantom(), _phantom() + 100]), tmp_path / f"a{ending}")

    image = read_image([path])

    single = read_image([_write(_phantom(), tmp_path / f"b{ending}")])
    assert image.geometry.distance_vox(single.geometry) < 1e-9
    np.testing.assert_array_equal(image.array[1], single.array[0] + 100)


@pytest.mark.parametrize("ending", IN_ONE_FILE)
def test_vectors_are_channels(tmp_path: Path, ending: str):
    vectors = np.arange(360, dtype=np.int16).reshape(6, 5, 4, 3)
    path = _write(sitk.GetImageFromArray(vectors, isVector=True), tmp_path / f"a{ending}")

    array, geometry = reader_of(path).read(path)

    np.testing.assert_array_equal(array, vectors.transpose(3, 0, 1, 2))
    assert reader_of(path).read_geometry(path) == (geometry, 3)


def test_an_oblique_2d_image_keeps_its_place(tmp_path: Path):
    image = sitk.GetImageFromArray(np.arange(20, dtype=np.uint8).reshape(5, 4))
    image.SetSpacing((0.5, 0.25))
    image.SetOrigin((7.0, -8.0))
    image.SetDirection((0.6, -0.8, 0.8, 0.6))
    path = _write(image, tmp_path / "a.mha")

    labels = read_labels(path)
    write_labels(tmp_path / "b.mha", labels)

    expected = image.TransformIndexToPhysicalPoint((3, 2))
    np.testing.assert_allclose(labels.geometry.voxel_to_world((0, 2, 3))[1:], expected[::-1])
    written = sitk.ReadImage(str(tmp_path / "b.mha"))
    np.testing.assert_allclose(written.TransformIndexToPhysicalPoint((3, 2)), expected)


@pytest.mark.parametrize("ending", [*IN_ONE_FILE, *DETACHED])
@pytest.mark.parametrize("direction", [TURNED, SHEARED], ids=["turned", "sheared"])
def test_labels_come_back_on_any_grid(tmp_path: Path, ending: str, direction: Matrix):
    geometry = _grid(direction)
    labels = np.arange(120).reshape(6, 5, 4)

    write_labels(tmp_path / f"b{ending}", LabelMap(array=labels, geometry=geometry))

    found = read_labels(tmp_path / f"b{ending}")
    assert geometry.distance_vox(found.geometry) < 1e-6
    np.testing.assert_array_equal(found.array, labels)


@pytest.mark.parametrize("ending", DETACHED)
def test_a_detached_header_is_written_with_its_voxels(tmp_path: Path, ending: str):
    labels = LabelMap(array=np.ones((6, 5, 4), np.uint8), geometry=_grid(TURNED))

    write_labels(tmp_path / f"a{ending}", labels)

    assert [file.name for file in tmp_path.iterdir()] == [f"a{ending}"]
    np.testing.assert_array_equal(read_labels(tmp_path / f"a{ending}").array, labels.array)


@pytest.mark.parametrize(
    ("ending", "own"),
    [
        (".nrrd", ".nrrd"),
        (".nhdr", ".nrrd"),
        (".mha", ".mha"),
        (".MHD", ".mha"),
        (".gipl", ".gipl"),
    ],
)
def test_label_maps_of_an_image_are_one_file(ending: str, own: str):
    assert label_suffix(Path(f"a{ending}"), 0, 255) == own


@pytest.mark.parametrize("ending", [".gipl", ".gipl.gz"])
def test_many_labels_of_a_gipl_image_are_written_as_nifti(ending: str):
    assert label_suffix(Path(f"a{ending}"), 0, 65535) == ending
    assert label_suffix(Path(f"a{ending}"), 0, 65536) == ".nii.gz"


@pytest.mark.parametrize("ending", DETACHED)
@pytest.mark.parametrize("compressed", [False, True])
def test_a_missing_file_of_voxels_is_named(tmp_path: Path, ending: str, compressed: bool):
    path = _write(_phantom(), tmp_path / f"a{ending}", compressed)
    (data,) = set(tmp_path.iterdir()) - {path}
    data.unlink()

    expected = f"a{ending}: its voxels are in {data.name}, which is missing; put {data.name} into"
    with pytest.raises(DataError, match=expected) as caught:
        read_image([path])
    assert "\n" not in str(caught.value)


def test_a_list_of_files_of_voxels_is_no_missing_file(tmp_path: Path):
    path = _write(_phantom(), tmp_path / "a.mhd")
    text = path.read_text()
    path.write_text(text.replace("ElementDataFile = a.raw", "ElementDataFile = a%02d.raw 1 6 1"))

    with pytest.raises(DataError, match=r"a\.mhd: cannot be read \("):
        read_image([path])


@pytest.mark.parametrize("ending", [".mha", ".mhd"])
def test_a_truncated_metaimage_is_named_by_what_is_wrong(tmp_path: Path, ending: str):
    path = _write(_phantom(), tmp_path / f"a{ending}")
    data = path if ending == ".mha" else tmp_path / "a.raw"
    data.write_bytes(data.read_bytes()[:-60])

    with pytest.raises(DataError, match=r"cannot be read \(its voxels are incomplete or damaged"):
        read_image([path])


@pytest.mark.parametrize("ending", GIPL)
def test_a_truncated_gipl_file_is_named(tmp_path: Path, ending: str):
    path = _write(_phantom(), tmp_path / f"a{ending}")
    path.write_bytes(path.read_bytes()[:-60])

    with pytest.raises(DataError, match=rf"a{ending}: incomplete"):
        read_image([path])


@pytest.mark.parametrize("ending", GIPL)
def test_gipl_files_keep_spacing_and_origin(tmp_path: Path, ending: str):
    geometry = Geometry(shape=(6, 5, 4), spacing=(3, 0.75, 0.5), origin=(101, 33.5, -12))
    labels = np.arange(120).reshape(6, 5, 4)

    write_labels(tmp_path / f"a{ending}", LabelMap(array=labels, geometry=geometry))

    found = read_labels(tmp_path / f"a{ending}")
    assert found.geometry == geometry
    np.testing.assert_array_equal(found.array, labels)


def test_a_gipl_file_of_a_turned_grid_is_refused(tmp_path: Path):
    labels = LabelMap(array=np.ones((6, 5, 4), np.uint8), geometry=_grid(TURNED))

    with pytest.raises(AutosegError, match=r"a\.gipl: this format holds no direction.*\.nii\.gz"):
        write_labels(tmp_path / "a.gipl", labels)
    assert list(tmp_path.iterdir()) == []


def test_a_gipl_file_of_a_single_slice_stays_one(tmp_path: Path):
    geometry = Geometry(shape=(1, 5, 4), spacing=(999, 0.75, 0.5))
    labels = LabelMap(array=np.arange(20).reshape(1, 5, 4), geometry=geometry)

    write_labels(tmp_path / "a.gipl", labels)

    assert read_labels(tmp_path / "a.gipl").geometry == geometry


@pytest.mark.parametrize("ending", [*IN_ONE_FILE, *DETACHED, ".nii", ".nii.gz", ".seg.nrrd"])
@pytest.mark.parametrize("values", [(0, 300), (0, 70000), (0, 2**32 - 1), (-3, 2**40)])
def test_label_values_of_any_size_come_back(tmp_path: Path, ending: str, values: tuple[int, int]):
    geometry = _grid(TURNED)
    labels = np.full(geometry.shape, values[0], np.int64)
    labels[2, 3, 1] = values[1]

    write_labels(tmp_path / f"a{ending}", LabelMap(array=labels, geometry=geometry))

    np.testing.assert_array_equal(read_labels(tmp_path / f"a{ending}").array, labels)
    assert label_suffix(Path(f"a{ending}"), *values).startswith((".n", ".mha"))


@pytest.mark.parametrize("ending", GIPL)
@pytest.mark.parametrize("highest", [300, 65535])
def test_gipl_files_hold_labels_of_16_bits(tmp_path: Path, ending: str, highest: int):
    geometry = Geometry(shape=(2, 3, 4), spacing=(3, 0.75, 0.5))
    labels = np.arange(24).reshape(2, 3, 4)
    labels[1, 2, 3] = highest

    write_labels(tmp_path / f"a{ending}", LabelMap(array=labels, geometry=geometry))

    np.testing.assert_array_equal(read_labels(tmp_path / f"a{ending}").array, labels)
    labels[1, 2, 3] = 65536
    with pytest.raises(AutosegError, match=r"holds label values -32768\.\.65535 only"):
        write_labels(tmp_path / f"a{ending}", LabelMap(array=labels, geometry=geometry))


@pytest.mark.parametrize("ending", [*IN_ONE_FILE, *DETACHED])
@pytest.mark.parametrize("factor", [1.0, 0.5])
def test_a_written_image_keeps_values_and_grid(tmp_path: Path, ending: str, factor: float):
    array = np.arange(120, dtype=np.float32).reshape(1, 6, 5, 4) * np.float32(factor)
    image = Image(array=array, geometry=_grid(TURNED))

    write_image(tmp_path / f"a{ending}", image)

    found = read_image([tmp_path / f"a{ending}"])
    np.testing.assert_array_equal(found.array, array)
    assert image.geometry.distance_vox(found.geometry) < 1e-6


def test_complex_numbers_are_refused(tmp_path: Path):
    image = sitk.RealAndImaginaryToComplex(*[sitk.Cast(_phantom(), sitk.sitkFloat32)] * 2)
    path = _write(image, tmp_path / "a.nrrd")

    with pytest.raises(DataError, match="its voxels are complex numbers; store their magnitude"):
        read_image([path])


@pytest.mark.parametrize("ending", [".mha", ".mhd", ".nrrd", ".gipl"])
def test_endings_may_be_in_capitals(tmp_path: Path, ending: str):
    path = _write(_phantom(), tmp_path / f"a{ending}")
    capitals = path.rename(tmp_path / f"A{ending.upper()}")

    np.testing.assert_array_equal(read_image([capitals]).array.ravel(), np.arange(120))


def test_a_grid_that_is_none_is_named(tmp_path: Path):
    path = _write(_phantom(), tmp_path / "a.mhd")
    text = path.read_text()
    path.write_text(text.replace("ElementSpacing = 0.5 0.75 3", "ElementSpacing = 0.5 -0.75 3"))

    with pytest.raises(DataError, match=r"a\.mhd: spacing must be three positive numbers"):
        read_image([path])


def test_five_dimensions_are_refused(tmp_path: Path):
    image = sitk.JoinSeries([sitk.JoinSeries([_phantom()] * 2)] * 3)
    path = _write(image, tmp_path / "a.mha")

    with pytest.raises(DataError, match="has 5 dimensions; images have 2, 3 or, with channels, 4"):
        read_image([path])
