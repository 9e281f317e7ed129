"""What ``autoseg check`` prints."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from autoseg.check.stage import CheckResult
    from autoseg.core.problem import Problem

MOST_FILES = 10


def print_findings(result: CheckResult, typed: str, verbose: bool, quiet: bool) -> None:
    """Print all problems by kind, errors first, each kind with what mends it.

    Args:
        result: what was found.
        typed: what the user called the data set.
        verbose: list every file instead of the first few of a kind.
        quiet: print nothing where nothing is wrong.
    """
    from autoseg.core.problem import by_kind

    if not quiet:
        for line in (*result.told, *_mended_before(result)):
            typer.echo(line)
    for kind, problems in by_kind(result.problems).items():
        _print_kind(kind, problems, result.root, typed, verbose)
    if result.problems or not quiet:
        typer.echo(_total(result))


def exit_code(result: CheckResult) -> int:
    """0 if nothing is wrong, 1 if there are warnings only, 2 if there are errors."""
    if any(problem.is_error for problem in result.problems):
        return 2
    return 1 if result.problems else 0


def _print_kind(kind: str, problems: list[Problem], root: Path, typed: str, verbose: bool) -> None:
    from autoseg.core.problem import KINDS, in_words

    about = KINDS[kind]
    typer.echo(f"{about.severity.value}: {about.title} ({len(problems)})")
    shown = problems if verbose else problems[:MOST_FILES]
    for problem in shown:
        typer.echo(f"    {in_words(problem, root)}")
    if len(problems) > len(shown):
        typer.echo(f"    and {len(problems) - len(shown)} more (-v lists all)")
    remedy = re.sub(r"\bTASK\b", lambda _: shlex.quote(typed), about.remedy)
    typer.echo(f"  mend: {remedy}\n")


def _mended_before(result: CheckResult) -> list[str]:
    lines: list[str] = []
    files, left_out = result.mends.files, result.mends.left_out
    if files:
        lines.append(f"mended copies take the place of {_count(len(files), 'file')}")
    if left_out:
        names = ", ".join(f"{entry.case} ({entry.kind})" for entry in left_out[:MOST_FILES])
        more = len(left_out) - MOST_FILES
        lines.append(f"left out: {names}" + (f" and {more} more" if more > 0 else ""))
    return lines


def _total(result: CheckResult) -> str:
    errors = sum(problem.is_error for problem in result.problems)
    warnings = len(result.problems) - errors
    counts = [_count(errors, "error"), _count(warnings, "warning")]
    wrong = ", ".join(text for text in counts if text) or "nothing wrong"
    return f"{result.name}: {_count(result.num_cases, 'case') or 'no case'}, {wrong}"


def _count(number: int, what: str) -> str:
    from autoseg.core.words import counted

    return counted(number, what) if number else ""
