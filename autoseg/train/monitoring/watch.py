"""What a run shows of itself: a line per epoch, history, curves, previews and warnings."""

from __future__ import annotations

import logging
import time
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from autoseg.core.plan import Recipe
from autoseg.figures.curves import save_curves
from autoseg.figures.overlay import save_overlay
from autoseg.io.fold_folder import FoldFolder
from autoseg.train.batches import BatchSource
from autoseg.train.checkpoint import State
from autoseg.train.inputs import TrainingInputs, TrainRequest
from autoseg.train.loop import Session, Validation
from autoseg.train.monitoring.history import EpochRecord, History
from autoseg.train.monitoring.pace import EpochMeasures, Pace
from autoseg.train.monitoring.pictures import Pictures
from autoseg.train.monitoring.preview import Previewer, choose_case, choose_view
from autoseg.train.monitoring.scalars import Scalars
from autoseg.train.monitoring.side_files import SideFiles
from autoseg.train.monitoring.stuck import Facts, explain, gather, is_time, stuck, with_annotated

logger = logging.getLogger(__name__)

CURVES_EVERY_S = 60.0
FIRST_CURVES_S = 10.0
"""A training that is over sooner gets its curves at the end only."""


_COLOURS = (("r", "g", "b"), ("red", "green", "blue"))


class Watch:
    """Shows how a run is doing; what cannot be written or drawn does not end it.

    Args:
        folder: where the run lies.
        inputs: what it trains with.
        session: what it holds in memory; not changed.
        request: what the user asked to see.
        state: where it stands.
        batches: what its steps wait for.

    Raises:
        AutosegError: if what the user asked to see cannot be shown.
    """

    def __init__(
        self,
        folder: FoldFolder,
        inputs: TrainingInputs,
        session: Session,
        request: TrainRequest,
        state: State,
        batches: BatchSource,
    ) -> None:
        self._folder, self._inputs, self._session = folder, inputs, session
        self._side_files = SideFiles()
        self._history = History(folder.history, keep_epochs=state.epoch)
        self._pictures = Pictures(self._side_files)
        self._curves_due_s = time.monotonic() + FIRST_CURVES_S
        self._curves_epochs = len(self._history.rows())
        self._scalars = None
        if request.tensorboard:
            self._scalars = Scalars(folder.tensorboard, self._history.rows())
        self._preview_every = request.preview_every
        self._previewer: Previewer | None = None
        self._warnings: list[str] = []
        steps, device = inputs.spec.steps_per_epoch, session.device
        self._pace = Pace(steps, device, lambda: batches.waited_s)

    def start_epoch(self, state: State) -> None:
        """An epoch begins, or goes on."""
        self._pace.start_epoch(state.step)

    def end_steps(self) -> None:
        """The steps of an epoch are made."""
        self._pace.end_steps()

    def preview(self, state: State) -> None:
        """Show a validation case as the network sees it now, if it is time to.

        Args:
            state: after the steps of an epoch.
        """
        epoch = state.epoch + 1
        if not self._preview_every or epoch % self._preview_every:
            return
        with self._side_files.writing("previews"):
            if self._previewer is None:
                self._previewer = _for_case(_previewer(self._inputs, self._session), self._inputs)
            rows = self._previewer.rows(epoch)
            names = self._previewer.labels.index_names
            self._pictures.ask("previews", save_overlay, self._folder.preview(epoch), rows, names)

    def measure(self, state: State, elapsed_s: float) -> EpochMeasures:
        """What an epoch took, now that it is over.

        Args:
            state: after the epoch's steps; its counters know nothing of the epoch's end.
            elapsed_s: training time so far, over all restarts.
        """
        limit_s = state.training.limit_s
        to_go_s = None if limit_s is None else limit_s - elapsed_s
        return self._pace.end_epoch(state.step, state.last_epoch - state.epoch - 1, to_go_s)

    def add(self, state: State, record: EpochRecord, validation: Validation) -> None:
        """Take an epoch into the history.

        Args:
            state: after the epoch's steps.
            record: what it reached.
            validation: what its record was made from.
        """
        warnings = self._explain_stuck(state, record, validation.confusion)
        self._warnings = list(warnings.values())
        with self._side_files.writing(self._folder.history.name):
            self._history.add(record.model_copy(update={"warned": tuple(warnings)}))

    def show(self, state: State, record: EpochRecord) -> None:
        """Tell about an epoch that is in the history and saved.

        Args:
            state: after the epoch.
            record: what it reached.
        """
        logger.info("%s", record.line(state.last_epoch))
        for warning in self._warnings:
            logger.warning("%s", warning)
        if self._scalars is not None:
            with self._side_files.writing(self._folder.tensorboard.name):
                self._scalars.add(record.model_dump())
        if time.monotonic() >= self._curves_due_s:
            self._curves_due_s = time.monotonic() + CURVES_EVERY_S
            name, rows = self._folder.progress_png.name, self._history.rows()
            self._pictures.ask(name, save_curves, self._folder.progress_png, rows)
            self._curves_epochs = len(rows)

    def close(self) -> None:
        """Draw what is not drawn yet; nothing is left running."""
        self._pictures.finish()
        rows = self._history.rows()
        if len(rows) > self._curves_epochs:
            with self._side_files.writing(self._folder.progress_png.name):
                save_curves(self._folder.progress_png, rows)
        if self._scalars is not None:
            with self._side_files.writing(self._folder.tensorboard.name):
                self._scalars.close()

    def _explain_stuck(
        self, state: State, record: EpochRecord, confusion: npt.NDArray[np.int64]
    ) -> dict[str, str]:
        """By structure, why its Dice stays 0; of those nobody was told about."""
        rows = [*self._history.rows(), record.model_dump()]
        found = stuck(rows, self._history.warned())
        if not found:
            return {}
        steps = sum(row["steps"] for row in rows)
        over = state.epoch + 1 >= state.last_epoch or state.time_is_up
        facts = _facts(self._inputs, confusion, steps)
        facts = with_annotated(facts, self._inputs.split, self._inputs.known_outputs)
        patient = not is_time(steps, state.progress, over=over)
        reasons = {name: explain(facts, facts.names.index(name), patient=patient) for name in found}
        return {name: reason for name, reason in reasons.items() if reason is not None}


def _facts(inputs: TrainingInputs, confusion: npt.NDArray[np.int64], steps: int) -> Facts:
    labels = inputs.dataset.labels
    cases = {*inputs.split.train, *inputs.split.validation}
    infos = {case: inputs.store.info(case) for case in cases}
    prepared = {case: (info.shape, info.label_voxels) for case, info in infos.items()}
    train, validation = gather(inputs.fingerprint, inputs.split, prepared, labels.output_indices)
    return Facts(
        names=labels.output_names,
        train=train,
        validation=validation,
        confusion=confusion,
        steps=steps,
        spec=inputs.spec,
        spacing=inputs.recipe.spacing,
    )


def _previewer(inputs: TrainingInputs, session: Session) -> Previewer:
    labels = inputs.dataset.labels
    patch_size, store = inputs.configuration.patch_size, inputs.store
    case = choose_case(store, inputs.split.validation, labels)
    batches = inputs.batches("validation")
    return Previewer(
        network=session.network,
        device=session.device,
        precision=session.precision,
        patch_size=patch_size,
        labels=labels,
        store=store,
        view=choose_view(store, case, patch_size, labels),
        masked_channels=batches.masked_channels,
        is_colour=is_colour(inputs.recipe),
        previous=batches.previous,
    )


def _for_case(previewer: Previewer, inputs: TrainingInputs) -> Previewer:
    """A previewer that leaves out what the case it shows is not annotated for."""
    unknown = inputs.not_annotated(previewer.view.case)
    return replace(previewer, view=replace(previewer.view, not_annotated=unknown))


def is_colour(recipe: Recipe) -> bool:
    """Whether prepared images have red, green and blue, by their names or normalization."""
    names = tuple(name.strip().casefold() for name in recipe.channels)
    return names in _COLOURS or recipe.normalization == ("rgb_to_0_1",) * 3
