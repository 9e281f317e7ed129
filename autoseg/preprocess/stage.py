"""``autoseg preprocess``: raw images -> prepared cases."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from autoseg.core.dataset import Case, Dataset
from autoseg.core.fingerprint import CaseFingerprint, FileStamp, Fingerprint
from autoseg.core.labels import LabelSpace, count_voxels
from autoseg.core.plan import Recipe
from autoseg.core.progress import Progress, silent
from autoseg.core.words import counted, size_in_words
from autoseg.errors import AutosegError, DataError
from autoseg.imaging.positions import foreground_positions
from autoseg.imaging.prepare import OUTSIDE, Preparation
from autoseg.io import atomic
from autoseg.io.artifacts import shown
from autoseg.io.case_store import CaseInfo, CaseStore, Manifest, slab_rows, source_of, write_case
from autoseg.io.images import read_image, read_labels
from autoseg.io.machine import available_memory_bytes
from autoseg.io.stamps import is_unchanged
from autoseg.io.task import Planned, load_plan, load_planned, planned_configuration
from autoseg.io.workspace import TaskFolder
from autoseg.preprocess.estimate import Estimate, estimate_work, prepared_shape
from autoseg.workers import map_cases

logger = logging.getLogger(__name__)

POSITIONS_SEED = 1234


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A case that could not be prepared, and why."""

    name: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    folder: Path
    name: str
    images: tuple[Path, ...]
    label: Path
    measured: CaseFingerprint
    labels: LabelSpace
    recipe: Recipe
    patch_size: tuple[int, ...]


def preprocess_task(
    task: TaskFolder,
    configurations: Sequence[str] = (),
    plan_name: str = "default",
    workers: int | None = None,
    progress: Progress = silent,
) -> list[Failure]:
    """Prepare all cases for some configurations; what is prepared already is kept.

    Args:
        task: the task's folder.
        configurations: names in the plan; none for all.
        plan_name: name of the plan.
        workers: processes; None for as many as fit.
        progress: called after each case.

    Returns:
        The cases that failed; all others are prepared.

    Raises:
        AutosegError: if a configuration is unknown, something is missing, or the disk is too
            small.
    """
    planned = load_planned(task, plan_name)
    plan = planned.plan
    for name in configurations:
        planned_configuration(plan, name)
    failures: list[Failure] = []
    done: set[Path] = set()
    for name in configurations or plan.configurations:
        folder = task.prepared(plan.prepared_as(name), plan.recipe(name).key)
        if folder not in done:
            done.add(folder)
            failures += _prepare_configuration(folder, name, planned, workers, progress)
    failed = {failure.name for failure in failures}
    _warn_of_changed(task, planned, [c for c in planned.dataset.cases if c.name not in failed])
    _tell_unused(task)
    return failures


def _prepare_configuration(
    folder: Path,
    configuration: str,
    planned: Planned,
    workers: int | None,
    progress: Progress,
) -> list[Failure]:
    plan, dataset, fingerprint = planned.plan, planned.dataset, planned.fingerprint
    recipe = plan.recipe(configuration)
    with atomic.lock(folder.with_name(f".{folder.name}.lock")):
        manifest = Manifest(recipe=recipe, configuration=configuration)
        store = CaseStore.create(folder, manifest)
        wanted = _to_prepare(store, dataset, fingerprint)
        if not wanted:
            _tell_size(configuration, store, 0, len(dataset.cases))
            return []
        estimate = estimate_work(wanted, fingerprint, plan, configuration, workers)
        _announce(configuration, estimate, folder)
        patch = plan.configurations[configuration].patch_size
        sizes = {n: prod(prepared_shape(fingerprint.case(n), plan, configuration)) for n in wanted}
        # The largest first: no worker is left alone with it at the end.
        wanted.sort(key=sizes.__getitem__, reverse=True)
        jobs = [(name, _job(folder, name, dataset, fingerprint, recipe, patch)) for name in wanted]
        voxels = [sizes[name] for name in wanted]
        outcomes = map_cases(_prepare_case, jobs, estimate.workers, progress, voxels)
        atomic.remove_partial(folder)  # of workers that were killed while they wrote
        failures = [Failure(name=o.name, error=o.error) for o in outcomes if o.error is not None]
        _tell_size(configuration, store, len(failures), len(dataset.cases))
    return failures


def _announce(configuration: str, estimate: Estimate, folder: Path) -> None:
    logger.info(
        "%s: %s, about %.0f s with %s, up to %s of memory, %s on disk",
        configuration,
        counted(estimate.num_cases, "case"),
        max(1.0, estimate.elapsed_s),
        counted(estimate.workers, "worker") if estimate.workers else "this process",
        size_in_words(estimate.memory_bytes),
        size_in_words(estimate.disk_bytes),
    )
    free = shutil.disk_usage(folder).free
    if estimate.disk_bytes > free:
        raise AutosegError(
            f"{size_in_words(estimate.disk_bytes)} are needed, {size_in_words(free)} are free",
            place=folder,
            remedy="make room, or choose another disk with --workspace",
        )
    available = available_memory_bytes()
    if estimate.memory_bytes > available:
        logger.warning(
            "this may not fit into the memory that is free now (%s): %s",
            size_in_words(available),
            "take fewer --workers" if estimate.workers > 1 else "end other programs",
        )


def _tell_size(configuration: str, store: CaseStore, num_failed: int, total: int) -> None:
    done = f"{total - num_failed} of {total}" if num_failed else f"all {total}"
    size = size_in_words(store.size_bytes())
    logger.info(
        "%s: %s cases are prepared, %s in %s", configuration, done, size, shown(store.folder)
    )


def _warn_of_changed(task: TaskFolder, planned: Planned, cases: Sequence[Case]) -> None:
    """Name what was prepared of files that have changed since: nothing else would tell.

    Files that are not there are no reason to say anything: raw data may be put away.
    """
    changed = [
        case.name
        for case in cases
        if any(
            path.exists() and not is_unchanged(path, seen)
            for path, seen in _files(planned.dataset, planned.fingerprint, case)
        )
    ]
    if changed:
        logger.warning(
            "files of %s changed since the plan was made (the first is '%s'), what is prepared is "
            "of the old ones: repeat autoseg plan %s",
            *(counted(len(changed), "case"), changed[0], task.name),
        )


def _files(
    dataset: Dataset, fingerprint: Fingerprint, case: Case
) -> Iterator[tuple[Path, FileStamp]]:
    """The raw files of a case, and what they looked like when they were measured."""
    paths = (*dataset.image_paths(case), dataset.label_path(case))
    return zip(paths, fingerprint.case(case.name).files, strict=True)


def _tell_unused(task: TaskFolder) -> None:
    """Name what lies there for no plan: a changed plan leaves gigabytes behind, silently."""
    try:
        plans = [load_plan(task, name) for name in task.plan_names()]
    except AutosegError:  # it is not this command's business, and may need any of them
        return
    used = {
        task.prepared(plan.prepared_as(name), plan.recipe(name).key)
        for plan in plans
        for name in plan.configurations
    }
    for folder in task.prepared_folders():
        if folder not in used:
            size = size_in_words(CaseStore(folder).size_bytes())
            logger.info("%s (%s) belongs to no plan: it may be deleted", shown(folder), size)


def _to_prepare(store: CaseStore, dataset: Dataset, fingerprint: Fingerprint) -> list[str]:
    """Cases that are missing or damaged, or were made from other files or labels."""
    sources = {
        case.name: source_of(fingerprint.case(case.name), dataset.labels) for case in dataset.cases
    }
    return [name for name, source in sources.items() if not store.is_current(name, source)]


def _job(
    folder: Path,
    name: str,
    dataset: Dataset,
    fingerprint: Fingerprint,
    recipe: Recipe,
    patch_size: tuple[int, ...],
) -> _Job:
    case = dataset.case(name)
    return _Job(
        folder=folder,
        name=name,
        images=dataset.image_paths(case),
        label=dataset.label_path(case),
        labels=dataset.labels,
        measured=fingerprint.case(name),
        recipe=recipe,
        patch_size=patch_size,
    )


def _prepare_case(job: _Job) -> None:
    files = (*job.images, job.label)
    _refuse_changed(files, job.measured.files)
    image, label_map = read_image(job.images), read_labels(job.label, job.labels)
    # Once more: one that was replaced while it was read would be taken for the old one for ever.
    _refuse_changed(files, job.measured.files)
    indices = job.labels.to_indices(label_map.array)
    del label_map
    ignored = job.labels.ignore_index
    case = Preparation(image.array, image.geometry.spacing, job.recipe, indices, ignored)
    del image, indices
    labels = case.labels
    assert labels is not None
    structures = _structures(job.labels)
    rng = np.random.default_rng(POSITIONS_SEED)
    positions = foreground_positions(labels, structures, rng)
    shape = case.trace.prepared_shape
    info = CaseInfo(
        name=job.name,
        source=source_of(job.measured, job.labels),
        shape=shape,
        trace=case.trace.to_json(),
        position_counts=tuple(len(found) for found in positions),
        label_voxels=count_voxels(labels, len(job.labels.values))[1 : job.labels.num_classes],
    )
    slabs = case.slabs(slab_rows(shape, job.patch_size))
    write_case(job.folder, job.name, slabs, labels, positions, info, job.patch_size)


def _refuse_changed(paths: Sequence[Path], measured: Sequence[FileStamp]) -> None:
    """A store must not say that it was made of files that are there no longer."""
    for path, seen in zip(paths, measured, strict=True):
        if not is_unchanged(path, seen):
            finding = "has changed since it was measured" if path.exists() else "is gone"
            raise DataError(finding, place=path, remedy="run: autoseg plan TASK")


def _structures(labels: LabelSpace) -> tuple[tuple[int, ...], ...]:
    """What training may centre patches on: indices of each structure, and of all annotated."""
    structures = tuple(labels.indices_of(structure) for structure in labels.structures)
    if labels.ignore is None:
        return structures
    return (*structures, (OUTSIDE, *range(labels.num_classes)))
