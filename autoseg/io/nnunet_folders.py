"""Where nnU-Net v2 keeps its data sets: places to look, never needed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

RAW_VARIABLE = "nnUNet_raw"
PREPROCESSED_VARIABLE = "nnUNet_preprocessed"
SPLITS = "splits_final.json"
_DATA_SET = re.compile(r"Dataset(\d{3,})_.+")
_NUMBER = re.compile(r"\d{1,5}")


def raw_folders(environ: Mapping[str, str] = os.environ) -> list[Path]:
    """The data sets in ``$nnUNet_raw``, sorted; none if it is not set.

    Args:
        environ: environment variables.
    """
    root = _root(RAW_VARIABLE, environ)
    try:
        return [] if root is None else sorted(p for p in root.iterdir() if p.is_dir())
    except OSError:
        return []


def is_number(text: str) -> bool:
    """Whether a user may mean a data set by its number, such as ``4`` or ``004``."""
    return _NUMBER.fullmatch(text) is not None


def numbered(folders: Iterable[Path], text: str) -> list[Path]:
    """Folders named like nnU-Net's data set of a number, ``Dataset004_Name`` for ``4``."""
    matches = ((folder, _DATA_SET.fullmatch(folder.name)) for folder in folders)
    return [folder for folder, match in matches if match and int(match[1]) == int(text)]


def preprocessed_splits(raw: Path, environ: Mapping[str, str] = os.environ) -> Path | None:
    """The folds nnU-Net uses for a data set of ``$nnUNet_raw``, if they are there.

    Args:
        raw: folder of the data set.
        environ: environment variables.
    """
    roots = _root(RAW_VARIABLE, environ), _root(PREPROCESSED_VARIABLE, environ)
    if roots[0] is None or roots[1] is None or raw.resolve().parent != roots[0]:
        return None
    file = roots[1] / raw.resolve().name / SPLITS
    return file if file.is_file() else None


def _root(variable: str, environ: Mapping[str, str]) -> Path | None:
    value = environ.get(variable)
    return Path(value).expanduser().resolve() if value else None
