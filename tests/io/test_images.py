from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from autoseg.core.geometry import Geometry
from autoseg.core.image import Image, LabelMap
from autoseg.errors import AutosegError, DataError
from autoseg.io import formats
from autoseg.io.formats import READERS
from autoseg.io.images import (
    read_geometry,
    read_image,
    read_labels,
    write_image,
    write_labels,
)

DATA = Path(__file__).parents[3] / "shared" / "data"
VOLUMES = [".nii.gz", ".nii", ".nrrd", ".mha"]


def _rotation(flip: bool = False) -> np.ndarray:
    """Oblique about all three axes, in x-y-z; flipped: left-handed."""
    a, b, c = 0.3, -0.5, 1.1
    about_x = [[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]]
    about_y = [[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]]
    about_z = [[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]]
    mirror = np.diag([1, -1, 1]) if flip else np.eye(3)
    return np.asarray(about_x) @ np.asarray(about_y) @ np.asarray(about_z) @ mirror


def _phantom(flip: bool = False, dtype: str = "float32") -> sitk.Image:
    """4 x 5 x 6 (x, y, z), anisotropic, off-origin, oblique, every voxel different."""
    image = sitk.GetImageFromArray(np.arange(120).reshape(6, 5, 4).astype(dtype))
    image.SetSpacing((0.5, 0.75, 3.0))
    image.SetOrigin((-12.25, 33.5, 101.125))
    image.SetDirection(_rotation(flip).ravel().tolist())
    return image


def _write(image: sitk.Image, path: Path) -> Path:
    sitk.WriteImage(image, str(path))
    return path


def _assert_same_grid(a: Geometry, b: Geometry) -> None:
    assert a.shape == b.shape
    for name in ("spacing", "origin", "direction"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("ending", VOLUMES)
def test_labels_written_on_the_grid_of_an_image_lie_on_it(tmp_path: Path, ending: str, flip: bool):
    geometry = read_image([_write(_phantom(flip), tmp_path / f"a{ending}")]).geometry
    labels = np.arange(120).reshape(6, 5, 4)

    write_labels(tmp_path / f"b{ending}", LabelMap(array=labels, geometry=geometry))

    found = read_labels(tmp_path / f"b{ending}")
    _assert_same_grid(found.geometry, geometry)
    np.testing.assert_array_equal(found.array, labels)
    assert found.array.dtype == np.uint8


@pytest.mark.parametrize("ending", VOLUMES)
def test_the_header_alone_tells_the_geometry(tmp_path: Path, ending: str):
    path = _write(_phantom(), tmp_path / f"a{ending}")

    assert read_geometry(path) == (read_image([path]).geometry, 1)


def test_files_are_stacked_as_channels_in_their_order(tmp_path: Path):
    first = _write(_phantom(), tmp_path / "a_0000.nii.gz")
    second = _write(_phantom(dtype="int16") + 500, tmp_path / "a_0001.nii.gz")

    image = read_image([second, first])

    assert image.array.shape == (2, 6, 5, 4)
    np.testing.assert_array_equal(image.array[0], image.array[1] + 500)


def test_a_channel_on_another_grid_is_named(tmp_path: Path):
    first = _write(_phantom(), tmp_path / "a_0000.nrrd")
    moved = _phantom()
    moved.SetOrigin((-12.25, 33.5, 102.125))
    second = _write(moved, tmp_path / "a_0001.nrrd")
    smaller = _write(_phantom()[:, :, :-1], tmp_path / "a_0002.nrrd")

    with pytest.raises(DataError, match=r"a_0001\.nrrd: lies up to .* voxels away from the grid"):
        read_image([first, second])
    with pytest.raises(DataError, match=r"a_0002\.nrrd: shape \(5, 5, 4\) differs"):
        read_image([first, smaller])


def test_rounding_between_headers_is_let_pass(tmp_path: Path):
    first = _write(_phantom(), tmp_path / "a_0000.nrrd")
    moved = _phantom()
    moved.SetOrigin((-12.25, 33.5, 101.1251))

    assert read_image([first, _write(moved, tmp_path / "a_0001.nrrd")]).num_channels == 2


@pytest.mark.parametrize("ending", [".png", ".tif", ".bmp", ".nii.gz", ".mha"])
def test_a_2d_label_map_is_one_slice_and_is_written_back_2d(tmp_path: Path, ending: str):
    array = np.arange(20, dtype=np.uint8).reshape(5, 4)
    path = _write(sitk.GetImageFromArray(array), tmp_path / f"a{ending}")

    labels = read_labels(path)
    write_labels(tmp_path / f"b{ending}", labels)

    assert labels.array.shape == (1, 5, 4)
    assert labels.geometry.spacing == (999.0, 1.0, 1.0)
    written = sitk.ReadImage(str(tmp_path / f"b{ending}"))
    assert written.GetDimension() == 2
    np.testing.assert_array_equal(read_labels(tmp_path / f"b{ending}").array[0], array)


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "int16", "int32"])
def test_labels_of_any_type_are_whole_numbers(tmp_path: Path, dtype: str):
    path = _write(_phantom(dtype=dtype), tmp_path / "a.nii.gz")

    labels = read_labels(path)

    assert np.issubdtype(labels.array.dtype, np.integer)
    np.testing.assert_array_equal(labels.array, np.arange(120).reshape(6, 5, 4))


@pytest.mark.parametrize(
    ("value", "dtype"),
    [(2**15, np.int32), (2**31 - 1, np.int32), (2**31, np.int64), (2**32 - 1, np.int64)],
)
def test_large_labels_stored_as_fractions_are_kept(tmp_path: Path, value: int, dtype: type):
    numbers = np.arange(120, dtype=np.float64).reshape(6, 5, 4)
    numbers[5, 4, 3], numbers[0, 0, 0] = value, -value
    path = _write(sitk.GetImageFromArray(numbers), tmp_path / "a.nii.gz")

    labels = read_labels(path)

    assert labels.array.dtype == dtype
    np.testing.assert_array_equal(labels.array, numbers.astype(np.int64))


@pytest.mark.parametrize("value", [2.0**31, 2.0**62])
def test_large_labels_stored_in_single_precision_are_kept(tmp_path: Path, value: float):
    numbers = np.array([[[0, 1], [2, value]]], dtype=np.float32)
    path = _write(sitk.GetImageFromArray(numbers), tmp_path / "a.nii.gz")

    np.testing.assert_array_equal(read_labels(path).array[0], [[0, 1], [2, int(value)]])


@pytest.mark.parametrize("value", [2.0**63, np.nan, np.inf])
def test_a_label_no_integer_holds_is_refused(tmp_path: Path, value: float):
    path = _write(sitk.GetImageFromArray(np.full((6, 5, 4), value)), tmp_path / "a.nii.gz")

    with pytest.raises(DataError, match="label values must be whole numbers, found"):
        read_labels(path)


def test_a_fraction_as_label_is_refused_with_its_value(tmp_path: Path):
    path = _write(_phantom() + 0.5, tmp_path / "a.nii.gz")

    with pytest.raises(DataError, match=r"a\.nii\.gz: label values must be whole .* 0\.5 in 120"):
        read_labels(path)


def test_a_label_map_of_two_channels_is_refused(tmp_path: Path):
    path = _write(sitk.JoinSeries([_phantom(), _phantom() + 1]), tmp_path / "a.nii.gz")

    with pytest.raises(DataError, match="a label map has one channel, this has 2"):
        read_labels(path)


@pytest.mark.parametrize(
    ("highest", "dtype"),
    [(200, np.uint8), (300, np.uint16), (70000, np.uint32), (2**40, np.uint64)],
)
def test_labels_are_written_in_the_smallest_type(tmp_path: Path, highest: int, dtype: type):
    array = np.zeros((2, 3, 4), np.int64)
    array[1, 2, 3] = highest
    geometry = Geometry(shape=(2, 3, 4), spacing=(1, 1, 1))

    write_labels(tmp_path / "a.nii.gz", LabelMap(array=array, geometry=geometry))

    assert read_labels(tmp_path / "a.nii.gz").array.dtype == dtype
    assert read_labels(tmp_path / "a.nii.gz").array.max() == highest


def test_a_value_the_format_cannot_hold_is_refused_and_leaves_no_file(tmp_path: Path):
    array = np.full((1, 3, 4), 300)
    geometry = Geometry(shape=(1, 3, 4), spacing=(999, 1, 1))

    with pytest.raises(AutosegError, match=r"this format holds label values 0\.\.255 only"):
        write_labels(tmp_path / "a.bmp", LabelMap(array=array, geometry=geometry))

    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path):
    (tmp_path / "out").touch()
    labels = LabelMap(
        array=np.ones((2, 3, 4), int), geometry=Geometry(shape=(2, 3, 4), spacing=(1, 1, 1))
    )

    with pytest.raises(AutosegError, match="out is a file; choose another folder"):
        write_labels(tmp_path / "out" / "a.nii.gz", labels)


@pytest.mark.parametrize(("factor", "kind"), [(1.0, "i2"), (0.5, "f4"), (3e30, "f4")])
def test_a_written_image_keeps_values_and_grid(tmp_path: Path, factor: float, kind: str):
    image = read_image([_write(_phantom(), tmp_path / "a.nrrd")])
    image = Image(array=image.array * np.float32(factor), geometry=image.geometry)

    write_image(tmp_path / "b.nii.gz", image)

    found = read_image([tmp_path / "b.nii.gz"])
    _assert_same_grid(found.geometry, image.geometry)
    np.testing.assert_array_equal(found.array, image.array)
    assert nibabel.load(tmp_path / "b.nii.gz").get_data_dtype() == np.dtype(kind)


def _noise(path: Path) -> Path:
    """A file much larger than what is read to know its format."""
    noise = np.random.default_rng(0).normal(size=(20, 40, 60)).astype(np.float32)
    return _write(sitk.GetImageFromArray(noise), path)


@pytest.mark.parametrize("ending", VOLUMES)
@pytest.mark.parametrize("kept", [0.3, 0.9, 0.999])
def test_a_truncated_file_is_named(
    tmp_path: Path, ending: str, kept: float, capfd: pytest.CaptureFixture[str]
):
    path = _noise(tmp_path / f"a{ending}")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])

    with pytest.raises(DataError) as caught:
        read_image([path])

    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == "" or ending == ".mha"  # MetaIO prints by itself


@pytest.mark.parametrize("content", [b"", b"not an image"])
@pytest.mark.parametrize("ending", [*VOLUMES, ".png"])
def test_a_file_that_is_no_image_is_named(tmp_path: Path, ending: str, content: bytes):
    (tmp_path / f"a{ending}").write_bytes(content)

    with pytest.raises(
        DataError, match=f"a{ending}: cannot be read \\(empty, damaged or of another format"
    ):
        read_image([tmp_path / f"a{ending}"])


def test_a_missing_file_and_an_unknown_format_are_named(tmp_path: Path):
    with pytest.raises(DataError, match=r"a\.nii\.gz: no such file"):
        read_image([tmp_path / "a.nii.gz"])
    with pytest.raises(DataError, match=r"a\.webp: not an image format autoseg knows"):
        read_image([tmp_path / "a.webp"])


def test_voxels_that_are_no_numbers_are_counted(tmp_path: Path):
    array = np.zeros((6, 5, 4), np.float32)
    array[1, 2, 3], array[0, 0, 0] = np.nan, np.inf
    path = _write(sitk.GetImageFromArray(array), tmp_path / "a.mha")

    with pytest.raises(DataError, match=r"a\.mha: 2 voxels are infinite or not a number"):
        read_image([path])


def test_large_finite_intensities_pass(tmp_path: Path):
    array = np.full((6, 5, 4), 3e38, np.float32)

    image = read_image([_write(sitk.GetImageFromArray(array), tmp_path / "a.nii.gz")])

    assert image.array.max() == np.float32(3e38)


@pytest.mark.parametrize(
    ("name", "stem"),
    [("a.nii.gz", "a"), ("a.b.NII.GZ", "a.b"), ("x_0000.png", "x_0000"), ("a.nii", "a")],
)
def test_the_stem_is_the_name_without_its_whole_ending(name: str, stem: str):
    assert formats.stem(Path("folder") / name) == stem


def test_the_name_of_a_folder_has_no_ending(tmp_path: Path):
    (tmp_path / "1.2.840.5").mkdir()

    assert formats.stem(tmp_path / "1.2.840.5") == "1.2.840.5"


def test_hidden_files_and_other_files_are_no_images():
    names = ["a.nii.gz", "._a.nii.gz", "_a.nii.gz", "a.json", ".nii.gz", "a.webp", "b.PNG"]

    assert [name for name in names if formats.is_image(Path(name))] == ["a.nii.gz", "b.PNG"]


@pytest.mark.parametrize("name", [name for name in READERS if READERS.get(name).can_write])
def test_every_reader_reads_back_what_it_writes(tmp_path: Path, name: str):
    reader = READERS.get(name)
    array = np.arange(20, dtype=np.uint8).reshape(1, 5, 4)
    geometry = Geometry(shape=(1, 5, 4), spacing=(999.0, 1.0, 1.0))

    for suffix in set(reader.suffixes) - {".jpg", ".jpeg"}:  # they blur what they hold
        path = tmp_path / f"a{suffix}"
        reader.write(path, array, geometry)
        found, where = reader.read(path)

        assert where == reader.read_geometry(path)[0]
        np.testing.assert_array_equal(found[0], array)
        assert where.shape == (1, 5, 4)


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data are not here")
def test_a_slice_first_kits_label_map_comes_out_as_itk_orders_it():
    path = DATA / "KiTS19_geometry" / "case_00115" / "segmentation.nii.gz"
    labels = read_labels(path)

    assert labels.geometry.shape[:2] == (512, 512)
    assert labels.geometry.spacing[0] == labels.geometry.spacing[1]
    assert set(np.unique(labels.array)) == {0, 1, 2}


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data are not here")
def test_float_and_integer_files_of_the_hippocampus_task_are_read():
    folder = DATA / "Task04_Hippocampus"
    for name in ("hippocampus_001.nii.gz", "hippocampus_003.nii.gz"):
        image = read_image([folder / "imagesTr" / name])
        labels = read_labels(folder / "labelsTr" / name)

        assert image.geometry == labels.geometry
        assert set(np.unique(labels.array)) == {0, 1, 2}
