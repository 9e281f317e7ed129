"""The model a training begins with: found by name, read, and put into the network."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from autoseg.core.dataset import Dataset, Split
from autoseg.core.ends import ends_of, match_ends
from autoseg.core.plan import Configuration, InitialWeights, Recipe
from autoseg.errors import AutosegError
from autoseg.io import atomic, bundle
from autoseg.io.fold_folder import FoldFolder
from autoseg.io.named_models import Purpose, locate_model, single
from autoseg.io.workspace import TaskFolder, Workspace
from autoseg.networks.transfer import Transfer, fill, find_transfer, layout_of
from autoseg.train import checkpoint
from autoseg.train.initialization import (
    prepared_otherwise,
    refuse_strange_channels,
    refuse_too_little,
    seen_before,
    tell,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """The model a training begins with.

    Attributes:
        named: what the user calls it.
        weights: what it is.
        path: its model file; None where a run goes on, which has its weights already.
    """

    named: str
    weights: InitialWeights
    path: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """What a network is to be filled with.

    Attributes:
        weights: file of the other network's tensors.
        transfer: which of them go where.
        told: what was taken and what not, in lines.
        warnings: what a user should know before the training begins.
    """

    weights: Path
    transfer: Transfer
    told: tuple[str, ...]
    warnings: tuple[str, ...]

    def fill(self, network: nn.Module) -> None:
        """Fill a network, and say with what.

        Raises:
            AutosegError: if the weights cannot be read any more.
        """
        fill(network, bundle.load_weights(self.weights), self.transfer)
        for line in self.told:
            logger.info("%s", line)
        for line in self.warnings:
            logger.warning("%s", line)


def find_source(named: str, task: TaskFolder, folder: FoldFolder, *, restart: bool) -> Source:
    """Find the model a run is to begin with, or began with.

    A run that was begun with a model of that name goes on without it: its weights have been
    taken, and the model may be gone or another one by now.

    Args:
        named: what the user calls it, as ``locate_model`` takes it.
        task: the task that is trained.
        folder: where the run lies.
        restart: whether what the run has is thrown away.

    Raises:
        AutosegError: if there is no such model, or it is the run itself.
    """
    begun = None if restart else _begun_with(folder, named)
    workspace = Workspace(task.root.parent)
    try:
        purpose = Purpose(task=task.name, configuration=folder.configuration, fold=folder.fold)
        path = locate_model(named, workspace, purpose)
        model = single(path, bundle.load_model(path))
        weights = path.parent / model.members[0].weights
        if not weights.is_file():
            raise AutosegError("its weights do not exist", place=path)
    except AutosegError:
        if begun is None:
            raise
        return Source(named=named, weights=begun)
    found = InitialWeights(label=model.label, weights=atomic.digest(weights))
    if begun is not None:
        if found != begun:
            logger.warning(
                "%s has changed since this run began with it: the run goes on with what it has",
                named,
            )
        return Source(named=named, weights=begun)
    if path.parent.resolve() == folder.root.resolve():
        raise AutosegError(
            "a run cannot begin with its own weights",
            place=f"--init-from {named}",
            remedy="name another --run, or train this one on with --extend",
        )
    return Source(named=named, weights=found, path=path)


def _begun_with(folder: FoldFolder, named: str) -> InitialWeights | None:
    """What a run was begun with under a name; None if it was not."""
    if not checkpoint.exists(folder.resume):
        return None
    state = checkpoint.load_state(folder.resume)
    return state.training.init_from if state.source == named else None


def find_beginning(
    source: Source,
    dataset: Dataset,
    configuration: Configuration,
    recipe: Recipe,
    split: Split,
) -> Beginning | None:
    """Find what of a model a network can begin with.

    Args:
        source: the model.
        dataset: what is trained on.
        configuration: the network.
        recipe: how the cases are prepared.
        split: who trains and who is held out.

    Returns:
        What to fill the network with; None where a run goes on with what it has.

    Raises:
        AutosegError: if too little fits, or the weights cannot be read.
    """
    if source.path is None:
        return None
    model = bundle.load_model(source.path)
    weights = source.path.parent / model.members[0].weights
    wanted = ends_of(configuration, dataset.channels, dataset.labels)
    match = match_ends(wanted, ends_of(model.configuration, model.channels, model.labels))
    refuse_strange_channels(match.channels, source.named)
    transfer = find_transfer(
        layout_of(configuration.network, wanted.num_inputs, len(wanted.outputs)),
        {name: tuple(tensor.shape) for name, tensor in bundle.load_weights(weights).items()},
        model.configuration.network.num_stages,
        match,
    )
    refuse_too_little(transfer, source.named, configuration.network, model.configuration.network)
    warnings = (
        prepared_otherwise(source.named, model, recipe, match.channels),
        seen_before(model, dataset, split),
    )
    return Beginning(
        weights=weights,
        transfer=transfer,
        told=tuple(tell(transfer, match, source.weights.label)),
        warnings=tuple(filter(None, warnings)),
    )
