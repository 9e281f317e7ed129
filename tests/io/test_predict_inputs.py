import re
import shutil
from pathlib import Path

import pytest
from raw_folders import make_folder

from autoseg.errors import DataError
from autoseg.io.predict_inputs import label_files, predict_inputs

SERIES = Path(__file__).parents[3] / "shared" / "data" / "dicom_hippocampus" / "series"

needs_series = pytest.mark.skipif(not SERIES.is_dir(), reason="the shared data are not here")


def copy_series(folder: Path) -> Path:
    """Three slices of a DICOM series."""
    folder.mkdir(parents=True)
    for file in sorted(SERIES.iterdir())[:3]:
        shutil.copy(file, folder)
    return folder


# Images to segment


def test_channels_of_an_input_folder_are_grouped(tmp_path: Path):
    names = ["b_0000.nii.gz", "b_0001.nii.gz", "a_0000.nii.gz", "a_0001.nii.gz", "._a_0000.nii.gz"]
    folder = make_folder(tmp_path, [*names, "notes.txt"])

    assert predict_inputs(folder, 2) == [
        ("a", (folder / "a_0000.nii.gz", folder / "a_0001.nii.gz")),
        ("b", (folder / "b_0000.nii.gz", folder / "b_0001.nii.gz")),
    ]


def test_channels_may_have_different_endings(tmp_path: Path):
    folder = make_folder(tmp_path, ["a_0001.MHA", "a_0000.nii.gz"])

    expected = [("a", (folder / "a_0000.nii.gz", folder / "a_0001.MHA"))]
    assert predict_inputs(folder, 2) == expected
    assert predict_inputs(folder / "a_0001.MHA", 2) == expected


def test_one_case_in_two_formats_is_told(tmp_path: Path):
    folder = make_folder(tmp_path, [f"a_000{i}{end}" for i in (0, 1) for end in (".mha", ".nii")])

    with pytest.raises(DataError, match="2 cases are named 'a'; rename one of them"):
        predict_inputs(folder, 2)


def test_one_channel_files_lose_their_number_but_series_keep_it(tmp_path: Path):
    names = ["a_0000.nii.gz", "s_0000.nii.gz", "s_0001.nii.gz", "plain.mha"]
    folder = make_folder(tmp_path, names)

    assert [name for name, _ in predict_inputs(folder, 1)] == ["a", "plain", "s_0000", "s_0001"]


def test_an_incomplete_group_is_a_case_per_file(tmp_path: Path):
    folder = make_folder(tmp_path, ["a_0000.nii.gz", "b.nii.gz"])

    assert predict_inputs(folder, 2) == [
        ("a_0000", (folder / "a_0000.nii.gz",)),
        ("b", (folder / "b.nii.gz",)),
    ]


def test_a_single_file_finds_its_other_channels(tmp_path: Path):
    folder = make_folder(
        tmp_path, ["a[1]_0000.nii.gz", "a[1]_0001.nii.gz", "a1_0000.nii.gz", "c.mha"]
    )

    assert predict_inputs(folder / "a[1]_0000.nii.gz", 2) == [
        ("a[1]", (folder / "a[1]_0000.nii.gz", folder / "a[1]_0001.nii.gz"))
    ]
    assert predict_inputs(folder / "c.mha", 1) == [("c", (folder / "c.mha",))]


def test_kits_case_folders_are_inputs(tmp_path: Path):
    files = [f"case_0000{i}/imaging.nii.gz" for i in (1, 0)] + ["case_00002/segmentation.nii.gz"]
    folder = make_folder(tmp_path, files)

    expected = [(f"case_0000{i}", (folder / f"case_0000{i}/imaging.nii.gz",)) for i in (0, 1)]
    assert predict_inputs(folder, 1) == expected
    (folder / "case_00000" / "segmentation.nii.gz").touch()
    assert predict_inputs(folder / "case_00000", 1) == expected[:1]


def test_brats_case_folders_are_inputs_without_their_label_maps(tmp_path: Path):
    names = ["BraTS-GLI-00001-000", "LGG/Brats18_A"]
    ends = {names[0]: "-{}.mha", names[1]: "_{}.nii"}
    old, new = ("t1", "t1ce", "t2", "flair"), ("t1n", "t1c", "t2w", "t2f")
    channels = {names[0]: new, names[1]: old}
    files = [
        f"{name}/{Path(name).name}{ends[name].format(end)}"
        for name in names
        for end in ("seg", *reversed(channels[name]))
    ]
    folder = make_folder(tmp_path, files)

    expected = [
        (
            Path(name).name,
            tuple(folder / name / (Path(name).name + ends[name].format(e)) for e in channels[name]),
        )
        for name in names
    ]
    assert predict_inputs(folder, 4) == expected
    assert predict_inputs(folder / "LGG", 4) == expected[1:]
    assert predict_inputs(folder / names[0], 4) == expected[:1]


@needs_series
def test_a_dicom_series_is_one_case_named_by_its_folder(tmp_path: Path):
    series = copy_series(tmp_path / "head")

    assert predict_inputs(series, 1) == [("head", (series,))]


@needs_series
def test_dicom_series_at_any_depth_are_named_by_their_path(tmp_path: Path):
    places = ["p1/2020/head", "p1/2021/head", "p2", ".hidden", "case_9/imaging"]
    series = [copy_series(tmp_path / place) for place in places]
    make_folder(tmp_path, ["c.mha", "DICOMDIR", "p3/report.txt", "case_9/segmentation.mha"])

    assert predict_inputs(tmp_path, 1) == [
        ("c", (tmp_path / "c.mha",)),
        ("case_9", (series[4],)),
        ("p1_2020_head", (series[0],)),
        ("p1_2021_head", (series[1],)),
        ("p2", (series[2],)),
    ]


@needs_series
def test_series_whose_paths_give_one_name_are_told(tmp_path: Path):
    copy_series(tmp_path / "a" / "b_c")
    copy_series(tmp_path / "a_b" / "c")

    with pytest.raises(DataError, match="2 cases are named 'a_b_c'; rename one of them"):
        predict_inputs(tmp_path, 1)


def test_folders_of_images_and_label_maps_are_no_case(tmp_path: Path):
    folder = make_folder(tmp_path, ["imaging/a.mha", "segmentation/a.mha", "b.mha"])

    assert predict_inputs(folder, 1) == [("b", (folder / "b.mha",))]


def test_inputs_that_cannot_be_segmented_are_told(tmp_path: Path):
    folder = make_folder(tmp_path, ["notes.txt", "two/a.mha", "two/a.nii.gz"])

    with pytest.raises(DataError, match="nothing: no such file or folder"):
        predict_inputs(folder / "nothing", 1)
    with pytest.raises(DataError, match=r"no images found \(looked for .*\.nii\.gz, .*series"):
        predict_inputs(folder, 1)
    with pytest.raises(DataError, match=r"notes\.txt: no images found"):
        predict_inputs(folder / "notes.txt", 1)
    with pytest.raises(DataError, match="2 cases are named 'a'; rename one of them"):
        predict_inputs(folder / "two", 1)


# Label maps


def test_label_maps_are_found_as_files_and_in_case_folders(tmp_path: Path):
    files = ["a.nii.gz", "._b.nii.gz", "c_1/segmentation.mha", "case_2/x", "case_3/imaging.mha"]
    others = ["BraTS_4/BraTS_4_seg.nii", "BraTS_4/BraTS_4_t1.nii", "HGG/B5/B5_seg.nii"]
    folder = make_folder(tmp_path, [*files, *others])

    assert label_files(folder) == {
        "BraTS_4": folder / "BraTS_4" / "BraTS_4_seg.nii",
        "B5": folder / "HGG" / "B5" / "B5_seg.nii",
        "a": folder / "a.nii.gz",
        "c_1": folder / "c_1" / "segmentation.mha",
    }
    assert label_files(folder / "c_1") == {"c_1": folder / "c_1" / "segmentation.mha"}


def test_a_folder_without_label_maps_is_told(tmp_path: Path):
    folder = make_folder(tmp_path, ["case_2/x"])

    with pytest.raises(DataError, match="nothing: no such folder"):
        label_files(folder / "nothing")
    with pytest.raises(DataError, match="case_2: no label maps found"):
        label_files(folder / "case_2")


@pytest.mark.parametrize(
    ("files", "told"),
    [
        (["a.nii", "a.nii.gz", "b.mha"], "'a': a.nii, a.nii.gz; keep one of each case there"),
        (["a.nii.gz", "a.png"], "'a': a.nii.gz, a.png;"),
        (["a.nii.gz", "a/segmentation.nii.gz"], "'a': a/segmentation.nii.gz, a.nii.gz;"),
        (["HGG/B5/B5_seg.nii", "LGG/B5/B5_seg.nii"], "'B5': HGG/B5/B5_seg.nii, LGG/B5/B5_seg.nii;"),
        (["c/segmentation.nii", "c/Segmentation.mha"], "'c': c/Segmentation.mha, c/segmentation."),
        (["b.nii", "b.mha", "a.nii", "a.mha", "c.nii", "c.mha"], "a.mha, a.nii (and 2 more cases)"),
    ],
)
def test_several_label_maps_of_a_case_are_refused(tmp_path: Path, files: list[str], told: str):
    folder = make_folder(tmp_path, files)

    with pytest.raises(DataError, match=f"several label maps of .*{re.escape(told)}"):
        label_files(folder)


def test_several_label_maps_in_one_case_folder_are_refused(tmp_path: Path):
    folder = make_folder(tmp_path / "c", ["segmentation.nii", "segmentation.mha"])

    with pytest.raises(DataError, match=r"'c': segmentation\.mha, segmentation\.nii;"):
        label_files(folder)


def test_an_image_beside_the_segmentation_of_its_name_is_no_label_map(tmp_path: Path):
    folder = make_folder(tmp_path, ["a.nrrd", "a.seg.nrrd", "b.nrrd"])

    assert label_files(folder) == {"a": folder / "a.seg.nrrd", "b": folder / "b.nrrd"}
