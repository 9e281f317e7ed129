import json
import re
import shutil

import pytest
import torch
from random_folds import CASCADE, FULL, LOW, make_fold, small_cascade_task

from autoseg.core.labels import LabelSpace, Structure
from autoseg.core.plan import NetworkSpec
from autoseg.errors import AutosegError
from autoseg.exchange.nnunet_export import export_to_nnunet, peer_names, peer_weights
from autoseg.exchange.nnunet_export_plans import dataset_json, dataset_name, file_ending, refusals
from autoseg.io import artifacts, bundle
from autoseg.io.task import load_plan
from autoseg.networks.build import build_network

PLAIN = NetworkSpec(
    architecture="unet",
    features_per_stage=(4, 8, 16),
    strides=((1, 1, 1), (1, 2, 2), (2, 2, 2)),
    kernel_sizes=((1, 3, 3), (3, 3, 3), (3, 3, 3)),
    blocks_per_stage=(2, 2, 3),
    decoder_blocks_per_stage=(1, 2),
)
RESIDUAL = NetworkSpec(
    architecture="residual_unet",
    features_per_stage=(4, 8, 8, 16),
    strides=((1, 1), (2, 2), (2, 2), (1, 1)),
    kernel_sizes=((3, 3),) * 4,
    blocks_per_stage=(1, 3, 2, 1),
    decoder_blocks_per_stage=(1, 1, 1),
)


@pytest.fixture
def task(toy, tmp_path):
    return small_cascade_task(toy, tmp_path)


# Weights


@pytest.mark.parametrize(("network", "axes"), [(PLAIN, 3), (RESIDUAL, 2)])
def test_every_tensor_is_listed_under_all_names_nnunet_has_for_it(network, axes):
    weights = build_network(network, 2, 3, True).state_dict()
    names = peer_weights(weights, network)
    direct = {n for n in names if not re.search(r"(^|\.)(all_modules|decoder\.encoder)\.", n)}
    assert len(direct) == len(weights)
    for name in direct:
        aliases = [name, re.sub(r"\.(conv|norm)(\.\w+)$", _numbered, name)]
        aliases += [f"decoder.{alias}" for alias in aliases if name.startswith("encoder.")]
        assert all(torch.equal(names[alias], names[name]) for alias in aliases)
    assert names["decoder.seg_layers.0.weight"].shape[0] == 3
    assert names["decoder.seg_layers.0.weight"].ndim == axes + 2


def _numbered(match):
    return f".all_modules.{('conv', 'norm').index(match[1])}{match[2]}"


def test_plain_networks_have_the_names_of_the_reference():
    assert peer_names("encoder.2.1.conv.weight", PLAIN) == (
        "encoder.stages.2.0.convs.1.conv.weight",
        "encoder.stages.2.0.convs.1.all_modules.0.weight",
        "decoder.encoder.stages.2.0.convs.1.conv.weight",
        "decoder.encoder.stages.2.0.convs.1.all_modules.0.weight",
    )
    assert peer_names("decoder.0.1.norm.bias", PLAIN) == (
        "decoder.stages.0.convs.1.norm.bias",
        "decoder.stages.0.convs.1.all_modules.1.bias",
    )
    assert peer_names("upsample.1.bias", PLAIN) == ("decoder.transpconvs.1.bias",)
    assert peer_names("heads.0.weight", PLAIN) == ("decoder.seg_layers.0.weight",)


def test_a_projection_comes_second_where_the_side_path_is_pooled():
    assert peer_names("encoder.1.0.shortcut.conv.weight", RESIDUAL)[0] == (
        "encoder.stages.1.blocks.0.skip.1.conv.weight"
    )
    assert peer_names("encoder.3.0.shortcut.norm.bias", RESIDUAL)[0] == (
        "encoder.stages.3.blocks.0.skip.0.norm.bias"
    )
    assert peer_names("encoder.0.stem.conv.bias", RESIDUAL)[0] == "encoder.stem.convs.0.conv.bias"


def test_the_numbers_of_tensors_are_those_of_the_reference():
    spec = PLAIN.model_copy(
        update={"blocks_per_stage": (2, 2, 2), "decoder_blocks_per_stage": (2, 2)}
    )
    assert len(peer_weights(build_network(spec, 1, 2, True).state_dict(), spec)) == 136
    spec = NetworkSpec(
        architecture="residual_unet",
        features_per_stage=(4, 8, 16),
        strides=((1, 1), (2, 2), (2, 2)),
        kernel_sizes=((3, 3),) * 3,
        blocks_per_stage=(1, 3, 4),
        decoder_blocks_per_stage=(1, 1),
    )
    assert len(peer_weights(build_network(spec, 3, 2, True).state_dict(), spec)) == 320


# Folders


def test_a_model_folder_holds_what_nnunet_predicts_with(task, tmp_path):
    bundles = [make_fold(task, fold=fold, seed=n) for n, fold in enumerate(("fold0", "everything"))]
    written = export_to_nnunet(bundles, tmp_path / "out")
    (folder,) = written.folders
    assert folder == tmp_path / "out" / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    assert (written.folds, written.reads_previous, written.ending) == (
        *((("0", "all"),), (False,)),
        ".nii.gz",
    )
    assert sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()) == [
        "dataset.json",
        "dataset_fingerprint.json",
        "fold_0/checkpoint_final.pth",
        "fold_all/checkpoint_final.pth",
        "plans.json",
    ]
    checkpoint = torch.load(folder / "fold_0/checkpoint_final.pth", weights_only=True)
    assert checkpoint["trainer_name"] == "nnUNetTrainer"
    assert checkpoint["inference_allowed_mirroring_axes"] == (0, 2)
    assert checkpoint["init_args"]["configuration"] == FULL
    assert checkpoint["init_args"]["fold"] == 0
    assert checkpoint["init_args"]["plans"] == json.loads((folder / "plans.json").read_text())
    ours = bundle.load_weights(bundles[0].parent / "weights.safetensors")
    head = checkpoint["network_weights"]["decoder.seg_layers.1.weight"]
    torch.testing.assert_close(head, ours["heads.1.weight"])
    fingerprint = json.loads((folder / "dataset_fingerprint.json").read_text())
    assert len(fingerprint["spacings"]) == 6


def test_a_plan_is_told_in_the_words_of_nnunet(task, tmp_path):
    (folder,) = export_to_nnunet([make_fold(task)], tmp_path / "out").folders
    plans = json.loads((folder / "plans.json").read_text())
    planned = load_plan(task, "default").configurations[FULL]
    full = plans["configurations"][FULL]
    assert plans["dataset_name"] == "Dataset001_Ball"
    assert plans["image_reader_writer"] == "SimpleITKIO"
    assert plans["transpose_backward"] == [0, 1, 2]
    assert plans["original_median_spacing_after_transp"] == [2.5, 1.25, 1.125]
    assert full["normalization_schemes"] == ["ZScoreNormalization"]
    assert full["patch_size"] == list(planned.patch_size)
    assert full["resampling_fn_data_kwargs"]["order"] == 3
    assert full["resampling_fn_seg_kwargs"] == {
        "is_seg": True,
        "order": 1,
        "order_z": 0,
        "force_separate_z": None,
    }
    assert plans["configurations"][LOW]["next_stage"] == CASCADE
    assert plans["configurations"][CASCADE]["previous_stage"] == LOW
    assert plans["configurations"][CASCADE]["data_identifier"] == "nnUNetPlans_3d_fullres"
    network = full["architecture"]["arch_kwargs"]
    assert network["n_conv_per_stage"] == list(planned.network.blocks_per_stage)
    assert network["conv_op"] == "torch.nn.modules.conv.Conv3d"
    flat = plans["configurations"]["2d"]["architecture"]
    assert flat["arch_kwargs"]["norm_op"] == "torch.nn.modules.instancenorm.InstanceNorm2d"
    assert flat["network_class_name"].endswith("PlainConvUNet")


def test_a_decoder_is_listed_from_the_coarsest_stage_on(task, tmp_path):
    file = task.plan_file("default")
    plan = json.loads(file.read_text())
    plan["configurations"][FULL]["network"]["decoder_blocks_per_stage"] = [1, 2]
    plan["configurations"][FULL]["network"]["architecture"] = "residual_unet"
    file.write_text(json.dumps(plan))
    (folder,) = export_to_nnunet([make_fold(task)], tmp_path / "out").folders
    plans = json.loads((folder / "plans.json").read_text())
    architecture = plans["configurations"][FULL]["architecture"]
    assert architecture["network_class_name"].endswith("ResidualEncoderUNet")
    assert architecture["arch_kwargs"]["n_conv_per_stage_decoder"] == [2, 1]
    assert "n_blocks_per_stage" in architecture["arch_kwargs"]


def test_a_model_away_from_its_task_is_written_with_what_it_knows(task, tmp_path):
    made = make_fold(task)
    shutil.copytree(made.parent, tmp_path / "elsewhere")
    (folder,) = export_to_nnunet([tmp_path / "elsewhere/bundle.json"], tmp_path / "out").folders
    assert "numTraining" not in json.loads((folder / "dataset.json").read_text())
    fingerprint = json.loads((folder / "dataset_fingerprint.json").read_text())
    assert fingerprint["spacings"] == []
    assert fingerprint["foreground_intensity_properties_per_channel"]["0"]["mean"] > 0


def test_a_cascade_brings_its_previous_stage_along(task, tmp_path):
    low = [make_fold(task, LOW, fold, seed) for seed, fold in enumerate(("fold0", "fold1"))]
    made = make_fold(task, CASCADE, previous=low)
    written = export_to_nnunet([made, low[0]], tmp_path / "out")
    assert [path.name.rpartition("__")[2] for path in written.folders] == [LOW, CASCADE]
    assert written.folds == (("0", "1"), ("0",))
    assert written.reads_previous == (False, True)
    checkpoint = torch.load(written.folders[1] / "fold_0/checkpoint_final.pth", weights_only=True)
    first = checkpoint["network_weights"]["encoder.stages.0.0.convs.0.conv.weight"]
    assert first.shape[1] == 3  # the channel and two labels


# Labels


def model_with(task, **labels):
    return bundle.load_model(make_fold(task)).model_copy(update={"labels": LabelSpace(**labels)})


def test_regions_and_ignore_label_are_told(task):
    whole, core = Structure(name="whole", values=(2, 1)), Structure(name="core", values=(2,))
    model = model_with(task, structures=(whole, core), ignore=255, output_values=(1, 2))
    content = dataset_json(model, 6, ".nii.gz")
    assert content["labels"] == {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3}
    assert list(content["labels"]) == ["background", "whole", "core", "ignore"]
    assert content["regions_class_order"] == [1, 2]
    assert content["numTraining"] == 6
    assert refusals(model) == []


@pytest.mark.parametrize(
    ("labels", "finding"),
    [
        (
            {"structures": (Structure(name="a", values=(255,)),)},
            "nnU-Net writes labels without gaps, 1 to 1, not 255",
        ),
        (
            {"structures": (Structure(name="a", values=(1,)),), "background": 7},
            "in nnU-Net background is 0, here it is 7",
        ),
        (
            {"structures": (Structure(name="a", values=(300, 1)),), "output_values": (300,)},
            "nnU-Net writes label values up to 255, not 300",
        ),
    ],
)
def test_labels_nnunet_cannot_write_are_refused(task, labels, finding):
    assert refusals(model_with(task, **labels)) == [finding]


def test_networks_and_normalizations_nnunet_does_not_have_are_refused(task):
    model = bundle.load_model(make_fold(task))
    planned = model.configuration
    network = planned.network.model_copy(update={"architecture": "unet_of_mine"})
    changed = planned.model_copy(update={"network": network, "normalization": ("histogram",)})
    plan = model.plan.model_copy(update={"configurations": {FULL: changed}})
    network, normalization = refusals(model.model_copy(update={"plan": plan}))
    assert network == "nnU-Net has no network 'unet_of_mine' (it has: unet, residual_unet)"
    known = "ct, zscore, none, rescale_to_0_1, rgb_to_0_1"
    assert normalization == f"nnU-Net has no normalization 'histogram' (it has: {known})"


# Refusals


def test_a_refused_model_leaves_nothing_behind(task, tmp_path):
    labels = LabelSpace(structures=(Structure(name="a", values=(9,)),))
    made = make_fold(task, labels=labels)
    with pytest.raises(AutosegError, match=r"fold0: nnU-Net writes .*; such a model can be used"):
        export_to_nnunet([made], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_two_models_of_one_fold_are_refused(task, tmp_path):
    made = [make_fold(task), make_fold(task, run="other", seed=1)]
    with pytest.raises(AutosegError, match=r"there are two models of 3d_fullres fold0: .* export"):
        export_to_nnunet(made, tmp_path / "out")


def test_models_of_different_plans_are_refused(task, tmp_path):
    first = make_fold(task)
    file = task.plan_file("default")
    plan = json.loads(file.read_text())
    plan["configurations"][FULL]["spacing"] = [3.0, 1.0, 1.0]
    file.write_text(json.dumps(plan))
    other = make_fold(task, fold="fold1")
    with pytest.raises(AutosegError, match="was made with another plan or other labels than"):
        export_to_nnunet([first, other], tmp_path / "out")


def test_what_is_there_already_is_not_replaced(task, tmp_path):
    made = make_fold(task)
    export_to_nnunet([made], tmp_path / "out")
    with pytest.raises(AutosegError, match="3d_fullres: exists already; name another folder"):
        export_to_nnunet([made], tmp_path / "out")


def test_folds_without_a_number_and_several_weights_are_refused(task, tmp_path):
    with pytest.raises(AutosegError, match="nnU-Net numbers its folds; 'mine' is none"):
        export_to_nnunet([make_fold(task, fold="mine")], tmp_path / "out")
    made = make_fold(task)
    model = bundle.load_model(made)
    artifacts.save(made, model.model_copy(update={"members": model.members * 2}))
    with pytest.raises(AutosegError, match="holds 2 sets of weights, where one is wanted"):
        export_to_nnunet([made], tmp_path / "out")


# Names and endings


def test_tasks_are_numbered_as_nnunet_does():
    assert dataset_name("Task04_Hippocampus") == "Dataset004_Hippocampus"
    assert dataset_name("Dataset121_Brain_MR") == "Dataset121_Brain_MR"
    assert dataset_name("Task_KiTS") == "Task_KiTS"


def test_images_need_an_ending_that_both_read_alike(task):
    volumes = bundle.load_model(make_fold(task))
    size = (999.0, 1.0, 1.0)
    pictures = volumes.model_copy(update={"min_spacing": size, "max_spacing": size})
    assert [file_ending(volumes, raw) for raw in (None, ".MHA", ".dcm")] == [
        *(".nii.gz", ".mha", ".nii.gz")
    ]
    assert [file_ending(pictures, raw) for raw in (None, ".tif", ".jpg")] == [
        *(".png", ".tif", ".png")
    ]
