"""A cascade from plan to scores, on the toy data set."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from cascades import (
    CASCADE,
    FIRST,
    LOWRES,
    SECOND,
    add_cascade,
    cascade_task,
    request,
    train_both_stages,
)
from conftest import toy_geometry
from overlapping_dataset import IGNORE, REGIONS, prepared_task, some_slices
from torch import nn

from autoseg.core.plan import Plan
from autoseg.core.quality import QualityModel
from autoseg.errors import AutosegError, WorkspaceError
from autoseg.io import artifacts, atomic, bundle
from autoseg.io.images import read_image
from autoseg.io.task import load_dataset, load_plan
from autoseg.io.workspace import TaskFolder, Workspace
from autoseg.networks import precision
from autoseg.networks.label_channels import LabelChannels
from autoseg.pipeline import training as pipeline_training
from autoseg.pipeline.cascade import leave_for_cascades, stages_before
from autoseg.pipeline.training import run_task, train_and_validate, validate
from autoseg.plan.planner import PlanRequest
from autoseg.predict.loading import PredictOptions, load_predictor
from autoseg.predict.stage import ModelChoice, predict_folder
from autoseg.train.batches import make_sample
from autoseg.train.inputs import load_inputs
from autoseg.train.stage import train_fold

pytestmark = pytest.mark.slow
OPTIONS = PredictOptions(device="cpu", precision="float32")
BOTH = ModelChoice(configuration=CASCADE)


@pytest.fixture(scope="module", autouse=True)
def one_layout():
    """Every probe takes as long as any other, so that all networks compute in one layout."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(precision, "_seconds", lambda step: 1.0)
        yield


@pytest.fixture(scope="module")
def trained(toy, tmp_path_factory):
    """Both folds of 3d_lowres, the first of the cascade; to be read."""
    task = cascade_task(toy, tmp_path_factory.mktemp("cascade"))
    train_both_stages(task)
    return task


@pytest.fixture
def task(trained, tmp_path):
    """The trained task in a workspace of its own."""
    shutil.copytree(trained.root.parent, tmp_path / "workspace")
    return TaskFolder(tmp_path / "workspace" / trained.name)


def fold_of(task, configuration, fold="fold0", run="default"):
    return task.fold_folder("default", configuration, run, fold)


def bundle_of(task):
    return fold_of(task, CASCADE).bundle


def train_lowres_anew(task, fold="fold1"):
    """Other weights, as if it had been trained and scored again, without their predictions."""
    weights = fold_of(task, LOWRES, fold).weights
    tensors = {name: 1.1 * tensor for name, tensor in bundle.load_weights(weights).items()}
    bundle.save_weights(weights, tensors)
    report = task.report_file("default", LOWRES, "default", fold)
    if report.is_file():
        report.touch()


def test_every_case_is_predicted_by_the_fold_that_holds_it_out(trained):
    previous = load_inputs(trained, request(CASCADE)).previous
    keys = {
        fold: atomic.digest(fold_of(trained, LOWRES, fold).weights) for fold in previous.weights
    }
    assert previous.weights == keys
    assert {case: folder.parent.name for case, folder in previous.folders.items()} == {
        case: f"{LOWRES}-{keys[fold]}"
        for fold, cases in (("fold0", FIRST), ("fold1", SECOND))
        for case in cases
    }
    store = load_inputs(trained, request(CASCADE)).store
    assert {folder.name for folder in previous.folders.values()} == {store.folder.name}


class Recorder(nn.Module):
    """Keeps what it is given."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, batch):
        self.seen.append(batch.numpy().copy())
        return torch.zeros(len(batch), 3, *batch.shape[2:])


def test_training_and_prediction_see_the_same_of_a_held_out_case(trained):
    inputs = load_inputs(trained, request(CASCADE))
    case = FIRST[1]
    shape = inputs.store.shape(case)
    spec = replace(
        inputs.batches("validation"), cases=(case,), patch_size=shape, foreground_fraction=0.0
    )
    sample, *_ = make_sample(spec, inputs.store, 0, 0)
    recorder = Recorder()
    loaded = load_predictor([bundle_of(trained)], OPTIONS)
    predictor = replace(
        loaded,
        networks=[LabelChannels(recorder, 2)],
        configuration=loaded.configuration.model_copy(update={"patch_size": shape}),
        mirror_axes=(),
    )
    dataset = load_dataset(trained)
    predictor.segment(read_image(dataset.image_paths(dataset.case(case))))
    np.testing.assert_array_equal(recorder.seen[0][0], sample)
    assert sample.shape == (3, *shape)
    assert set(np.unique(sample[1:])) == {0.0, 1.0}


def test_a_sample_is_what_it_would_be_without_a_cascade_but_for_the_channels(trained):
    inputs = load_inputs(trained, request(CASCADE))
    for part in ("train", "validation"):
        spec = inputs.batches(part)
        for index in range(6):
            image, labels, *_ = make_sample(spec, inputs.store, 1, index)
            alone = make_sample(replace(spec, previous=None), inputs.store, 1, index)
            np.testing.assert_array_equal(image[:1], alone[0])
            np.testing.assert_array_equal(labels, alone[1])


def test_predictions_are_varied_in_training_only_and_with_augmentation_only(trained, monkeypatch):
    inputs = load_inputs(trained, request(CASCADE))
    varied = []
    monkeypatch.setattr("autoseg.train.batches.vary", lambda masks, *_: varied.append(masks.shape))
    for part, augmentation in (("validation", "default"), ("train", "none"), ("train", "light")):
        spec = replace(inputs.batches(part), augmentation=augmentation)
        make_sample(spec, inputs.store, 0, 0)
        assert len(varied) == ((part, augmentation) == ("train", "light"))
    assert varied == [(2, 12, 28, 20)]


def test_slices_of_a_prediction_are_read_with_slices_of_the_image(trained):
    inputs = load_inputs(trained, request(CASCADE))
    spec = replace(inputs.batches("train"), patch_size=(28, 20), mirror_axes=(0, 1))
    image, labels, *_ = make_sample(spec, inputs.store, 0, 0)
    assert (image.shape, labels.shape) == ((3, 28, 20), (28, 20))


def test_predictions_are_warped_and_mirrored_like_the_labels(trained, monkeypatch):
    monkeypatch.setattr("autoseg.train.batches.vary", lambda *_: None)
    inputs = load_inputs(trained, request(CASCADE))

    def truth(_, case, lower, size):
        return inputs.store.read(case, lower, size)[1]

    monkeypatch.setattr("autoseg.train.batches.PreviousLabels.read", truth)
    spec = replace(inputs.batches("train"), augmentation="strong")
    for index in range(8):
        image, labels, *_ = make_sample(spec, inputs.store, 0, index)
        np.testing.assert_array_equal(image[1], labels == 1)
        np.testing.assert_array_equal(image[2], labels == 2)


def test_a_new_image_is_segmented_by_both_stages(trained, toy, tmp_path):
    options = (OPTIONS, lambda *_: None)
    predicted = predict_folder(trained, toy.raw / "imagesTr", tmp_path / "out", BOTH, *options)
    assert [p.error for p in predicted] == [None] * 6
    chosen = predict_folder(
        trained, toy.raw / "imagesTr", tmp_path / "any", ModelChoice(), *options
    )
    assert all(p.path is not None for p in chosen)


def test_a_model_is_complete_wherever_its_folder_goes(task, toy, tmp_path):
    image = toy.raw / "imagesTr" / "ball_04.nii.gz"
    here, there = tmp_path / "here", tmp_path / "there"
    predict_folder(task, image, here, BOTH, OPTIONS)
    moved = tmp_path / "model"
    shutil.move(fold_of(task, CASCADE).root, moved)
    shutil.rmtree(task.root)
    predict_folder(None, image, there, ModelChoice(bundle=moved), OPTIONS)
    assert (here / "ball_04.nii.gz").read_bytes() == (there / "ball_04.nii.gz").read_bytes()


def test_a_model_keeps_the_previous_stage_it_was_trained_with(task, toy, tmp_path):
    image = toy.raw / "imagesTr" / "ball_04.nii.gz"
    before = load_predictor([bundle_of(task)], OPTIONS)
    train_lowres_anew(task, "fold0")
    after = load_predictor([bundle_of(task)], OPTIONS)
    assert before.identity == after.identity
    weights = fold_of(task, CASCADE).previous("fold0") / "weights.safetensors"
    with weights.open("r+b") as file:
        file.seek(-4, 2)
        file.write(b"\x01\x02\x03\x04")
    assert load_predictor([bundle_of(task)], OPTIONS).identity != before.identity
    assert predict_folder(task, image, tmp_path, BOTH, OPTIONS)[0].error is None


def test_a_model_without_its_previous_stage_says_so_in_a_line(task):
    shutil.rmtree(fold_of(task, CASCADE).previous("fold0"))
    with pytest.raises(
        WorkspaceError,
        match=r"the weights of its previous stage \(3d_lowres\) are not there; copy the model's "
        r"whole folder, or train 3d_cascade_fullres fold0 again \(--restart\)",
    ):
        validate(task, request(CASCADE), again=True)


def test_folds_of_a_cascade_are_predicted_with_the_mean_of_their_previous_stages(task):
    train_and_validate(task, request(CASCADE, "fold1"))
    bundles = [fold_of(task, CASCADE, fold).bundle for fold in ("fold0", "fold1")]
    predictor = load_predictor(bundles, OPTIONS)
    assert (len(predictor.networks), len(predictor.previous.networks)) == (2, 2)
    assert len(load_predictor(bundles[:1], OPTIONS).previous.networks) == 1


def test_a_previous_stage_counts_once_whatever_is_known_of_its_quality(task):
    train_and_validate(task, request(CASCADE, "everything"))
    folders = [fold_of(task, CASCADE, fold) for fold in ("fold0", "everything")]
    before = load_predictor([folder.bundle for folder in folders], OPTIONS)
    copy = folders[1].previous("fold0") / "bundle.json"
    known = QualityModel(structures={}, mean=None, num_fitted=3, num_checked=2)
    bundle.save_model(copy, bundle.load_model(copy).model_copy(update={"quality": known}))
    after = load_predictor([folder.bundle for folder in folders], OPTIONS)
    assert len(after.previous.networks) == len(before.previous.networks) == 2
    assert after.identity == before.identity


def test_everything_learns_from_all_folds_and_leaves_no_predictions(task):
    before = sorted(task.root.joinpath("previous").rglob("case.json"))
    train_and_validate(task, request(CASCADE, "everything"))
    train_and_validate(task, request(LOWRES, "everything"))
    assert sorted(task.root.joinpath("previous").rglob("case.json")) == before
    model = bundle.load_model(fold_of(task, CASCADE, "everything").bundle)
    assert model.previous == ("previous/fold0/bundle.json", "previous/fold1/bundle.json")
    assert sorted(model.previous_weights) == ["fold0", "fold1"]


def test_finished_predictions_are_kept_and_missing_ones_made_again(task):
    previous = load_inputs(task, request(CASCADE)).previous
    kept, lost = (previous.folders[case] / case / "case.json" for case in SECOND[:2])
    stamp = kept.stat().st_mtime_ns
    shutil.rmtree(lost.parent)
    with pytest.raises(
        WorkspaceError,
        match=r"1 case \('ball_04'\) has no prediction of 3d_lowres; "
        "run: autoseg validate 3d_lowres fold1$",
    ):
        load_inputs(task, request(CASCADE))
    # Whatever flags it was trained with.
    validate(task, request(LOWRES, "fold1"), again=True)
    assert kept.stat().st_mtime_ns == stamp
    assert load_inputs(task, request(CASCADE)).previous == previous


def test_predictions_of_older_weights_are_outdated(task):
    train_lowres_anew(task)
    with pytest.raises(
        WorkspaceError,
        match=r"3 cases \(the first is 'ball_03'\) have an outdated prediction of 3d_lowres; "
        "run: autoseg validate 3d_lowres fold1$",
    ):
        load_inputs(task, request(CASCADE))


def test_predictions_of_cases_that_were_prepared_anew_are_outdated(task):
    for case in ("ball_01", "ball_04"):
        folder = load_inputs(task, request(CASCADE)).previous.folders[case]
        path = folder / case / "case.json"
        content = json.loads(path.read_text())
        other = content | {"source": "0123456789abcdef"}
        path.write_text(json.dumps(other))
        with pytest.raises(WorkspaceError, match=f"1 case \\('{case}'\\) has an outdated"):
            load_inputs(task, request(CASCADE))
        path.write_text(json.dumps(content))


def test_folds_that_are_not_trained_are_named_with_plan_and_run(task):
    shutil.copy(task.plan_file("default"), task.plan_file("other"))
    edited = json.loads(task.plan_file("other").read_text()) | {"name": "other"}
    task.plan_file("other").write_text(json.dumps(edited))
    with pytest.raises(
        WorkspaceError,
        match=r"6 cases \(the first is 'ball_00'\) have no prediction of 3d_lowres; "
        "run: autoseg train 3d_lowres all --plan other$",
    ):
        load_inputs(task, request(CASCADE, plan="other"))
    train_and_validate(task, request(LOWRES, run="mine"))
    with pytest.raises(WorkspaceError, match=r"run: autoseg train 3d_lowres fold1 --run mine$"):
        load_inputs(task, request(CASCADE, run="mine"))
    assert load_inputs(task, request(CASCADE, run="yours")).previous.run == "default"


def test_cases_that_no_fold_holds_out_are_named(task):
    splits = json.loads(task.splits_file.read_text())
    splits["folds"] = [{"train": [*SECOND, "ball_02"], "validation": FIRST[:2]}]
    task.splits_file.write_text(json.dumps(splits))
    with pytest.raises(
        WorkspaceError,
        match=r"no fold holds out 3 cases \(the first is 'ball_03'\): 3d_lowres cannot predict "
        "what it was trained on; a cascade needs folds that hold out every case",
    ):
        load_inputs(task, request(CASCADE))


def test_a_previous_stage_of_other_structures_is_to_be_trained_again(task):
    path = fold_of(task, LOWRES, "fold1").bundle
    model = bundle.load_model(path)
    swapped = model.labels.model_copy(update={"structures": model.labels.structures[::-1]})
    artifacts.save(path, model.model_copy(update={"labels": swapped}))
    with pytest.raises(
        WorkspaceError,
        match="was trained for other structures; run: autoseg train 3d_lowres fold1 --restart",
    ):
        load_inputs(task, request(CASCADE))


@pytest.mark.parametrize("finished", [True, False])
def test_a_run_does_not_go_on_with_another_previous_stage(task, finished):
    if not finished:
        fold_of(task, CASCADE).bundle.unlink()
    train_lowres_anew(task)
    train_and_validate(task, request(LOWRES, "fold1", learning_rate=0.05, steps_per_epoch=6))
    with pytest.raises(
        AutosegError,
        match=r"3d_lowres was trained anew since this run was started \(fold1\); name another "
        "--run, or start over with --restart",
    ):
        train_fold(task, request(CASCADE))
    assert train_fold(task, request(CASCADE, restart=True))


def test_a_picture_of_the_cascade_can_be_asked_for(task):
    assert train_fold(task, request(CASCADE, run="seen", preview_every=1))
    assert fold_of(task, CASCADE, run="seen").preview(1).is_file()


def test_what_lies_outside_a_model_is_not_loaded(task):
    path = bundle_of(task)
    model = bundle.load_model(path)
    elsewhere = ("../../../3d_lowres/default/fold0/bundle.json",)
    artifacts.save(path, model.model_copy(update={"previous": elsewhere}))
    with pytest.raises(AutosegError, match="lies outside the model's folder"):
        bundle.load_model(path)


def test_cases_that_cannot_be_predicted_are_named_and_the_others_are_done(task, toy, tmp_path):
    raw = tmp_path / toy.raw.name
    shutil.copytree(toy.raw, raw)
    dataset = load_dataset(task)
    artifacts.save(task.task_file, dataset.model_copy(update={"root": raw}))
    train_lowres_anew(task)
    changed = request(LOWRES, "fold1", learning_rate=0.05, steps_per_epoch=6)
    (raw / "imagesTr" / "ball_04.nii.gz").unlink()
    shutil.copy(raw / "imagesTr" / "ball_03.nii.gz", raw / "imagesTr" / "ball_05.nii.gz")
    with pytest.raises(
        AutosegError,
        match=r"2 cases could not be predicted for 3d_cascade_fullres: ball_04: .* \| ball_05: "
        ".*has changed since it was measured; run: autoseg plan TASK; mend them and repeat the "
        "command, which only predicts these",
    ):
        train_and_validate(task, changed)
    with pytest.raises(WorkspaceError, match=r"2 cases \(the first is 'ball_04'\) have an out"):
        load_inputs(task, request(CASCADE))


def test_a_network_that_fails_at_one_case_does_not_stop_the_others(task, monkeypatch):
    from autoseg.predict.predictor import Predictor

    whole = Predictor.indices_on

    def failing(self, image, *others):
        if image.geometry.shape == toy_geometry(4).shape:
            raise RuntimeError("no memory\nleft")
        return whole(self, image, *others)

    monkeypatch.setattr(Predictor, "indices_on", failing)
    train_lowres_anew(task)
    with pytest.raises(
        AutosegError, match=r"1 case could .*: ball_04: RuntimeError: no memory left;"
    ):
        train_and_validate(task, request(LOWRES, "fold1", learning_rate=0.05, steps_per_epoch=6))


def test_one_command_trains_all_that_a_cascade_of_three_builds_on(toy, tmp_path):
    task = cascade_task(toy, tmp_path)
    plan = json.loads(task.plan_file("default").read_text())
    flat = plan["configurations"]["2d"]
    flat["network"]["features_per_stage"] = [4, 6, 8]
    plan["configurations"][LOWRES]["previous"] = "2d"
    task.plan_file("default").write_text(json.dumps(plan))
    workspace = Workspace(task.root.parent)
    scores = run_task(workspace, toy.raw, PlanRequest(), request(CASCADE), "1")
    assert [case.name for case in scores["fold1"].cases] == SECOND
    for configuration in ("2d", LOWRES):
        for fold in ("fold0", "fold1"):
            assert fold_of(task, configuration, fold).is_finished
    moved = tmp_path / "model"
    shutil.move(fold_of(task, CASCADE, "fold1").root, moved)
    shutil.rmtree(task.root)
    predictor = load_predictor([moved / "bundle.json"], OPTIONS)
    assert predictor.previous.previous.configuration.dimensions == 2


def test_one_command_trains_nothing_where_no_fold_holds_out_every_case(task, toy, monkeypatch):
    splits = json.loads(task.splits_file.read_text())
    splits["folds"] = [{"train": [*SECOND, "ball_02"], "validation": FIRST[:2]}]
    task.splits_file.write_text(json.dumps(splits))
    trained = []
    monkeypatch.setattr(pipeline_training, "train_and_validate", lambda *_: trained.append(1))
    with pytest.raises(
        AutosegError, match=r"no fold holds out 4 cases \(the first is 'ball_02'\); a"
    ):
        run_task(Workspace(task.root.parent), toy.raw, PlanRequest(), request(CASCADE), "0")
    assert trained == []


def test_one_command_leaves_stages_that_are_trained_as_they_are(task, toy, monkeypatch):
    asked = []
    for what in ("train_and_validate", "validate"):
        monkeypatch.setattr(
            pipeline_training,
            what,
            lambda task, one, _, what=what: asked.append((what, one.configuration, one.fold)),
        )
    shutil.rmtree(fold_of(task, LOWRES, "fold1").root)
    run_task(Workspace(task.root.parent), toy.raw, PlanRequest(), request(CASCADE), "0")
    assert asked == [
        ("validate", LOWRES, "fold0"),
        ("train_and_validate", LOWRES, "fold1"),
        ("train_and_validate", CASCADE, "fold0"),
    ]


def test_of_a_held_out_case_that_is_gone_nothing_is_left(task):
    gone = FIRST[0]
    for path in (task.task_file, task.fingerprint_file):
        data = json.loads(path.read_text())
        data["cases"] = [case for case in data["cases"] if case["name"] != gone]
        path.write_text(json.dumps(data))
    shutil.rmtree(task.root / "previous")
    leave_for_cascades(task, request(LOWRES))
    left = {path.name for path in (task.root / "previous").glob("*/*/ball_*")}
    assert left == set(FIRST) - {gone}


def test_a_cascade_of_regions_reads_a_label_map_of_them(tmp_path):
    task = prepared_task(tmp_path, REGIONS | {"ignore": IGNORE}, some_slices, "3d_fullres")
    cases = [f"ball_{number}" for number in range(6)]
    add_cascade(task, cases[:3], cases[3:])
    train_both_stages(task)
    inputs = load_inputs(task, request(CASCADE))
    assert inputs.dataset.labels.num_outputs == 2
    image, _, case, _ = make_sample(inputs.batches("validation"), inputs.store, 0, 0)
    assert image.shape == (1 + 2, 12, 28, 20)
    read = inputs.batches("validation").previous.read(case, (0, 0, 0), inputs.store.shape(case))
    assert {0} < set(np.unique(read)) <= {0, 1, 2}
    report = validate(task, request(CASCADE))
    assert report.structures == ("whole", "core")


def test_a_plan_that_goes_in_circles_is_refused(trained):
    made = load_plan(trained, "default")
    assert stages_before(made, CASCADE) == [LOWRES]
    assert stages_before(made, LOWRES) == []
    low = made.configurations[LOWRES].model_copy(update={"previous": CASCADE})
    configurations = made.configurations | {LOWRES: low}
    circle: Plan = made.model_copy(update={"configurations": configurations})
    with pytest.raises(AutosegError, match="3d_cascade_fullres builds on itself; mend 'previous'"):
        stages_before(circle, CASCADE)


def test_pictures_in_slices_read_the_previous_stage_slice_by_slice(trained):
    from autoseg.train.monitoring.preview import View, read_previous

    previous = load_inputs(trained, request(CASCADE)).batches("validation").previous
    view = View(
        case="ball_00",
        lower=(0, 2, 3),
        size=(10, 9, 8),
        slices=(2, 7),
        in_plane=True,
        is_whole=False,
        spacing=(1.0, 1.0, 1.0),
    )
    whole = previous.read("ball_00", (0, 2, 3), (10, 9, 8))
    np.testing.assert_array_equal(read_previous(previous, view), whole[[2, 7]])
