import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from raw_folders import findings, make_folder, told

from autoseg.core.dataset import Split
from autoseg.errors import DataError
from autoseg.io.dataset_folder import find_dataset, survey_dataset

NNUNET = {
    "channel_names": {"0": "T1", "1": "FLAIR"},
    "labels": {"background": 0, "edema": 1, "core": 2},
    "file_ending": ".nii.gz",
}
COMPLETE = [
    *(f"imagesTr/{case}_000{i}.nii.gz" for case in "ab" for i in (0, 1)),
    "labelsTr/a.nii.gz",
    "labelsTr/b.nii.gz",
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "Dataset001_X"


def write(root: Path, files: list[str] | None = None, **changes: Any) -> Path:
    description = {k: v for k, v in (NNUNET | changes).items() if v is not None}
    return make_folder(root, COMPLETE if files is None else files, description)


def test_an_nnunet_folder_is_read(root: Path):
    dataset = find_dataset(write(root))

    assert dataset.layout == "nnunet"
    assert dataset.channels == ("T1", "FLAIR")
    assert [case.name for case in dataset.cases] == ["a", "b"]
    assert dataset.cases[1].images == (
        Path("imagesTr/b_0000.nii.gz"),
        Path("imagesTr/b_0001.nii.gz"),
    )
    assert dataset.cases[1].label == Path("labelsTr/b.nii.gz")
    assert dataset.folds is None


def test_the_number_of_cases_in_the_description_does_not_matter(root: Path):
    assert survey_dataset(write(root, numTraining=99)).problems == ()


def test_endings_may_differ_from_file_to_file_and_from_the_described_one(root: Path):
    files = [
        "imagesTr/a_0000.NII.GZ",
        "imagesTr/a_0001.mha",
        "imagesTr/b_0000.nrrd",
        "imagesTr/b_0001.nrrd",
        "labelsTr/a.mha",
        "labelsTr/b.nii.gz",
    ]

    survey = survey_dataset(write(root, files))

    assert survey.problems == ()
    assert survey.dataset is not None
    assert survey.dataset.cases[0].images == (
        Path("imagesTr/a_0000.NII.GZ"),
        Path("imagesTr/a_0001.mha"),
    )
    assert survey.dataset.cases[0].label == Path("labelsTr/a.mha")


@pytest.mark.parametrize("ending", [".nii.gz", ".NII.gz"])
def test_of_two_formats_the_described_one_is_taken(root: Path, ending: str):
    others = ["imagesTr/a_0000.mha", "imagesTr/a_0000.nrrd", "labelsTr/b.nii"]

    survey = survey_dataset(write(root, [*COMPLETE, *others], file_ending=ending))

    assert survey.problems == ()
    assert survey.dataset is not None
    assert survey.dataset.cases[0].images[0] == Path("imagesTr/a_0000.nii.gz")
    assert survey.dataset.cases[1].label == Path("labelsTr/b.nii.gz")


def test_two_formats_of_which_neither_is_described_are_told(root: Path):
    files = [*COMPLETE[1:], "imagesTr/a_0000.mha", "imagesTr/a_0000.nrrd"]

    assert told(survey_dataset(write(root, files)), root) == [
        ("name", None, "imagesTr/a_0000.nrrd", "there is a_0000.mha, too: which one is meant?")
    ]


def test_the_ending_may_be_left_to_the_files(root: Path):
    files = [file.replace(".nii.gz", ".mha") for file in COMPLETE if "b_0001" not in file]

    survey = survey_dataset(write(root, files, file_ending=None))

    assert told(survey, root) == [
        ("missing-channel", "b", "imagesTr/b_0001.mha", "missing (FLAIR)")
    ]
    assert survey.dataset is not None
    assert survey.dataset.cases[0].label == Path("labelsTr/a.mha")


def test_folders_with_channel_numbers_are_images(root: Path):
    files = [f"imagesTr/a_000{i}/slice.dcm" for i in (0, 1)]

    dataset = find_dataset(write(root, [*files, "imagesTr/old/x.txt", "labelsTr/a.nii.gz"]))

    assert dataset.cases[0].images == (Path("imagesTr/a_0000"), Path("imagesTr/a_0001"))


def test_regions_and_the_ignore_label_are_read_in_declared_order(root: Path):
    labels = {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3}

    space = find_dataset(write(root, labels=labels, regions_class_order=[1, 2])).labels

    assert space.names == ("whole", "core")
    assert [structure.values for structure in space.structures] == [(1, 2), (2,)]
    assert space.ignore == 3
    assert space.output_values == (1, 2)


@pytest.mark.parametrize(
    ("order", "finding"),
    [
        ([2, 1], "structure 'core' is to be written as 1, which is none of its values (2)"),
        ([1, 5], "structure 'core' is to be written as 5, which is none of its values (2)"),
        ([1], "'output_values' needs one value per structure"),
        (None, "overlapping structures need 'output_values' (regions_class_order)"),
    ],
)
def test_an_order_of_regions_that_cannot_be_meant_is_refused(root: Path, order, finding):
    labels = {"background": 0, "whole": [1, 2], "core": 2}
    with pytest.raises(DataError) as caught:
        find_dataset(write(root, labels=labels, regions_class_order=order))
    assert f"labels: {finding}" in str(caught.value)


def test_the_order_of_regions_means_nothing_without_regions(root: Path):
    space = find_dataset(write(root, regions_class_order=[1, 2, 3])).labels

    assert space.output_values is None


def test_label_values_need_not_be_consecutive(root: Path):
    space = find_dataset(write(root, labels={"background": 0, "vessel": 255})).labels

    assert space.values == (0, 255)


def test_a_table_of_cases_names_files_anywhere(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    elsewhere = make_folder(tmp_path / "elsewhere", ["t1.nii.gz", "flair.nii.gz"])
    monkeypatch.setenv("SCANS", str(elsewhere))
    table = {
        "p1": {"images": ["$SCANS/t1.nii.gz", "$SCANS/flair.nii.gz"], "label": "truth/p1.nii.gz"}
    }

    dataset = find_dataset(write(root, ["truth/p1.nii.gz"], dataset=table))

    assert [case.name for case in dataset.cases] == ["p1"]
    assert dataset.image_paths(dataset.cases[0]) == (
        elsewhere / "t1.nii.gz",
        elsewhere / "flair.nii.gz",
    )


@pytest.mark.parametrize("name", ["../evil", "a/b", ".."])
def test_a_case_name_that_leaves_its_folder_is_refused(root: Path, name: str):
    row = {"images": ["a.nii.gz", "b.nii.gz"], "label": "l.nii.gz"}
    files = ["a.nii.gz", "b.nii.gz", "l.nii.gz"]

    survey = survey_dataset(write(root, files, dataset={name: row}))

    assert told(survey, root) == [
        ("name", name, "l.nii.gz", f"'{name}' cannot be the name of a case")
    ]


def test_a_table_with_too_few_channels_is_told(root: Path):
    files = ["a.nii.gz", "b.nii.gz", "c.nii.gz", "l.nii.gz"]
    row = {"images": files[:3], "label": "l.nii.gz"}

    survey = survey_dataset(write(root, files[1:], dataset={"p": row}))

    assert told(survey, root) == [
        ("description", "p", "dataset.json", "dataset.p.images: 3 files for 2 channels"),
        ("missing-channel", "p", "a.nii.gz", "missing"),
    ]


def test_a_colour_picture_holds_all_channels(root: Path):
    names = {"0": "R", "1": "G", "2": "B"}
    files = ["imagesTr/x", "labelsTr/a.png", "labelsTr/b.png"]
    write(root, files, file_ending=".png", channel_names=names)
    for case in "ab":
        picture = sitk.GetImageFromArray(np.zeros((5, 4, 3), np.uint8), isVector=True)
        sitk.WriteImage(picture, str(root / "imagesTr" / f"{case}_0000.png"))

    assert [len(case.images) for case in find_dataset(root).cases] == [1, 1]


def test_a_single_file_that_is_not_readable_does_not_count_as_all_channels(root: Path):
    survey = survey_dataset(write(root, ["imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz"]))

    assert told(survey, root) == [
        ("missing-channel", "a", "imagesTr/a_0001.nii.gz", "missing (FLAIR)")
    ]


def test_everything_wrong_with_the_files_is_told_with_case_and_file(root: Path):
    files = [
        "imagesTr/a_0000.nii.gz",
        "imagesTr/a_0001.nii.gz",
        "imagesTr/b_0000.nii.gz",
        "imagesTr/b_0001.nii.gz",
        "imagesTr/b_0002.nii.gz",
        "imagesTr/c_0001.nii.gz",
        "imagesTr/nameless.nii.gz",
        "imagesTr/._b_0000.nii.gz",
        "imagesTr/e_0000.nii.gz",
        "imagesTr/e_0001.nii.gz",
        "labelsTr/b.nii.gz",
        "labelsTr/c.nii.gz",
        "labelsTr/d.nii.gz",
        "labelsTr/e.nii.gz",
    ]

    survey = survey_dataset(write(root, files))

    number = "a channel number that is not in 'channel_names'"
    assert told(survey, root) == [
        ("description", "b", "imagesTr/b_0002.nii.gz", number),
        ("name", None, "imagesTr/nameless.nii.gz", "no channel number such as _0000"),
        ("missing-label", "a", "labelsTr/a.nii.gz", "missing"),
        ("missing-image", "d", "imagesTr/d_0000.nii.gz", "missing"),
        ("missing-channel", "c", "imagesTr/c_0000.nii.gz", "missing (T1)"),
    ]
    assert survey.dataset is not None
    assert [case.name for case in survey.dataset.cases] == ["e"]


def test_empty_folders_are_told(root: Path):
    assert findings(survey_dataset(write(root, []))) == ["imagesTr and labelsTr hold no images"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": {"background": 0, "a": "x"}}, "labels.a: should be a whole number or a list"),
        ({"labels": {"background": 0}}, "labels: there is no structure besides the background"),
        ({"labels": []}, "labels: should name the labels"),
        ({"labels": {"w": [1, 2], "c": [2]}}, "labels: overlapping structures need"),
        ({"channel_names": {"1": "CT"}}, "channel_names: should number the channels from 0"),
        ({"channel_names": {}}, "channel_names: should number the channels from 0"),
        ({"channel_names": [" "]}, "channel_names: should number the channels from 0"),
        ({"file_ending": ".xyz"}, "file_ending: no image format's ending"),
        ({"file_ending": 3}, "file_ending: no image format's ending"),
        ({"dataset": {"p": {"images": ["x"]}}}, "dataset.p.label: missing key"),
        ({"dataset": {"p": 3}}, "dataset.p: should be an object with 'images' and 'label'"),
        ({"dataset": {"p": {"images": 3, "label": "l"}}}, "dataset.p: 'images' and 'label'"),
        ({"dataset": []}, "dataset: should map each case to its 'images' and its 'label'"),
    ],
)
def test_nonsense_in_the_description_is_told_with_its_place(
    root: Path, changes: dict[str, Any], message: str
):
    problem = survey_dataset(write(root, **changes)).problems[0]

    assert problem.kind == "description"
    assert problem.file == root / "dataset.json"
    assert problem.finding.startswith(message)


def test_missing_keys_are_told_together(root: Path):
    survey = survey_dataset(make_folder(root, COMPLETE, {"file_ending": ".nii.gz"}))

    assert survey.dataset is None
    assert findings(survey)[:2] == ["channel_names: missing key", "labels: missing key"]


# Folds


def folds(root: Path, content: object) -> Path:
    text = content if isinstance(content, str) else json.dumps(content)
    (root / "splits_final.json").write_text(text)
    return root


def test_folds_beside_the_description_are_taken_over(root: Path):
    content = [{"train": ["a"], "val": ["b"]}, {"train": ["b"], "val": ["a"]}]

    assert find_dataset(folds(write(root), content)).folds == (
        Split(train=("a",), validation=("b",)),
        Split(train=("b",), validation=("a",)),
    )


def test_cases_in_no_fold_are_told_and_stop_nothing(root: Path):
    c = ["imagesTr/c_0000.nii.gz", "imagesTr/c_0001.nii.gz", "labelsTr/c.nii.gz"]

    survey = survey_dataset(folds(write(root, [*COMPLETE, *c]), [{"train": ["a"], "val": ["b"]}]))

    assert told(survey, root) == [("unlisted", "c", "splits_final.json", "in none of the folds")]
    assert survey.dataset is not None
    assert len(survey.dataset.cases) == 3
    assert survey.dataset.folds == (Split(train=("a",), validation=("b",)),)


def test_cases_with_errors_are_in_no_fold_of_the_data_set(root: Path):
    extra = [f"labelsTr/{name}.nii.gz" for name in "cd"]
    content = [{"train": ["a", "c"], "val": ["b", "d"]}]

    survey = survey_dataset(folds(write(root, [*COMPLETE, *extra]), content))

    assert survey.dataset is not None
    assert survey.dataset.folds == (Split(train=("a",), validation=("b",)),)


@pytest.mark.parametrize(
    ("content", "finding"),
    [
        ("[", "cannot be read (Expecting value: line 1 column 2 (char 1))"),
        ({"train": []}, "should list the folds, with 'train' and 'val' each"),
        ([{"train": ["a"]}], "0: should have lists of cases 'train' and 'val'"),
        ([{"train": ["a"], "val": []}], "0: should have lists of cases 'train' and 'val'"),
        ([{"train": ["x", "y"], "val": ["b"]}], "0: no case is named 'x' and 1 more"),
        ([{"train": ["a", "b"], "val": ["b"]}], "0: lists 'b' twice"),
        ([{"train": ["a", "b"], "val": ["b", "a"]}], "0: lists 'a' and 1 more twice"),
    ],
)
def test_folds_that_cannot_be_are_told(root: Path, content: object, finding: str):
    survey = survey_dataset(folds(write(root), content))

    assert told(survey, root) == [("description", None, "splits_final.json", finding)]
    assert survey.dataset is not None
    assert survey.dataset.folds is None
