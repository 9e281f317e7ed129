"""What this machine has, and what would go wrong on it."""

from __future__ import annotations

import platform
import shutil
import tempfile
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from autoseg.io.machine import available_cores, available_memory_bytes

if TYPE_CHECKING:
    import torch

LIBRARIES = ("torch", "SimpleITK", "numpy", "scipy", "batchgenerators", "blosc2", "pydantic")
EXTRAS = ("pydicom", "tifffile", "tensorboard", "onnxruntime", "openvino")
ENOUGH_MEMORY_BYTES = 4 * 10**9
ENOUGH_DISK_BYTES = 5 * 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing looked at.

    Attributes:
        what: its name.
        value: what was found.
        problem: what it would lead to, and the remedy; None if all is well.
    """

    what: str
    value: str
    problem: str | None = None


def examine_machine() -> list[Finding]:
    """Look at versions, cores, memory, disk and compute devices."""
    extras = [f"{name} {found}" for name in EXTRAS if (found := _version(name))]
    return [
        Finding(what="autoseg", value=_version("autoseg") or "not installed"),
        Finding(what="python", value=f"{platform.python_version()} on {platform.platform()}"),
        *(_library(name) for name in LIBRARIES),
        Finding(what="extras", value=", ".join(extras) or "none"),
        Finding(what="cores", value=str(available_cores())),
        _memory(available_memory_bytes()),
        _disk("disk here", Path.cwd()),
        _disk("temporary", Path(tempfile.gettempdir())),
        *_devices(),
    ]


def _library(name: str) -> Finding:
    found = _version(name)
    if found is None:
        return Finding(
            what=name, value="missing", problem=f"autoseg cannot run; pip install {name}"
        )
    return Finding(what=name, value=found)


def _memory(free_bytes: int) -> Finding:
    problem = None
    if free_bytes < ENOUGH_MEMORY_BYTES:
        problem = "large images may not fit; close other programs or use fewer --workers"
    return Finding(what="memory", value=f"{free_bytes / 1e9:.1f} GB free", problem=problem)


def _disk(what: str, folder: Path) -> Finding:
    free_bytes = shutil.disk_usage(folder).free
    problem = None
    if free_bytes < ENOUGH_DISK_BYTES:
        problem = "prepared cases and models may not fit; choose another disk with --workspace"
    return Finding(what=what, value=f"{free_bytes / 1e9:.0f} GB free in {folder}", problem=problem)


def _devices() -> list[Finding]:
    import torch

    from autoseg.networks.precision import choose, choose_device

    device = choose_device("auto")
    _, reason = choose(device, "auto", 3)
    findings = [Finding(what="computes on", value=f"{device}: {reason}")]
    if device.type == "cpu":
        findings.append(
            Finding(
                what="GPU",
                value="none that torch can use",
                problem="training takes days instead of hours; bound it with --max-time",
            )
        )
        findings.append(_prediction(device))
    for index in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(index)
        findings.append(
            Finding(what=f"cuda:{index}", value=f"{card.name}, {card.total_memory / 1e9:.0f} GB")
        )
    return findings


def _prediction(device: torch.device) -> Finding:
    """What predicts on a CPU, and what would do so faster."""
    from autoseg.networks.compiled import is_installed
    from autoseg.networks.inference import TYPICAL_GAIN, choose_inference

    if is_installed():
        return Finding(what="predicts with", value=choose_inference(device).reason)
    return Finding(
        what="predicts with",
        value="torch",
        problem=f"OpenVINO is typically {TYPICAL_GAIN}; pip install 'autoseg[openvino]'",
    )


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
