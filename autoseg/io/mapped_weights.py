"""Weights used where they lie in a file: mapped, not read.

The header of safetensors is read here and not by its library, which reads whole files of its own
only. Nothing a header says is believed before it was compared with the bytes that are there.
"""

from __future__ import annotations

import json
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoseg.errors import ArtifactError

if TYPE_CHECKING:
    from torch import Tensor

_LENGTH = struct.Struct("<Q")
_LARGEST_HEADER = 8 << 20
_MOST_AXES = 8
_LARGEST_COUNT = 1 << 62

# torch's name and bytes per number.
_TYPES = {
    "F64": ("float64", 8),
    "F32": ("float32", 4),
    "F16": ("float16", 2),
    "BF16": ("bfloat16", 2),
    "I64": ("int64", 8),
    "I32": ("int32", 4),
    "I16": ("int16", 2),
    "I8": ("int8", 1),
    "U8": ("uint8", 1),
    "BOOL": ("bool", 1),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTensor:
    """Where a tensor lies.

    Attributes:
        dtype: as safetensors names it.
        shape: numbers per axis.
        start: first byte, from the beginning of the weights.
        stop: the byte after the last.
    """

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


def read_header(content: memoryview) -> dict[str, StoredTensor]:
    """Find the tensors in weights as safetensors writes them.

    Args:
        content: the bytes of the whole file.

    Returns:
        Tensors by name; together they are all bytes after the header, each once.

    Raises:
        ArtifactError: if that is not so; without a place.
    """
    if len(content) < _LENGTH.size:
        raise ArtifactError("no safetensors: too short")
    (length,) = _LENGTH.unpack(content[: _LENGTH.size])
    start = _LENGTH.size + length
    if length > _LARGEST_HEADER or start > len(content):
        raise ArtifactError(f"no safetensors: a header of {length} bytes")
    try:
        # Not only its own error: numbers of thousands of digits are another one.
        header = json.loads(bytes(content[_LENGTH.size : start]).decode())
    except (ValueError, RecursionError) as error:
        raise ArtifactError("no safetensors: the header is not JSON") from error
    if not isinstance(header, dict):
        raise ArtifactError("no safetensors: the header is not a JSON object")
    header.pop("__metadata__", None)
    found = {name: _tensor(name, entry, start) for name, entry in header.items()}
    _check_cover(found, start, len(content))
    return found


def map_tensors(
    file: mmap.mmap, offset: int, tensors: Mapping[str, StoredTensor]
) -> dict[str, Tensor]:
    """Tensors whose numbers stay in the file until they are used.

    Args:
        file: mapped with ``ACCESS_COPY``: what is written to a tensor is not written to the file.
        offset: first byte of the weights in the file.
        tensors: where they lie in the weights.

    Returns:
        Tensors on the CPU by name, which keep the file mapped: closing it is a ``BufferError``
        while one of them is there.
    """
    import torch

    # Tensors hold on to what they are given: a view keeps the file from being closed below them.
    view = memoryview(file)
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        dtype = getattr(torch, _TYPES[tensor.dtype][0])
        count = prod(tensor.shape)
        flat = (
            torch.frombuffer(view, dtype=dtype, count=count, offset=offset + tensor.start)
            if count
            else torch.empty(0, dtype=dtype)
        )
        found[name] = flat.view(tensor.shape)
    return found


def map_file(path: Path) -> mmap.mmap:
    """Map a file; it must not be empty.

    Raises:
        OSError: if it cannot be read.
    """
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)


def _tensor(name: str, entry: Any, start: int) -> StoredTensor:  # noqa: ANN401 - any JSON
    try:
        dtype, shape, (first, last) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        numbers = (*shape, first, last)
        is_sound = len(shape) <= _MOST_AXES and all(
            type(n) is int and 0 <= n < _LARGEST_COUNT for n in numbers
        )
        width = _TYPES[dtype][1]
        # Numbers that lie across the borders of words cannot be mapped everywhere.
        if not is_sound or last - first != prod(shape) * width or (start + first) % width:
            raise ValueError
    except (KeyError, TypeError, ValueError):
        raise ArtifactError(f"no safetensors: the header is wrong about {name!r:.60}") from None
    return StoredTensor(dtype=dtype, shape=shape, start=start + first, stop=start + last)


def _check_cover(tensors: Mapping[str, StoredTensor], start: int, stop: int) -> None:
    """Tensors must neither overlap nor leave bytes between them."""
    for tensor in sorted(tensors.values(), key=lambda tensor: (tensor.start, tensor.stop)):
        if tensor.start != start:
            raise ArtifactError("no safetensors: tensors overlap, or leave bytes between them")
        start = tensor.stop
    if start != stop:
        raise ArtifactError("no safetensors: the header does not fit the number of bytes")
