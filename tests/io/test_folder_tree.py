import os
import sys
from pathlib import Path

import pytest
from raw_folders import make_folder

from autoseg.errors import DataError
from autoseg.io.layouts.folder_tree import FolderTree, ImageName


def test_images_are_told_from_other_files_by_their_endings(tmp_path: Path):
    files = ["b.a.NII.gz", "a.mha", "._c.mha", "_d.mha", "e.txt", ".mha", "f.mha/x"]
    tree = FolderTree(make_folder(tmp_path, files))

    assert tree.images() == (
        ImageName(name="a.mha", stem="a", suffix=".mha"),
        ImageName(name="b.a.NII.gz", stem="b.a", suffix=".NII.gz"),
    )


def test_hidden_folders_are_left_out(tmp_path: Path):
    tree = FolderTree(make_folder(tmp_path, ["b/x", "a/x", ".git/x", "_old/x", "file"]))

    assert tree.folders() == ["a", "b"]
    assert tree.has_folder("a")
    assert not tree.has_folder("file")
    assert not tree.has_file("a")


def test_files_are_found_below_beside_and_elsewhere(tmp_path: Path):
    make_folder(tmp_path, ["root/a/b/x.mha", "beside/y.mha"])
    tree = FolderTree(tmp_path / "root")

    assert tree.has(Path("a/b/x.mha"))
    assert tree.has(Path("a/b"))
    assert tree.has(Path("../beside/y.mha"))
    assert tree.has(tmp_path / "beside" / "y.mha")
    assert not tree.has(Path("a/c/x.mha"))
    assert not tree.has(Path("a/b/x.mha/y"))


def test_names_no_file_can_have_are_those_of_no_file(tmp_path: Path):
    assert not FolderTree(tmp_path).has(Path("a\0b/x.mha"))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_name_that_is_not_in_utf_8_is_told(tmp_path: Path):
    (tmp_path / os.fsdecode(b"niere_gr\xfcn.mha")).touch()

    with pytest.raises(DataError) as caught:
        FolderTree(tmp_path).images()
    expected = rf"{tmp_path}: the name 'niere_gr\udcfcn.mha' is not in UTF-8; rename it"
    assert str(caught.value) == expected


def test_a_folder_is_listed_once(tmp_path: Path):
    tree = FolderTree(make_folder(tmp_path, ["a/x.mha"]))
    assert tree.has(Path("a/x.mha"))

    make_folder(tmp_path, ["a/y.mha"])

    assert not tree.has(Path("a/y.mha"))
    assert [image.stem for image in tree.images("a")] == ["x"]
