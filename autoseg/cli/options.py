"""Options that several commands share, and the units users write."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autoseg.errors import AutosegError

if TYPE_CHECKING:
    from autoseg.io.workspace import TaskFolder, Workspace

TaskOption = Annotated[
    str | None,
    typer.Option("-t", "--task", metavar="NAME", help="Task; the one planned last by default."),
]
WorkspaceOption = Annotated[
    Path | None,
    typer.Option(
        "-w",
        "--workspace",
        metavar="PATH",
        help="Where everything is kept; by default $AUTOSEG_WORKSPACE, the nearest "
        "autoseg_workspace here or above, or a new one here.",
    ),
]
PlanOption = Annotated[str, typer.Option("--plan", metavar="NAME", help="Name of the plan.")]
RunOption = Annotated[str, typer.Option("--run", metavar="NAME", help="Name of the training run.")]
DeviceOption = Annotated[
    str, typer.Option("--device", metavar="NAME", help="auto, cpu, cuda, cuda:1 or mps.")
]
PrecisionOption = Annotated[
    str,
    typer.Option(
        "--precision", metavar="NAME", help="auto (measured), float32, bfloat16 or float16."
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers", metavar="N", min=0, help="Processes; as many as fit by default, 0 for none."
    ),
]
VerboseOption = Annotated[bool, typer.Option("-v", "--verbose", help="Say more.")]
QuietOption = Annotated[bool, typer.Option("-q", "--quiet", help="Say only what went wrong.")]

_DECIMAL_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_BINARY_UNITS = {"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}
_TIME_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_QUANTITY = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*")


def parse_bytes(text: str, option: str) -> int:
    """Read a size such as ``8GB``, ``8000MB`` or ``8GiB``, in bytes.

    A GB is 10**9 bytes, a GiB 2**30.

    Raises:
        AutosegError: if it is none.
    """
    units = _DECIMAL_UNITS | _BINARY_UNITS
    return round(_quantity(text, units, f"{option}: '{text}' is no size", "8GB or 8000MB"))


def parse_seconds(text: str, option: str) -> float:
    """Read a length of time such as ``90s``, ``20m`` or ``1.5h``, in seconds.

    Raises:
        AutosegError: if it is none.
    """
    return _quantity(text, _TIME_UNITS, f"{option}: '{text}' is no length of time", "20m or 2h")


def parse_numbers(text: str, option: str, kind: type[float] | type[int]) -> tuple[Any, ...]:
    """Read numbers separated by commas, such as ``3,0.8,0.8``.

    Raises:
        AutosegError: if one is none.
    """
    example = "0,2" if kind is int else "3,0.8,0.8"
    try:
        return tuple(kind(part) for part in text.split(","))
    except ValueError:
        raise AutosegError(
            f"{option}: '{text}' is no list of numbers", remedy=f"write for example {example}"
        ) from None


def parse_gpu_memory(text: str) -> int:
    """Read ``--gpu-memory``: a size, or ``auto`` for that of the card at hand, in bytes.

    Raises:
        AutosegError: if it is no size, or there is no card to ask.
    """
    if text != "auto":
        return parse_bytes(text, "--gpu-memory")
    import torch

    if not torch.cuda.is_available():
        raise AutosegError(
            "--gpu-memory auto: there is no CUDA GPU here", remedy="name a size such as 8GB"
        )
    return int(torch.cuda.get_device_properties(0).total_memory)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What ``--workspace`` and ``--task`` lead to."""

    workspace: Workspace
    task: TaskFolder


def find_place(workspace: Path | None, task: str | None) -> Place:
    """Find the workspace and the task a command means.

    Raises:
        WorkspaceError: if no task was planned yet, or none of that name.
    """
    from autoseg.io.workspace import find_workspace

    found = find_workspace(workspace)
    return Place(workspace=found, task=found.resolve_task(task))


def _quantity(text: str, units: dict[str, Any], finding: str, example: str) -> float:
    match = _QUANTITY.fullmatch(text)
    unit = match[2].lower() if match else ""
    if match is None or unit not in units or float(match[1]) <= 0:
        raise AutosegError(finding, remedy=f"write for example {example}")
    return float(match[1]) * units[unit]
