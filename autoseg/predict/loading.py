"""Trained models from disk, ready to predict."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from autoseg.core.model import Model
from autoseg.core.selection import CleanUp
from autoseg.errors import ArtifactError
from autoseg.io.model_file import open_groups
from autoseg.io.trained import Trained, from_bundle
from autoseg.networks.from_weights import network_of
from autoseg.networks.inference import Inference, choose_inference, make_ready
from autoseg.networks.precision import choose_device
from autoseg.predict.predictor import Predictor
from autoseg.predict.record import combined_hash
from autoseg.predict.segmenter import Segmenter
from autoseg.predict.unlike import Seen

logger = logging.getLogger(__name__)

STEP = 0.5
FAST_STEP = 0.75


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictOptions:
    """How to compute, without influence on what is meant.

    Attributes:
        device: as ``choose_device`` takes it.
        precision: as ``networks.precision.choose`` takes it.
        max_memory_bytes: main memory that a prediction may take; None for any.
        step: largest distance of neighbouring patches, as a share of the patch.
        mirrors: whether to mirror along the axes that were mirrored in training.
    """

    device: str = "auto"
    precision: str = "auto"
    max_memory_bytes: int | None = None
    step: float = STEP
    mirrors: bool = True

    def in_haste(self) -> PredictOptions:
        """The same with what ``--fast`` means: no mirroring, fewer patches."""
        return replace(self, step=FAST_STEP, mirrors=False)

    def as_used(self, identity: str, mirror_axes: Sequence[int]) -> str:
        """The identity of a model that is used this way, by that of the model itself.

        Args:
            identity: a hash of the weights.
            mirror_axes: as in training.
        """
        unusual = [f"step {self.step}"] if self.step != STEP else []
        unusual += ["without mirrors"] if mirror_axes and not self.mirrors else []
        return combined_hash([identity, *unusual]) if unusual else identity


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
    return predictor_of([from_bundle(path) for path in bundles], options)


def predictor_of(members: Sequence[Trained], options: PredictOptions) -> Predictor:
    """Build the networks of one configuration; as ``load_predictor``.

    Args:
        members: one per fold, of the same configuration.
        options: device and precision.
    """
    device = choose_device(options.device)
    first = members[0].model
    for member in members:
        _check_belongs(member.model, first, member.description)
    configuration = first.configuration
    inference = choose_inference(device, options.precision, configuration.dimensions)
    logger.debug("%s", inference.reason)
    # Of several folds each set of weights of the previous stage counts once.
    before = {one.identity: one for member in members for one in member.previous}
    previous = predictor_of(list(before.values()), options) if before else None
    mirror_axes = first.training.mirror_axes
    weights = combined_hash([member.identity for member in members])
    identity = options.as_used(weights, mirror_axes)
    return Predictor(
        identity=combined_hash([identity, previous.identity]) if previous else identity,
        networks=[_network(member, device, inference) for member in members],
        configuration=configuration,
        recipe=first.recipe,
        labels=first.labels,
        mirror_axes=mirror_axes if options.mirrors else (),
        step=options.step,
        seen=_seen_by([member.model for member in members]),
        device=device,
        precision=inference.precision,
        previous=previous,
        quality=tuple(m.model.quality for m in members if m.model.quality is not None),
    )


def _seen_by(models: Sequence[Model]) -> Seen:
    """What all folds of a configuration together have seen."""
    first = models[0]
    is_flat = first.configuration.dimensions == 2
    lows = zip(*(model.min_spacing for model in models), strict=True)
    highs = zip(*(model.max_spacing for model in models), strict=True)
    z, y, x = map(min, lows)
    max_z, max_y, max_x = map(max, highs)
    return Seen(
        min_spacing=(z, y, x),
        max_spacing=(max_z, max_y, max_x),
        channels=first.channels,
        intensities=first.recipe.intensities,
        across=first.recipe.transpose[0] if is_flat else None,
    )


def load_segmenter(
    groups: Sequence[Sequence[Path]],
    options: PredictOptions,
    clean_up: Sequence[CleanUp] = (),
    *,
    single: bool = False,
) -> Segmenter:
    """Load all that predicts together.

    Args:
        groups: of each configuration and run, one ``bundle.json`` per fold; or one model file,
            which brings its own clean-up.
        options: device and precision.
        clean_up: what is removed afterwards.
        single: whether to take one fold of a model file only, of its best configuration.

    Returns:
        The segmenter, all its networks on the device.

    Raises:
        ArtifactError: if a file is broken, the weights do not fit, members do not belong
            together, or a structure to clean up is none of theirs.
        WorkspaceError: if weights are missing, those of a previous stage included.
    """
    trained, rules = open_groups(groups, clean_up, single=single)
    return segmenter_of(trained, options, rules)


def segmenter_of(
    groups: Sequence[Sequence[Trained]],
    options: PredictOptions,
    clean_up: Sequence[CleanUp] = (),
) -> Segmenter:
    """Build all that predicts together; as ``load_segmenter``.

    Args:
        groups: of each configuration and run, one model per fold.
        options: device and precision.
        clean_up: what is removed afterwards.
    """
    predictors = [predictor_of(members, options) for members in groups]
    first = predictors[0]
    for predictor, members in zip(predictors, groups, strict=True):
        for what, mine, other in (
            ("labels", predictor.labels, first.labels),
            ("channels", predictor.recipe.channels, first.recipe.channels),
        ):
            if mine != other:
                raise ArtifactError(
                    f"has other {what} than {groups[0][0].description}, they cannot predict "
                    "together",
                    place=members[0].description,
                    remedy="choose models of one task, planned from the same data",
                )
    unknown = {rule.structure for rule in clean_up} - set(first.labels.names)
    if unknown:
        raise ArtifactError(
            f"clean_up: the model has no structure '{min(unknown)}'",
            place=groups[0][0].description,
            remedy="run: autoseg select",
        )
    return Segmenter(
        predictors=tuple(predictors),
        clean_up=tuple(clean_up),
        max_memory_bytes=options.max_memory_bytes,
    )


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


def _network(trained: Trained, device: torch.device, inference: Inference) -> torch.nn.Module:
    model = trained.model
    network = network_of(model, trained.weights(), trained.place).to(device)
    # A cascade's network takes the previous stage's labels as one channel.
    num_inputs = len(model.channels) + (model.configuration.previous is not None)
    return make_ready(network, inference, model.configuration.network, num_inputs)
