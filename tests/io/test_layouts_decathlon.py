from pathlib import Path
from typing import Any

import pytest
from raw_folders import findings, make_folder, told

from autoseg.io.dataset_folder import find_dataset, survey_dataset

DATA = Path(__file__).parents[3] / "shared" / "data"

ROWS = [
    {"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"} for name in "ba"
]
DECATHLON = {
    "modality": {"0": "CT", "1": "PET"},
    "labels": {"0": "background", "1": "Anterior", "2": "Posterior"},
    "training": ROWS,
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "Task01_X"


def write(root: Path, **changes: Any) -> Path:
    files = [f"{folder}/{name}.nii.gz" for folder in ("imagesTr", "labelsTr") for name in "ab"]
    return make_folder(root, files, DECATHLON | changes)


def test_a_decathlon_folder_is_read(root: Path):
    dataset = find_dataset(write(root))

    assert dataset.name == "Task01_X"
    assert dataset.root == root
    assert dataset.layout == "decathlon"
    assert dataset.description is None
    assert dataset.channels == ("CT", "PET")
    assert dataset.labels.names == ("Anterior", "Posterior")
    assert dataset.labels.values == (0, 1, 2)
    assert [case.name for case in dataset.cases] == ["a", "b"]
    assert [case.group for case in dataset.cases] == [None, None]
    assert dataset.image_paths(dataset.cases[0]) == (root / "imagesTr/a.nii.gz",)
    assert dataset.label_path(dataset.cases[0]) == root / "labelsTr/a.nii.gz"


def test_hidden_files_of_a_decathlon_list_are_left_out(root: Path):
    hidden = {"image": "./imagesTr/._a.nii.gz", "label": "./labelsTr/._a.nii.gz"}

    assert len(find_dataset(write(root, training=[*ROWS, hidden])).cases) == 2


def test_the_list_of_test_images_is_not_looked_at(root: Path):
    write(root, test=["./imagesTs/nowhere.nii.gz"], numTraining=17)

    assert survey_dataset(root).problems == ()


def test_label_files_missing_from_the_list_are_told_and_stop_nothing(root: Path):
    make_folder(write(root, training=ROWS[1:]), ["labelsTr/c.mha", "labelsTr/._c.mha"])

    assert told(survey_dataset(root), root) == [
        ("unlisted", "b", "labelsTr/b.nii.gz", "not in 'training'"),
        ("unlisted", "c", "labelsTr/c.mha", "not in 'training'"),
    ]
    assert [case.name for case in find_dataset(root).cases] == ["a"]


def test_listed_files_that_are_not_there_are_told_one_by_one(root: Path):
    write(root)
    (root / "imagesTr/a.nii.gz").unlink()
    (root / "labelsTr/b.nii.gz").unlink()

    survey = survey_dataset(root)

    assert told(survey, root) == [
        ("missing-label", "b", "labelsTr/b.nii.gz", "missing"),
        ("missing-image", "a", "imagesTr/a.nii.gz", "missing"),
    ]
    assert survey.dataset is not None
    assert survey.dataset.cases == ()


def test_a_case_listed_twice_is_told(root: Path):
    survey = survey_dataset(write(root, training=[*ROWS, ROWS[0]]))

    assert told(survey, root) == [("name", "b", "labelsTr/b.nii.gz", "2 cases are named 'b'")]
    assert survey.dataset is not None
    assert [case.name for case in survey.dataset.cases] == ["a"]


def test_channels_in_files_of_their_own_may_be_listed(root: Path):
    files = ["ct.mha", "pet.mha", "l.mha"]
    make_folder(write(root, training=[{"image": files[:2], "label": "l.mha"}]), files)

    survey = survey_dataset(root)

    assert survey.dataset is not None
    assert survey.dataset.cases[0].images == (Path("ct.mha"), Path("pet.mha"))
    write(root, training=[{"image": files, "label": "l.mha"}])
    assert "training.0.images: 3 files for 2 channels" in findings(survey_dataset(root))


def test_nonsense_in_a_decathlon_list_is_told_with_its_place(root: Path):
    survey = survey_dataset(write(root, training=[*ROWS, {"image": "x"}]))

    assert told(survey, root) == [
        ("description", None, "dataset.json", "training.2.label: missing key")
    ]
    assert findings(survey_dataset(write(root, training=[])))[0] == (
        "training: should list the cases, with 'image' and 'label' each"
    )


def test_a_list_whose_files_have_channel_numbers_is_that_of_an_older_nnunet(root: Path):
    rows = [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}]
    numbered = ["imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz", "labelsTr/a.nii.gz"]

    dataset = find_dataset(make_folder(root, numbered, DECATHLON | {"training": rows}))

    assert dataset.layout == "nnunet"
    assert [len(case.images) for case in dataset.cases] == [2]


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data are not here")
def test_the_hippocampus_task_is_found():
    survey = survey_dataset(DATA / "Task04_Hippocampus")

    assert survey.problems == ()
    assert survey.dataset is not None
    assert len(survey.dataset.cases) == 208
    assert survey.dataset.channels == ("MRI",)
    assert survey.dataset.labels.names == ("Anterior", "Posterior")
