"""A plan in the words of nnU-Net v2: what its ``plans.json`` and ``dataset.json`` hold.

Pure: values in, plain data out, ready for JSON.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from statistics import median
from typing import Any

from autoseg.core.fingerprint import Fingerprint, IntensityStats
from autoseg.core.labels import LabelSpace
from autoseg.core.model import Model
from autoseg.core.plan import Configuration, NetworkSpec, Plan

Json = dict[str, Any]

NORMALIZATIONS = {
    "ct": "CTNormalization",
    "zscore": "ZScoreNormalization",
    "none": "NoNormalization",
    "rescale_to_0_1": "RescaleTo01Normalization",
    "rgb_to_0_1": "RGBTo01Normalization",
}
"""Its class for each of our normalizers."""

_ARCHITECTURES = {
    "unet": ("PlainConvUNet", "n_conv_per_stage"),
    "residual_unet": ("ResidualEncoderUNet", "n_blocks_per_stage"),
}
PICTURE_ENDINGS = (".png", ".bmp", ".tif")
VOLUME_ENDINGS = (".nii.gz", ".nrrd", ".mha", ".gipl")
"""What its reader for volumes reads with the axes and voxel sizes that ours see."""

_RESAMPLING = "resample_data_or_seg_to_shape"
_NUMBERED = re.compile(r"(?:Task|Dataset)_?(\d+)_(.+)", re.IGNORECASE)
_SMALL_TYPE_MAX = 255
_UNKNOWN_SIZE = (999.0, 1.0, 1.0)


def refusals(model: Model) -> list[str]:
    """What a model does that nnU-Net cannot be told to do.

    Args:
        model: one set of weights.

    Returns:
        A finding each; none if it can be written for nnU-Net.
    """
    planned = model.configuration
    found: list[str] = []
    if planned.network.architecture not in _ARCHITECTURES:
        known = ", ".join(_ARCHITECTURES)
        found.append(f"nnU-Net has no network '{planned.network.architecture}' (it has: {known})")
    found += [
        f"nnU-Net has no normalization '{scheme}' (it has: {', '.join(NORMALIZATIONS)})"
        for scheme in dict.fromkeys(planned.normalization)
        if scheme not in NORMALIZATIONS
    ]
    return [*found, *_label_refusals(model.labels)]


def _label_refusals(labels: LabelSpace) -> list[str]:
    found: list[str] = []
    if labels.background != 0:
        found.append(f"in nnU-Net background is 0, here it is {labels.background}")
    values = labels.foreground_values
    written = labels.output_values or ()
    if not labels.has_regions and values != tuple(range(1, len(values) + 1)):
        listed = ", ".join(map(str, values))
        found.append(f"nnU-Net writes labels without gaps, 1 to {len(values)}, not {listed}")
    if written and (min(written) < 0 or max(written) > _SMALL_TYPE_MAX):
        found.append(f"nnU-Net writes label values up to {_SMALL_TYPE_MAX}, not {max(written)}")
    return found


def plans_json(
    model: Model, name: str, ending: str, fingerprint: Fingerprint | None = None
) -> Json:
    """The content of ``plans.json``.

    Args:
        model: any of the models it is for; its whole plan is told, but for configurations that
            nnU-Net has no words for.
        name: what the plan is called there.
        ending: of image files, which decides on the reader.
        fingerprint: of the data, for medians that people may look at.
    """
    plan = model.plan
    told = {
        key: planned
        for key, planned in plan.configurations.items()
        if not refusals(_only(model, key))
    }
    return {
        "dataset_name": dataset_name(model.task),
        "plans_name": name,
        **_medians(plan, fingerprint),
        "image_reader_writer": reader_of(ending),
        "transpose_forward": list(plan.transpose),
        "transpose_backward": [plan.transpose.index(axis) for axis in range(3)],
        "configurations": {
            key: _configuration(key, planned, plan, name) for key, planned in told.items()
        },
        "experiment_planner_used": "autoseg",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": _intensities(plan.intensities),
    }


def dataset_json(model: Model, num_cases: int | None, ending: str) -> Json:
    """The content of ``dataset.json``.

    Args:
        model: any of the models it is for.
        num_cases: cases there were to train on, if that is known.
        ending: of image files.
    """
    labels = model.labels
    names: dict[str, int | list[int]] = {"background": labels.background}
    for structure in labels.structures:
        values = sorted(structure.values)
        names[structure.name] = values[0] if len(values) == 1 else values
    if labels.ignore is not None:
        # It must be the largest, and no prediction holds it.
        names["ignore"] = max(labels.foreground_values) + 1
    content: Json = {
        "name": model.task,
        "channel_names": {str(i): channel for i, channel in enumerate(model.channels)},
        "labels": names,
        "file_ending": ending,
    }
    if labels.output_values is not None:
        content["regions_class_order"] = list(labels.output_values)
    return content if num_cases is None else content | {"numTraining": num_cases}


def fingerprint_json(model: Model, fingerprint: Fingerprint | None) -> Json:
    """The content of ``dataset_fingerprint.json``; without measurements it lists no case."""
    cases = () if fingerprint is None else fingerprint.cases
    size = 1.0 if fingerprint is None else fingerprint.median_relative_size
    return {
        "foreground_intensity_properties_per_channel": _intensities(model.plan.intensities),
        "median_relative_size_after_cropping": size,
        "shapes_after_crop": [list(case.shape) for case in cases],
        "spacings": [list(case.spacing) for case in cases],
    }


def dataset_name(task: str) -> str:
    """A task's name as nnU-Net numbers them: ``Task04_X`` becomes ``Dataset004_X``."""
    match = _NUMBERED.fullmatch(task)
    return task if match is None else f"Dataset{int(match[1]):03d}_{match[2]}"


def file_ending(model: Model, raw: str | None = None) -> str:
    """The ending image files must have for nnU-Net to read them as we do.

    Args:
        model: which tells pictures from volumes.
        raw: ending of the files it was trained on, if that is known.
    """
    sizes = {model.min_spacing, model.max_spacing}
    endings = PICTURE_ENDINGS if sizes == {_UNKNOWN_SIZE} else VOLUME_ENDINGS
    folded = "" if raw is None else raw.lower()
    return folded if folded in endings else endings[0]


def reader_of(ending: str) -> str:
    """Its reader for files of an ending."""
    return "NaturalImage2DIO" if ending in PICTURE_ENDINGS else "SimpleITKIO"


def _only(model: Model, configuration: str) -> Model:
    """A model as if it were of another configuration of its plan."""
    member = model.members[0].model_copy(update={"configuration": configuration})
    return model.model_copy(update={"members": (member,)})


def _medians(plan: Plan, fingerprint: Fingerprint | None) -> Json:
    """Nothing is decided by them."""
    if fingerprint is None:
        return {}
    spacings = list(zip(*(case.spacing for case in fingerprint.cases), strict=True))
    shapes = list(zip(*(case.shape for case in fingerprint.cases), strict=True))
    axes = plan.transpose
    return {
        "original_median_spacing_after_transp": [float(median(spacings[axis])) for axis in axes],
        "original_median_shape_after_transp": [int(median(shapes[axis])) for axis in axes],
    }


def _intensities(channels: Sequence[IntensityStats]) -> Json:
    return {str(i): stats.model_dump(mode="json") for i, stats in enumerate(channels)}


def _configuration(key: str, planned: Configuration, plan: Plan, name: str) -> Json:
    following = [k for k, other in plan.configurations.items() if other.previous == key]
    content: Json = {
        "data_identifier": f"{name}_{plan.prepared_as(key)}",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": planned.batch_size,
        "patch_size": list(planned.patch_size),
        "median_image_size_in_voxels": list(planned.median_shape),
        "spacing": list(planned.spacing),
        "normalization_schemes": [NORMALIZATIONS[scheme] for scheme in planned.normalization],
        "use_mask_for_norm": list(planned.use_mask_for_norm),
        **_resampling(),
        "architecture": _architecture(planned.network),
        "batch_dice": planned.batch_dice,
    }
    if planned.previous is not None:
        content["previous_stage"] = planned.previous
    if following:
        content["next_stage"] = following[0] if len(following) == 1 else following
    return content


def _resampling() -> Json:
    """Order of the interpolation: cubic for images, linear for labels and logits."""
    orders = {"data": (False, 3), "seg": (True, 1), "probabilities": (False, 1)}
    content: Json = {}
    for what, (is_seg, order) in orders.items():
        content[f"resampling_fn_{what}"] = _RESAMPLING
        content[f"resampling_fn_{what}_kwargs"] = {
            "is_seg": is_seg,
            "order": order,
            "order_z": 0,
            "force_separate_z": None,
        }
    return content


def _architecture(network: NetworkSpec) -> Json:
    kind, blocks = _ARCHITECTURES[network.architecture]
    axes = network.dimensions
    arguments: Json = {
        "n_stages": network.num_stages,
        "features_per_stage": list(network.features_per_stage),
        "conv_op": f"torch.nn.modules.conv.Conv{axes}d",
        "kernel_sizes": [list(row) for row in network.kernel_sizes],
        "strides": [list(row) for row in network.strides],
        blocks: list(network.blocks_per_stage),
        # Its decoder is listed from the coarsest stage on.
        "n_conv_per_stage_decoder": list(network.decoder_blocks_per_stage[::-1]),
        "conv_bias": True,
        "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{axes}d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    return {
        "network_class_name": f"dynamic_network_architectures.architectures.unet.{kind}",
        "arch_kwargs": arguments,
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }
