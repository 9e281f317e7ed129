"""Material for pages, made up without a file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from autoseg.core.dataset import Case, Dataset, Split, Splits
from autoseg.core.fingerprint import (
    CaseFingerprint,
    ChannelRange,
    FileStamp,
    Fingerprint,
    IntensityStats,
    StructureMeasure,
)
from autoseg.core.labels import LabelSpace, Structure
from autoseg.core.metrics import CaseScores, Report, Scores
from autoseg.core.plan import Configuration, Decision, NetworkSpec, Plan, TrainingSpec
from autoseg.evaluate.statistics import (
    foreground_interval,
    summarise_structures,
    summarise_whole,
)
from autoseg.figures.layers import Outline, SliceLayers
from autoseg.report.material import Material, ShownCase, Trained, TrainedFold

STATS = IntensityStats(
    mean=50.0, median=45.0, std=12.5, min=-20.0, max=300.0,
    percentile_00_5=3.0, percentile_99_5=240.0,
)  # fmt: skip
MEASURED = ("dice", "iou", "precision", "recall", "volume_error_ml", "nsd", "hd95", "assd")


def made_up(
    num_cases: int = 6, structures: tuple[str, ...] = ("kidney", "tumour"), prefix: str = "case_"
) -> Material:
    """A planned task without a model."""
    names = [f"{prefix}{number:04d}" for number in range(num_cases)]
    labels = LabelSpace(
        structures=tuple(
            Structure(name=name, values=(value,)) for value, name in enumerate(structures, start=1)
        )
    )
    cases = tuple(
        Case(name=name, images=(Path(f"{name}.nii.gz"),), label=Path(f"l_{name}.nii.gz"))
        for name in names
    )
    dataset = Dataset(
        name="Task_Made_Up",
        root=Path("/secret/place/of/the/data"),
        layout="decathlon",
        channels=("CT",),
        labels=labels,
        cases=cases,
    )
    half = num_cases // 2
    folds = (
        Split(train=tuple(names[half:]), validation=tuple(names[:half])),
        Split(train=tuple(names[:half]), validation=tuple(names[half:])),
    )
    return Material(
        dataset=dataset,
        fingerprint=_fingerprint(names, labels),
        splits=Splits(folds=folds, reason="dealt by hand"),
        plan=_plan(labels),
        plan_name="default",
        problems=(),
        trained=(),
        chosen=None,
        why="",
        selection=None,
        outdated=None,
        shown=(),
        version="0",
        made_on="2024-05-06",
    )


def with_scores(material: Material, metrics: tuple[str, ...] = MEASURED) -> Material:
    """The task with two trained and scored folds."""
    splits = material.splits
    assert splits is not None
    structures = material.dataset.labels.names
    rng = np.random.default_rng(0)
    scores = {
        fold: report_of([_scores(n, structures, rng) for n in split.validation], metrics)
        for fold, split in zip(splits.names, splits.folds, strict=True)
    }
    folds = tuple(
        TrainedFold(fold=fold, history=history(30), is_finished=True) for fold in splits.names
    )
    cases = [case for report in scores.values() for case in report.cases]
    trained = Trained(
        configuration="3d_fullres",
        run="default",
        folds=folds,
        scores=scores,
        pooled=report_of(cases, metrics),
    )
    return replace(material, trained=(trained,), chosen=trained, why="the only one with scores")


def with_pictures(material: Material, png: bytes = b"\x89PNG") -> Material:
    """The task with a picture of three cases, whatever they show."""
    assert material.chosen is not None
    cases = material.chosen.scores["fold0"].cases
    shown = [
        ShownCase(
            name=case.name,
            fold="fold0",
            roles=(role,),
            mean_dice=case.mean_dice or 0.0,
            dice={name: s.dice for name, s in case.structures.items()},
            slices=tuple(_layers(png) for _ in range(3)),
        )
        for role, case in zip(("best", "median", "worst"), cases, strict=False)
    ]
    return replace(material, shown=tuple(shown))


def report_of(cases: list[CaseScores], metrics: tuple[str, ...] = MEASURED) -> Report:
    """The cases in a report; statistics are of the first of them, which is quick."""
    structures = tuple(cases[0].structures)
    some = cases[:40]
    return Report(
        predictions="/secret/place/predictions",
        references="/secret/place/references",
        structures=structures,
        cases=tuple(cases),
        metrics=metrics,
        tolerance=1.5,
        summary=summarise_structures(some, structures, metrics),
        whole_cases=summarise_whole(some, metrics),
        interval=foreground_interval(some, structures),
    )


def case_scores(name: str, **dice: float | None) -> CaseScores:
    """A case with a Dice for each structure."""
    scores = {
        structure: Scores(
            true_positives=10, false_positives=1, false_negatives=1, dice=value, iou=value
        )
        for structure, value in dice.items()
    }
    return CaseScores(name=name, structures=scores)


def history(epochs: int) -> list[dict]:
    """Lines of ``history.jsonl``."""
    return [
        {
            "epoch": epoch,
            "train_loss": -epoch / epochs,
            "validation_loss": -0.9 * epoch / epochs,
            "dice": {"kidney": epoch / epochs, "tumour": None},
            "mean_dice": epoch / epochs,
            "ema_dice": epoch / epochs,
            "learning_rate": 0.01,
            "epoch_s": 12.0,
            "elapsed_s": 12.0 * (epoch + 1),
        }
        for epoch in range(epochs)
    ]


def _scores(name: str, structures: tuple[str, ...], rng: np.random.Generator) -> CaseScores:
    found = {}
    for structure in structures:
        dice, nsd, hd95, error = (float(value) for value in rng.uniform(0.3, 0.999, 4))
        found[structure] = Scores(
            true_positives=100, false_positives=10, false_negatives=10, dice=dice,
            iou=dice / (2 - dice), precision=dice, recall=nsd, volume_ml=12.0,
            reference_volume_ml=12.0 - error, volume_error_ml=error - 0.5, nsd=nsd,
            hd95=20 * hd95, assd=3 * hd95,
        )  # fmt: skip
    return CaseScores(name=name, structures=found)


def _layers(png: bytes) -> SliceLayers:
    return SliceLayers(
        caption="axial slice 3 of 9",
        reasons=("most errors",),
        shape=(20, 30),
        spacing=(2.0, 1.0),
        image=png,
        errors=png,
        outlines=(Outline(index=1, reference="M2 2l4 0 0 4z", prediction="M2 2l6 0 0 4z"),),
        sides=("A", "L", "P", "R"),
        num_errors=(3, 2, 0),
    )


def _fingerprint(names: list[str], labels: LabelSpace) -> Fingerprint:
    count = labels.num_classes - 1
    cases = tuple(
        CaseFingerprint(
            name=name,
            shape=(40, 50, 60),
            spacing=(3.0 + number % 3, 0.75, 0.75),
            relative_size=1.0,
            label_voxels=(1000 + number,) * count,
            original_shape=(40, 52, 64),
            orientation="SPL",
            channels=(ChannelRange(min=-100.0, max=300.0, is_whole=True),),
            structures=(StructureMeasure(centroid=(0.0, 0.0, 0.0), means=(40.0,), stds=(3.0,)),)
            * count,
            files=(FileStamp(size_bytes=1, mtime_ns=1, digest="0"),) * 2,
            num_components=(1,) * count,
        )
        for number, name in enumerate(names)
    )
    return Fingerprint(label_values=labels.values, cases=cases, intensities=(STATS,))


def _plan(labels: LabelSpace) -> Plan:
    network = NetworkSpec(
        architecture="unet",
        features_per_stage=(32, 64),
        strides=((1, 1, 1), (1, 2, 2)),
        kernel_sizes=((1, 3, 3), (3, 3, 3)),
        blocks_per_stage=(2, 2),
        decoder_blocks_per_stage=(2,),
    )
    planned = Configuration(
        spacing=(4.0, 0.75, 0.75),
        patch_size=(32, 48, 64),
        batch_size=2,
        median_shape=(40.0, 52.0, 64.0),
        batch_dice=False,
        normalization=("ct",),
        use_mask_for_norm=(False,),
        network=network,
        training=TrainingSpec(),
    )
    decisions = (
        Decision(what="target spacing", value="4 x 0.75 x 0.75 mm", reason="median of the cases"),
        Decision(what="batch size", value="2", reason="all that fits", configuration="3d_fullres"),
    )
    return Plan(
        name="default",
        preset="default",
        transpose=(0, 1, 2),
        budget_bytes=8 * 10**9,
        channels=("CT",),
        label_values=labels.values,
        intensities=(STATS,),
        configurations={"3d_fullres": planned},
        decisions=decisions,
    )
