import json
import re
import shutil
from pathlib import Path

import pytest
from raw_folders import findings, make_folder, told

from autoseg.core.problem import KINDS
from autoseg.errors import DataError
from autoseg.io.dataset_folder import find_dataset, survey_dataset

SERIES = Path(__file__).parents[3] / "shared" / "data" / "dicom_hippocampus" / "series"

NNUNET = {"channel_names": {"0": "T1", "1": "FLAIR"}, "labels": {"background": 0, "edema": 1}}
COMPLETE = ["imagesTr/a_0000.mha", "imagesTr/a_0001.mha", "labelsTr/a.mha"]


def message(folder: Path) -> str:
    """What ``find_dataset`` says, without the place."""
    with pytest.raises(DataError) as caught:
        find_dataset(folder)
    text = str(caught.value)
    assert text.startswith(f"{folder.resolve()}: ")
    assert "\n" not in text
    return text.removeprefix(f"{folder.resolve()}: ")


def test_a_single_problem_comes_with_what_mends_it(tmp_path: Path):
    folder = make_folder(tmp_path / "T", COMPLETE[:2], NNUNET)

    assert message(folder) == f"labelsTr/a.mha: missing; {KINDS['missing-label'].remedy}"


def test_problems_of_several_kinds_come_with_the_command_that_knows_more(tmp_path: Path):
    folder = make_folder(tmp_path / "T", [*COMPLETE[:2], "labelsTr/b.mha"], NNUNET)

    assert message(folder) == (
        "2 problems: labelsTr/a.mha: missing, imagesTr/b_0000.mha: missing; "
        "autoseg check TASK says what mends them"
    )


def test_of_many_problems_the_first_are_told_and_all_counted(tmp_path: Path):
    files = [f"labelsTr/c{i}.mha" for i in range(7)]

    assert message(make_folder(tmp_path / "T", [*COMPLETE, *files], NNUNET)) == (
        "7 problems: "
        + ", ".join(f"imagesTr/c{i}_0000.mha: missing" for i in range(5))
        + ", and 2 more; autoseg check TASK lists them all"
    )


def test_a_warning_does_not_stop(tmp_path: Path):
    ends = ("imagesTr/{}_0000.mha", "imagesTr/{}_0001.mha", "labelsTr/{}.mha")
    files = [end.format(name) for name in "abc" for end in ends]
    folder = make_folder(tmp_path / "T", files, NNUNET)
    (folder / "splits_final.json").write_text(json.dumps([{"train": ["a"], "val": ["b"]}]))

    assert len(find_dataset(folder).cases) == 3
    assert [problem.is_error for problem in survey_dataset(folder).problems] == [False]


def test_problems_are_in_the_order_of_their_kinds_and_of_their_cases(tmp_path: Path):
    files = ["labelsTr/z.mha", "labelsTr/b.mha", "imagesTr/y_0000.mha", "imagesTr/y_0001.mha"]
    others = ["imagesTr/c_0000.mha", "imagesTr/c_0001.mha", "imagesTr/x.mha"]

    survey = survey_dataset(make_folder(tmp_path / "T", [*files, *others], NNUNET))

    assert [(problem.kind, problem.case) for problem in survey.problems] == [
        ("name", None),
        ("missing-label", "c"),
        ("missing-label", "y"),
        ("missing-image", "b"),
        ("missing-image", "z"),
    ]


@pytest.mark.parametrize("name", ["Task04_X", "Dataset004_X", "Any folder (new)"])
def test_any_folder_name_is_the_name_of_a_task(tmp_path: Path, name: str):
    assert find_dataset(make_folder(tmp_path / name, COMPLETE, NNUNET)).name == name


@pytest.mark.parametrize(
    ("description", "finding"),
    [
        ('{"labels": }', "not valid JSON: line 1, column 12: Expecting value"),
        ("[]", "must be a JSON object: {...}"),
    ],
)
def test_a_broken_description_is_one_line(tmp_path: Path, description: str, finding: str):
    folder = make_folder(tmp_path / "T", ["imagesTr/a.nii.gz"], description)

    survey = survey_dataset(folder)

    assert survey.dataset is None
    assert told(survey, folder) == [("description", None, "dataset.json", finding)]
    assert message(folder) == f"dataset.json: {finding}; {KINDS['description'].remedy}"


def test_images_in_no_known_layout_are_told_with_the_command_that_describes_them(tmp_path: Path):
    folder = make_folder(tmp_path / "T", ["notes.txt", "scans/old/.a.mha", "scans/old/b.mha"])

    assert survey_dataset(folder).dataset is None
    assert message(folder) == (
        "holds images such as scans/old/b.mha, but neither dataset.json nor case folders as in "
        "KiTS or BraTS; correct it, or let autoseg init FOLDER write one"
    )


@pytest.mark.skipif(not SERIES.is_dir(), reason="the shared data are not here")
def test_a_dicom_series_is_an_image_in_no_known_layout(tmp_path: Path):
    folder = make_folder(tmp_path / "T", ["p1/notes.txt"])
    (folder / "p1/head").mkdir()
    # Slices need no ending.
    shutil.copy(min(SERIES.iterdir()), folder / "p1/head/slice")

    assert message(folder).startswith("holds images such as p1/head, but neither dataset.json")


def test_a_folder_without_images_is_told_what_was_looked_for(tmp_path: Path):
    folder = make_folder(tmp_path / "T", ["notes.txt", "case_1/letter.txt", ".git/a.mha"])

    assert message(folder).startswith(
        "not a data set: found neither dataset.json, nor case folders as in KiTS or BraTS, "
        "nor any image; choose the folder that holds them"
    )


def test_a_place_that_is_no_folder_is_told(tmp_path: Path):
    (tmp_path / "file").touch()

    with pytest.raises(DataError, match="nothing: no such folder"):
        survey_dataset(tmp_path / "nothing")
    with pytest.raises(DataError, match="file: is a file, not the folder of a data set"):
        find_dataset(tmp_path / "file")


def test_a_folder_that_may_not_be_listed_is_told(tmp_path: Path):
    folder = make_folder(tmp_path / "T", COMPLETE, NNUNET)
    # A name too long for the file system is refused even to those who may read everything.
    table = {"p": {"images": [f"{'x' * 300}/a.mha"], "label": "labelsTr/a.mha"}}
    make_folder(folder, [], NNUNET | {"dataset": table})

    with pytest.raises(DataError, match=re.escape("cannot be listed (")):
        survey_dataset(folder)


def test_links_count_if_they_lead_somewhere(tmp_path: Path):
    folder = make_folder(tmp_path / "T", [*COMPLETE[1:], "elsewhere/x.mha"], NNUNET)
    link = folder / "imagesTr/a_0000.mha"

    link.symlink_to(folder / "nowhere.mha")
    assert findings(survey_dataset(folder)) == ["missing (T1)"]

    link.unlink()
    link.symlink_to(folder / "elsewhere/x.mha")
    assert survey_dataset(folder).problems == ()
