import subprocess
import sys
from pathlib import Path

import pytest

from autoseg.core.dataset import Case, Dataset
from autoseg.core.labels import LabelSpace, Structure
from autoseg.errors import AutosegError, DataError, WorkspaceError
from autoseg.io import artifacts
from autoseg.io.fold_folder import check_name
from autoseg.io.workspace import Workspace, find_workspace


def _know(workspace: Workspace, name: str, root: Path) -> None:
    labels = LabelSpace(structures=(Structure(name="a", values=(1,)),))
    case = Case(name="c", images=(Path("i.nii.gz"),), label=Path("l.nii.gz"))
    dataset = Dataset(
        name=name, root=root, layout="x", channels=("CT",), labels=labels, cases=(case,)
    )
    artifacts.save(workspace.task(name).task_file, dataset)


def test_the_option_goes_before_the_variable_and_the_variable_before_the_folder(tmp_path: Path):
    (tmp_path / "autoseg_workspace").mkdir()
    environ = {"AUTOSEG_WORKSPACE": str(tmp_path / "b")}

    assert find_workspace(tmp_path / "a", tmp_path, environ).root == tmp_path / "a"
    assert find_workspace(None, tmp_path, environ).root == tmp_path / "b"
    assert find_workspace(None, tmp_path, {}).root == tmp_path / "autoseg_workspace"


def test_the_nearest_workspace_above_is_found(tmp_path: Path):
    (tmp_path / "autoseg_workspace").mkdir()
    (tmp_path / "x" / "autoseg_workspace").mkdir(parents=True)
    (tmp_path / "x" / "y" / "z").mkdir(parents=True)

    found = find_workspace(None, tmp_path / "x" / "y" / "z", {})

    assert found.root == tmp_path / "x" / "autoseg_workspace"


def test_a_new_workspace_is_here_and_not_created_before_it_is_written(tmp_path: Path):
    workspace = find_workspace(None, tmp_path, {})

    assert workspace.root == tmp_path / "autoseg_workspace"
    assert not workspace.root.exists()

    workspace.set_current("Task_A")
    assert workspace.root.is_dir()


def test_a_relative_option_is_below_the_current_directory(tmp_path: Path):
    assert find_workspace(Path("ws"), tmp_path, {}).root == tmp_path / "ws"


def test_a_workspace_that_is_a_file_is_refused(tmp_path: Path):
    (tmp_path / "ws").touch()

    with pytest.raises(AutosegError, match="ws: is a file, not a workspace; choose a folder"):
        find_workspace(tmp_path / "ws", tmp_path, {})


def test_a_workspace_below_a_file_cannot_be_written(tmp_path: Path):
    (tmp_path / "file").touch()

    with pytest.raises(AutosegError, match="cannot be written"):
        Workspace(tmp_path / "file" / "ws").set_current("Task_A")


def test_without_a_task_the_remedy_is_to_plan_one(tmp_path: Path):
    with pytest.raises(WorkspaceError, match="no task planned yet; run: autoseg plan TASK"):
        Workspace(tmp_path).resolve_task(None)


def test_the_current_task_is_remembered(tmp_path: Path):
    workspace = Workspace(tmp_path)
    _know(workspace, "Task_A", tmp_path)
    workspace.set_current("Task_A")

    assert workspace.current() == "Task_A"
    assert workspace.resolve_task(None) == workspace.task("Task_A")


def test_a_current_task_that_was_deleted_is_no_task(tmp_path: Path):
    Workspace(tmp_path).set_current("Task_A")

    with pytest.raises(WorkspaceError, match="no task planned yet"):
        Workspace(tmp_path).current()


def test_a_task_is_found_by_name_and_by_the_path_of_its_data(tmp_path: Path):
    workspace = Workspace(tmp_path / "ws")
    _know(workspace, "Task_A", tmp_path)

    assert workspace.resolve_task("Task_A").name == "Task_A"
    assert workspace.resolve_task(str(tmp_path / "raw" / "Task_A") + "/").name == "Task_A"


def test_a_task_nobody_planned_is_refused_with_a_near_name(tmp_path: Path):
    workspace = Workspace(tmp_path)
    _know(workspace, "Task_KiTS", tmp_path)

    with pytest.raises(WorkspaceError) as caught:
        workspace.resolve_task("Task_Kits")

    assert "no task named 'Task_Kits'" in str(caught.value)
    assert "did you mean 'Task_KiTS'?" in str(caught.value)
    assert "run: autoseg plan Task_Kits" in str(caught.value)


def test_the_layout_is_the_documented_one(tmp_path: Path):
    task = Workspace(tmp_path).task("T")
    fold = task.fold_folder("default", "3d_fullres", "run", "fold0")

    found = {
        task.task_file,
        task.fingerprint_file,
        task.splits_file,
        task.plan_file("default"),
        task.prepared("3d_fullres", "1f0c9a2e"),
        task.previous("3d_lowres", "77"),
        task.predictions("default", "3d_fullres", "run", "fold0"),
        task.selection,
        task.reports,
        fold.bundle,
        fold.weights,
        fold.best,
        fold.resume,
        fold.history,
        fold.progress_png,
        fold.log,
    }

    assert {str(path.relative_to(tmp_path / "T")) for path in found} == {
        "task.json",
        "fingerprint.json",
        "splits.json",
        "plans/default.json",
        "prepared/3d_fullres-1f0c9a2e",
        "previous/3d_lowres-77",
        "predictions/default/3d_fullres/run/fold0",
        "selection.json",
        "reports",
        "models/default/3d_fullres/run/fold0/bundle.json",
        "models/default/3d_fullres/run/fold0/weights.safetensors",
        "models/default/3d_fullres/run/fold0/best.safetensors",
        "models/default/3d_fullres/run/fold0/resume",
        "models/default/3d_fullres/run/fold0/history.jsonl",
        "models/default/3d_fullres/run/fold0/progress.png",
        "models/default/3d_fullres/run/fold0/log.txt",
    }


def test_folds_are_finished_when_bundle_and_weights_are_there(tmp_path: Path):
    task = Workspace(tmp_path).task("T")
    for fold in ("fold1", "fold0", "fold2"):
        task.fold_folder("p", "c", "r", fold).root.mkdir(parents=True)
    for fold in ("fold1", "fold0"):
        task.fold_folder("p", "c", "r", fold).bundle.touch()
        task.fold_folder("p", "c", "r", fold).weights.touch()
    task.fold_folder("p", "c", "r", "fold2").best.touch()

    finished = [folder.fold for folder in task.fold_folders() if folder.is_finished]
    assert finished == ["fold0", "fold1"]
    assert [folder.fold for folder in task.fold_folders()] == ["fold0", "fold1", "fold2"]


def test_plans_are_listed_without_partial_files(tmp_path: Path):
    task = Workspace(tmp_path).task("T")
    for name in ("b.json", "a.json", ".partial-1-c.json", "note.txt"):
        task.plans.mkdir(parents=True, exist_ok=True)
        (task.plans / name).touch()

    assert task.plan_names() == ["a", "b"]


@pytest.mark.parametrize("name", ["", ".", "..", "../a", "a/b", "/a", "a\\b", ".hidden", "a\nb"])
def test_a_name_that_could_leave_its_folder_is_refused(tmp_path: Path, name: str):
    with pytest.raises(DataError, match="cannot be the name of a"):
        check_name(name, "case")
    with pytest.raises(DataError, match="cannot be the name of a"):
        Workspace(tmp_path).task("T").plan_file(name)


def test_ordinary_names_pass():
    for name in ("case_00000", "a.b", "Prostate 3T-01", "größe"):
        assert check_name(name, "case") == name


def test_raw_data_are_found_by_path_by_name_below_and_by_task(tmp_path: Path):
    workspace = Workspace(tmp_path / "autoseg_workspace")
    (tmp_path / "data" / "msd" / "Task_A").mkdir(parents=True)
    elsewhere = tmp_path / "data" / "other_name"
    elsewhere.mkdir()
    _know(workspace, "Task_B", elsewhere)
    raw = tmp_path / "data" / "msd" / "Task_A"

    assert workspace.locate_dataset(str(raw), tmp_path) == raw
    assert workspace.locate_dataset("data/msd/Task_A", tmp_path) == raw
    assert workspace.locate_dataset("Task_A", tmp_path) == raw
    assert workspace.locate_dataset("Task_B", tmp_path) == elsewhere
    assert workspace.locate_dataset("autoseg_workspace/Task_B", tmp_path) == elsewhere


def test_an_unknown_task_is_refused_with_a_near_name(tmp_path: Path):
    (tmp_path / "data" / "Task_KiTS").mkdir(parents=True)

    with pytest.raises(DataError, match=r"no task named 'Task_Kits': .* 'Task_KiTS'\?"):
        Workspace(tmp_path / "ws").locate_dataset("Task_Kits", tmp_path)


def test_two_folders_of_one_name_have_to_be_told_apart(tmp_path: Path):
    (tmp_path / "a" / "Task_A").mkdir(parents=True)
    (tmp_path / "b" / "Task_A").mkdir(parents=True)

    with pytest.raises(DataError, match=r"may mean a/Task_A, b/Task_A; write the path"):
        Workspace(tmp_path / "ws").locate_dataset("Task_A", tmp_path)


def test_a_workspace_inside_the_raw_data_is_refused(tmp_path: Path):
    workspace = find_workspace(None, tmp_path, {})

    with pytest.raises(DataError, match="would lie inside the raw data; choose another place"):
        workspace.locate_dataset(".", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_raw_data_that_were_moved_are_told(tmp_path: Path):
    workspace = Workspace(tmp_path / "ws")
    _know(workspace, "Task_B", tmp_path / "gone")

    with pytest.raises(DataError, match="gone: the raw data of this task are not there any more"):
        workspace.locate_dataset("Task_B", tmp_path)


def test_importing_store_and_workspace_needs_no_heavy_library():
    program = (
        "import sys, autoseg.io.workspace; first = {'pydantic', 'numpy'} & set(sys.modules);"
        "import autoseg.io.case_store;"
        "print(sorted(first | {'SimpleITK', 'torch'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", program]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "[]\n"
