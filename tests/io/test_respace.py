import gzip

import nibabel
import numpy as np
import pytest
from conftest import toy_case

from autoseg.errors import DataError
from autoseg.io.formats import reader_of
from autoseg.io.mended import write_copy
from autoseg.io.respace import read_with_spacing


@pytest.fixture
def file(tmp_path):
    image, _ = toy_case(1)
    path = tmp_path / "a.nii.gz"
    write_copy(path, image.array[0], image.geometry)
    return path


def rewrite(path, change):
    """Change the header of a file, whatever nibabel thinks of it."""
    content = gzip.decompress(path.read_bytes())
    header = nibabel.Nifti1Header(content[:348], check=False)
    change(header)
    path.write_bytes(gzip.compress(header.binaryblock + content[348:]))


def flatten(*axes):
    def change(header):
        header["qform_code"] = 0
        for axis in axes:
            header["pixdim"][axis + 1] = 0
            for row in ("srow_x", "srow_y", "srow_z"):
                header[row][axis] = 0

    return change


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_voxel_without_a_size_gets_one_and_its_lost_direction(file, axis):
    geometry = toy_case(1)[0].geometry
    rewrite(file, flatten(axis))
    with pytest.raises(DataError, match="spacing must be"):
        reader_of(file).read(file)
    array, found = read_with_spacing(file, geometry.spacing)
    np.testing.assert_array_equal(array, toy_case(1)[0].array)
    assert found.spacing == pytest.approx(geometry.spacing)
    assert found.origin == pytest.approx(geometry.origin)
    # The sign of an axis at right angles to two others is not known.
    cosines = np.abs(np.asarray(found.direction).T @ np.asarray(geometry.direction))
    np.testing.assert_allclose(cosines, np.eye(3), atol=1e-5)


def test_a_file_without_any_direction_lies_straight(file):
    rewrite(file, flatten(0, 1, 2))
    _, found = read_with_spacing(file, (3.0, 2.0, 1.0))
    assert found.spacing == pytest.approx((3, 2, 1))
    np.testing.assert_allclose(np.abs(found.direction), np.eye(3), atol=1e-6)


def test_a_negative_size_is_replaced(file):
    def change(header):
        header["sform_code"], header["qform_code"] = 0, 1
        header["pixdim"][1:4] = (1, -2, 3)

    rewrite(file, change)
    array, found = read_with_spacing(file, (3.0, 2.0, 1.0))
    assert found.spacing == pytest.approx((3, 2, 1))
    assert array.shape == (1, 11, 25, 20)


def test_a_file_that_is_broken_otherwise_stays_unreadable(file):
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(DataError, match=r"a\.nii\.gz: cannot be read as NIfTI"):
        read_with_spacing(file, (1.0, 1.0, 1.0))
