"""What a training run needs of earlier stages: there, known, and up to date."""

from __future__ import annotations

import platform
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

from pydantic import ValidationError

from autoseg.core.annotation import known_outputs, left_out, partly_annotated
from autoseg.core.dataset import Case, Dataset, Split
from autoseg.core.fingerprint import Fingerprint
from autoseg.core.model import Member, Model
from autoseg.core.plan import Configuration, InitialWeights, Plan, Recipe, TrainingSpec
from autoseg.errors import ArtifactError, AutosegError, WorkspaceError
from autoseg.io.case_store import CaseStore, source_of
from autoseg.io.task import Planned, load_fold, load_planned, planned_configuration
from autoseg.io.workspace import EVERYTHING, TaskFolder
from autoseg.networks.build import NETWORKS
from autoseg.train.annotation import tell_partial_labels
from autoseg.train.augmentation.augment import AUGMENTATIONS
from autoseg.train.batches import BatchSpec, Part, PreviousLabels
from autoseg.train.initialization import RATE_DIVISOR, WARMUP
from autoseg.train.objective.losses import LOSSES
from autoseg.train.objective.optimizers import DEFAULT_RATES, OPTIMIZERS
from autoseg.train.objective.schedules import DEFAULT_WARMUP, SCHEDULES
from autoseg.train.previous import Previous, find_previous
from autoseg.train.source import Beginning, Source, find_beginning, find_source


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingChanges:
    """Fields of ``TrainingSpec`` to replace; None leaves one as it is planned.

    Another optimiser brings its default learning rate along, another schedule its default
    warm-up, and the weights of another model a lower rate and a warm-up, unless they are given
    too.
    """

    epochs: int | None = None
    steps_per_epoch: int | None = None
    validation_steps: int | None = None
    max_time_s: float | None = None
    plateau_epochs: int | None = None
    seed: int | None = None
    loss: str | None = None
    optimizer: str | None = None
    schedule: str | None = None
    learning_rate: float | None = None
    warmup: float | None = None
    augmentation: str | None = None

    def applied_to(
        self, planned: TrainingSpec, init_from: InitialWeights | None = None
    ) -> TrainingSpec:
        """The recipe with these changes.

        Args:
            planned: the recipe of the plan.
            init_from: the model the training begins with, if any.

        Raises:
            AutosegError: if a value is out of its range.
        """
        given = {name: value for name, value in asdict(self).items() if value is not None}
        try:
            return TrainingSpec.model_validate(
                planned.model_dump()
                | self._brought_along(planned, init_from is not None)
                | given
                | {"init_from": init_from}
            )
        except ValidationError as error:
            problem = error.errors()[0]
            field_name = ".".join(map(str, problem["loc"]))
            raise AutosegError(
                f"{field_name}: {problem['msg'].removeprefix('Input ')}, got {problem['input']}"
            ) from None

    def _brought_along(self, planned: TrainingSpec, fine_tuned: bool) -> dict[str, float]:
        brought: dict[str, float] = {}
        if self.optimizer is not None and self.optimizer != planned.optimizer:
            brought["learning_rate"] = DEFAULT_RATES.get(self.optimizer, planned.learning_rate)
        if self.schedule is not None and self.schedule != planned.schedule:
            brought["warmup"] = DEFAULT_WARMUP.get(self.schedule, planned.warmup)
        if fine_tuned:
            usual = brought.get("learning_rate", planned.learning_rate)
            brought["learning_rate"] = round(usual / RATE_DIVISOR, 15)
            brought["warmup"] = max(brought.get("warmup", planned.warmup), WARMUP)
        return brought


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRequest:
    """What to train.

    Attributes:
        configuration: a name in the plan.
        fold: ``"fold0"`` and so on, or ``"everything"``.
        plan: name of the plan.
        run: name of the run.
        changes: what to change about the plan's recipe.
        init_from: the model to begin with, as ``locate_model`` takes it; None for none.
        restart: throw away what the run has so far.
        extend: epochs to train a finished run on; None to leave it as it is.
        device: as ``choose_device`` takes it.
        precision: as ``choose`` takes it.
        workers: processes that make batches; None for as many as fit.
        tensorboard: whether to write for TensorBoard, too.
        preview_every: epochs between two pictures of a validation case; 0 for none.
        augment_on: ``auto``, ``cpu`` or ``device``: where samples are varied.
    """

    configuration: str
    fold: str
    plan: str = "default"
    run: str = "default"
    changes: TrainingChanges = field(default_factory=TrainingChanges)
    init_from: str | None = None
    restart: bool = False
    extend: int | None = None
    device: str = "auto"
    precision: str = "auto"
    workers: int | None = None
    tensorboard: bool = False
    preview_every: int = 0
    augment_on: str = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingInputs:
    """What earlier stages left, and the recipe to train with.

    Attributes:
        dataset: the task's data.
        fingerprint: their measurements.
        plan: the plan.
        beginning: weights of another model to begin with; None for random ones, or if the run
            has begun.
        configuration: the one to train.
        split: who trains and who is held out.
        store: the prepared cases, up to date.
        spec: the plan's recipe with the request's changes.
        previous: what a cascade builds on.
        share: which part of each batch this process makes: that of a rank among so many.
    """

    dataset: Dataset
    fingerprint: Fingerprint
    plan: Plan
    beginning: Beginning | None = None
    configuration: Configuration
    split: Split
    store: CaseStore
    spec: TrainingSpec
    previous: Previous | None = None
    share: tuple[int, int] = (0, 1)

    @property
    def recipe(self) -> Recipe:
        """How the cases were prepared."""
        return self.store.manifest.recipe

    @property
    def annotated(self) -> dict[str, tuple[str, ...]]:
        """What is annotated in those cases of the fold that are not annotated for everything."""
        return partly_annotated(self._cases_of({*self.split.train, *self.split.validation}))

    @property
    def known_outputs(self) -> dict[str, tuple[bool, ...]]:
        """Which outputs of the network those cases are annotated for."""
        labels, annotated = self.dataset.labels, self.annotated
        # One tuple for all cases that are alike: it is sent to every process.
        known = {which: known_outputs(labels, which) for which in set(annotated.values())}
        return {case: known[which] for case, which in annotated.items()}

    def not_annotated(self, case: str) -> tuple[str, ...]:
        """Names of the structures that a case of the fold is not annotated for."""
        return left_out(self.dataset.labels, self.annotated.get(case))

    def tell_partial_labels(self) -> None:
        """Log what each structure is learnt from, unless that is every training case."""
        tell_partial_labels(self.dataset.labels, self._cases_of(self.split.train))

    def _cases_of(self, names: Collection[str]) -> list[Case]:
        return [case for case in self.dataset.cases if case.name in names]

    def _known_in(self, cases: Sequence[str]) -> tuple[tuple[bool, ...], ...] | None:
        known, everything = self.known_outputs, (True,) * self.dataset.labels.num_outputs
        if not known.keys() & set(cases):
            return None
        return tuple(known.get(case, everything) for case in cases)

    def batches(self, part: Part) -> BatchSpec:
        """How batches of a part are drawn."""
        planned = self.configuration
        cases = self.split.train if part == "train" else self.split.validation
        return BatchSpec(
            folder=self.store.folder,
            cases=cases,
            known=self._known_in(cases),
            batch_size=planned.batch_size,
            patch_size=planned.patch_size,
            centre_on_annotated=self.dataset.labels.ignore is not None,
            foreground_fraction=self.spec.foreground_fraction,
            augmentation=self.spec.augmentation,
            mirror_axes=self.spec.mirror_axes,
            masked_channels=tuple(i for i, used in enumerate(planned.use_mask_for_norm) if used),
            seed=self.spec.seed,
            part=part,
            previous=self._previous_labels,
            share=self.share,
        )

    @property
    def _previous_labels(self) -> PreviousLabels | None:
        if self.previous is None:
            return None
        num_labels = self.dataset.labels.num_classes - 1
        return PreviousLabels(folders=self.previous.folders, num_labels=num_labels)

    def model(self, request: TrainRequest, weights: str) -> Model:
        """The model file of a finished fold, whose weights lie beside it."""
        member = Member(configuration=request.configuration, fold=request.fold, weights=weights)
        distributions = ("autoseg", "torch", "numpy", "batchgenerators")
        return Model(
            task=self.dataset.name,
            run=request.run,
            channels=self.dataset.channels,
            labels=self.dataset.labels,
            plan=self.plan,
            training=self.spec,
            held_out=() if request.fold == EVERYTHING else self.split.validation,
            members=(member,),
            previous=() if self.previous is None else self.previous.bundles,
            previous_weights={} if self.previous is None else dict(self.previous.weights),
            min_spacing=self.fingerprint.min_spacing,
            max_spacing=self.fingerprint.max_spacing,
            versions={"python": platform.python_version()}
            | {name: version(name) for name in distributions},
        )


def load_inputs(task: TaskFolder, request: TrainRequest) -> TrainingInputs:
    """Load what a run needs; everything that would stop it later is found now.

    Raises:
        AutosegError: if something is missing, unknown, out of date, or cannot be trained.
    """
    planned = load_planned(task, request.plan)
    dataset, fingerprint, plan = planned.dataset, planned.fingerprint, planned.plan
    configuration = planned_configuration(plan, request.configuration)
    source = _source_of(task, request)
    weights = None if source is None else source.weights
    spec = request.changes.applied_to(configuration.training, weights)
    _check_names(configuration, spec)
    spec = _with_mirroring_as_trained(configuration, spec)
    split = _split_of(task, request.fold, dataset)
    store = _open_store(task, planned, request, split)
    previous = None
    if configuration.previous is not None:
        where = task.fold_folder(request.plan, request.configuration, request.run, request.fold)
        previous = find_previous(task, configuration.previous, where, split, store, dataset.labels)
    recipe = plan.recipe(request.configuration)
    inputs = TrainingInputs(
        dataset=dataset,
        fingerprint=fingerprint,
        plan=plan,
        beginning=source and find_beginning(source, dataset, configuration, recipe, split),
        configuration=configuration,
        split=split,
        store=store,
        spec=spec,
        previous=previous,
    )
    _check_model(inputs, request, task.plan_file(request.plan))
    return inputs


def _check_model(inputs: TrainingInputs, request: TrainRequest, place: Path) -> None:
    """See that the fold could be described when it is finished."""
    try:
        inputs.model(request, "")
    except ValidationError as error:
        finding = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
        remedy = "mend the plan or the data, then run: autoseg plan"
        raise ArtifactError(finding, place=place, remedy=remedy) from error


def _check_names(configuration: Configuration, spec: TrainingSpec) -> None:
    """Look every implementation up: an unknown name lists those there are."""
    NETWORKS.get(configuration.network.architecture)
    LOSSES.get(spec.loss)
    OPTIMIZERS.get(spec.optimizer)
    SCHEDULES.get(spec.schedule)
    AUGMENTATIONS.get(spec.augmentation)


def _with_mirroring_as_trained(configuration: Configuration, spec: TrainingSpec) -> TrainingSpec:
    """The recipe with the axes that its augmentation mirrors: prediction mirrors no others."""
    make = AUGMENTATIONS.get(spec.augmentation)
    mirrored = make(configuration.patch_size, spec.mirror_axes).mirror_axes
    return spec.model_copy(update={"mirror_axes": mirrored})


def check_beginning(task: TaskFolder, request: TrainRequest) -> None:
    """See that a run can begin with the model it names, before its cases are prepared.

    Raises:
        AutosegError: if there is no such model, or too little of it fits.
    """
    source = _source_of(task, request)
    if source is None:
        return
    planned = load_planned(task, request.plan)
    dataset, plan = planned.dataset, planned.plan
    configuration = planned_configuration(plan, request.configuration)
    split = _split_of(task, request.fold, dataset)
    find_beginning(source, dataset, configuration, plan.recipe(request.configuration), split)


def _source_of(task: TaskFolder, request: TrainRequest) -> Source | None:
    """The model the run is to begin with, or began with; None if there is none."""
    if request.init_from is None:
        return None
    folder = task.fold_folder(request.plan, request.configuration, request.run, request.fold)
    return find_source(request.init_from, task, folder, restart=request.restart)


def _split_of(task: TaskFolder, fold: str, dataset: Dataset) -> Split:
    if fold == EVERYTHING:
        names = tuple(case.name for case in dataset.cases)
        return Split(train=names, validation=names)
    return load_fold(task, fold, dataset)


def _open_store(
    task: TaskFolder,
    planned: Planned,
    request: TrainRequest,
    split: Split,
) -> CaseStore:
    """The prepared cases, if they are all there and made from the files as they are now."""
    name, plan = request.configuration, planned.plan
    option = "" if request.plan == "default" else f" --plan {request.plan}"
    remedy = f"run: autoseg preprocess {name}{option}"
    folder = task.prepared(plan.prepared_as(name), plan.recipe(name).key)
    if not folder.is_dir():
        raise WorkspaceError(f"{name} is not prepared for this plan", remedy=remedy)
    store = CaseStore(folder)
    wanted = sorted({*split.train, *split.validation})
    prepared = set(store.names())
    missing = [n for n in wanted if n not in prepared]
    if missing:
        raise WorkspaceError(f"{_some(missing)} not prepared for {name}", remedy=remedy)
    measured, labels = planned.fingerprint, planned.dataset.labels
    sources = {n: source_of(measured.case(n), labels) for n in wanted}
    stale = [n for n in wanted if not store.is_current(n, sources[n])]
    if stale:
        raise WorkspaceError(
            f"{_some(stale)} damaged, or prepared from files or labels that have changed since",
            remedy=remedy,
        )
    return store


def _some(names: list[str]) -> str:
    return f"{len(names)} cases (the first is '{names[0]}') are"
