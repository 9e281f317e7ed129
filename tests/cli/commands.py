"""The command line called within the test's own process."""

from __future__ import annotations

import io
import json
import logging
import re
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from autoseg.cli.main import main

ON_CPU = ("--device", "cpu", "--precision", "float32")
PROGRESS = re.compile(r"[^:]+: \d+/\d+( |$)")
BOX_CHARACTERS = "│┃─━╭╮╰╯┌┐└┘|"


@dataclass(frozen=True, kw_only=True)
class Called:
    """What a command left behind."""

    code: int
    out: str
    err: str


def call(*words: object) -> Called:
    """Call ``autoseg`` with some words; the logging of other tests stays as it is."""
    out, err = io.StringIO(), io.StringIO()
    package = logging.getLogger("autoseg")
    before = (package.handlers[:], package.propagate, package.level)
    try:
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as left:
            main([str(word) for word in words])
    finally:
        package.handlers[:], package.propagate = before[:2]
        package.setLevel(before[2])
    return Called(code=left.value.code, out=out.getvalue(), err=err.getvalue())


def assert_done(called: Called) -> None:
    """The command came to its end and had nothing to complain about.

    On a busy machine it tells how far it has come, and a training that lasts half a second may
    find out that it has learnt nothing.
    """
    lines = called.err.splitlines()
    complaints = [line for line in lines if not PROGRESS.match(line) and "stays 0" not in line]
    assert (called.code, complaints) == (0, [])


def assert_refused(called: Called, *parts: str) -> None:
    """The command ended with 2 and a short message that holds all parts."""
    assert called.code == 2
    assert 1 <= len(called.err.splitlines()) <= 3
    assert called.err.startswith("error: ")
    assert "Traceback" not in called.err
    assert not set(BOX_CHARACTERS) & set(called.err)
    for part in parts:
        assert part in called.err


def edit(path: Path, **changes: Any) -> None:
    """Edit a JSON file as a user would: keys are places such as ``configurations__2d__spacing``."""
    data = json.loads(path.read_text())
    for place, value in changes.items():
        *parents, key = place.split("__")
        inner = data
        for parent in parents:
            inner = inner[parent]
        inner[key] = value
    path.write_text(json.dumps(data))
