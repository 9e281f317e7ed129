import json
import logging
import shutil

import pytest

from autoseg.errors import AutosegError, WorkspaceError
from autoseg.io.changes import warn_of_changes
from autoseg.io.task import load_dataset, load_fold
from autoseg.io.workspace import TaskFolder
from autoseg.pipeline.training import parse_folds


@pytest.fixture
def task(toy, tmp_path):
    """The toy task in a workspace of its own, with raw data of its own."""
    shutil.copytree(toy.workspace.root, tmp_path / "workspace")
    shutil.copytree(toy.raw, tmp_path / toy.raw.name)
    task = TaskFolder(tmp_path / "workspace" / toy.task.name)
    edit(task.task_file, lambda data: data.update(root=str(tmp_path / toy.raw.name)))
    return task


def edit(file, change):
    data = json.loads(file.read_text())
    change(data)
    file.write_text(json.dumps(data))


def raw(task):
    return load_dataset(task).root


def list_other_cases(task, new, gone):
    """Let the raw data list new cases, whose files are there, and some no more."""

    def change(data):
        entries = data["training"]
        for name in new:
            for part in ("imagesTr", "labelsTr"):
                folder = raw(task) / part
                shutil.copy(folder / "ball_00.nii.gz", folder / f"{name}.nii.gz")
            image, label = (f"./{part}/{name}.nii.gz" for part in ("imagesTr", "labelsTr"))
            entries.append({"image": image, "label": label})
        data["training"] = [
            entry for entry in entries if not any(name in entry["image"] for name in gone)
        ]

    edit(raw(task) / "dataset.json", change)


@pytest.fixture
def messages(caplog):
    """Levels and texts of what is logged, from debugging on."""
    caplog.set_level(logging.DEBUG, logger="autoseg")
    return lambda: [(record.levelname, record.getMessage()) for record in caplog.records]


def test_nothing_is_said_if_nothing_changed(task, messages):
    warn_of_changes(task)
    assert messages() == []


def test_new_and_vanished_cases_are_one_warning_that_names_the_command(task, messages):
    list_other_cases(task, new=["ball_97", "ball_98", "ball_99"], gone=["ball_02"])
    warn_of_changes(task)
    ((level, text),) = messages()
    assert level == "WARNING"
    assert text == (
        "3 cases are new and 1 is gone (the first is 'ball_97') since the plan was made: repeat "
        "autoseg plan Task01_Ball"
    )


def test_a_case_whose_label_map_vanished_is_gone(task, messages):
    (raw(task) / "labelsTr" / "ball_03.nii.gz").unlink()
    warn_of_changes(task)
    ((level, text),) = messages()
    assert level == "WARNING"
    assert text.startswith("1 case is gone (the first is 'ball_03') since the plan was made")


def test_raw_data_that_are_not_at_hand_are_no_reason_to_warn(task, messages):
    shutil.rmtree(raw(task))
    warn_of_changes(task)
    ((level, text),) = messages()
    assert level == "DEBUG"
    assert "the raw data are not at hand" in text


def test_an_empty_folder_where_the_raw_data_were_is_no_reason_to_warn(task, messages):
    root = raw(task)
    shutil.rmtree(root)
    root.mkdir()
    warn_of_changes(task)
    assert [level for level, _ in messages() if level != "DEBUG"] == []


def test_cases_in_no_fold_are_told_even_without_the_raw_data(task, messages):
    def drop_a_case(data):
        for fold in data["folds"]:
            for part in ("train", "validation"):
                fold[part] = [name for name in fold[part] if name != "ball_04"]
        data["folds"] = [fold for fold in data["folds"] if fold["validation"]]

    edit(task.splits_file, drop_a_case)
    shutil.rmtree(raw(task))
    warn_of_changes(task)
    warnings = [text for level, text in messages() if level == "WARNING"]
    assert warnings == ["1 case is in no fold (the first is 'ball_04')"]


def test_without_folds_no_case_is_in_no_fold(task, messages):
    edit(task.splits_file, lambda data: data.update(folds=[]))
    warn_of_changes(task)
    assert messages() == []


def test_a_broken_file_is_left_to_the_stage_that_needs_it(task, messages):
    task.splits_file.write_text("{")
    warn_of_changes(task)
    assert [level for level, _ in messages()] == ["DEBUG"]


# One fold


def test_a_fold_is_found_by_its_name(task):
    fold = load_fold(task, "fold4", load_dataset(task))
    assert fold.validation == ("ball_02",)


@pytest.mark.parametrize("part", ["train", "validation"])
def test_a_fold_that_names_an_unknown_case_is_one_line_with_fold_case_and_remedy(task, part):
    edit(task.splits_file, lambda data: data["folds"][1][part].append("bal_99"))
    with pytest.raises(
        WorkspaceError,
        match=r"splits\.json: fold1 names 'bal_99', which is no case of the data set; put back "
        r"what is gone and run: autoseg plan TASK; or take it out of the file",
    ):
        load_fold(task, "fold1", load_dataset(task))
    assert load_fold(task, "fold0", load_dataset(task)).validation


def test_more_unknown_cases_are_counted(task):
    edit(task.splits_file, lambda data: data["folds"][1]["train"].extend(["x1", "x2", "x3"]))
    with pytest.raises(WorkspaceError, match=r"names 'x1' and 2 more, which are no cases of the"):
        load_fold(task, "fold1", load_dataset(task))


def test_a_fold_there_is_not_is_an_error(task):
    with pytest.raises(AutosegError, match="no fold 'fold7': the folds are 0 to 4"):
        load_fold(task, "fold7", load_dataset(task))


@pytest.mark.parametrize("text", ["0", "fold0", "all"])
def test_a_task_without_folds_can_only_be_trained_on_everything(task, text):
    edit(task.splits_file, lambda data: data.update(folds=[], reason="a single case"))
    with pytest.raises(
        AutosegError,
        match=r"there are no folds: a single case; choose 'everything' \(one model of all cases\)",
    ):
        parse_folds(task, text)
    assert parse_folds(task, "everything") == ["everything"]
