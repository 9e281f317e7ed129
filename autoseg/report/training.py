"""The part about training: curves, and how far every fold has come."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autoseg.core.words import duration, flags
from autoseg.report.charts import Curve, curves, thinned
from autoseg.report.elements import Content, Element, element
from autoseg.report.material import Material, Trained, TrainedFold
from autoseg.report.quantities import NOTHING, plain
from autoseg.report.section import command, paragraph, section, side_by_side
from autoseg.report.tables import Cell, Column, Entry, table

MOST_STRUCTURES = 8
MOST_EPOCHS = 240


def training_section(material: Material) -> Element:
    """Loss and Dice over the epochs of every configuration and run."""
    if not material.trained:
        usual = "3d_fullres" if "3d_fullres" in material.plan.configurations else "2d"
        return section(
            "training",
            "Training",
            paragraph(
                "Nothing is trained yet. ",
                command(f"autoseg train {usual} fold0{flags(plan=material.plan_name)}"),
                " trains one fold; curves and scores are then part of this report.",
            ),
        )
    parts: list[Content] = []
    for trained in material.trained:
        parts += [element("h3", trained.label), _charts(trained), _folds(trained)]
    note = paragraph(
        "The Dice in the curves is that of random patches of held-out cases, seen while training; "
        "the scores above are of whole cases.",
        kind="note",
    )
    return section("training", "Training", parts, note)


def _charts(trained: Trained) -> Element | None:
    folds = [fold for fold in trained.folds if fold.history]
    if not folds:
        return paragraph("No epoch is finished yet.")
    loss: list[Curve] = []
    dice: list[Curve] = []
    for number, fold in enumerate(folds):
        for name, key, dashed in (
            ("train", "train_loss", True),
            ("held out", "validation_loss", False),
        ):
            of_fold = f"{fold.fold}, {name}" if len(folds) > 1 else name
            loss.append(_curve(of_fold, fold, key, number, dashed=dashed))
        dice.append(_curve(fold.fold if len(folds) > 1 else "mean", fold, "mean_dice", number))
    if len(folds) == 1:
        dice += _of_structures(folds[0])
    seen = [value for curve in dice for value in curve.y if value is not None]
    lowest = 0.5 if min(seen, default=0.0) >= 0.5 else 0.0
    return side_by_side(
        curves(loss, title="Loss", x_title="epoch"),
        curves(dice, title="Dice of patches", x_title="epoch", range_=(lowest, 1.0)),
    )


def _of_structures(fold: TrainedFold) -> list[Curve]:
    names = list(dict.fromkeys(name for row in fold.history for name in row.get("dice", {})))
    if not 1 < len(names) <= MOST_STRUCTURES:
        return []
    rows = _thinned(fold)
    return [
        Curve(
            name=name,
            x=[row["epoch"] + 1 for row in rows],
            y=[row["dice"].get(name) for row in rows],
            colour=number + 1,
            dashed=True,
        )
        for number, name in enumerate(names)
    ]


def _curve(name: str, fold: TrainedFold, key: str, colour: int, *, dashed: bool = False) -> Curve:
    rows = _thinned(fold)
    x = [row["epoch"] + 1 for row in rows]
    return Curve(name=name, x=x, y=[row.get(key) for row in rows], colour=colour, dashed=dashed)


def _thinned(fold: TrainedFold) -> list[Mapping[str, Any]]:
    return [fold.history[i] for i in thinned(len(fold.history), MOST_EPOCHS)]


def _folds(trained: Trained) -> Element:
    columns = [
        Column(title="fold", kind="text"),
        Column(title="state", kind="text"),
        Column(title="epochs"),
        Column(title="time", kind="text"),
        Column(title="seconds per epoch"),
        Column(title="best Dice of patches, smoothed"),
        Column(title="last learning rate"),
    ]
    rows = [_fold(fold) for fold in trained.folds]
    return table(columns, rows, caption=f"Folds of {trained.label}")


def _fold(fold: TrainedFold) -> list[Entry]:
    state = "finished" if fold.is_finished else "not finished"
    if not fold.history:
        return [fold.fold, state, "0", *[NOTHING] * 4]
    last = fold.history[-1]
    smoothed = [row["ema_dice"] for row in fold.history if row.get("ema_dice") is not None]
    seconds = [row["epoch_s"] for row in fold.history]
    return [
        fold.fold,
        Cell(content=state, mark=None if fold.is_finished else "less"),
        str(len(fold.history)),
        duration(last["elapsed_s"]),
        plain(sum(seconds) / len(seconds)),
        f"{max(smoothed):.3f}" if smoothed else NOTHING,
        plain(last["learning_rate"], 2),
    ]
