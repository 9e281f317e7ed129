"""Options that several commands share, and the units users write."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autoseg.core.quantities import parse_bytes
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
