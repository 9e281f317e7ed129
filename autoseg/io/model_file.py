"""Model files: everything that is needed to segment, in one file and without code.

A zip file of JSON and safetensors whose entries lie there as they are, so that weights are mapped
and not copied. What is read is believed only after it was compared with its hash, and the hashes
stand in the first entry.
"""

from __future__ import annotations

import hashlib
import mmap
import posixpath
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

from autoseg.core.artifact import Artifact
from autoseg.core.model import Model
from autoseg.core.model_file import FileEntry, FoldScores, ModelFile, ModelGroup
from autoseg.core.selection import CleanUp
from autoseg.errors import ArtifactError, AutosegError
from autoseg.io import artifacts, atomic, bundle
from autoseg.io.mapped_weights import StoredTensor, map_file, map_tensors, read_header
from autoseg.io.stored_zip import (
    REMEDY,
    ZIP_SIGNATURE,
    StoredEntry,
    read_entries,
    write_entries,
)
from autoseg.io.trained import Trained, begins_with, from_bundle, identity_of

if TYPE_CHECKING:
    from torch import Tensor

A = TypeVar("A", bound=Artifact)

SUFFIX = ".autoseg"
MANIFEST = "model.json"

_FOLDER = "models"
_MOST_ENTRIES = 4096
_LARGEST_JSON = 8 << 20


# Writing


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedGroup:
    """Trained folds of one configuration that go into a file.

    Attributes:
        bundles: their model files.
        held_out: scores of those that have any.
    """

    bundles: tuple[Path, ...]
    held_out: tuple[FoldScores, ...] = ()


def write_model_file(
    path: Path,
    groups: Sequence[PackedGroup],
    *,
    clean_up: Sequence[CleanUp] = (),
    summary: str = "",
    versions: Mapping[str, str],
    check: Callable[[OpenedModel], object] | None = None,
) -> OpenedModel:
    """Write a model file, whole or not at all; equal models give equal bytes.

    Names of cases stay behind.

    Args:
        path: the file to appear.
        groups: what predicts.
        clean_up: what is removed afterwards.
        summary: how the model was chosen.
        versions: of the software that writes, by distribution name.
        check: called with the written file before it appears, which is closed afterwards; None to
            look at the hashes only.

    Returns:
        The file, read again and found sound.

    Raises:
        AutosegError: if a model is broken, or the file cannot be written.
    """
    packing = _Packing()
    entered = [
        ModelGroup(models=tuple(map(packing.add, group.bundles)), held_out=group.held_out)
        for group in groups
    ]
    first = bundle.load_model(groups[0].bundles[0])
    manifest = ModelFile(
        task=first.task,
        channels=first.channels,
        labels=first.labels,
        groups=tuple(entered),
        clean_up=tuple(clean_up),
        summary=summary,
        versions=dict(sorted(versions.items())),
        entries=tuple(_entry(name, content) for name, content in packing.entries),
    )
    with atomic.atomic_path(path) as partial_path:
        write_entries(partial_path, [(MANIFEST, _as_bytes(manifest)), *packing.entries])
        # An open file cannot be moved to its place everywhere.
        with OpenedModel(partial_path) as written:
            if check is not None:
                check(written)
    return OpenedModel(path)


class _Packing:
    """Entries of models, each set of weights once; a previous stage comes before what reads it."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, str], str] = {}
        self.entries: list[tuple[str, bytes | Path]] = []

    def add(self, path: Path) -> str:
        """Enter a model, if it is not there yet; returns the name of its entry."""
        trained = from_bundle(path)
        if len(trained.model.members) != 1:
            raise ArtifactError("holds several sets of weights, where one is wanted", place=path)
        return self._add(trained)

    def _add(self, trained: Trained) -> str:
        previous = tuple(posixpath.basename(self._add(one)) for one in trained.previous)
        described = trained.model.model_copy(update={"previous": previous, "held_out": ()})
        # Not the identity: what is known of the quality is kept, too.
        key = artifacts.as_text(described), trained.identity
        if key not in self._names:
            number = len(self._names)
            weights = f"{number}.safetensors"
            member = described.members[0].model_copy(update={"weights": weights})
            content = _as_bytes(described.model_copy(update={"members": (member,)}))
            self._names[key] = f"{_FOLDER}/{number}.json"
            self.entries.append((self._names[key], content))
            self.entries.append((f"{_FOLDER}/{weights}", trained.place))
        return self._names[key]


def _as_bytes(artifact: Artifact) -> bytes:
    return artifacts.as_text(artifact).encode()


def _entry(name: str, content: bytes | Path) -> FileEntry:
    if isinstance(content, bytes):
        return FileEntry(name=name, size=len(content), sha256=hashlib.sha256(content).hexdigest())
    with content.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FileEntry(name=name, size=content.stat().st_size, sha256=digest)


# Reading


def is_model_file(path: Path) -> bool:
    """Whether a path means a model file, sound or not, whatever it is called."""
    if not path.is_file():
        return False
    return path.suffix.lower() == SUFFIX or begins_with(path, ZIP_SIGNATURE)


def open_groups(
    groups: Sequence[Sequence[Path]], clean_up: Sequence[CleanUp] = (), *, single: bool = False
) -> tuple[list[list[Trained]], tuple[CleanUp, ...]]:
    """All that predicts together and what is cleaned up afterwards, wherever it lies.

    Args:
        groups: of each configuration and run, one ``bundle.json`` per fold; or one model file,
            which brings its own clean-up.
        clean_up: what is removed after those folds.
        single: whether to take one fold of a model file only, of its best configuration.

    Raises:
        AutosegError: if a model is not there, or not sound.
    """
    if len(groups) == 1 and len(groups[0]) == 1 and is_model_file(groups[0][0]):
        opened = OpenedModel(groups[0][0])
        found = opened.groups()
        if single:
            found = [found[opened.manifest.best_group][:1]]
        return found, opened.manifest.clean_up
    return [[from_bundle(path) for path in group] for group in groups], tuple(clean_up)


class OpenedModel:
    """A model file that is what it says; with ``with`` it is closed in the end.

    Args:
        path: the file.

    Attributes:
        path: the file.
        manifest: what it says about itself.

    Raises:
        ArtifactError: if it is no model file, damaged, of a newer version, or made to do harm.
        AutosegError: if it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise ArtifactError("there is no model here", place=path)
        try:
            found = read_entries(path)
            self._file: mmap.mmap = map_file(path)
        except OSError as error:
            raise AutosegError(f"cannot be read ({error.strerror})", place=path) from error
        self.manifest = self._read_manifest(found)
        self._entries = {entry.name: entry for entry in found}
        self._check_hashes(found[1:])
        self._models = {
            entry.name: self._artifact(entry, Model)
            for entry in found[1:]
            if entry.name.endswith(".json")
        }
        self._headers = {name: self._header(name) for name in self._models}
        self._check_models()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file: its weights cannot be read any more.

        Tensors that are still in use keep it mapped, and themselves usable.
        """
        with suppress(BufferError):
            self._file.close()

    @cached_property
    def identity(self) -> str:
        """A hash of all that is in the file."""
        text = artifacts.as_text(self.manifest)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def groups(self) -> list[list[Trained]]:
        """The models that predict together, previous stages with them."""
        made: dict[str, Trained] = {}
        # Previous stages come before those that build on them.
        for name, model in self._models.items():
            previous = tuple(made[self._beside(name, one)] for one in model.previous)
            made[name] = Trained(
                model=model,
                place=self.path / self._weights_of(name),
                description=self.path / name,
                identity=identity_of(model, self._hash_of(self._weights_of(name))),
                weights=partial(self._map, name),
                previous=previous,
            )
        return [[made[name] for name in group.models] for group in self.manifest.groups]

    def _map(self, name: str) -> dict[str, Tensor]:
        entry = self._entries[self._weights_of(name)]
        return map_tensors(self._file, entry.start, self._headers[name])

    def _hash_of(self, name: str) -> str:
        return next(entry.sha256 for entry in self.manifest.entries if entry.name == name)

    def _weights_of(self, name: str) -> str:
        return self._beside(name, self._models[name].members[0].weights)

    @staticmethod
    def _beside(name: str, other: str) -> str:
        return posixpath.join(posixpath.dirname(name), other)

    # Checks, each before what it protects is used

    def _read_manifest(self, found: Sequence[StoredEntry]) -> ModelFile:
        if not found or found[0].name != MANIFEST or len(found) > _MOST_ENTRIES:
            raise self._refusal(f"no model file: it begins not with {MANIFEST}, or is too long")
        if zlib.crc32(self._content(found[0])) != found[0].crc:
            raise self._refusal("damaged", MANIFEST)
        manifest = self._artifact(found[0], ModelFile)
        listed = [(entry.name, entry.size) for entry in manifest.entries]
        if listed != [(entry.name, entry.size) for entry in found[1:]]:
            raise self._refusal("its entries are not those it lists", MANIFEST)
        return manifest

    def _check_hashes(self, found: Sequence[StoredEntry]) -> None:
        for listed, entry in zip(self.manifest.entries, found, strict=True):
            if hashlib.sha256(self._content(entry)).hexdigest() != listed.sha256:
                raise self._refusal("damaged: the content has another hash than listed", entry.name)

    def _check_models(self) -> None:
        """Every entry belongs to a model, and every model to what predicts."""
        used = self._check_groups()
        order = list(self._models)
        for number, name in reversed(list(enumerate(order))):
            model = self._models[name]
            previous = [self._beside(name, one) for one in model.previous]
            is_cascade = model.configuration.previous is not None
            if is_cascade != bool(previous) or not set(previous) <= set(order[:number]):
                raise self._refusal("its previous stage does not come before it", name)
            used.update(previous if name in used else ())
        weights = [self._weights_of(name) for name in order]
        if set(order) | set(weights) != set(self._entries) - {MANIFEST} or used != set(order):
            raise self._refusal("holds entries that belong to no model")

    def _check_groups(self) -> set[str]:
        named: set[str] = set()
        for name in (name for group in self.manifest.groups for name in group.models):
            if name not in self._models or name in named:
                raise self._refusal(f"groups: {name!r:.60} is no model, or named twice")
            model = self._models[name]
            if (model.labels, model.channels) != (self.manifest.labels, self.manifest.channels):
                raise self._refusal("labels or channels are not those of the file", name)
            named.add(name)
        return named

    def _header(self, name: str) -> dict[str, StoredTensor]:
        model = self._models[name]
        if len(model.members) != 1 or self._weights_of(name) not in self._entries:
            raise self._refusal("one set of weights must belong to it", name)
        weights = self._weights_of(name)
        try:
            return read_header(self._content(self._entries[weights]))
        except ArtifactError as error:
            raise self._refusal(error.finding, weights) from error

    def _artifact(self, entry: StoredEntry, kind: type[A]) -> A:
        place = self.path / entry.name
        if entry.size > _LARGEST_JSON:
            raise self._refusal(f"{entry.size} bytes of JSON are too many", entry.name)
        try:
            data = artifacts.parse_object(place, str(self._content(entry), "utf-8"))
        except ValueError as error:
            raise self._refusal("not valid JSON", entry.name) from error
        return artifacts.parsed(place, kind, data, remedy=REMEDY)

    def _content(self, entry: StoredEntry) -> memoryview:
        return memoryview(self._file)[entry.start : entry.start + entry.size]

    def _refusal(self, finding: str, name: str = "") -> ArtifactError:
        return ArtifactError(finding, place=self.path / name, remedy=REMEDY)
