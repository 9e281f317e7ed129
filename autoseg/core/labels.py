"""What the values of a label map mean."""

from __future__ import annotations

from bisect import bisect_left
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from pydantic import model_validator

from autoseg.core.artifact import Frozen

_LARGEST_TABLE = 1 << 20
_SIGNED = (np.int8, np.int16, np.int32)


def smallest_type(values: npt.ArrayLike) -> np.dtype[np.integer]:
    """The smallest integer type that holds label values.

    Args:
        values: whole numbers, at least one.

    Returns:
        Unsigned, or of 16 bits and more if a value is negative: viewers know no signed bytes.
    """
    array = np.asarray(values)
    lowest, highest = int(array.min()), int(array.max())
    types = (np.uint8, np.uint16, np.uint32) if lowest >= 0 else (np.int16, np.int32, np.int64)
    for kind in types:
        if np.iinfo(kind).min <= lowest and highest <= np.iinfo(kind).max:
            return np.dtype(kind)
    return np.dtype(np.uint64)


class Structure(Frozen):
    """A named target.

    Attributes:
        name: what users call it.
        values: the file values that belong to it; more than one make it a region.
    """

    name: str
    values: tuple[int, ...]


class LabelSpace(Frozen):
    """The structures of a task and how file values map to indices and back.

    Indices are 0 for background and 1..n for the other file values in ascending order; an
    ignore label has index n + 1. Label maps inside autoseg hold indices, files hold values.

    Attributes:
        structures: the targets, in the order users declared them.
        background: file value of what belongs to no structure.
        ignore: file value of voxels nobody annotated, if there is one.
        output_values: with regions, the file value each structure is written as, one of its
            own, later ones over earlier ones.
    """

    structures: tuple[Structure, ...]
    background: int = 0
    ignore: int | None = None
    output_values: tuple[int, ...] | None = None

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        names = [structure.name for structure in self.structures]
        if not names:
            raise ValueError("there is no structure besides the background")
        if len(set(names)) != len(names):
            raise ValueError(f"structure names must differ, got {names}")
        for structure in self.structures:
            if not structure.values:
                raise ValueError(f"structure '{structure.name}' has no label value")
            if {self.background, self.ignore} & set(structure.values):
                raise ValueError(
                    f"structure '{structure.name}' uses the value of background or ignore"
                )
        if self.has_regions and self.output_values is None:
            raise ValueError("overlapping structures need 'output_values' (regions_class_order)")
        if not self.has_regions and len(self.foreground_values) != len(names):
            raise ValueError("two structures share one label value")
        self._check_output_values()
        return self

    def _check_output_values(self) -> None:
        if self.output_values is None:
            return
        if len(self.output_values) != len(self.structures):
            raise ValueError("'output_values' needs one value per structure")
        for structure, value in zip(self.structures, self.output_values, strict=True):
            if value not in structure.values:
                raise ValueError(
                    f"structure '{structure.name}' is to be written as {value}, which is none of "
                    f"its values ({', '.join(map(str, structure.values))}): 'output_values' "
                    "(regions_class_order) follows the order of the structures"
                )

    @property
    def has_regions(self) -> bool:
        """Whether structures may overlap."""
        return any(len(structure.values) > 1 for structure in self.structures)

    @property
    def foreground_values(self) -> tuple[int, ...]:
        """File values of all structures, ascending; value i belongs to index i + 1."""
        return tuple(sorted({value for s in self.structures for value in s.values}))

    @property
    def values(self) -> tuple[int, ...]:
        """File values by index: background, foreground ascending, ignore label if any."""
        ignore = () if self.ignore is None else (self.ignore,)
        return (self.background, *self.foreground_values, *ignore)

    @property
    def num_classes(self) -> int:
        """Number of indices a network tells apart: background and every foreground value."""
        return len(self.foreground_values) + 1

    @property
    def num_outputs(self) -> int:
        """Channels of a network's output: one per region, or one per index."""
        return len(self.structures) if self.has_regions else self.num_classes

    @property
    def regions(self) -> tuple[tuple[int, ...], ...] | None:
        """Indices that make up each structure; None where structures exclude each other."""
        if not self.has_regions:
            return None
        return tuple(self.indices_of(structure) for structure in self.structures)

    @property
    def num_entries(self) -> int:
        """Background, structures and ignore label, as a label table lists them."""
        return 1 + len(self.structures) + (self.ignore is not None)

    @property
    def ignore_index(self) -> int | None:
        """Index of the ignore label, if there is one."""
        return None if self.ignore is None else self.num_classes

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the structures, in declared order."""
        return tuple(structure.name for structure in self.structures)

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of a network's outputs but the background: of the regions, or by index."""
        if self.has_regions:
            return self.names
        by_value = {structure.values[0]: structure.name for structure in self.structures}
        return tuple(by_value[value] for value in self.foreground_values)

    @property
    def index_names(self) -> tuple[str, ...]:
        """What the indices 1..n are called in pictures.

        Where structures overlap it is the one written as that value, or all that share it.
        """
        written = dict(zip(self.output_values or (), self.names, strict=False))
        sharing = {
            value: " & ".join(s.name for s in self.structures if value in s.values)
            for value in self.foreground_values
        }
        return tuple(written.get(value, sharing[value]) for value in self.foreground_values)

    @property
    def output_indices(self) -> tuple[tuple[int, ...], ...]:
        """Indices that make up each of ``output_names``."""
        return self.regions or tuple((index,) for index in range(1, self.num_classes))

    def indices_of(self, structure: Structure) -> tuple[int, ...]:
        """Indices that make up a structure."""
        ascending = self.foreground_values
        return tuple(bisect_left(ascending, value) + 1 for value in structure.values)

    def undeclared(self, values: npt.ArrayLike) -> tuple[int, ...]:
        """Those of some file values that mean nothing in this label space."""
        return tuple(sorted({int(v) for v in np.asarray(values).ravel()} - set(self.values)))

    def to_indices(self, array: npt.NDArray[np.integer]) -> npt.NDArray[Any]:
        """Translate file values to indices.

        Args:
            array: integer file values, any shape.

        Returns:
            Indices of the same shape, in the smallest signed type that holds them all.

        Raises:
            ValueError: if a value is not declared.
        """
        declared = np.array(self.values)
        dtype = next(t for t in _SIGNED if len(declared) - 1 <= np.iinfo(t).max)
        if _are_indices(array, declared):
            return array.astype(dtype, copy=False)
        order = np.argsort(declared, kind="stable")
        present = np.unique(array)
        unknown = self.undeclared(present)
        if unknown:
            raise ValueError(f"label values {list(unknown)} are not declared")
        indices = order[np.searchsorted(declared, present, sorter=order)].astype(dtype)
        if present[0] < 0 or present[-1] >= _LARGEST_TABLE:
            return indices[np.searchsorted(present, array)]
        table = np.zeros(int(present[-1]) + 1, dtype=dtype)
        table[present] = indices
        return table[array]

    def to_values(self, indices: npt.NDArray[np.integer]) -> npt.NDArray[np.integer]:
        """Translate indices to file values, in the smallest unsigned type that holds them.

        Args:
            indices: integers 0..n (``num_classes - 1``), any shape.

        Returns:
            File values of the same shape; signed only if a value is negative.
        """
        values = np.array((self.background, *self.foreground_values))
        return values.astype(smallest_type(values))[indices]


def count_voxels(indices: npt.NDArray[np.integer], count: int) -> tuple[int, ...]:
    """Count the voxels of each index.

    Args:
        indices: ``(z, y, x)``; negative ones are not counted.
        count: number of indices, all of them below it.

    Returns:
        Voxels of index 0 to ``count - 1``.
    """
    voxels = np.zeros(count + 1, dtype=np.int64)
    # Plane by plane, because bincount wants eight bytes per voxel.
    for plane in indices:
        shifted = np.maximum(plane, -1).astype(np.intp) + 1
        voxels += np.bincount(shifted.ravel(), minlength=count + 1)
    return tuple(voxels[1:].tolist())


def _are_indices(array: npt.NDArray[np.integer], declared: npt.NDArray[Any]) -> bool:
    """Whether file values are indices as they are: so in most data sets, and quickly found."""
    if array.size == 0 or not np.array_equal(declared, np.arange(len(declared))):
        return False
    return int(array.min()) >= 0 and int(array.max()) < len(declared)
