"""What held-out cases tell of the Dice of cases to come: learned, checked, kept in the model."""

from __future__ import annotations

import logging
from pathlib import Path

from autoseg.core.metrics import Report
from autoseg.io import bundle
from autoseg.io.fold_folder import FoldFolder
from autoseg.predict.quality import ScoredCase, calibrate, described
from autoseg.predict.record import PredictionRecord, change_record, load_record
from autoseg.predict.watching import judged_anew

logger = logging.getLogger(__name__)


def learn_quality(folder: FoldFolder, report: Report, predictions: Path) -> None:
    """Calibrate how a fold predicts Dice, and note it in its model file and predictions.

    Args:
        folder: the fold's.
        report: scores of the cases it held out.
        predictions: folder of their label maps.

    Raises:
        AutosegError: if a file is broken or cannot be written.
    """
    record = load_record(predictions)
    cases = scored_cases(report, record)
    model = bundle.load_model(folder.bundle)
    quality = calibrate(cases, model.labels.names)
    for line in described(quality, model.labels.names, len(cases)):
        logger.info("%s", line)
    if quality == model.quality:
        return
    bundle.save_model(folder.bundle, model.model_copy(update={"quality": quality}))
    qualities = [() if quality is None else (quality,)]
    change_record(
        predictions,
        lambda known: {name: judged_anew(one, qualities) for name, one in known.items()},
    )


def scored_cases(report: Report, record: PredictionRecord) -> list[ScoredCase]:
    """Cases of which both the true Dice and the signals are known.

    Args:
        report: true Dice.
        record: signals of a single model.
    """
    found: list[ScoredCase] = []
    for case in report.cases:
        noted = record.cases.get(case.name)
        if noted is None or noted.hints is None:
            continue
        structures = noted.hints.structures.items()
        found.append(
            ScoredCase(
                group=case.group or case.name,
                signals={name: one.signals[0] for name, one in structures if one.signals},
                dice={
                    name: scores.dice
                    for name, scores in case.structures.items()
                    if scores.dice is not None
                },
            )
        )
    return found
