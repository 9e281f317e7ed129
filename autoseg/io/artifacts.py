"""JSON files: read with errors a user can act on, written for people to read."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError

from autoseg.core.artifact import Artifact
from autoseg.errors import ArtifactError, AutosegError, OutdatedError, WorkspaceError
from autoseg.io import atomic

A = TypeVar("A", bound=Artifact)
M = TypeVar("M", bound=BaseModel)

_LINE_LENGTH = 100
_FLAT_LIST = re.compile(r"\[\n\s+([^\[\]{}]*?)\n\s*\]")


def load(path: Path, kind: type[A], *, remedy: str | None = None) -> A:
    """Read an artefact.

    Args:
        path: the file.
        kind: what it must hold.
        remedy: how to make the file if it is missing, such as ``"run: autoseg plan TASK"``.

    Returns:
        Its content, an older format lifted to the current one.

    Raises:
        FileNotFoundError: if the file is missing and no remedy is given.
        WorkspaceError: if the file is missing and a remedy is given.
        ArtifactError: if it is not valid; one line with the place inside the file.
    """
    return parsed(path, kind, read_object(path, remedy=remedy), remedy=remedy)


def parsed(path: Path, kind: type[A], data: dict[str, Any], *, remedy: str | None = None) -> A:
    """Turn parsed JSON into an artefact; see ``load``.

    Args:
        path: where the JSON comes from, for messages.
        kind: what it must hold.
        data: the parsed JSON.
        remedy: how to make it anew.

    Raises:
        ArtifactError: if it is not valid; one line with the place inside the file.
    """
    return validated(path, kind, _current_format(path, kind, data, remedy))


def save(path: Path, artifact: Artifact) -> None:
    """Write an artefact, whole or not at all.

    Raises:
        AutosegError: if it cannot be written.
    """
    atomic.write_text(path, as_text(artifact))


def as_text(artifact: Artifact) -> str:
    """The content of an artefact's file.

    Short lists stay on one line, so that a plan can be read and edited.
    """
    text = json.dumps(artifact.model_dump(mode="json"), indent=2, ensure_ascii=False)
    return _FLAT_LIST.sub(_on_one_line, text) + "\n"


def refuse_to_replace(path: Path) -> None:
    """See that there is nothing yet where a user wants a file.

    Raises:
        AutosegError: if there is.
    """
    if path.exists():
        raise AutosegError(
            "exists already", place=shown(path), remedy="name another file, or take it away"
        )


def read_object(path: Path, *, remedy: str | None = None) -> dict[str, Any]:
    """Read a file that must hold one JSON object.

    Args:
        path: the file.
        remedy: as for ``load``.

    Raises:
        FileNotFoundError: if the file is missing and no remedy is given.
        WorkspaceError: if the file is missing and a remedy is given.
        ArtifactError: if it cannot be read or is no JSON object.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        if remedy is None:
            raise
        raise missing(path, remedy) from None
    except OSError as error:
        raise ArtifactError(f"cannot be read ({error})", place=shown(path)) from error
    except UnicodeDecodeError as error:
        raise ArtifactError("not valid JSON: it is no text", place=shown(path)) from error
    return parse_object(path, text)


def validated(path: Path, kind: type[M], data: Mapping[str, Any]) -> M:
    """Turn parsed JSON into the value it must hold.

    Args:
        path: where the JSON comes from, for messages.
        kind: what it must hold.
        data: the parsed JSON.

    Raises:
        ArtifactError: if it does not; one line with the place inside the file.
    """
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise _explain(path, kind, error) from None


def parse_object(path: Path, text: str) -> dict[str, Any]:
    """Parse text that must be one JSON object.

    Args:
        path: where the text comes from, for messages.
        text: the content of the file.

    Raises:
        ArtifactError: if it is not JSON, or not an object; names line and column.
    """
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise ArtifactError(f"not valid JSON: {where}: {error.msg}", place=shown(path)) from None
    except RecursionError:
        raise ArtifactError("not valid JSON: nested too deeply", place=shown(path)) from None
    if not isinstance(data, dict):
        raise ArtifactError("must be a JSON object: {...}", place=shown(path))
    return data


def missing(path: Path, remedy: str) -> WorkspaceError:
    """Build the error for a file an earlier command should have made."""
    return WorkspaceError("does not exist", place=shown(path), remedy=remedy)


def shown(path: Path) -> Path:
    """A path as messages show it: relative to the current directory where it lies below."""
    try:
        return path.resolve().relative_to(Path.cwd())
    except (ValueError, OSError):
        return path


def _current_format(
    path: Path, kind: type[A], data: dict[str, Any], remedy: str | None
) -> dict[str, Any]:
    number = data.get("format")
    if not isinstance(number, int) or isinstance(number, bool):
        raise ArtifactError("'format' must be there and be a whole number", place=shown(path))
    if number > kind.FORMAT:
        raise ArtifactError(
            f"written by a newer autoseg (format {number}; this version reads up to {kind.FORMAT})",
            place=shown(path),
            remedy="update autoseg",
        )
    migrated = data if number == kind.FORMAT else kind.migrate(data)
    if migrated is None:
        raise OutdatedError(
            f"written by an earlier autoseg (format {number}), which noted less than is needed now",
            place=shown(path),
            remedy=remedy or "make it anew",
        )
    return migrated


def _explain(path: Path, kind: type[BaseModel], error: ValidationError) -> ArtifactError:
    # A misspelt key is also a missing key: the misspelling is the better explanation.
    problems = sorted(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return ArtifactError(_describe(kind, problems[0]) + more, place=shown(path))


def _describe(kind: type[BaseModel], problem: Mapping[str, Any]) -> str:
    location = [str(part) for part in problem["loc"]]
    if problem["type"] == "extra_forbidden":
        *parents, key = location
        near = difflib.get_close_matches(key, _keys_at(kind, parents), n=1)
        hint = f" (did you mean '{near[0]}'?)" if near else ""
        return _at(parents, f"unknown key '{key}'{hint}")
    if problem["type"] == "missing":
        return _at(location[:-1], f"missing key '{location[-1]}'")
    if problem["type"] == "value_error":
        return _at(location, str(problem["ctx"]["error"]))
    finding = str(problem["msg"]).removeprefix("Input ")
    return _at(location, f"{finding}, got {json.dumps(problem['input'], default=str):.60}")


def _at(location: Sequence[str], finding: str) -> str:
    return f"{'.'.join(location)}: {finding}" if location else finding


def _keys_at(kind: type[BaseModel], location: Sequence[str]) -> list[str]:
    """Names of the fields that may stand at a place inside an artefact."""
    if not location:
        return list(kind.model_fields)
    field = kind.model_fields.get(location[0])
    models = list(_models_in(field.annotation)) if field else []
    is_container = field is not None and get_origin(field.annotation) in (dict, list, tuple)
    below = location[2:] if is_container else location[1:]
    return [key for model in models for key in _keys_at(model, below)]


def _models_in(annotation: object) -> Iterator[type[BaseModel]]:
    """Model classes inside an annotation such as ``dict[str, Configuration]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)


def _on_one_line(match: re.Match[str]) -> str:
    line = re.sub(r",\n\s+", ", ", match[1])
    return f"[{line}]" if len(line) <= _LINE_LENGTH else match[0]
