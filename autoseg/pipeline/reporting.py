"""What a report needs of two stages: what check finds, and scores of all folds together."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

from autoseg.core.metrics import Report
from autoseg.core.problem import Problem
from autoseg.core.progress import Progress, silent
from autoseg.errors import AutosegError
from autoseg.io import bundle
from autoseg.io.fold_folder import FoldFolder
from autoseg.io.selected import finished_folds
from autoseg.io.task import load_dataset, load_fingerprint, load_plan
from autoseg.io.workspace import TaskFolder

logger = logging.getLogger(__name__)


def report_task(
    task: TaskFolder, plan_name: str, output: Path | None = None, progress: Progress = silent
) -> Path:
    """Write what there is about a task and a plan as one page.

    Args:
        task: the task's folder.
        plan_name: name of the plan.
        output: the file; None for one among the task's reports.
        progress: called after each case that is drawn.

    Returns:
        The file.

    Raises:
        AutosegError: if the task is not planned, or the file cannot be written.
    """
    from autoseg.report.stage import load_trained, write_report

    load_plan(task, plan_name)
    _tell_unscorable(task, plan_name)
    trained = [
        replace(model, pooled=pooled(list(model.scores.values())) if model.scores else None)
        for model in load_trained(task, plan_name)
    ]
    file = task.reports / f"{plan_name}.html" if output is None else output
    return write_report(task, plan_name, file, problems_of(task), trained, progress)


def _tell_unscorable(task: TaskFolder, plan_name: str) -> None:
    """Say which folds have no scores because nobody knows which cases they held out."""
    unknown = [
        f"{one.configuration} {one.fold}"
        for one in finished_folds(task, plan_name).values()
        if not task.report_file(one.plan, one.configuration, one.run, one.fold).is_file()
        and not _tells_held_out(one)
    ]
    if unknown:
        logger.warning(
            "left out of the scores: %s: it is not known which cases were held out",
            ", ".join(unknown),
        )


def _tells_held_out(folder: FoldFolder) -> bool:
    try:
        return bool(bundle.load_model(folder.bundle).held_out)
    except AutosegError:
        # The page does without the model.
        return True


def problems_of(task: TaskFolder) -> tuple[Problem, ...]:
    """What is known to be wrong with the data of a task, without reading an image."""
    from autoseg.check.findings import judge

    dataset, fingerprint = load_dataset(task), load_fingerprint(task)
    known = {case.name for case in dataset.cases}
    remarks = tuple(
        Problem(kind=remark.kind, finding=remark.finding, case=case.name)
        for case in fingerprint.cases
        for remark in case.remarks
    )
    if not all(case.name in known for case in fingerprint.cases):
        logger.info("the fingerprint is of other cases: findings about the whole are left out")
        return remarks
    return (*remarks, *judge(dataset, fingerprint))


def pooled(reports: list[Report]) -> Report:
    """The scores of several folds as those of one set of cases.

    Args:
        reports: at least one; of the same structures.

    Returns:
        All cases with statistics over all of them. Without a tolerance if the folds were
        measured with different ones.
    """
    from autoseg.evaluate.statistics import (
        foreground_interval,
        summarise_structures,
        summarise_whole,
    )

    first = reports[0]
    cases = tuple(case for report in reports for case in report.cases)
    metrics = tuple(m for m in first.metrics if all(m in report.metrics for report in reports))
    same = all(report.tolerance == first.tolerance for report in reports)
    return first.model_copy(
        update={
            "cases": cases,
            "metrics": metrics,
            "tolerance": first.tolerance if same else None,
            "summary": summarise_structures(cases, first.structures, metrics),
            "whole_cases": summarise_whole(cases, metrics),
            "interval": foreground_interval(cases, first.structures),
        }
    )
