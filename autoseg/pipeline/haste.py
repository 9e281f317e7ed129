"""What ``predict --fast`` costs, measured on held-out cases."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from autoseg.core.metrics import Report
from autoseg.core.progress import Progress, silent
from autoseg.io.task import load_dataset
from autoseg.io.workspace import TaskFolder
from autoseg.pipeline.training import check_trained, predict_held_out

if TYPE_CHECKING:
    from autoseg.train.inputs import TrainRequest

logger = logging.getLogger(__name__)


def validate_in_haste(
    task: TaskFolder, request: TrainRequest, progress: Progress = silent
) -> Report:
    """Predict the held-out cases of a fold as ``predict --fast`` would, and score them.

    The fold's own report stays as it is; the log says what both come to.

    Args:
        task: the task's folder.
        request: names plan, configuration, run and fold, device and precision.
        progress: called after every case.

    Returns:
        Scores of the held-out cases.

    Raises:
        WorkspaceError: if the fold is not trained.
        AutosegError: if a case cannot be predicted.
    """
    from autoseg.evaluate.stage import evaluate_pairs
    from autoseg.predict.choice import Candidate
    from autoseg.predict.choosing import fast_cost

    where = (request.plan, request.configuration, request.run, request.fold)
    check_trained(task.fold_folder(*where))
    pairs = predict_held_out(task, request, progress, fast=True)
    report_file = task.fast_report_file(*where)
    report = evaluate_pairs(pairs, load_dataset(task).labels, report_file, request.workers)
    plan, configuration, run, fold = where
    one = Candidate(plan=plan, configuration=configuration, run=run, folds=(fold,), dice=())
    logger.info("--fast: %s", fast_cost(task, one))
    return report
