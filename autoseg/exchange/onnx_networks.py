"""``autoseg export --onnx``: networks that run without torch, described beside them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import nn

from autoseg.core.model import Model
from autoseg.core.progress import Progress, silent
from autoseg.core.selection import CleanUp
from autoseg.errors import AutosegError
from autoseg.exchange.description import IMAGE, LOGITS, Stage, describe, describe_stage
from autoseg.io import artifacts, atomic
from autoseg.io.trained import Trained
from autoseg.networks.from_weights import network_of
from autoseg.networks.label_channels import LabelChannels

DESCRIPTION = "model.json"

_OPSET = 17
# Convolutions are summed in another order; what is beyond this is another network.
_LARGEST_DIFFERENCE = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What became of an export.

    Attributes:
        folder: of networks and description.
        files: the networks.
        difference: largest difference of a logit to torch's, as a share of the largest logit; None
            if onnxruntime is not there to compute it.
    """

    folder: Path
    files: tuple[str, ...]
    difference: float | None


def export_onnx(
    groups: Sequence[Sequence[Trained]],
    folder: Path,
    *,
    clean_up: Sequence[CleanUp] = (),
    progress: Progress = silent,
) -> Exported:
    """Write networks as ONNX, and beside them how they are used.

    Every network is run once by onnxruntime, if that is installed, and compared with torch.

    Args:
        groups: what predicts together, one model per fold; previous stages follow by themselves.
        folder: to appear; must not exist.
        clean_up: what is removed of a label map.
        progress: called after each network.

    Raises:
        AutosegError: if the package onnx is missing, the folder is there already or cannot be
            written, or a network computes something else than torch does.
        ArtifactError: if weights do not fit.
    """
    if find_spec("onnx") is None:
        raise AutosegError(
            "--onnx: the package onnx is not installed", remedy="run: pip install 'autoseg[onnx]'"
        )
    with atomic.atomic_folder(folder) as partial:
        writer = _Writer(partial, progress, sum(map(_count, groups)))
        members = [writer.write_stage(group) for group in groups]
        described = describe(groups[0][0].model, writer.stages, members, clean_up)
        artifacts.save(partial / DESCRIPTION, described)
    files = tuple(file for stage in writer.stages for file in stage.files)
    known = [one for one in writer.differences if one is not None]
    return Exported(folder=folder, files=files, difference=max(known, default=None))


def _count(group: Sequence[Trained]) -> int:
    return len(group) + len({p.identity for one in group for p in one.previous})


class _Writer:
    """Writes stages, a previous one before that which reads it."""

    def __init__(self, folder: Path, progress: Progress, total: int) -> None:
        self._folder, self._progress, self._total = folder, progress, total
        self._made: dict[tuple[str, ...], int] = {}
        self._files: list[str] = []
        self.stages: list[Stage] = []
        self.differences: list[float | None] = []

    def write_stage(self, group: Sequence[Trained]) -> int:
        """Write the networks of a configuration; returns the number of the stage."""
        key = tuple(one.identity for one in group)
        if key in self._made:
            return self._made[key]
        # Each set of weights counts once, as in prediction.
        before = {one.identity: one for trained in group for one in trained.previous}
        previous = self.write_stage(list(before.values())) if before else None
        files = [self._write_network(trained) for trained in group]
        self.stages.append(describe_stage(group[0].model, files, previous))
        self._made[key] = len(self.stages) - 1
        return self._made[key]

    def _write_network(self, trained: Trained) -> str:
        name = self._free_name(trained.model)
        self._files.append(name)
        network = network_of(trained.model, trained.weights(), trained.place)
        # A program of any kind makes channels of labels more easily than a graph does.
        inner = network.network if isinstance(network, LabelChannels) else network
        self.differences.append(_write(inner.eval(), trained.model, self._folder / name))
        self._progress(len(self._files), self._total, name)
        return name

    def _free_name(self, model: Model) -> str:
        member = model.members[0]
        stem = f"{member.configuration}_{member.fold}"
        taken = sum(file.removesuffix(".onnx").split(".")[0] == stem for file in self._files)
        return f"{stem}.{taken + 1}.onnx" if taken else f"{stem}.onnx"


def _write(network: nn.Module, model: Model, path: Path) -> float | None:
    """Write a network; returns how far what onnxruntime computes is from torch, if it is there."""
    patch, channels = (
        model.configuration.patch_size,
        model.configuration.num_inputs(model.channels, model.labels),
    )
    generator = torch.Generator().manual_seed(0)
    batch = torch.randn((1, channels, *patch), generator=generator)
    with warnings.catch_warnings(), torch.no_grad():
        # The exporter that needs no further package is announced to end some day.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (batch,),
            str(path),
            input_names=[IMAGE],
            output_names=[LOGITS],
            dynamic_axes={IMAGE: {0: "batch"}, LOGITS: {0: "batch"}},
            opset_version=_OPSET,
            dynamo=False,
        )
    if find_spec("onnxruntime") is None:
        return None
    with torch.inference_mode():
        expected = network(batch.clone()).numpy()
    difference = float(np.abs(_run(path, batch.numpy()) - expected).max() / np.abs(expected).max())
    if not difference <= _LARGEST_DIFFERENCE:
        raise AutosegError(
            f"{path.name}: onnxruntime's logits differ by {difference:.1%} from torch's",
            remedy="update onnx and onnxruntime",
        )
    return difference


def _run(path: Path, batch: np.ndarray) -> np.ndarray:
    import onnxruntime  # pyright: ignore[reportMissingImports]

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run([LOGITS], {IMAGE: batch})[0])
