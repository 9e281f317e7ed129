import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from autoseg.errors import DataError
from autoseg.io.dataset_folder import find_dataset, label_files, predict_inputs

DATA = Path(__file__).parents[3] / "shared" / "data"

DECATHLON = {
    "modality": {"0": "CT", "1": "PET"},
    "labels": {"0": "background", "1": "Anterior", "2": "Posterior"},
    "training": [
        {"image": "./imagesTr/b.nii.gz", "label": "./labelsTr/b.nii.gz"},
        {"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"},
    ],
}
NNUNET = {
    "channel_names": {"0": "T1", "1": "FLAIR"},
    "labels": {"background": 0, "edema": 1, "core": 2},
    "file_ending": ".nii.gz",
}


def _folder(root: Path, files: list[str], description: object = None) -> Path:
    """A data set of empty files: only names are looked at."""
    root.mkdir(parents=True, exist_ok=True)
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    if description is not None:
        text = description if isinstance(description, str) else json.dumps(description)
        (root / "dataset.json").write_text(text)
    return root


def _decathlon(root: Path, **changes: Any) -> Path:
    files = [f"{folder}/{name}.nii.gz" for folder in ("imagesTr", "labelsTr") for name in "ab"]
    return _folder(root / "Task01_X", files, DECATHLON | changes)


def _nnunet(root: Path, files: list[str] | None = None, **changes: Any) -> Path:
    channels = [f"imagesTr/{case}_000{i}.nii.gz" for case in "ab" for i in (0, 1)]
    labels = ["labelsTr/a.nii.gz", "labelsTr/b.nii.gz"]
    wanted = channels + labels if files is None else files
    return _folder(root / "Dataset001_X", wanted, NNUNET | changes)


def _message(folder: Path) -> str:
    with pytest.raises(DataError) as caught:
        find_dataset(folder)
    message = str(caught.value)
    place = folder.resolve()
    assert message.startswith(str(place))
    assert "\n" not in message
    return message.removeprefix(f"{place}: ")


def test_a_decathlon_folder_is_read(tmp_path: Path):
    dataset = find_dataset(_decathlon(tmp_path))

    assert dataset.name == "Task01_X"
    assert dataset.root == tmp_path / "Task01_X"
    assert dataset.layout == "decathlon"
    assert dataset.channels == ("CT", "PET")
    assert dataset.labels.names == ("Anterior", "Posterior")
    assert dataset.labels.values == (0, 1, 2)
    assert [case.name for case in dataset.cases] == ["a", "b"]
    assert dataset.image_paths(dataset.cases[0]) == (tmp_path / "Task01_X/imagesTr/a.nii.gz",)
    assert dataset.label_path(dataset.cases[0]) == tmp_path / "Task01_X/labelsTr/a.nii.gz"


def test_hidden_files_of_a_decathlon_list_are_left_out(tmp_path: Path):
    hidden = {"image": "./imagesTr/._a.nii.gz", "label": "./labelsTr/._a.nii.gz"}

    dataset = find_dataset(_decathlon(tmp_path, training=[*DECATHLON["training"], hidden]))

    assert len(dataset.cases) == 2


def test_label_files_missing_from_the_list_are_told_in_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    folder = _decathlon(tmp_path, training=DECATHLON["training"][:1])

    with caplog.at_level(logging.WARNING):
        assert len(find_dataset(folder).cases) == 1

    assert len(caplog.records) == 1
    assert "1 label files of labelsTr are not in 'training'" in caplog.text


def test_a_case_listed_twice_is_told(tmp_path: Path):
    twice = [DECATHLON["training"][0]] * 2

    assert _message(_decathlon(tmp_path, training=twice)) == "2 cases are named 'b'"


def test_an_nnunet_folder_is_read(tmp_path: Path):
    dataset = find_dataset(_nnunet(tmp_path))

    assert dataset.layout == "nnunet"
    assert dataset.channels == ("T1", "FLAIR")
    assert [case.name for case in dataset.cases] == ["a", "b"]
    assert dataset.cases[1].images == (
        Path("imagesTr/b_0000.nii.gz"),
        Path("imagesTr/b_0001.nii.gz"),
    )
    assert dataset.cases[1].label == Path("labelsTr/b.nii.gz")


def test_regions_and_the_ignore_label_are_read_in_declared_order(tmp_path: Path):
    labels = {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3}

    space = find_dataset(_nnunet(tmp_path, labels=labels, regions_class_order=[1, 2])).labels

    assert space.names == ("whole", "core")
    assert [structure.values for structure in space.structures] == [(1, 2), (2,)]
    assert space.ignore == 3
    assert space.output_values == (1, 2)


def test_the_order_of_regions_means_nothing_without_regions(tmp_path: Path):
    space = find_dataset(_nnunet(tmp_path, regions_class_order=[1, 2, 3])).labels

    assert space.output_values is None


def test_label_values_need_not_be_consecutive(tmp_path: Path):
    space = find_dataset(_nnunet(tmp_path, labels={"background": 0, "vessel": 255})).labels

    assert space.values == (0, 255)


def test_a_table_of_cases_names_files_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    elsewhere = _folder(tmp_path / "elsewhere", ["t1.nii.gz", "flair.nii.gz"])
    monkeypatch.setenv("SCANS", str(elsewhere))
    table = {
        "p1": {"images": ["$SCANS/t1.nii.gz", "$SCANS/flair.nii.gz"], "label": "truth/p1.nii.gz"}
    }

    dataset = find_dataset(_nnunet(tmp_path, ["truth/p1.nii.gz"], dataset=table))

    assert [case.name for case in dataset.cases] == ["p1"]
    assert dataset.image_paths(dataset.cases[0]) == (
        elsewhere / "t1.nii.gz",
        elsewhere / "flair.nii.gz",
    )


@pytest.mark.parametrize("name", ["../evil", "a/b", ".."])
def test_a_case_name_that_leaves_its_folder_is_refused(tmp_path: Path, name: str):
    row = {"images": ["a.nii.gz", "b.nii.gz"], "label": "l.nii.gz"}
    folder = _nnunet(tmp_path, ["a.nii.gz", "b.nii.gz", "l.nii.gz"], dataset={name: row})

    assert _message(folder).startswith(f"'{name}' cannot be the name of a case")


def test_a_table_with_too_few_channels_is_told(tmp_path: Path):
    files = ["a.nii.gz", "b.nii.gz", "c.nii.gz", "l.nii.gz"]
    row = {"images": files[:3], "label": "l.nii.gz"}

    message = _message(_nnunet(tmp_path, files, dataset={"p": row}))

    assert message == "dataset.json: dataset.p.images: 3 files for 2 channels"


def test_a_colour_picture_holds_all_channels(tmp_path: Path):
    names = {"0": "R", "1": "G", "2": "B"}
    folder = _nnunet(
        tmp_path,
        ["imagesTr/x", "labelsTr/a.png", "labelsTr/b.png"],
        file_ending=".png",
        channel_names=names,
    )
    for case in "ab":
        picture = sitk.GetImageFromArray(np.zeros((5, 4, 3), np.uint8), isVector=True)
        sitk.WriteImage(picture, str(folder / "imagesTr" / f"{case}_0000.png"))

    dataset = find_dataset(folder)

    assert [len(case.images) for case in dataset.cases] == [1, 1]


def test_everything_missing_in_an_nnunet_folder_is_listed(tmp_path: Path):
    files = [
        "imagesTr/a_0000.nii.gz",
        "imagesTr/a_0001.nii.gz",
        "imagesTr/b_0000.nii.gz",
        "imagesTr/b_0001.nii.gz",
        "imagesTr/b_0002.nii.gz",
        "imagesTr/c_0001.nii.gz",
        "imagesTr/nameless.nii.gz",
        "imagesTr/._b_0000.nii.gz",
        "labelsTr/b.nii.gz",
        "labelsTr/c.nii.gz",
    ]

    assert _message(_nnunet(tmp_path, files)) == (
        "4 problems: imagesTr/nameless.nii.gz has no channel number such as _0000, "
        "labelsTr/a.nii.gz is missing, "
        "imagesTr/b_0002.nii.gz has a number that is not in 'channel_names', "
        "imagesTr/c_0000.nii.gz is missing"
    )


def test_empty_folders_are_told(tmp_path: Path):
    assert _message(_nnunet(tmp_path, [])) == "imagesTr and labelsTr hold no .nii.gz files"


def test_a_kits_folder_needs_no_description(tmp_path: Path):
    files = [f"case_0000{i}/{f}.nii.gz" for i in (1, 0) for f in ("imaging", "segmentation")]
    root = _folder(tmp_path / "KiTS19", [*files, "kits.json", "LICENSE", ".git/x"])

    dataset = find_dataset(root)

    assert dataset.layout == "case_folders"
    assert dataset.channels == ("CT",)
    assert [(s.name, s.values) for s in dataset.labels.structures] == [
        ("kidney", (1,)),
        ("tumour", (2,)),
    ]
    assert [case.name for case in dataset.cases] == ["case_00000", "case_00001"]
    assert dataset.cases[0].images == (Path("case_00000/imaging.nii.gz"),)


def test_a_description_beside_case_folders_overrides_channels_and_labels(tmp_path: Path):
    description = {
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, "kidney": 1, "tumour": 2, "cyst": 3},
    }
    files = ["case_00000/imaging.nii.gz", "case_00000/segmentation.nii.gz"]

    dataset = find_dataset(_folder(tmp_path / "KiTS23", files, description))

    assert dataset.channels == ("MRI",)
    assert dataset.labels.names == ("kidney", "tumour", "cyst")


def test_missing_files_of_case_folders_are_listed_and_counted(tmp_path: Path):
    files = [f"case_{i:05d}/segmentation.nii.gz" for i in range(6)] + ["case_00009/imaging.nii.gz"]

    message = _message(_folder(tmp_path / "KiTS", files))

    assert message.startswith("7 problems: case_00000/imaging.nii.gz is missing, ")
    assert message.count("is missing") == 5
    assert message.endswith(", and 2 more")


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ('{"labels": }', "not valid JSON: line 1, column 12: Expecting value"),
        ("[]", "must be a JSON object: {...}"),
    ],
)
def test_a_broken_description_is_one_line(tmp_path: Path, description: str, message: str):
    folder = _folder(tmp_path / "T", ["imagesTr/a.nii.gz"], description)

    with pytest.raises(DataError) as caught:
        find_dataset(folder)

    assert str(caught.value) == f"{folder / 'dataset.json'}: {message}"


def test_missing_keys_are_told_together(tmp_path: Path):
    assert _message(_folder(tmp_path / "T", [], {"file_ending": ".nii.gz"})) == (
        "3 problems: dataset.json: channel_names: missing key, "
        "dataset.json: labels: missing key, imagesTr and labelsTr hold no .nii.gz files"
    )
    assert "dataset.json: file_ending: missing key" in _message(
        _folder(tmp_path / "U", [], {"channel_names": {"0": "CT"}, "labels": {"a": 1}})
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": {"background": 0, "a": "x"}}, "labels.a: should be a whole number or a list"),
        ({"labels": {"background": 0}}, "labels: there is no structure besides the background"),
        ({"labels": []}, "labels: should name the labels"),
        ({"labels": {"w": [1, 2], "c": [2]}}, "labels: overlapping structures need"),
        ({"channel_names": {"1": "CT"}}, "channel_names: should number the channels from 0"),
        ({"channel_names": {}}, "channel_names: should number the channels from 0"),
        ({"file_ending": ".jpg"}, "file_ending: no image format's ending"),
        ({"dataset": {"p": {"images": ["x"]}}}, "dataset.p.label: missing key"),
        ({"dataset": {"p": 3}}, "dataset.p: should be an object with 'images' and 'label'"),
        ({"dataset": {"p": {"images": 3, "label": "l"}}}, "dataset.p: 'images' and 'label'"),
        ({"dataset": []}, "dataset: should map each case to its 'images' and its 'label'"),
    ],
)
def test_nonsense_in_the_description_is_told_with_its_place(
    tmp_path: Path, changes: dict[str, Any], message: str
):
    assert f"dataset.json: {message}" in _message(_nnunet(tmp_path, **changes))


def test_nonsense_in_a_decathlon_list_is_told_with_its_place(tmp_path: Path):
    rows = [*DECATHLON["training"], {"image": "x"}]

    assert "dataset.json: training.2.label: missing key" in _message(
        _decathlon(tmp_path, training=rows)
    )


def test_a_folder_that_is_no_data_set_is_told_what_was_looked_for(tmp_path: Path):
    message = _message(_folder(tmp_path / "T", ["photos/a.jpg"]))

    assert message.startswith("not a data set: found neither dataset.json nor case folders")
    assert "imaging.nii.gz" in message


def test_a_place_that_is_no_folder_is_told(tmp_path: Path):
    (tmp_path / "file").touch()

    with pytest.raises(DataError, match="nothing: no such folder"):
        find_dataset(tmp_path / "nothing")
    with pytest.raises(DataError, match="file: is a file, not the folder of a data set"):
        find_dataset(tmp_path / "file")


def test_channels_of_an_input_folder_are_grouped(tmp_path: Path):
    names = ["b_0000.nii.gz", "b_0001.nii.gz", "a_0000.nii.gz", "a_0001.nii.gz", "._a_0000.nii.gz"]
    folder = _folder(tmp_path, [*names, "notes.txt"])

    assert predict_inputs(folder, 2) == [
        ("a", (folder / "a_0000.nii.gz", folder / "a_0001.nii.gz")),
        ("b", (folder / "b_0000.nii.gz", folder / "b_0001.nii.gz")),
    ]


def test_one_channel_files_lose_their_number_but_series_keep_it(tmp_path: Path):
    names = ["a_0000.nii.gz", "s_0000.nii.gz", "s_0001.nii.gz", "plain.mha"]
    folder = _folder(tmp_path, names)

    assert [name for name, _ in predict_inputs(folder, 1)] == ["a", "plain", "s_0000", "s_0001"]


def test_an_incomplete_group_is_a_case_per_file(tmp_path: Path):
    folder = _folder(tmp_path, ["a_0000.nii.gz", "b.nii.gz"])

    assert predict_inputs(folder, 2) == [
        ("a_0000", (folder / "a_0000.nii.gz",)),
        ("b", (folder / "b.nii.gz",)),
    ]


def test_a_single_file_finds_its_other_channels(tmp_path: Path):
    folder = _folder(tmp_path, ["a[1]_0000.nii.gz", "a[1]_0001.nii.gz", "a1_0000.nii.gz", "c.mha"])

    assert predict_inputs(folder / "a[1]_0000.nii.gz", 2) == [
        ("a[1]", (folder / "a[1]_0000.nii.gz", folder / "a[1]_0001.nii.gz"))
    ]
    assert predict_inputs(folder / "c.mha", 1) == [("c", (folder / "c.mha",))]


def test_case_folders_are_inputs(tmp_path: Path):
    files = [f"case_0000{i}/imaging.nii.gz" for i in (1, 0)] + ["case_00002/segmentation.nii.gz"]
    folder = _folder(tmp_path, files)

    expected = [(f"case_0000{i}", (folder / f"case_0000{i}/imaging.nii.gz",)) for i in (0, 1)]
    assert predict_inputs(folder, 1) == expected
    (folder / "case_00000" / "segmentation.nii.gz").touch()
    assert predict_inputs(folder / "case_00000", 1) == expected[:1]


def test_inputs_that_cannot_be_segmented_are_told(tmp_path: Path):
    folder = _folder(tmp_path, ["notes.txt", "two/a.mha", "two/a.nii.gz"])

    with pytest.raises(DataError, match="nothing: no such file or folder"):
        predict_inputs(folder / "nothing", 1)
    with pytest.raises(DataError, match=r"no images found \(looked for \.nii\.gz, "):
        predict_inputs(folder, 1)
    with pytest.raises(DataError, match=r"notes\.txt: no images found"):
        predict_inputs(folder / "notes.txt", 1)
    with pytest.raises(DataError, match="2 cases are named 'a'; rename one of them"):
        predict_inputs(folder / "two", 1)


def test_label_maps_are_found_as_files_and_in_case_folders(tmp_path: Path):
    folder = _folder(tmp_path, ["a.nii.gz", "._b.nii.gz", "c_1/segmentation.nii.gz", "case_2/x"])

    assert label_files(folder) == {
        "a": folder / "a.nii.gz",
        "c_1": folder / "c_1" / "segmentation.nii.gz",
    }
    with pytest.raises(DataError, match="nothing: no such folder"):
        label_files(folder / "nothing")
    with pytest.raises(DataError, match="case_2: no label maps found"):
        label_files(folder / "case_2")


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data are not here")
def test_the_hippocampus_task_is_found():
    dataset = find_dataset(DATA / "Task04_Hippocampus")

    assert len(dataset.cases) == 208
    assert dataset.channels == ("MRI",)
    assert dataset.labels.names == ("Anterior", "Posterior")


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data are not here")
def test_label_maps_without_images_are_refused():
    message = _message(DATA / "KiTS19_geometry")

    assert message.startswith("17 problems: case_00000/imaging.nii.gz is missing")
    assert message.endswith("and 12 more")
