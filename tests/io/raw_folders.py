"""Folders of empty files: of raw data, layouts look at nothing but names."""

import json
from pathlib import Path

from autoseg.core.problem import Problem
from autoseg.io.dataset_folder import Survey


def make_folder(root: Path, files: list[str], description: object = None) -> Path:
    """A folder of empty files, with a ``dataset.json`` if one is given."""
    root.mkdir(parents=True, exist_ok=True)
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    if description is not None:
        text = description if isinstance(description, str) else json.dumps(description)
        (root / "dataset.json").write_text(text)
    return root


def told(survey: Survey, root: Path) -> list[tuple[str, str | None, str | None, str]]:
    """Kind, case, file below the root and finding of each problem, in order."""
    return [(p.kind, p.case, _below(p, root), p.finding) for p in survey.problems]


def findings(survey: Survey) -> list[str]:
    """What was found, in order."""
    return [problem.finding for problem in survey.problems]


def _below(problem: Problem, root: Path) -> str | None:
    if problem.file is None:
        return None
    return problem.file.relative_to(root.resolve()).as_posix()
