import json
import logging
from pathlib import Path

import pytest
from raw_folders import make_folder

from autoseg.core.dataset import Dataset, Split
from autoseg.core.labels import LabelSpace, Structure
from autoseg.errors import DataError, WorkspaceError
from autoseg.io import artifacts
from autoseg.io.dataset_folder import find_dataset
from autoseg.io.nnunet_folders import numbered, preprocessed_splits, raw_folders
from autoseg.io.workspace import Workspace

DESCRIPTION = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1}}


@pytest.fixture
def peer(tmp_path, monkeypatch):
    """Folders of nnU-Net that the environment names, and a place to be with nothing in it."""
    for name in ("raw", "preprocessed"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


@pytest.fixture
def workspace(peer):
    return Workspace(peer / "here" / "autoseg_workspace")


def data_set(peer: Path, name: str = "Dataset004_Liver") -> Path:
    files = [f"imagesTr/{case}_0000.nii.gz" for case in "abc"]
    return make_folder(
        peer / "raw" / name, [*files, *(f"labelsTr/{c}.nii.gz" for c in "abc")], DESCRIPTION
    )


def know(workspace: Workspace, name: str, root: Path) -> None:
    labels = LabelSpace(structures=(Structure(name="liver", values=(1,)),))
    dataset = Dataset(
        name=name, root=root, layout="nnunet", channels=("CT",), labels=labels, cases=()
    )
    artifacts.save(workspace.task(name).task_file, dataset)


@pytest.mark.parametrize("text", ["Dataset004_Liver", "4", "004"])
def test_a_data_set_of_nnunet_raw_is_found_by_name_and_by_number(peer, workspace, text):
    raw = data_set(peer)
    data_set(peer, "Dataset040_Other")
    assert workspace.locate_dataset(text) == raw


def test_a_number_finds_a_data_set_below_the_current_directory_too(peer, workspace, monkeypatch):
    monkeypatch.delenv("nnUNet_raw")
    raw = data_set(peer)
    assert workspace.locate_dataset("4", peer) == raw


def test_a_number_that_several_data_sets_have_is_refused_with_all_of_them(peer, workspace):
    first, second = data_set(peer), data_set(peer, "Dataset004_Spleen")
    with pytest.raises(DataError) as refusal:
        workspace.locate_dataset("4")
    assert str(refusal.value) == f"'4' may mean {first}, {second}; write the path"


def test_a_data_set_that_is_planned_and_lies_in_nnunet_raw_is_one(peer, workspace):
    raw = data_set(peer)
    know(workspace, raw.name, raw)
    assert workspace.locate_dataset("4") == raw
    assert workspace.resolve_task("4").name == raw.name


def test_a_number_no_planned_task_has_is_refused_like_a_name(peer, workspace):
    with pytest.raises(WorkspaceError, match="no task named '4' has been planned"):
        workspace.resolve_task("4")


def test_what_lies_here_comes_before_nnunet_raw(peer, workspace):
    data_set(peer)
    mine = peer / "here" / "Dataset004_Liver"
    mine.mkdir()
    assert workspace.locate_dataset("Dataset004_Liver") == mine


def test_a_misspelt_name_is_looked_for_in_nnunet_raw_too(peer, workspace):
    data_set(peer)
    with pytest.raises(DataError) as refusal:
        workspace.locate_dataset("Dataset004_Livr")
    assert "none of $nnUNet_raw" in str(refusal.value)
    assert "did you mean 'Dataset004_Liver'?" in str(refusal.value)


def test_numbers_are_compared_as_numbers():
    names = ["Dataset004_A", "Dataset0040_B", "Dataset1004_C", "Dataset04_D", "Task004_E"]
    folders = [Path(name) for name in names]
    assert numbered(folders, "04") == [Path("Dataset004_A")]
    assert numbered(folders, "1004") == [Path("Dataset1004_C")]


def test_a_variable_that_names_nothing_does_no_harm(tmp_path):
    assert raw_folders({}) == []
    assert raw_folders({"nnUNet_raw": str(tmp_path / "gone")}) == []


# Folds


def write_splits(peer: Path, rows: object) -> Path:
    file = peer / "preprocessed" / "Dataset004_Liver" / "splits_final.json"
    file.parent.mkdir()
    file.write_text(rows if isinstance(rows, str) else json.dumps(rows))
    return file


def test_folds_that_nnunet_made_are_taken_over(peer):
    raw = data_set(peer)
    write_splits(peer, [{"train": ["a", "b"], "val": ["c"]}])
    assert find_dataset(raw).folds == (Split(train=("a", "b"), validation=("c",)),)


def test_folds_beside_the_data_come_first(peer):
    raw = data_set(peer)
    write_splits(peer, [{"train": ["a", "b"], "val": ["c"]}])
    own = [{"train": ["b", "c"], "val": ["a"]}]
    (raw / "splits_final.json").write_text(json.dumps(own))
    assert find_dataset(raw).folds == (Split(train=("b", "c"), validation=("a",)),)


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([{"train": ["a"], "val": ["gone"]}], "0: no case is named 'gone', so its folds are not"),
        ("{", "cannot be read"),
    ],
)
def test_folds_of_nnunet_that_do_not_fit_are_left_out_aloud(peer, caplog, rows, why):
    raw = data_set(peer)
    file = write_splits(peer, rows)
    with caplog.at_level(logging.WARNING):
        assert find_dataset(raw).folds is None
    assert str(file) in caplog.text
    assert why in caplog.text


def test_folds_of_another_folder_of_that_name_do_not_count(peer, tmp_path):
    data_set(peer)
    write_splits(peer, [{"train": ["a", "b"], "val": ["c"]}])
    assert preprocessed_splits(tmp_path / "Dataset004_Liver") is None
