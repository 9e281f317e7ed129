"""Plans of nnU-Net v2 in our words; what autoseg cannot do as they say is told, not guessed."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from autoseg.core.fingerprint import IntensityStats
from autoseg.core.geometry import Triple
from autoseg.core.plan import Configuration, TrainingSpec
from autoseg.errors import ArtifactError
from autoseg.io import artifacts
from autoseg.io.nnunet_networks import NetworkError, drops_out, read_network

logger = logging.getLogger(__name__)

SCHEMES = {
    "CTNormalization": "ct",
    "ZScoreNormalization": "zscore",
    "NoNormalization": "none",
    "RescaleTo01Normalization": "rescale_to_0_1",
    "RGBTo01Normalization": "rgb_to_0_1",
}
"""Our name of each of nnU-Net's normalizations."""
_INTENSITIES = "foreground_intensity_properties_per_channel"
_OLD_INTENSITIES = "foreground_intensity_properties_by_modality"
_RESAMPLING = "resample_data_or_seg_to_shape"
_ORDERS = {"data": 3, "seg": 1, "probabilities": 1}
_ADVICE = "name the plan or the model's plans.json of nnU-Net v2"


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerPlans:
    """What a plan of nnU-Net says.

    Attributes:
        file: where it was read from.
        name: its name, such as ``"nnUNetPlans"``.
        dataset: name of its data set, such as ``"Dataset004_Hippocampus"``.
        transpose: raw axis that becomes each planned axis.
        intensities: foreground intensities per channel.
        median_spacing: of the data, mm, in planned axes; None if it does not say.
        configurations: those that can be adopted, by name, mirrored along all axes.
        left_out: the others, by name, with the reason.
        remarks: what is not as nnU-Net would do it, in sentences.
    """

    file: Path
    name: str
    dataset: str
    transpose: tuple[int, int, int]
    intensities: tuple[IntensityStats, ...]
    median_spacing: Triple | None
    configurations: Mapping[str, Configuration]
    left_out: Mapping[str, str]
    remarks: tuple[str, ...]

    @property
    def lines(self) -> list[str]:
        """What a user should know, in lines."""
        place = artifacts.shown(self.file)
        left_out = [
            f"{place}: configurations.{name}: left out: {reason}"
            for name, reason in self.left_out.items()
        ]
        return left_out + [f"{place}: {remark}" for remark in self.remarks]


class _Stats(IntensityStats):
    model_config = ConfigDict(extra="ignore")


class _File(BaseModel):
    """The keys that count, of all configurations."""

    dataset_name: str = ""
    plans_name: str = "nnUNetPlans"
    image_reader_writer: str = ""
    label_manager: str = "LabelManager"
    transpose_forward: tuple[int, int, int] = (0, 1, 2)
    original_median_spacing_after_transp: Triple | None = None
    configurations: dict[str, dict[str, Any]]
    foreground_intensity_properties_per_channel: dict[str, _Stats]

    @model_validator(mode="after")
    def _is_consistent(self) -> _File:
        if sorted(self.transpose_forward) != [0, 1, 2]:
            raise ValueError("transpose_forward: should be a permutation of 0, 1, 2")
        channels = self.foreground_intensity_properties_per_channel
        if set(channels) != {str(number) for number in range(len(channels))}:
            raise ValueError(f"{_INTENSITIES}: should number the channels from 0")
        if self.label_manager != "LabelManager":
            raise ValueError(f"label_manager: '{self.label_manager}' is none that autoseg has")
        return self


class _Entry(BaseModel):
    """The keys that count, of one configuration; the network's are read apart."""

    preprocessor_name: str = "DefaultPreprocessor"
    spacing: tuple[float, ...]
    patch_size: tuple[int, ...]
    batch_size: int = Field(ge=1)
    batch_dice: bool
    median_image_size_in_voxels: tuple[float, ...] | None = None
    normalization_schemes: tuple[str, ...]
    use_mask_for_norm: tuple[bool, ...]
    previous_stage: str | None = None


_WITHOUT_EFFECT = {"inherits_from", "data_identifier", "next_stage", "architecture"}
_OF_NETWORK = {
    "UNet_class_name",
    "UNet_base_num_features",
    "unet_max_num_features",
    "n_conv_per_stage_encoder",
    "n_conv_per_stage_decoder",
    "pool_op_kernel_sizes",
    "conv_kernel_sizes",
    "num_pool_per_axis",
}
_OF_RESAMPLING = {
    key for kind in _ORDERS for key in (f"resampling_fn_{kind}", f"resampling_fn_{kind}_kwargs")
}
_KNOWN = {*_Entry.model_fields, *_WITHOUT_EFFECT, *_OF_NETWORK, *_OF_RESAMPLING}


def read_plans(file: Path) -> PeerPlans:
    """Read a plan of nnU-Net.

    Args:
        file: ``nnUNetPlans.json``, or the ``plans.json`` of a trained model.

    Returns:
        Everything that can be adopted of it, and why the rest cannot.

    Raises:
        WorkspaceError: if there is no such file.
        ArtifactError: if it is no such plan, or none of its configurations can be adopted.
    """
    data = artifacts.read_object(file, remedy=_ADVICE)
    if _OLD_INTENSITIES in data:
        data = {_INTENSITIES: data[_OLD_INTENSITIES], **data}
    if "configurations" not in data or _INTENSITIES not in data:
        raise ArtifactError("is no plan of nnU-Net v2", place=artifacts.shown(file), remedy=_ADVICE)
    content = artifacts.validated(file, _File, data)
    configurations: dict[str, Configuration] = {}
    left_out: dict[str, str] = {}
    remarks = list(_remarks_on_reader(content))
    for name in content.configurations:
        try:
            entry = _resolved(name, content.configurations)
            configurations[name] = _configuration(entry, content, file)
        except (NetworkError, ArtifactError) as error:
            left_out[name] = error.finding if isinstance(error, ArtifactError) else str(error)
        else:
            remarks += _remarks(name, entry)
    _without_previous(configurations, left_out)
    if not configurations:
        told = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        raise ArtifactError(
            f"none of its configurations can be adopted: {told or 'it has none'}",
            place=artifacts.shown(file),
        )
    intensities = content.foreground_intensity_properties_per_channel
    return PeerPlans(
        file=file,
        name=content.plans_name,
        dataset=content.dataset_name,
        transpose=content.transpose_forward,
        intensities=tuple(
            IntensityStats(**intensities[str(number)].model_dump())
            for number in range(len(intensities))
        ),
        median_spacing=content.original_median_spacing_after_transp,
        configurations=configurations,
        left_out=left_out,
        remarks=tuple(remarks),
    )


def _resolved(name: str, entries: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """A configuration with all that it inherits.

    Raises:
        ArtifactError: if it inherits from itself, or from one that is not there.
    """
    entry, seen = dict(entries[name]), [name]
    while "inherits_from" in entry:
        parent = str(entry.pop("inherits_from"))
        if parent in seen:
            raise ArtifactError(f"inherits_from: goes round in circles ({' > '.join(seen)})")
        if parent not in entries:
            raise ArtifactError(f"inherits_from: no configuration '{parent}'")
        seen.append(parent)
        entry = {**entries[parent], **entry}
    return entry


def _configuration(entry: Mapping[str, Any], content: _File, file: Path) -> Configuration:
    """A configuration in our words.

    Raises:
        ArtifactError: if a key is missing or wrong, or autoseg cannot do what it says.
        NetworkError: if autoseg does not have its network.
    """
    known = artifacts.validated(file, _Entry, entry)
    if known.preprocessor_name != "DefaultPreprocessor":
        raise ArtifactError(
            f"preprocessor_name: '{known.preprocessor_name}' is none that autoseg has"
        )
    unknown = [name for name in known.normalization_schemes if name not in SCHEMES]
    if unknown:
        raise ArtifactError(f"normalization_schemes: '{unknown[0]}' is none that autoseg has")
    channels = len(content.foreground_intensity_properties_per_channel)
    if len(known.normalization_schemes) != channels:
        raise ArtifactError(
            f"normalization_schemes: {len(known.normalization_schemes)} entries, where "
            f"'{_INTENSITIES}' has {channels} channels"
        )
    for kind in _ORDERS:
        _check_resampling(entry, kind)
    dimensions, median = len(known.patch_size), known.median_image_size_in_voxels
    has_median = median is not None and len(median) >= dimensions
    try:
        return Configuration(
            spacing=known.spacing,
            patch_size=known.patch_size,
            batch_size=known.batch_size,
            median_shape=median[-dimensions:] if median and has_median else known.patch_size,
            batch_dice=known.batch_dice,
            normalization=tuple(SCHEMES[name] for name in known.normalization_schemes),
            use_mask_for_norm=known.use_mask_for_norm,
            previous=known.previous_stage,
            network=read_network(entry, dimensions),
            training=TrainingSpec(mirror_axes=tuple(range(dimensions))),
        )
    except ValidationError as error:
        raise ArtifactError(str(error.errors()[0]["msg"]).removeprefix("Value error, ")) from None


def _check_resampling(entry: Mapping[str, Any], kind: str) -> None:
    """See that resampling is what autoseg does.

    Raises:
        ArtifactError: if it is not.
    """
    key = f"resampling_fn_{kind}"
    function, arguments = entry.get(key, _RESAMPLING), entry.get(f"{key}_kwargs") or {}
    if function != _RESAMPLING:
        raise ArtifactError(f"{key}: '{function}' is none that autoseg has ({_RESAMPLING})")
    usual = {"is_seg": kind == "seg", "order": _ORDERS[kind], "order_z": 0}
    usual["force_separate_z"] = None
    for name, value in arguments.items():
        if name not in usual or value != usual[name]:
            raise ArtifactError(
                f"{key}_kwargs.{name}: autoseg has no {value!r}, only {usual.get(name)!r}"
            )


def _without_previous(configurations: dict[str, Configuration], left_out: dict[str, str]) -> None:
    """Leave out cascades whose previous stage is."""
    while True:
        lost = {
            name: planned.previous
            for name, planned in configurations.items()
            if planned.previous is not None and planned.previous not in configurations
        }
        if not lost:
            return
        for name, previous in lost.items():
            del configurations[name]
            left_out[name] = f"previous_stage: '{previous}' is left out, or not there"


def _remarks_on_reader(content: _File) -> Sequence[str]:
    reader = content.image_reader_writer
    if "Reorient" not in reader:
        return ()
    remark = f"image_reader_writer: {reader} turns images to RAS first, which autoseg does not: "
    return (remark + "turn those that are stored otherwise yourself",)


def _remarks(name: str, entry: Mapping[str, Any]) -> list[str]:
    """What of a configuration does not count."""
    remarks = [
        f"configurations.{name}.{key}: autoseg does not know this key; it does not count"
        for key in entry
        if key not in _KNOWN
    ]
    if drops_out(entry):
        remarks.append(
            f"configurations.{name}.architecture.arch_kwargs.dropout_op: autoseg trains without "
            "dropout; predictions are the same"
        )
    return remarks
