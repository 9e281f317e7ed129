"""One set of weights with all that is needed to use it, wherever it lies."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from autoseg.core.model import Model
from autoseg.errors import ArtifactError, WorkspaceError
from autoseg.io import atomic, bundle

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trained:
    """A trained network that is not built yet.

    Attributes:
        model: what it is.
        place: where its weights lie, for messages.
        description: where the model is described, for messages.
        identity: a hash of the weights and of how they are used.
        weights: reads or maps the tensors, by name.
        previous: of a cascade, the models of the previous stage.
    """

    model: Model
    place: Path
    description: Path
    identity: str
    weights: Callable[[], dict[str, Tensor]]
    previous: tuple[Trained, ...] = ()


def from_bundle(path: Path) -> Trained:
    """A trained fold of a workspace, or wherever its folder was copied to.

    Args:
        path: its ``bundle.json``.

    Raises:
        ArtifactError: if it is not valid, or something else altogether.
        WorkspaceError: if it is not there, or the weights of a previous stage are not.
    """
    if path.is_file() and path.suffix.lower() != ".json" and not begins_with(path, b"{"):
        raise ArtifactError(
            "is no model file",
            place=path,
            remedy="name a file that autoseg export wrote, or a bundle.json",
        )
    model = bundle.load_model(path)
    weights = path.parent / model.members[0].weights
    if not weights.is_file():
        raise WorkspaceError("weights do not exist", place=weights, remedy="train this fold")
    files = () if model.configuration.previous is None else model.previous
    return Trained(
        model=model,
        place=weights,
        description=path,
        identity=identity_of(model, atomic.digest(weights)),
        weights=lambda: bundle.load_weights(weights),
        previous=tuple(_previous(model, path.parent / name) for name in files),
    )


def begins_with(path: Path, signature: bytes) -> bool:
    """Whether a file begins with some bytes; one that cannot be read does not."""
    try:
        with path.open("rb") as file:
            return file.read(len(signature)) == signature
    except OSError:
        return False


def identity_of(model: Model, digest: str) -> str:
    """A hash of weights and of how they are used.

    Args:
        model: what they mean.
        digest: hash of the weights.
    """
    return hashlib.sha256(f"{model.meaning}\n{digest}".encode()).hexdigest()[:16]


def _previous(model: Model, path: Path) -> Trained:
    member = model.members[0]
    missing = path
    if path.is_file():
        missing = path.parent / bundle.load_model(path).members[0].weights
    if not missing.is_file():
        raise WorkspaceError(
            f"the weights of its previous stage ({model.configuration.previous}) are not there",
            place=missing,
            remedy="copy the model's whole folder, or train "
            f"{member.configuration} {member.fold} again (--restart)",
        )
    return from_bundle(path)
