"""What every registered reader owes its users: voxels lie in the world where ITK puts them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import tifffile

from autoseg.io.formats import READERS, reader_of

Phantom = tuple[Path, sitk.Image]
"""What was written, and the image that says where its voxels lie."""


def phantom(flip: bool = False, dtype: str = "uint8") -> sitk.Image:
    """4 x 5 x 6 (x, y, z), anisotropic, off-origin, oblique, every voxel different."""
    image = sitk.GetImageFromArray(np.arange(120).reshape(6, 5, 4).astype(dtype))
    image.SetSpacing((0.5, 0.75, 3.0))
    image.SetOrigin((-12.25, 33.5, 101.125))
    turn = sitk.Euler3DTransform((0, 0, 0), 0.3, -0.5, 1.1)
    mirror = np.diag([1, -1, 1]) if flip else np.eye(3)
    matrix = np.reshape(turn.GetMatrix(), (3, 3)) @ mirror
    image.SetDirection(matrix.ravel().tolist())
    return image


def write_whole(folder: Path, suffix: str, flip: bool) -> Phantom:
    """A format that holds all there is."""
    image = phantom(flip)
    sitk.WriteImage(image, str(folder / f"a{suffix}"))
    return folder / f"a{suffix}", image


def write_upright(folder: Path, suffix: str, flip: bool) -> Phantom:
    """A format that holds spacing and origin, but no direction."""
    image = phantom(flip)
    image.SetDirection(np.eye(3).ravel().tolist())
    sitk.WriteImage(image, str(folder / f"a{suffix}"))
    return folder / f"a{suffix}", image


def write_picture(folder: Path, suffix: str, flip: bool) -> Phantom:
    """A format of pixels without a place in the world."""
    path = folder / f"a{suffix}"
    picture = sitk.GetImageFromArray(np.arange(20, dtype=np.uint8).reshape(5, 4))
    sitk.WriteImage(picture, str(path))
    if suffix in (".jpg", ".jpeg"):  # it blurs
        stored = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
        picture = sitk.GetImageFromArray(stored)
    return path, picture


def write_stack(folder: Path, suffix: str, flip: bool) -> Phantom:
    """A format that holds spacing alone."""
    image = phantom(flip)
    image.SetOrigin((0, 0, 0))
    image.SetDirection(np.eye(3).ravel().tolist())
    sizes = zip("XYZ", image.GetSpacing(), strict=True)
    metadata = {f"PhysicalSize{axis}": size * 1000 for axis, size in sizes}  # in micrometres
    tifffile.imwrite(
        folder / f"a{suffix}",
        sitk.GetArrayFromImage(image),
        ome=True,
        photometric="minisblack",
        metadata={"axes": "ZYX", **metadata},
    )
    return folder / f"a{suffix}", image


def write_dicom(folder: Path, suffix: str, flip: bool) -> Phantom:
    """A slice, or a folder of them, which then lie in order of row x column direction."""
    image = phantom(flip)[:, :, :1] if suffix else phantom(flip)
    place = folder if suffix else folder / "series"
    place.mkdir(exist_ok=True)
    writer = sitk.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.KeepOriginalImageUIDOn()
    for k in range(image.GetDepth()):
        one = image[:, :, k : k + 1]
        one.SetMetaData("0008|0016", "1.2.840.10008.5.1.4.1.1.2")
        one.SetMetaData("0008|0018", f"1.2.826.1.{k + 1}")
        one.SetMetaData("0020|000e", "1.2.826.1")
        writer.SetFileName(str(place / (f"a{suffix}" if suffix else f"{5 * k % 6}")))
        writer.Execute(one)
    return (place / f"a{suffix}" if suffix else place), image[:, :, ::-1] if flip else image


WRITERS: dict[str, Callable[[Path, str, bool], Phantom]] = {
    "nifti": write_whole,
    "volumes": write_whole,
    "gipl": write_upright,
    "segmentation": write_whole,
    "pictures": write_picture,
    "tiff": write_stack,
    "dicom": write_dicom,
}
"""By reader: writes a phantom into a folder, given the ending (none for folders) and the flip."""


def voxels_of(image: sitk.Image) -> np.ndarray:
    """``(channels, [z,] y, x)``."""
    array = sitk.GetArrayFromImage(image)
    is_vector = image.GetNumberOfComponentsPerPixel() > 1
    return np.moveaxis(array, -1, 0) if is_vector else array[np.newaxis]


def _forms() -> list[tuple[str, str]]:
    """Every reader with each of its endings, and none if it reads folders."""
    readers = {name: READERS.get(name) for name in READERS}
    files = [(name, suffix) for name, reader in readers.items() for suffix in reader.suffixes]
    return files + [(name, "") for name, reader in readers.items() if reader.reads_folders]


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(("name", "suffix"), _forms())
def test_every_voxel_lies_where_itk_puts_it(tmp_path: Path, name: str, suffix: str, flip: bool):
    assert name in WRITERS, f"add a phantom of reader '{name}' to WRITERS"
    path, expected = WRITERS[name](tmp_path, suffix, flip)

    assert reader_of(path) is READERS.get(name)
    array, geometry = reader_of(path).read(path)

    voxels = voxels_of(expected)
    np.testing.assert_array_equal(array, voxels.reshape(-1, *geometry.shape))
    assert array.dtype == voxels.dtype
    for index in np.ndindex(voxels.shape[1:]):
        place = expected.TransformIndexToPhysicalPoint(index[::-1])[::-1]
        found = geometry.voxel_to_world((0, *index)[-3:])
        np.testing.assert_allclose(found[-len(place) :], place, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("name", "suffix"), _forms())
def test_the_header_alone_says_the_same(tmp_path: Path, name: str, suffix: str):
    path, _ = WRITERS[name](tmp_path, suffix, True)

    array, geometry = reader_of(path).read(path)

    assert array.shape[1:] == geometry.shape
    assert reader_of(path).read_geometry(path) == (geometry, len(array))


@pytest.mark.parametrize(("name", "suffix"), [form for form in _forms() if form[1]])
def test_names_may_hold_spaces_and_any_letters(tmp_path: Path, name: str, suffix: str):
    folder = tmp_path / "Müller Jürgen 患者"
    folder.mkdir()
    path, expected = WRITERS[name](tmp_path, suffix, False)
    for file in tmp_path.glob("a.*"):
        file.rename(folder / file.name)

    array, _ = reader_of(path).read(folder / path.name)

    np.testing.assert_array_equal(array.ravel(), voxels_of(expected).ravel())


def test_no_reader_is_without_a_phantom():
    assert set(READERS) <= set(WRITERS)
