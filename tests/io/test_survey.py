import json
import shutil

import pytest
from conftest import write_toy_dataset

from autoseg.core.labels import LabelSpace, Structure
from autoseg.errors import DataError
from autoseg.io.dataset_folder import find_dataset
from autoseg.io.layouts.table import write_table
from autoseg.io.mended import LeftOut, MendedFile, Mends, save_mends
from autoseg.io.survey import survey_folder
from autoseg.io.workspace import Workspace


@pytest.fixture
def raw(tmp_path):
    return write_toy_dataset(tmp_path / "Task01_Ball", 3)


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "workspace")


def describe(workspace, raw, root=None):
    """What ``autoseg init`` would write, with another channel than the folder's description."""
    found = find_dataset(raw)
    write_table(
        workspace.task(raw.name).description_file,
        name=raw.name,
        root=root or raw,
        channels=("T2",),
        labels=LabelSpace(structures=(Structure(name="ball", values=(1,)),)),
        cases=found.cases[:2],
    )


def test_a_folder_is_what_its_layout_says(raw, workspace):
    survey = survey_folder(workspace, raw)
    assert survey.dataset == find_dataset(raw)
    assert (survey.problems, survey.name) == ((), "Task01_Ball")
    assert not workspace.root.exists()


def test_a_description_in_the_workspace_comes_first(raw, workspace):
    describe(workspace, raw)
    dataset = survey_folder(workspace, raw).dataset
    assert dataset.channels == ("T2",)
    assert [case.name for case in dataset.cases] == ["ball_00", "ball_01"]
    assert dataset.label_path(dataset.cases[0]) == raw / "labelsTr" / "ball_00.nii.gz"


def test_a_description_of_another_folder_of_that_name_is_not_meant(raw, workspace, tmp_path):
    elsewhere = tmp_path / "elsewhere" / raw.name
    shutil.copytree(raw, elsewhere)
    describe(workspace, raw, root=elsewhere)
    assert survey_folder(workspace, raw).dataset.channels == ("MRI",)
    assert survey_folder(workspace, elsewhere).dataset.channels == ("T2",)


def test_a_folder_in_no_layout_is_no_data_set(tmp_path, workspace):
    (tmp_path / "empty").mkdir()
    survey = survey_folder(workspace, tmp_path / "empty")
    assert (survey.dataset, survey.name) == (None, None)
    assert [problem.kind for problem in survey.problems] == ["description"]


def test_a_hidden_folder_is_no_crash(tmp_path, workspace):
    (tmp_path / ".hidden").mkdir()
    assert survey_folder(workspace, tmp_path / ".hidden").dataset is None


def test_no_folder_is_an_error(tmp_path, workspace):
    with pytest.raises(DataError, match="no such folder"):
        survey_folder(workspace, tmp_path / "nothing")


def test_what_was_mended_is_in_place_and_what_is_left_out_is_gone(raw, workspace):
    (raw / "labelsTr" / "ball_02.nii.gz").unlink()
    task = workspace.task(raw.name)
    task.mended.mkdir(parents=True)
    (task.mended / "copy.nii.gz").write_bytes(b"")
    label = raw / "labelsTr" / "ball_00.nii.gz"
    entry = MendedFile(raw=label, copies=("copy.nii.gz",), done=(), sources=())
    gone = LeftOut(case="ball_02", kind="missing-label", finding="missing")
    before = survey_folder(workspace, raw)
    save_mends(task, Mends(files=(entry,), left_out=(gone,)))
    survey = survey_folder(workspace, raw)
    assert [problem.case for problem in before.problems] == ["ball_02"]
    assert survey.problems == ()
    assert survey.raw.problems == before.problems
    assert survey.dataset.label_path(survey.dataset.case("ball_00")).parent == task.mended


def test_a_broken_description_in_the_workspace_is_named(raw, workspace):
    file = workspace.task(raw.name).description_file
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"channels": ["CT"]})[:-1])
    with pytest.raises(DataError, match=r"dataset\.json"):
        survey_folder(workspace, raw)
