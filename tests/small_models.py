"""Trained folds on disk that nobody trained: networks of a few hundred weights."""

from __future__ import annotations

from pathlib import Path

import torch

from autoseg.core.fingerprint import IntensityStats
from autoseg.core.labels import LabelSpace, Structure
from autoseg.core.model import Member, Model
from autoseg.core.plan import Configuration, NetworkSpec, Plan, TrainingSpec
from autoseg.io import bundle
from autoseg.io.model_file import OpenedModel, PackedGroup, write_model_file
from autoseg.networks.build import build_network

LABELS = LabelSpace(
    structures=(Structure(name="rim", values=(3,)), Structure(name="core", values=(1,)))
)
REGIONS = LabelSpace(
    structures=(Structure(name="whole", values=(1, 2)), Structure(name="core", values=(2,))),
    output_values=(1, 2),
)
STATS = IntensityStats(
    mean=40.0, median=38, std=20, min=-10, max=120, percentile_00_5=-5, percentile_99_5=110
)


def small_plan(
    channels: tuple[str, ...] = ("CT", "MR"),
    labels: LabelSpace = LABELS,
    architecture: str = "unet",
) -> Plan:
    """2d, 3d_lowres and the cascade on it, with a transposed and anisotropic grid."""

    def planned(spacing: tuple[float, ...], patch: tuple[int, ...], previous: str | None = None):
        axes = len(patch)
        network = NetworkSpec(
            architecture=architecture,
            features_per_stage=(4, 6),
            strides=((1,) * axes, (1, 2, 2)[-axes:]),
            kernel_sizes=((1, 3, 3)[-axes:], (3,) * axes),
            blocks_per_stage=(2, 1),
            decoder_blocks_per_stage=(1,),
        )
        return Configuration(
            spacing=spacing,
            patch_size=patch,
            batch_size=2,
            median_shape=tuple(map(float, patch)),
            batch_dice=True,
            normalization=("ct", "zscore")[: len(channels)],
            use_mask_for_norm=(False, True)[: len(channels)],
            previous=previous,
            network=network,
            training=TrainingSpec(epochs=5, mirror_axes=tuple(range(axes))[1:]),
        )

    return Plan(
        name="default",
        preset="default",
        transpose=(1, 0, 2),
        budget_bytes=1,
        channels=channels,
        label_values=labels.values,
        intensities=(STATS,) * len(channels),
        configurations={
            "2d": planned((1.0, 1.25), (12, 16)),
            "3d_lowres": planned((3.0, 2.0, 2.5), (4, 8, 10)),
            "3d_cascade_fullres": planned((2.0, 1.0, 1.25), (6, 12, 8), "3d_lowres"),
        },
        decisions=(),
    )


def write_fold(
    folder: Path,
    configuration: str = "2d",
    fold: str = "fold0",
    *,
    plan: Plan | None = None,
    labels: LabelSpace = LABELS,
    previous: tuple[str, ...] = (),
    seed: int = 0,
) -> Path:
    """Leave a fold as training would; returns its ``bundle.json``."""
    plan = plan or small_plan(labels=labels)
    planned = plan.configurations[configuration]
    model = Model(
        task="Task_Small",
        run="default",
        channels=plan.channels,
        labels=labels,
        plan=plan,
        training=planned.training,
        held_out=("Mrs_Miller_1947",),
        members=(Member(configuration=configuration, fold=fold, weights="weights.safetensors"),),
        previous=previous,
        min_spacing=(1.0, 1.0, 1.0),
        max_spacing=(3.0, 2.0, 2.0),
        versions={"autoseg": "0.1.0"},
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        inputs = planned.num_inputs(plan.channels, labels)
        network = build_network(planned.network, inputs, labels.num_outputs, deep_supervision=False)
        for parameter in network.parameters():
            parameter.data += 0.1 * torch.randn(parameter.shape)
    bundle.save_weights(folder / "weights.safetensors", network.state_dict())
    bundle.save_model(folder / "bundle.json", model)
    return folder / "bundle.json"


def write_cascade(folder: Path, fold: str = "fold0", labels: LabelSpace = LABELS) -> Path:
    """A cascade's fold that brings two folds of the previous stage, the same for every fold."""
    for number in (0, 1):
        name = f"fold{number}"
        place = folder / "previous" / name
        write_fold(place, "3d_lowres", name, labels=labels, seed=10 + number)
    names = tuple(f"previous/fold{number}/bundle.json" for number in (0, 1))
    seed = int(fold[-1])
    return write_fold(
        folder, "3d_cascade_fullres", fold, labels=labels, previous=names, seed=20 + seed
    )


def pack(path: Path, *groups: tuple[Path, ...], **others: object) -> OpenedModel:
    """Write a model file of some folds."""
    packed = [PackedGroup(bundles=bundles) for bundles in groups]
    return write_model_file(path, packed, versions={"autoseg": "0.1.0"}, **others)
