"""The whole path on a generated data set."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from autoseg.core.labels import LabelSpace
from autoseg.core.metrics import Report
from autoseg.core.progress import Progress, silent
from autoseg.errors import InterruptedRunError
from autoseg.io.workspace import WORKSPACE_NAME, Workspace
from autoseg.pipeline.data import plan_folder

logger = logging.getLogger(__name__)

DEMO_FEATURES = 8
DEMO_TRAINING = {
    "epochs": 10,
    "steps_per_epoch": 40,
    "validation_steps": 5,
    "max_time_s": 180.0,
    "optimizer": "adamw",
    "learning_rate": 2e-3,
}
"""What makes the demonstration short: fields of ``TrainingChanges``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoResult:
    """What the demonstration ends with.

    Attributes:
        report: scores of the cases that were not trained on.
        picture: the best and the worst of them.
    """

    report: Report
    picture: Path


def run_demo(
    keep: Path | None = None, workers: int | None = None, progress: Progress = silent
) -> DemoResult:
    """The whole path on a generated data set: plan, preprocess, train, predict, evaluate.

    Args:
        keep: folder for data and workspace; None for a temporary one. The picture stays in
            either case.
        workers: processes; None for as many as fit.
        progress: called by every stage.

    Returns:
        Scores of cases that were not trained on, and a picture of the best and the worst.
    """
    from tempfile import TemporaryDirectory

    if keep is not None:
        return _demo_in(keep.resolve(), keep.resolve() / "demo.png", workers, progress)
    with TemporaryDirectory(prefix="autoseg_demo_") as folder:
        return _demo_in(Path(folder), Path.cwd() / "autoseg_demo.png", workers, progress)


def _demo_in(folder: Path, picture: Path, workers: int | None, progress: Progress) -> DemoResult:
    from autoseg.demo.stage import write_dataset
    from autoseg.evaluate.stage import evaluate_folders
    from autoseg.plan.planner import PlanRequest
    from autoseg.predict.loading import PredictOptions
    from autoseg.predict.stage import ModelChoice, predict_folder
    from autoseg.preprocess.stage import preprocess_task
    from autoseg.train.inputs import TrainingChanges, TrainRequest
    from autoseg.train.stage import train_fold

    logger.info("demo: generating a data set in %s", folder)
    data = write_dataset(folder, progress)
    workspace = Workspace(folder / WORKSPACE_NAME)
    logger.info("demo: plan, preprocess")
    plan_request = PlanRequest(base_features=DEMO_FEATURES)
    planned = plan_folder(workspace, data.root, plan_request, workers, progress)
    preprocess_task(planned.task, ["3d_fullres"], workers=workers, progress=progress)
    logger.info("demo: train 3d_fullres, at most %.0f s", DEMO_TRAINING["max_time_s"])
    changes = TrainingChanges(**DEMO_TRAINING)  # type: ignore[arg-type]
    request = TrainRequest(
        configuration="3d_fullres", fold="fold0", changes=changes, workers=workers
    )
    if not train_fold(planned.task, request, progress):
        raise InterruptedRunError(
            "stopped", remedy="repeat the command with the same --keep to go on"
        )
    logger.info("demo: predict images that were not trained on")
    output = folder / "predictions"
    predict_folder(
        planned.task, data.test_images, output, ModelChoice(), PredictOptions(), progress
    )
    labels = planned.dataset.labels
    report = evaluate_folders(output, data.test_labels, labels, workers).report
    _draw_best_and_worst(report, data.test_images, labels, picture)
    return DemoResult(report=report, picture=picture)


def _draw_best_and_worst(report: Report, images: Path, labels: LabelSpace, path: Path) -> None:
    from autoseg.figures.cases import CasePicture, draw_cases

    ranked = sorted(report.cases, key=lambda case: case.mean_dice or 0.0)
    rows = [("best", ranked[-1]), ("worst", ranked[0])]
    draw_cases(
        path,
        [
            CasePicture(
                title=f"{rank} case, {case.name}: Dice {case.mean_dice or 0.0:.2f}",
                images=(images / f"{case.name}.nii.gz",),
                maps=(
                    ("reference", Path(report.references) / f"{case.name}.nii.gz"),
                    ("prediction", Path(report.predictions) / f"{case.name}.nii.gz"),
                ),
            )
            for rank, case in rows
        ],
        labels,
    )
