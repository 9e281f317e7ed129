"""``autoseg preprocess``: raw images -> prepared cases."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from autoseg.core.dataset import Dataset
from autoseg.core.fingerprint import Fingerprint
from autoseg.core.labels import LabelSpace
from autoseg.core.plan import Recipe
from autoseg.core.progress import Progress, silent
from autoseg.errors import AutosegError
from autoseg.imaging.prepare import OUTSIDE, foreground_positions, prepare
from autoseg.io import atomic
from autoseg.io.case_store import CaseInfo, CaseStore, Manifest, write_case
from autoseg.io.images import read_image, read_labels
from autoseg.io.task import Planned, load_planned, planned_configuration
from autoseg.io.workspace import TaskFolder
from autoseg.preprocess.estimate import Estimate, estimate_work
from autoseg.workers import available_memory_bytes, map_cases

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
    labels: LabelSpace
    recipe: Recipe
    patch_size: tuple[int, ...]
    source: str


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
        wanted = _to_prepare(CaseStore.create(folder, manifest), dataset, fingerprint)
        if not wanted:
            logger.info("%s: all %d cases are prepared", configuration, len(dataset.cases))
            return []
        estimate = estimate_work(wanted, fingerprint, plan, configuration, workers)
        _announce(configuration, estimate, folder)
        patch = plan.configurations[configuration].patch_size
        jobs = [(name, _job(folder, name, dataset, fingerprint, recipe, patch)) for name in wanted]
        outcomes = map_cases(_prepare_case, jobs, estimate.workers, progress)
    return [Failure(name=o.name, error=o.error) for o in outcomes if o.error is not None]


def _announce(configuration: str, estimate: Estimate, folder: Path) -> None:
    logger.info(
        "%s: %d cases, about %.0f s with %d workers, %.1f GB of memory, %.2f GB on disk",
        configuration,
        estimate.num_cases,
        max(1.0, estimate.elapsed_s),
        estimate.workers,
        estimate.memory_bytes / 1e9,
        estimate.disk_bytes / 1e9,
    )
    free = shutil.disk_usage(folder).free
    if estimate.disk_bytes > free:
        raise AutosegError(
            f"{estimate.disk_bytes / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free",
            place=folder,
            remedy="make room, or choose another disk with --workspace",
        )
    if estimate.memory_bytes > available_memory_bytes():
        logger.warning("this may not fit into the memory that is free now")


def _to_prepare(store: CaseStore, dataset: Dataset, fingerprint: Fingerprint) -> list[str]:
    """Cases that are missing, or were made from other files than those measured."""
    present = set(store.names())
    return [
        case.name
        for case in dataset.cases
        if case.name not in present
        or store.info(case.name).source != fingerprint.case(case.name).source
    ]


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
        recipe=recipe,
        patch_size=patch_size,
        source=fingerprint.case(name).source,
    )


def _prepare_case(job: _Job) -> None:
    image, label_map = read_image(job.images), read_labels(job.label, job.labels)
    indices = job.labels.to_indices(label_map.array)
    prepared = prepare(image.array, image.geometry.spacing, job.recipe, indices)
    assert prepared.labels is not None
    structures = [job.labels.indices_of(structure) for structure in job.labels.structures]
    if job.labels.ignore is not None:
        # Training also centres patches on what is annotated at all.
        structures.append((OUTSIDE, *range(job.labels.num_classes)))
    rng = np.random.default_rng(POSITIONS_SEED)
    positions = foreground_positions(prepared.labels, structures, rng)
    counts = np.bincount(np.maximum(prepared.labels, 0).ravel(), minlength=job.labels.num_classes)
    z, y, x = prepared.labels.shape
    info = CaseInfo(
        name=job.name,
        source=job.source,
        shape=(z, y, x),
        trace=prepared.trace.to_json(),
        position_counts=tuple(len(p) for p in positions),
        label_voxels=tuple(counts[1 : job.labels.num_classes].tolist()),
    )
    write_case(
        job.folder, job.name, prepared.image, prepared.labels, positions, info, job.patch_size
    )
