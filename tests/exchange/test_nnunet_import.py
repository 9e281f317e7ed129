import json
import logging
import os
import shutil
from functools import partial

import numpy as np
import pytest
import torch
from conftest import toy_case
from peer_models import (
    DESCRIBED,
    NAME,
    checkpoint,
    configuration,
    network,
    peer_weights,
    plans,
    saved,
    spec_of,
    write_model,
    write_trained,
)

from autoseg.errors import ArtifactError, AutosegError, WorkspaceError
from autoseg.exchange.nnunet_import import import_models
from autoseg.exchange.nnunet_model import is_known_trainer
from autoseg.io import bundle
from autoseg.io.task import load_dataset, load_plan
from autoseg.io.workspace import Workspace
from autoseg.predict.loading import PredictOptions, load_predictor

CASCADE = {
    "3d_lowres": configuration(3, spacing=[4.0, 2.0, 2.0], next_stage="3d_cascade"),
    "3d_fullres": configuration(3),
    "3d_cascade": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
}
ON_CPU = PredictOptions(device="cpu", precision="float32")


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "autoseg_workspace")


@pytest.fixture
def results(tmp_path):
    return tmp_path / "nnUNet_results"


@pytest.fixture
def write(results, tmp_path):
    """Writes a model folder with some folds."""
    return partial(write_trained, results, tmp_path / "scratch")


def fold_of(task, name="2d", fold="fold0", run="default", plan="nnUNetPlans"):
    return task.fold_folder(plan, name, run, fold)


def refusal(workspace, source, **names):
    with pytest.raises(AutosegError) as caught:
        import_models(workspace, source, **names)
    assert "\n" not in str(caught.value)
    return caught.value


# What becomes of a model


def test_a_model_becomes_a_model_of_a_task_named_as_its_data(workspace, write):
    done = import_models(workspace, write())

    assert (done.task.name, workspace.current()) == (NAME, NAME)
    (fold,) = done.folds
    model = bundle.load_model(fold.folder.bundle)
    assert (model.task, model.run, model.label) == (
        NAME,
        "default",
        f"{NAME} 2d fold0 (plan nnUNetPlans)",
    )
    assert (model.channels, model.labels.names) == (("MRI",), ("shell", "core"))
    assert model.training.mirror_axes == (0, 1)
    assert (model.training.epochs, model.min_spacing) == (3, (2.5, 1.25, 1.0))
    assert load_plan(done.task, "nnUNetPlans") == model.plan
    dataset = load_dataset(done.task)
    assert (dataset.channels, dataset.labels, dataset.cases) == (model.channels, model.labels, ())


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_weights_are_nnunets_by_our_names(workspace, write, tmp_path, dimensions, residual):
    entry = configuration(dimensions, architecture=network(dimensions, residual))
    content = plans({"mine": entry})

    done = import_models(workspace, write(content, "mine"))

    weights = bundle.load_weights(done.folds[0].folder.weights)
    theirs = peer_weights(spec_of(content, "mine", tmp_path / "scratch"), 1, 3)
    assert torch.equal(weights["heads.0.weight"], theirs["decoder.seg_layers.0.weight"])
    assert torch.equal(weights["upsample.0.bias"], theirs["decoder.transpconvs.0.bias"])
    key, name = ("encoder.1.1.conv2.norm.weight", "encoder.stages.1.blocks.1.conv2.norm.weight")
    if not residual:
        key, name = "encoder.0.1.conv.weight", "encoder.stages.0.0.convs.1.conv.weight"
    assert torch.equal(weights[key], theirs[name])
    unique = {id(tensor) for tensor in theirs.values()}
    assert len(weights) == len(unique)


def test_an_imported_model_predicts(workspace, write):
    done = import_models(workspace, write())
    image, _ = toy_case(0)

    predictor = load_predictor([done.folds[0].folder.bundle], ON_CPU)

    segmented = predictor.segment(image)
    assert segmented.array.shape == image.geometry.shape
    assert set(np.unique(segmented.array)) <= {0, 1, 2}


def test_all_folds_and_all_cases_are_named_as_ours(workspace, write):
    done = import_models(workspace, write(folds=("fold_0", "fold_3", "fold_all")))

    assert [fold.folder.fold for fold in done.folds] == ["fold0", "fold3", "everything"]
    assert all(fold.folder.is_finished for fold in done.folds)


def test_regions_are_outputs_in_the_order_of_the_description(workspace, write):
    described = DESCRIBED | {
        "labels": {"background": 0, "whole": [1, 2], "core": [2]},
        "regions_class_order": [1, 2],
    }

    done = import_models(workspace, write(outputs=2, described=described))

    model = bundle.load_model(done.folds[0].folder.bundle)
    assert model.labels.regions == ((1, 2), (2,))
    assert model.labels.output_values == (1, 2)


def measure(root, spacings):
    """Leave a fingerprint in the folder of a model."""
    measured = {
        "spacings": spacings,
        "shapes_after_crop": [[10, 20, 30]] * 2,
        "foreground_intensity_properties_per_channel": plans()[
            "foreground_intensity_properties_per_channel"
        ],
        "median_relative_size_after_cropping": 1.0,
    }
    (root / "dataset_fingerprint.json").write_text(json.dumps(measured))


def test_a_fingerprint_of_other_data_is_refused(workspace, write):
    root = write()
    measure(root, [[3.0, 1.0, 500.0], [2.0, 1.5, 750.0]])

    error = refusal(workspace, root)

    assert error.place == str(root)
    assert "mm is more than 100 times away from the training data's 500 to 750" in str(error)


def test_cases_of_the_validation_are_held_out_and_spacings_measured(workspace, write):
    root = write()
    measure(root, [[3.0, 1.0, 0.5], [2.0, 1.5, 0.75]])
    rows = [{"prediction_file": f"/far/away/validation/case_{n}.nii.gz"} for n in (2, 1)]
    (root / "fold_0" / "validation").mkdir()
    (root / "fold_0" / "validation" / "summary.json").write_text(
        json.dumps({"metric_per_case": rows})
    )

    done = import_models(workspace, root)

    model = bundle.load_model(done.folds[0].folder.bundle)
    assert model.held_out == ("case_1", "case_2")
    assert (model.min_spacing, model.max_spacing) == ((2.0, 1.0, 0.5), (3.0, 1.5, 0.75))


def test_what_a_validation_says_counts_more_than_splits(workspace, write, tmp_path):
    root = write(folds=("fold_0", "fold_1", "fold_2", "fold_all"))
    (root / "fold_0" / "validation").mkdir()
    (root / "fold_0" / "validation" / "summary.json").write_text(
        json.dumps({"metric_per_case": [{"prediction_file": "validation/case_9.nii.gz"}]})
    )
    splits = tmp_path / "splits_final.json"
    rows = [{"train": ["case_2"], "val": ["case_1"]}, {"train": [], "val": ["case_3", "case_2"]}]
    splits.write_text(json.dumps(rows))

    done = import_models(workspace, root, splits=splits)

    held_out = [bundle.load_model(fold.folder.bundle).held_out for fold in done.folds]
    assert held_out == [("case_9",), ("case_2", "case_3"), (), ()]
    assert [fold.num_held_out for fold in done.folds] == [1, 2, None, 0]


def test_a_median_spacing_is_turned_back_to_raw_axes(workspace, write):
    done = import_models(workspace, write(plans(transpose_forward=[2, 0, 1])))

    model = bundle.load_model(done.folds[0].folder.bundle)
    assert model.max_spacing == (1.25, 1.0, 2.5)


def test_without_a_final_checkpoint_the_best_counts_and_is_told(workspace, write, caplog):
    fold = write() / "fold_0"
    (fold / "checkpoint_final.pth").rename(fold / "checkpoint_best.pth")

    with caplog.at_level(logging.WARNING):
        import_models(workspace, fold.parent)

    assert caplog.messages == ["2d fold0: the weights are of checkpoint_best.pth"]


def test_a_model_without_mirroring_is_not_mirrored(workspace, write):
    done = import_models(workspace, write(inference_allowed_mirroring_axes=None))

    assert done.folds[0].mirror_axes == ()
    model = bundle.load_model(done.folds[0].folder.bundle)
    assert model.training.mirror_axes == model.configuration.training.mirror_axes == ()


def test_the_folders_name_tells_what_an_old_checkpoint_leaves_out(workspace, results, tmp_path):
    old = saved(tmp_path / "scratch", plans())
    for key in ("init_args", "trainer_name", "inference_allowed_mirroring_axes", "current_epoch"):
        del old[key]

    root = write_model(results, None, "2d", {"fold_0": old}, trainer="nnUNetTrainerNoDA")
    done = import_models(workspace, root)

    (fold,) = done.folds
    assert (fold.trainer, fold.folder.run) == ("nnUNetTrainerNoDA", "nnUNetTrainerNoDA")
    assert (fold.folder.configuration, fold.mirror_axes) == ("2d", ())


# Several models, cascades, names


def test_a_cascade_brings_the_fold_of_its_previous_stage(workspace, write, results):
    content = plans(CASCADE)
    write(content, "3d_cascade", ("fold_0", "fold_1"), inputs=3)
    write(content, "3d_lowres", ("fold_0", "fold_1"))

    done = import_models(workspace, results)

    names = [(fold.folder.configuration, fold.folder.fold) for fold in done.folds]
    assert names == [(n, f) for n in ("3d_lowres", "3d_cascade") for f in ("fold0", "fold1")]
    cascade = bundle.load_model(done.folds[3].folder.bundle)
    assert cascade.previous == ("previous/fold1/bundle.json",)
    bundles = [fold.folder.bundle for fold in done.folds[2:]]
    predictor = load_predictor(bundles, ON_CPU)
    assert predictor.previous is not None
    assert len(predictor.previous.networks) == 2


def test_a_cascades_folder_is_enough_where_its_previous_stage_is_beside_it(workspace, write):
    content = plans(CASCADE)
    write(content, "3d_lowres", ("fold_1",))
    cascade = write(content, "3d_cascade", inputs=3)

    done = import_models(workspace, cascade)

    assert [fold.folder.configuration for fold in done.folds] == ["3d_lowres", "3d_cascade"]
    model = bundle.load_model(done.folds[1].folder.bundle)
    assert model.previous == ("previous/fold1/bundle.json",)


def test_a_cascade_without_its_previous_stage_is_refused(workspace, write):
    error = refusal(workspace, write(plans(CASCADE), "3d_cascade", inputs=3))

    assert isinstance(error, WorkspaceError)
    assert str(error) == (
        "3d_cascade fold0: a cascade needs its previous stage, and no 3d_lowres is imported; "
        "import the model of 3d_lowres first, or the folder that holds both"
    )


def test_importing_again_changes_nothing(workspace, write):
    root = write()
    file = import_models(workspace, root).folds[0].folder.weights
    before = file.stat().st_mtime_ns

    again = import_models(workspace, root)

    assert again.folds[0].was_there
    assert file.stat().st_mtime_ns == before


def test_another_training_is_never_replaced(workspace, write):
    root = write()
    import_models(workspace, root)
    shutil.rmtree(root)

    error = refusal(workspace, write(folds=("fold_5", "fold_0")))

    assert error.finding == "another training is here already"
    assert str(error.place).endswith("models/nnUNetPlans/2d/default/fold0")
    import_models(workspace, root, task_name="Task_Other")
    assert fold_of(workspace.task("Task_Other")).is_finished


def test_a_plan_of_that_name_must_be_the_same(workspace, write):
    root = write()
    import_models(workspace, root)
    shutil.rmtree(root)
    other = write(plans({"2d": configuration(batch_size=7)}))

    error = refusal(workspace, other)

    assert error.finding == "there is another plan 'nnUNetPlans'"
    assert error.remedy == "import under another name: --plan NAME"
    import_models(workspace, other, plan_name="sevens")
    assert fold_of(workspace.task(NAME), plan="sevens").is_finished


def test_configurations_that_were_added_between_trainings_are_joined(workspace, write, results):
    write()
    write(plans({"2d": configuration(), "mine": configuration(batch_size=7)}), "mine")

    done = import_models(workspace, results)

    assert [fold.folder.configuration for fold in done.folds] == ["2d", "mine"]
    assert list(load_plan(done.task, "nnUNetPlans").configurations) == ["2d", "mine"]


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"channel_names": {"0": "CT"}}, "channels"),
        ({"labels": {"background": 0, "ring": 1, "core": 2}}, "labels"),
    ],
)
def test_a_task_of_other_data_is_left_alone(workspace, write, changed, what):
    root = write()
    import_models(workspace, root)
    shutil.rmtree(root)

    error = refusal(workspace, write(described=DESCRIBED | changed))

    assert str(error) == (
        f"{NAME}: there is a task of this name with other {what}; import under another name: "
        "--task NAME"
    )


def test_models_of_two_data_sets_are_refused(workspace, write, results):
    write()
    write(plans(dataset_name="Dataset008_CT"), described=DESCRIBED | {"channel_names": ["CT"]})

    assert refusal(workspace, results).finding == "holds models of several data sets"


# Trainers and networks


@pytest.mark.parametrize(
    ("name", "is_known"),
    [
        ("nnUNetTrainer", True),
        ("nnUNetTrainer_250epochs", True),
        ("nnUNetTrainerNoMirroring", True),
        ("nnUNetTrainerDA5", True),
        ("nnUNetTrainer_probabilisticOversampling_033", True),
        ("nnUNetTrainerMine", False),
        ("MyTrainer", False),
        ("nnUNetTrainerBN", False),
    ],
)
def test_nnunets_own_trainers_are_known(name, is_known):
    assert is_known_trainer(name) == is_known


def test_an_unknown_trainer_is_tried_with_a_warning(workspace, write, caplog):
    with caplog.at_level(logging.WARNING):
        done = import_models(workspace, write(trainer_name="MyTrainer"))

    assert done.folds[0].folder.run == "MyTrainer"
    (message,) = caplog.messages
    assert message.startswith("MyTrainer: autoseg does not know this trainer; its network fits")


def test_weights_of_another_network_are_refused_by_name(workspace, write, tmp_path, results):
    content = plans()
    weights = saved(tmp_path / "scratch", content)["network_weights"]
    lacking = {n: t for n, t in weights.items() if n != "decoder.seg_layers.0.bias"}
    larger = weights | {"decoder.seg_layers.0.bias": torch.ones(9)}
    more = weights | {"encoder.stages.0.0.convs.0.norm.running_mean": torch.ones(4)}
    findings = {}
    for name, changed in (("lacking", lacking), ("larger", larger), ("more", more)):
        root = write_model(results / name, content, "2d", {"fold_0": checkpoint(changed)})
        findings[name] = refusal(workspace, root)

    start = "the weights are of another network than the plan describes: "
    assert {name: error.finding.removeprefix(start) for name, error in findings.items()} == {
        "lacking": "it has no 'decoder.seg_layers.0.bias'",
        "larger": "'decoder.seg_layers.0.bias' is 9 there, 3 by the plan",
        "more": "it has a 'encoder.stages.0.0.convs.0.norm.running_mean', which the planned "
        "network has not",
    }
    assert str(findings["more"].place).endswith("fold_0/checkpoint_final.pth")
    assert not workspace.task_names()


def test_a_configuration_that_cannot_be_adopted_is_refused_with_the_field(
    workspace, write, results, tmp_path
):
    fine = plans({"2d": configuration(), "odd": configuration()})
    content = plans({"2d": configuration(), "odd": configuration(preprocessor_name="Mine")})
    odd = saved(tmp_path / "scratch", fine, "odd")

    error = refusal(workspace, write_model(results, content, "odd", {"fold_0": odd}))

    assert error.finding == (
        "configurations.odd: preprocessor_name: 'Mine' is none that autoseg has"
    )


def test_a_checkpoint_of_something_else_is_refused(workspace, results):
    for number, content in enumerate(({"weights": 1}, {"network_weights": {"a": 3}}, [1])):
        root = write_model(results / str(number), None, "2d", {"fold_0": content})
        assert refusal(workspace, root).finding.startswith("is no checkpoint of nnU-Net v2")


def test_nonsense_mirror_axes_are_refused(workspace, write):
    error = refusal(workspace, write(inference_allowed_mirroring_axes=("x",)))

    assert error.finding == "inference_allowed_mirroring_axes: should be some of 0, 1, 2"


def test_a_hostile_checkpoint_is_refused_and_nothing_runs_or_is_written(workspace, write, tmp_path):
    class Command:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'harm'}",)

    error = refusal(workspace, write(logging=Command()))

    assert isinstance(error, ArtifactError)
    assert "system', which is no tensor or plain value" in error.finding
    assert not (tmp_path / "harm").exists()
    assert not workspace.task_names()


def test_another_number_of_channels_in_the_description_is_refused(workspace, write):
    error = refusal(workspace, write(described=DESCRIBED | {"channel_names": ["a", "b"]}))

    assert error.finding == "names 2 channels, but plans.json is for 1"


def test_a_broken_description_is_refused(workspace, write):
    error = refusal(workspace, write(described={"channel_names": ["MRI"]}))

    assert error.finding == "labels: missing key"


def test_a_folder_without_models_and_a_path_without_anything_are_told(workspace, tmp_path):
    (tmp_path / "empty").mkdir()

    assert refusal(workspace, tmp_path / "empty").finding.startswith("holds no model of nnU-Net")
    assert refusal(workspace, tmp_path / "none").finding == "there is no such folder or zip"
