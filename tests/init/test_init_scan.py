from pathlib import Path

import pytest

from autoseg.errors import DataError
from autoseg.init.names import ImageFile
from autoseg.init.scan import find_images


def touch(root: Path, *files: str) -> None:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()


def dicom(root: Path, *files: str) -> None:
    """Files that begin as DICOM does."""
    touch(root, *files)
    for file in files:
        (root / file).write_bytes(bytes(128) + b"DICM")


def found(root: Path) -> list[tuple[str, str]]:
    return [(file.path.as_posix(), file.stem) for file in find_images(root)]


def test_images_are_found_at_any_depth(tmp_path: Path):
    touch(tmp_path, "b.seg.nrrd", "deep/er/a.nii.gz", "readme.txt", "deep/table.csv")

    assert found(tmp_path) == [("b.seg.nrrd", "b"), ("deep/er/a.nii.gz", "a")]


def test_hidden_files_and_workspaces_are_not_looked_at(tmp_path: Path):
    touch(tmp_path, ".a.nii.gz", "._b.nii.gz", "_c.nii.gz", ".git/d.nii.gz", "e.nii.gz")
    touch(tmp_path, "autoseg_workspace/Task/mended/f.nii.gz")

    assert found(tmp_path) == [("e.nii.gz", "e")]


def test_a_series_is_its_folder_and_other_files_in_it_are_files(tmp_path: Path):
    dicom(tmp_path, "p1/1.dcm", "p1/2.dcm", "p2/ct/IM0001", "p2/ct/IM0002")
    touch(tmp_path, "p1/mask.nii.gz")

    assert found(tmp_path) == [("p1", ""), ("p1/mask.nii.gz", "mask"), ("p2/ct", "")]
    assert find_images(tmp_path)[0] == ImageFile(path=Path("p1"), stem="")


def test_a_folder_that_is_a_series_itself_is_found(tmp_path: Path):
    dicom(tmp_path, "1.dcm", "2.dcm")

    assert found(tmp_path) == [(".", "")]


def test_dicom_files_named_like_label_maps_are_a_volume_each(tmp_path: Path):
    dicom(tmp_path, "images/p1.dcm", "images/p2.dcm")
    touch(tmp_path, "labels/p1.nii.gz", "labels/p2.nii.gz")

    assert found(tmp_path)[:2] == [("images/p1.dcm", "p1"), ("images/p2.dcm", "p2")]


def test_links_in_a_circle_come_to_an_end(tmp_path: Path):
    touch(tmp_path, "data/a.nii.gz")
    (tmp_path / "data" / "again").symlink_to(tmp_path, target_is_directory=True)

    assert found(tmp_path) == [("data/a.nii.gz", "a")]


def test_a_folder_without_images_says_what_it_holds(tmp_path: Path):
    touch(tmp_path, "a.webp", "b.webp", "c.txt", "d")

    with pytest.raises(DataError) as caught:
        find_images(tmp_path)

    assert str(caught.value).startswith(
        f"{tmp_path}: no images there (found 2 .webp, 1 .txt, 1 no ending); choose a folder with "
        ".nii.gz,"
    )


def test_an_empty_folder_says_so(tmp_path: Path):
    with pytest.raises(DataError, match=r"no images there \(found no files\)"):
        find_images(tmp_path)
