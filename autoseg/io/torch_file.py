"""Files of ``torch.save``, of which nothing but tensors and plain values is read."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor

from autoseg.errors import ArtifactError
from autoseg.io import artifacts
from autoseg.io.pickled import HostileError, checked_keys, read_values
from autoseg.io.zip_damage import ZIP_DAMAGE

_LARGEST_PICKLE = 256 * 2**20
_REMEDY = "use a checkpoint of a training that you trust"
_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


@dataclass(frozen=True, slots=True)
class _Storage:
    """Numbers in an entry of the archive."""

    key: str
    dtype: torch.dtype
    size: int


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor that has not been read yet.

    Attributes:
        storage: where its numbers are.
        offset: of its first number.
        shape: its sizes.
        stride: numbers from one to the next along each axis.
    """

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


class TorchFile:
    """A checkpoint as ``torch.save`` writes it; a context manager.

    Args:
        path: the file.

    Attributes:
        content: what was saved; tensors are ``StoredTensor`` until ``tensor`` reads them,
            numpy's scalars are Python's, its arrays and other means of optimizers None.

    Raises:
        ArtifactError: if it is no such file, is damaged, or holds more than tensors and plain
            values.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._archive = zipfile.ZipFile(path)
        except FileNotFoundError:
            raise ArtifactError("does not exist", place=artifacts.shown(path)) from None
        except (OSError, *ZIP_DAMAGE) as error:
            raise self._error(f"is no checkpoint of torch 1.6 or later ({error})") from error
        try:
            self._entries = self._checked_entries()
            self.content = self._read()
        except BaseException:
            self._archive.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._archive.close()

    def tensor(self, stored: StoredTensor) -> Tensor:
        """Read a tensor.

        Returns:
            A contiguous copy on the CPU.

        Raises:
            ArtifactError: if its numbers are not there, or fewer than it needs.
        """
        storage = stored.storage
        if 0 in stored.shape:
            return torch.empty(stored.shape, dtype=storage.dtype)
        numbers = torch.frombuffer(
            bytearray(self._bytes(f"data/{storage.key}", storage.size * storage.dtype.itemsize)),
            dtype=storage.dtype,
        )
        view = torch.as_strided(numbers, stored.shape, stored.stride, stored.offset)
        return view.clone(memory_format=torch.contiguous_format)

    def _error(self, finding: str) -> ArtifactError:
        return ArtifactError(finding, place=artifacts.shown(self._path), remedy=_REMEDY)

    def _checked_entries(self) -> dict[str, zipfile.ZipInfo]:
        """Entries by their name below the archive's folder; none is larger than the file."""
        infos = self._archive.infolist()
        compressed = any(info.compress_type != zipfile.ZIP_STORED for info in infos)
        if compressed or sum(info.file_size for info in infos) > self._path.stat().st_size:
            raise self._error("claims to hold more than its size, which torch.save never does")
        return {info.filename.partition("/")[2]: info for info in infos}

    def _bytes(self, name: str, size: int | None = None) -> bytes:
        info = self._entries.get(name)
        if info is None or (size is not None and info.file_size != size):
            finding = "lacks" if info is None else "has another size of"
            raise self._error(f"is damaged: {finding} '{name}'")
        try:
            return self._archive.read(info)
        except (OSError, *ZIP_DAMAGE) as error:
            raise self._error(f"is damaged ({error})") from error

    def _read(self) -> Any:  # noqa: ANN401 - a checkpoint holds anything
        info = self._entries.get("data.pkl")
        if info is None:
            raise self._error("is no checkpoint of torch 1.6 or later")
        if info.file_size > _LARGEST_PICKLE:
            raise self._error("has more beside its tensors than any checkpoint needs")
        if "byteorder" in self._entries and self._bytes("byteorder") != b"little":
            raise self._error("was written on a machine of another byte order")
        try:
            return read_values(self._bytes("data.pkl"), BUILDERS, _storage)
        except HostileError as error:
            raise self._error(f"refused: {error}") from error


# What pickles of checkpoints name


def _storage(identifier: object) -> _Storage:
    match identifier:
        case ("storage", kind, str(key), str(), int(size)):
            pass
        case _:
            raise HostileError("a storage is described badly")
    dtype = getattr(kind, "builder", lambda: None)()
    if not isinstance(dtype, torch.dtype) or size < 0 or not key.isalnum():
        raise HostileError("a storage is described badly")
    return _Storage(key, dtype, size)


def _tensor(
    storage: object, offset: object, shape: object, stride: object, *_others: object
) -> StoredTensor:
    numbers = [offset, *_tuple_of(shape), *_tuple_of(stride)]
    if not isinstance(storage, _Storage) or not all(
        type(number) is int and number >= 0 for number in numbers
    ):
        raise HostileError("a tensor is described badly")
    made = StoredTensor(storage, numbers[0], _tuple_of(shape), _tuple_of(stride))
    last = sum((size - 1) * by for size, by in zip(made.shape, made.stride, strict=True))
    is_empty = 0 in made.shape
    if not is_empty and (made.offset + last >= storage.size or prod(made.shape) > storage.size):
        raise HostileError("a tensor reaches beyond its numbers")
    return made


def _tuple_of(value: object) -> tuple[Any, ...]:
    if not isinstance(value, tuple):
        raise HostileError("a tensor is described badly")
    return value


def _parameter(data: object, *_others: object) -> StoredTensor:
    if not isinstance(data, StoredTensor):
        raise HostileError("a parameter is described badly")
    return data


def _ordered(items: Sequence[Any] = ()) -> dict[Any, Any]:
    pairs = [(key, value) for key, value in items]
    return dict(zip(checked_keys([key for key, _ in pairs]), [v for _, v in pairs], strict=True))


def _set(items: Sequence[Any] = ()) -> set[Any]:
    return set(checked_keys(items))


def _encode(text: object, encoding: object) -> bytes:
    """How pickles of protocol 2 write bytes."""
    if not isinstance(text, str) or encoding != "latin1":
        raise HostileError("bytes are described badly")
    return text.encode("latin1")


@dataclass(frozen=True, slots=True)
class _NumpyType:
    code: str


_FORMATS = dict(
    zip(
        ["f2", "f4", "f8", "b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"],
        ["e", "f", "d", "?", "b", "h", "i", "q", "B", "H", "I", "Q"],
        strict=True,
    )
)
"""Numpy's codes of numbers, as the standard library's ``struct`` writes them."""


def _numpy_type(code: object, *_others: object) -> _NumpyType:
    return _NumpyType(code if isinstance(code, str) else "")


def _numpy_scalar(dtype: object, data: object = b"") -> float | int | bool | None:
    """A number; None for texts and other things that nobody asks a model for."""
    known = _FORMATS.get(dtype.code) if isinstance(dtype, _NumpyType) else None
    if known is None:
        return None
    if not isinstance(data, bytes) or len(data) != struct.calcsize(known):
        raise HostileError("a number of numpy is described badly")
    return struct.unpack(f"<{known}", data)[0]


def _nothing(*_arguments: object) -> None:
    """Stands for what nobody asks a model for, such as a device."""


def _constant(value: object) -> Any:  # noqa: ANN401 - a stand-in
    return lambda *_arguments: value


BUILDERS: Mapping[str, Any] = {
    "collections.OrderedDict": _ordered,
    "collections.defaultdict": lambda *_arguments: {},
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch.Size": lambda sizes=(): _tuple_of(sizes),
    "torch.device": _nothing,
    "_codecs.encode": _encode,
    **{f"{module}.set": _set for module in ("builtins", "__builtin__")},
    "__builtin__.bytes": lambda *_arguments: b"",
    **{f"torch.{name}": _constant(dtype) for name, dtype in _STORAGES.items()},
    **{
        f"numpy.{core}.multiarray.{name}": builder
        for core in ("core", "_core")
        for name, builder in (("scalar", _numpy_scalar), ("_reconstruct", _nothing))
    },
    "numpy.dtype": _numpy_type,
    "numpy.ndarray": _nothing,
}
"""What checkpoints of nnU-Net name, and what stands in for it."""
