"""What ``plan`` is asked for, and what it prints: decisions, and two plans side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from autoseg.cli.options import find_place
from autoseg.core.words import counted
from autoseg.errors import AutosegError

if TYPE_CHECKING:
    from autoseg.core.dataset import Splits
    from autoseg.core.plan import Decision, Plan
    from autoseg.pipeline.data import PlannedTask
    from autoseg.plan.comparison import Section
    from autoseg.plan.planner import PlanRequest
    from autoseg.plan.without_images import PlannedMeasurements

_WITH_DIFF = ("diff", "task_name", "workspace", "verbose", "quiet")
"""Parameters of ``plan`` that go with ``--diff``."""


def check_wish(context: typer.Context) -> None:
    """See that ``plan`` is asked for one thing: a task, a fingerprint or a comparison.

    Args:
        context: of the command, with what the user wrote.

    Raises:
        AutosegError: if it is asked for none or several, or a flag means nothing there.
    """
    given = _given(context)
    wishes = [given[name] for name in ("task", "fingerprint", "diff") if name in given]
    if not wishes:
        raise AutosegError(
            "nothing to plan", remedy="name a TASK, or give --fingerprint FILE or --diff A B"
        )
    if len(wishes) > 1:
        raise AutosegError(f"{' and '.join(wishes)} exclude each other", remedy="give one of them")
    if "diff" in given:
        useless = [flag for name, flag in given.items() if name not in _WITH_DIFF]
    else:
        useless = [given[name] for name in ("task_name",) if name in given]
    if useless:
        raise AutosegError(
            f"{useless[0]} means nothing with {wishes[0]}", remedy=f"leave out {useless[0]}"
        )


def _given(context: typer.Context) -> dict[str, str]:
    """What the user wrote, as messages name it: flags by their long form."""
    return {
        str(parameter.name): "TASK" if parameter.name == "task" else parameter.opts[-1]
        for parameter in context.command.params
        if _is_written(context, str(parameter.name))
    }


def _is_written(context: typer.Context, parameter: str) -> bool:
    source = context.get_parameter_source(parameter)
    return source is not None and source.name == "COMMANDLINE"


def print_planned_task(planned: PlannedTask, copy: Path | None) -> None:
    """Print what a data set holds and every decision with its reason.

    Args:
        planned: the task and its plan.
        copy: where the plan was written as well.
    """
    dataset, plan = planned.dataset, planned.plan
    kind = f"{counted(len(dataset.cases), 'case')} ({dataset.layout} layout)"
    _print_data_set(dataset.name, kind, dataset.channels, dataset.labels.names)
    _print_decisions(plan, _folds(planned.splits))
    typer.echo(f"plan: {planned.task.plan_file(plan.name)}")
    if copy is not None:
        typer.echo(f"copy: {copy}")
    typer.echo("next: autoseg preprocess")


def print_next_with_model(request: PlanRequest, named: str | None, quiet: bool) -> None:
    """Print how to begin with the weights of the model whose plan was kept.

    Args:
        request: what was planned.
        named: what the user calls the model; None if no plan was kept.
        quiet: print nothing.
    """
    if request.source is None or quiet:
        return
    plan = "" if request.name == "default" else f" --plan {request.name}"
    name = request.source.members[0].configuration
    typer.echo(f"then: autoseg train {name} fold0{plan} --init-from {named}")


def print_planned_measurements(planned: PlannedMeasurements, output: Path | None) -> None:
    """Print what was planned from a fingerprint alone.

    Args:
        planned: the plan and what it follows from.
        output: where the plan was written.
    """
    known = planned.measurements
    kind = f"{counted(len(known.fingerprint.cases), 'case')} (by {known.file.name})"
    _print_data_set(known.name, kind, known.channels, known.labels.names)
    _print_decisions(planned.plan)
    kept = "not kept (--output FILE would)" if output is None else str(output)
    typer.echo(f"plan: {kept}")


def compare(first: str, second: str, workspace: Path | None, task: str | None, quiet: bool) -> None:
    """Print where two plans differ.

    Args:
        first: name of a plan of the task, or a file.
        second: the other one.
        workspace: what ``--workspace`` said.
        task: what ``--task`` said.
        quiet: print nothing.

    Raises:
        AutosegError: if there is no such plan.
    """
    from autoseg.plan.comparison import compare_plans

    plans = [_load(text, workspace, task) for text in (first, second)]
    sections = compare_plans(*plans)
    if not quiet:
        _print_comparison(sections, first, second)


def _load(text: str, workspace: Path | None, task: str | None) -> Plan:
    """A plan by its name or its file; a file is what ends as one or has a folder."""
    from autoseg.core.plan import Plan
    from autoseg.io import artifacts
    from autoseg.io.task import load_plan

    file = Path(text).expanduser()
    if file.suffix == ".json" or len(file.parts) > 1:
        return artifacts.load(file, Plan, remedy="name a plan of the task, or the file of one")
    return load_plan(find_place(workspace, task).task, text)


def _print_comparison(sections: Sequence[Section], first: str, second: str) -> None:
    if not sections:
        typer.echo("the plans are equal")
        return
    rows = [row for section in sections for row in section.rows]
    width = max((len(row.what) for row in rows), default=0)
    column = max(len(first), *(len(row.first) for row in rows)) if rows else len(first)
    if rows:
        typer.echo(f"  {'':{width}}  {first:{column}}  {second}\n")
    for section in sections:
        typer.echo(section.configuration or "all configurations")
        for row in section.rows:
            typer.echo(f"  {row.what:{width}}  {row.first:{column}}  {row.second}".rstrip())
        if section.only_in is not None:
            typer.echo(f"  only in {first if section.only_in == 'first' else second}")
        typer.echo("")


def _print_data_set(
    name: str, kind: str, channels: Sequence[str], structures: Sequence[str]
) -> None:
    typer.echo(
        f"{name}: {kind}, channels {', '.join(channels)}, structures {', '.join(structures)}\n"
    )


def _print_decisions(plan: Plan, *further: Decision) -> None:
    """Print each decision with its reason: first those that hold for all configurations."""
    general = [decision for decision in plan.decisions if decision.configuration is None]
    _print_block("all configurations", [*general, *further])
    for name in plan.configurations:
        own = [decision for decision in plan.decisions if decision.configuration == name]
        _print_block(name, own)


def _print_block(title: str, decisions: list[Decision]) -> None:
    if not decisions:
        return
    typer.echo(title)
    width = max(len(decision.what) for decision in decisions)
    for decision in decisions:
        typer.echo(f"  {decision.what.ljust(width)}  {decision.value}")
        typer.echo(f"  {' ' * width}    {decision.reason}")
    typer.echo("")


def _folds(splits: Splits) -> Decision:
    """How the cases were divided, told as a decision."""
    from autoseg.core.plan import Decision

    reason = f"edited by hand; before: {splits.reason}" if splits.is_edited else splits.reason
    return Decision(what="folds", value=str(len(splits.folds) or "none"), reason=reason)
