"""Weights and model files: safetensors and JSON, nothing that could run code when it is read."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from autoseg.core.model import Model
from autoseg.errors import ArtifactError, AutosegError, WorkspaceError
from autoseg.io import artifacts, atomic

if TYPE_CHECKING:
    from torch import Tensor

_SYSTEM_ERROR = re.compile(r"\(os error (\d+)\)")


def save_weights(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Write tensors by name, whole or not at all.

    Args:
        path: the file.
        weights: tensors of any type on any device, such as a ``state_dict``.

    Raises:
        AutosegError: if the file cannot be written.
    """
    # The format refuses tensors that share memory; copies never do.
    copies = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in weights.items()}
    with atomic.atomic_path(path) as partial:
        try:
            save_file(copies, partial)
        except SafetensorError as error:
            # The reason is known by its number only; a full disk has a message of its own.
            reason = _SYSTEM_ERROR.search(str(error))
            if reason is not None:
                raise OSError(int(reason[1]), os.strerror(int(reason[1]))) from error
            raise AutosegError(f"weights cannot be written ({error})", place=path) from error


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read tensors by name.

    Returns:
        Tensors on the CPU, in the types they were written with.

    Raises:
        WorkspaceError: if the file does not exist.
        ArtifactError: if it is damaged, or not a safetensors file.
    """
    if not path.is_file():
        raise WorkspaceError("weights do not exist", place=path, remedy="train this fold")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ArtifactError(
            f"damaged weights ({error})", place=path, remedy="copy the file again or train anew"
        ) from error


def save_model(path: Path, model: Model) -> None:
    """Write a model file, whole or not at all.

    Raises:
        AutosegError: if it cannot be written.
    """
    artifacts.save(path, model)


def load_model(path: Path) -> Model:
    """Read a model file.

    Raises:
        WorkspaceError: if it does not exist.
        ArtifactError: if it is not valid, or a member's weights would lie outside its folder.
    """
    model = artifacts.load(path, Model, remedy="train a fold, or name another model")
    folder = path.parent.resolve()
    for member in model.members:
        if not (folder / member.weights).resolve().is_relative_to(folder):
            raise ArtifactError(
                f"members: weights '{member.weights}' lie outside the model's folder", place=path
            )
    return model
