import json

import pytest

from autoseg.core.model import Model
from autoseg.errors import ArtifactError, AutosegError, UnknownNameError
from autoseg.io.named_models import ANY, Purpose, locate_model, single
from autoseg.io.workspace import Workspace


@pytest.fixture
def workspace(tmp_path):
    """Task_A with folds of two configurations and runs, Task_B with one that is not finished."""
    workspace = Workspace(tmp_path / "autoseg_workspace")
    for plan, configuration, run, fold in (
        ("default", "2d", "default", "fold0"),
        ("default", "3d_fullres", "default", "fold0"),
        ("default", "3d_fullres", "default", "fold1"),
        ("default", "3d_fullres", "long", "fold0"),
        ("small", "3d_fullres", "default", "everything"),
    ):
        folder = workspace.task("Task_A").fold_folder(plan, configuration, run, fold)
        folder.root.mkdir(parents=True)
        folder.bundle.write_text("{}")
        folder.weights.write_bytes(b"")
    begun = workspace.task("Task_B").fold_folder("default", "2d", "default", "fold0")
    begun.root.mkdir(parents=True)
    for name in ("Task_A", "Task_B", "Task_C"):
        workspace.task(name).root.mkdir(exist_ok=True)
        workspace.task(name).task_file.write_text(json.dumps({}))
    return workspace


TRAINING = Purpose(task="Task_B", configuration="3d_fullres", fold="fold1")


def found(workspace, text, purpose=TRAINING):
    path = locate_model(text, workspace, purpose, cwd=workspace.root.parent)
    return path.relative_to(workspace.root / "Task_A" / "models").parent.as_posix()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Task_A/3d_fullres/fold1", "default/3d_fullres/default/fold1"),
        ("Task_A/3d_fullres/1", "default/3d_fullres/default/fold1"),
        ("Task_A/2d", "default/2d/default/fold0"),
        ("Task_A/3d_fullres/long/fold0", "default/3d_fullres/long/fold0"),
        ("Task_A/long", "default/3d_fullres/long/fold0"),
        ("Task_A/small", "small/3d_fullres/default/everything"),
        ("Task_A/3d_fullres/everything", "small/3d_fullres/default/everything"),
        ("Task_A/models/default/2d/default/fold0", "default/2d/default/fold0"),
        ("autoseg_workspace/Task_A/models/default/2d/default/fold0", "default/2d/default/fold0"),
        (
            "autoseg_workspace/Task_A/models/default/2d/default/fold0/bundle.json",
            "default/2d/default/fold0",
        ),
    ],
)
def test_a_model_is_found_by_path_or_by_name(workspace, text, expected):
    assert found(workspace, text) == expected


def test_of_several_folds_of_the_task_itself_the_one_being_trained_is_meant(workspace):
    own = Purpose(task="Task_A", configuration="3d_fullres", fold="fold1")
    for text in ("Task_A", "Task_A/3d_fullres"):
        assert found(workspace, text, own) == "default/3d_fullres/default/fold1"


def test_of_several_configurations_the_one_being_trained_is_meant(workspace):
    flat = Purpose(task="Task_B", configuration="2d", fold="fold0")
    assert found(workspace, "Task_A", flat) == "default/2d/default/fold0"


def test_where_only_the_plan_counts_any_fold_will_do(workspace):
    assert found(workspace, "Task_A/3d_fullres", ANY) == "default/3d_fullres/default/fold0"
    with pytest.raises(AutosegError, match="may mean Task_A/2d/fold0, Task_A/3d_fullres/fold0"):
        found(workspace, "Task_A", ANY)


def test_several_models_are_listed(workspace):
    with pytest.raises(AutosegError) as error:
        found(workspace, "Task_A/3d_fullres")
    assert str(error.value) == (
        "'Task_A/3d_fullres' may mean Task_A/3d_fullres/fold0, Task_A/3d_fullres/fold1; "
        "name one of them"
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Task_A/3d_fulres/fold0", "did you mean 'Task_A/3d_fullres/fold0'"),
        ("Tsk_A/2d/fold0", "did you mean 'Task_A/2d/fold0'"),
        ("Task_A/2d/long", "available: Task_A/2d/fold0, "),
    ],
)
def test_an_unknown_name_lists_the_models_there_are(workspace, text, words):
    with pytest.raises(UnknownNameError, match=words):
        found(workspace, text)


@pytest.mark.parametrize("text", ["Task_B", "Task_B/2d/fold0"])
def test_a_model_that_is_not_finished_is_no_model_yet(workspace, text):
    with pytest.raises(AutosegError, match="its training has not come to its end; train it"):
        found(workspace, text)


def test_a_task_without_models_says_so(workspace):
    with pytest.raises(AutosegError, match="Task_C: nothing is trained yet"):
        found(workspace, "Task_C")


@pytest.mark.parametrize("text", ["elsewhere/bundle.json", "/no/such/folder"])
def test_a_path_without_a_model_says_what_to_name(workspace, text):
    with pytest.raises(AutosegError, match=r"there is no model here; name the bundle\.json"):
        found(workspace, text)


def test_a_model_of_several_sets_of_weights_is_no_beginning(tmp_path):
    several = Model.model_construct(members=("one", "other"))
    with pytest.raises(ArtifactError, match=r"holds 2 sets of weights.*name the model of one fold"):
        single(tmp_path / "bundle.json", several)
    one = Model.model_construct(members=("one",))
    assert single(tmp_path / "bundle.json", one) is one
