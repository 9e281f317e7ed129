"""Small models as nnU-Net v2 writes them, made without it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from autoseg.core.plan import NetworkSpec
from autoseg.io.nnunet_plans import read_plans
from autoseg.networks.build import build_network

STATS = {
    "mean": 180.5,
    "median": 175.0,
    "std": 60.0,
    "min": 20.0,
    "max": 310.0,
    "percentile_00_5": 40.0,
    "percentile_99_5": 290.0,
}
DESCRIBED = {
    "channel_names": {"0": "MRI"},
    "labels": {"background": 0, "shell": 1, "core": 2},
    "numTraining": 6,
    "file_ending": ".nii.gz",
}
NAME = "Dataset007_Ball"
_RESAMPLING = {
    f"resampling_fn_{kind}{suffix}": value
    for kind, order in (("data", 3), ("seg", 1), ("probabilities", 1))
    for suffix, value in (
        ("", "resample_data_or_seg_to_shape"),
        (
            "_kwargs",
            {"is_seg": kind == "seg", "order": order, "order_z": 0, "force_separate_z": None},
        ),
    )
}


def network(dimensions: int = 2, residual: bool = False, **changes: object) -> dict:
    """The ``architecture`` of a network with two stages."""
    name = "ResidualEncoderUNet" if residual else "PlainConvUNet"
    blocks = {"n_blocks_per_stage": [1, 2]} if residual else {"n_conv_per_stage": [2, 1]}
    arguments = {
        "n_stages": 2,
        "features_per_stage": [4, 6],
        "conv_op": f"torch.nn.modules.conv.Conv{dimensions}d",
        "kernel_sizes": [[3] * dimensions] * 2,
        "strides": [[1] * dimensions, [2] * dimensions],
        **blocks,
        "n_conv_per_stage_decoder": [1],
        "conv_bias": True,
        "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dimensions}d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    return {
        "network_class_name": f"dynamic_network_architectures.architectures.unet.{name}",
        "arch_kwargs": arguments | changes,
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def configuration(dimensions: int = 2, **changes: object) -> dict:
    """A configuration of small patches."""
    return {
        "data_identifier": f"nnUNetPlans_{dimensions}d",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [8, 16, 12][3 - dimensions :],
        "median_image_size_in_voxels": [10.0, 24.5, 20.0][3 - dimensions :],
        "spacing": [2.5, 1.25, 1.0][3 - dimensions :],
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [False],
        **_RESAMPLING,
        "architecture": network(dimensions),
        "batch_dice": dimensions == 2,
    } | changes


def plans(configurations: dict | None = None, **changes: object) -> dict:
    """The content of a ``plans.json``."""
    return {
        "dataset_name": NAME,
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [2.5, 1.25, 1.0],
        "original_median_shape_after_transp": [10, 24, 20],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": configurations or {"2d": configuration()},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": STATS},
    } | changes


def peer_weights(spec: NetworkSpec, inputs: int, outputs: int, seed: int = 0) -> dict:
    """A ``state_dict`` in nnU-Net's words, most tensors under several names."""
    torch.manual_seed(seed)
    ours = build_network(spec, inputs, outputs, deep_supervision=True).state_dict()
    unique = {
        _peer_name(name, spec): torch.randn_like(tensor) * 0.2 for name, tensor in ours.items()
    }
    weights = {}
    for name, tensor in unique.items():
        weights[name] = tensor
        for layer, number in ((".conv.", 0), (".norm.", 1)):
            if layer in name:
                weights[name.replace(layer, f".all_modules.{number}.")] = tensor
    inner = {n: t for n, t in weights.items() if n.startswith("encoder.")}
    return weights | {f"decoder.{name}": tensor for name, tensor in inner.items()}


def _peer_name(name: str, spec: NetworkSpec) -> str:
    """Written out by the parts of a name, not by patterns as in the package."""
    part, *rest = name.split(".")
    if part in ("upsample", "heads"):
        return ".".join(
            ["decoder", {"upsample": "transpconvs", "heads": "seg_layers"}[part], *rest]
        )
    if part == "decoder":
        return ".".join(["decoder.stages", rest[0], "convs", *rest[1:]])
    if rest[1] == "stem":
        return ".".join(["encoder.stem.convs.0", *rest[2:]])
    if spec.architecture == "unet":
        return ".".join(["encoder.stages", rest[0], "0.convs", *rest[1:]])
    stage, *inner = [word for word in rest if word != "blocks"]
    if inner[1] == "shortcut":
        has_pool = max(spec.strides[int(stage)]) > 1
        inner[1] = "skip.1" if has_pool else "skip.0"
    return ".".join(["encoder.stages", stage, "blocks", *inner])


def checkpoint(weights: dict, name: str = "2d", **changes: object) -> dict:
    """The content of a checkpoint, with all the kinds of values that nnU-Net leaves there."""
    number = np.float64(0.875)
    return {
        "network_weights": weights,
        "optimizer_state": {
            "state": {0: {"momentum_buffer": torch.ones(3)}},
            "param_groups": [{"lr": 0.01, "params": [0], "foreach": None}],
        },
        "grad_scaler_state": None,
        "logging": {
            "mean_fg_dice": [number, np.float32(0.5)],
            "dice_per_class_or_region": [[number, np.float64(np.nan)]],
            "lrs": [0.01],
        },
        "_best_ema": number,
        "current_epoch": 3,
        "init_args": {
            "plans": {"plans_name": "nnUNetPlans"},
            "configuration": name,
            "fold": 0,
            "dataset_json": DESCRIBED,
            "device": torch.device("cpu"),
        },
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": (0, 1),
    } | changes


def write_model(
    results: Path,
    content: dict | None = None,
    name: str = "2d",
    folds: dict[str, dict] | None = None,
    described: dict = DESCRIBED,
    trainer: str = "nnUNetTrainer",
) -> Path:
    """Write a model folder.

    Args:
        results: nnU-Net's folder of results.
        content: of ``plans.json``.
        name: of the configuration.
        folds: by name, content of the checkpoint.
        described: content of ``dataset.json``.
        trainer: its name.
    """
    content = content or plans()
    root = results / content["dataset_name"] / f"{trainer}__{content['plans_name']}__{name}"
    root.mkdir(parents=True)
    (root / "plans.json").write_text(json.dumps(content))
    (root / "dataset.json").write_text(json.dumps(described))
    for fold, saved in (folds or {}).items():
        (root / fold).mkdir()
        torch.save(saved, root / fold / "checkpoint_final.pth")
    return root


def spec_of(content: dict, name: str, scratch: Path) -> NetworkSpec:
    """The network of a configuration of a plan, in our words."""
    scratch.mkdir(parents=True, exist_ok=True)
    (scratch / "plans.json").write_text(json.dumps(content))
    return read_plans(scratch / "plans.json").configurations[name].network


def saved(
    scratch: Path,
    content: dict,
    name: str = "2d",
    inputs: int = 1,
    outputs: int = 3,
    seed: int = 0,
    **changes: object,
) -> dict:
    """A checkpoint of a configuration of a plan."""
    weights = peer_weights(spec_of(content, name, scratch), inputs, outputs, seed)
    return checkpoint(weights, name, **changes)


def write_trained(
    results: Path,
    scratch: Path,
    content: dict | None = None,
    name: str = "2d",
    folds: tuple[str, ...] = ("fold_0",),
    inputs: int = 1,
    outputs: int = 3,
    described: dict = DESCRIBED,
    **changes: object,
) -> Path:
    """Write a model folder with folds of other weights each."""
    content = content or plans()
    made = {
        fold: saved(scratch, content, name, inputs, outputs, seed, **changes)
        for seed, fold in enumerate(folds)
    }
    trainer = str(changes.get("trainer_name", "nnUNetTrainer"))
    return write_model(results, content, name, made, described, trainer)
