"""Trained models from disk, ready to predict."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from autoseg.core.model import Model
from autoseg.core.selection import CleanUp
from autoseg.errors import ArtifactError, WorkspaceError
from autoseg.io import bundle
from autoseg.networks.build import build_network
from autoseg.networks.label_channels import LabelChannels
from autoseg.networks.precision import choose as choose_precision
from autoseg.networks.precision import choose_device
from autoseg.predict.predictor import Predictor
from autoseg.predict.record import combined_hash, file_hash
from autoseg.predict.segmenter import Segmenter

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictOptions:
    """How to compute, without influence on what is meant.

    Attributes:
        device: as ``choose_device`` takes it.
        precision: as ``networks.precision.choose`` takes it.
    """

    device: str = "auto"
    precision: str = "auto"


def load_predictor(bundles: Sequence[Path], options: PredictOptions) -> Predictor:
    """Load the networks of one configuration.

    Args:
        bundles: one ``bundle.json`` per fold, of the same configuration.
        options: device and precision.

    Returns:
        The predictor, its networks on the device; that of a cascade holds the previous stage of
        all of these folds.

    Raises:
        ArtifactError: if a file is broken, the weights do not fit, or the folds do not belong
            together.
        WorkspaceError: if weights are missing, those of a previous stage included.
    """
    device = choose_device(options.device)
    models = [bundle.load_model(path) for path in bundles]
    first = models[0]
    for path, model in zip(bundles, models, strict=True):
        _check_belongs(model, first, path)
    configuration = first.configuration
    precision, reason = choose_precision(device, options.precision, configuration.dimensions)
    logger.debug("%s", reason)
    members = list(zip(models, bundles, strict=True))
    weights = [path.parent / model.members[0].weights for model, path in members]
    previous = _load_previous(members, options)
    identity = file_hash([*bundles, *weights])
    return Predictor(
        identity=combined_hash([identity, previous.identity]) if previous else identity,
        networks=[_network(model, path, device) for model, path in members],
        configuration=configuration,
        recipe=first.recipe,
        labels=first.labels,
        mirror_axes=first.training.mirror_axes,
        device=device,
        precision=precision,
        previous=previous,
    )


def load_segmenter(
    groups: Sequence[Sequence[Path]], options: PredictOptions, clean_up: Sequence[CleanUp] = ()
) -> Segmenter:
    """Load all that predicts together.

    Args:
        groups: of each configuration and run, one ``bundle.json`` per fold.
        options: device and precision.
        clean_up: what is removed afterwards.

    Returns:
        The segmenter, all its networks on the device.

    Raises:
        ArtifactError: if a file is broken, the weights do not fit, members do not belong
            together, or a structure to clean up is none of theirs.
        WorkspaceError: if weights are missing, those of a previous stage included.
    """
    predictors = [load_predictor(bundles, options) for bundles in groups]
    first = predictors[0]
    for predictor, bundles in zip(predictors, groups, strict=True):
        for what, mine, other in (
            ("labels", predictor.labels, first.labels),
            ("channels", predictor.recipe.channels, first.recipe.channels),
        ):
            if mine != other:
                raise ArtifactError(
                    f"has other {what} than {groups[0][0]}, they cannot predict together",
                    place=bundles[0],
                    remedy="choose models of one task, planned from the same data",
                )
    unknown = {rule.structure for rule in clean_up} - set(first.labels.names)
    if unknown:
        raise ArtifactError(
            f"clean_up: the model has no structure '{min(unknown)}'",
            place=groups[0][0],
            remedy="run: autoseg select",
        )
    return Segmenter(predictors=tuple(predictors), clean_up=tuple(clean_up))


def _load_previous(
    members: Sequence[tuple[Model, Path]], options: PredictOptions
) -> Predictor | None:
    """The previous stage of all folds together; each set of weights counts once."""
    found: dict[str, Path] = {}
    for model, path in members:
        name = model.configuration.previous
        if name is None:
            continue
        for file in (path.parent / previous for previous in model.previous):
            weights = _weights_of(file)
            if not weights.is_file():
                member = model.members[0]
                raise WorkspaceError(
                    f"the weights of its previous stage ({name}) are not there",
                    place=weights,
                    remedy="copy the model's whole folder, or train "
                    f"{member.configuration} {member.fold} again (--restart)",
                )
            found[file_hash([file, weights])] = file
    return load_predictor(list(found.values()), options) if found else None


def _weights_of(path: Path) -> Path:
    """The weights a model file names; the model file itself if it is not there."""
    if not path.is_file():
        return path
    return path.parent / bundle.load_model(path).members[0].weights


def _check_belongs(model: Model, first: Model, path: Path) -> None:
    """Logits can be averaged only over networks that see the same image the same way."""
    if len(model.members) != 1:
        raise ArtifactError(
            "holds several sets of weights; this version predicts with one", place=path
        )
    seen = (model.recipe, model.labels, model.configuration.patch_size)
    if seen != (first.recipe, first.labels, first.configuration.patch_size):
        raise ArtifactError(
            "was trained with another plan than the other folds",
            place=path,
            remedy="predict with one fold (--folds), or train them all with one plan",
        )


def _network(model: Model, path: Path, device: torch.device) -> torch.nn.Module:
    num_inputs = model.configuration.num_inputs(model.channels, model.labels)
    network = build_network(
        model.configuration.network,
        num_inputs,
        model.labels.num_outputs,
        deep_supervision=False,
    )
    weights = path.parent / model.members[0].weights
    try:
        network.load_state_dict(bundle.load_weights(weights))
    except RuntimeError as error:
        raise ArtifactError(
            "the weights do not fit the network described beside them", place=weights
        ) from error
    if model.configuration.previous is not None:
        network = LabelChannels(network, num_inputs - len(model.channels))
    return network.to(device)
