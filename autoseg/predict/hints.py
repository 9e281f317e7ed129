"""What can be said about a segmentation without a reference: values in, values out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

import numpy as np
import numpy.typing as npt

from autoseg.core.geometry import Geometry
from autoseg.core.image import LabelMap
from autoseg.core.labels import LabelSpace, count_voxels
from autoseg.core.quality import QualityModel, Signals, mean_dice
from autoseg.imaging.boxes import bounding_box, crop
from autoseg.imaging.components import count_components
from autoseg.io.readers.base import SINGLE_SLICE_SPACING_MM
from autoseg.predict.record import CaseHints, StructureHints

_DIRECTIONS = {
    "S": "superior",
    "I": "inferior",
    "P": "posterior",
    "A": "anterior",
    "L": "left",
    "R": "right",
}
_OPPOSITE = dict(zip("SIPALR", "ISAPRL", strict=True))
_OF_PICTURES = (("front", "back"), ("top", "bottom"), ("left", "right"))

Qualities = Sequence[Sequence[QualityModel]]


def hints_of(
    label_map: LabelMap,
    labels: LabelSpace,
    signals: Sequence[Mapping[str, Signals]] = (),
    qualities: Qualities = (),
    warnings: Sequence[str] = (),
) -> CaseHints:
    """Describe a segmentation.

    Args:
        label_map: file values, as they are written.
        labels: what they mean.
        signals: of each model that predicted together, by structure.
        qualities: of each model, one per fold that has been calibrated.
        warnings: what is unusual about the image, a line each.
    """
    indices = labels.to_indices(label_map.array)
    geometry = label_map.geometry
    voxels = count_voxels(indices, labels.num_classes)
    components = _components(indices, labels)
    touched = _touched(indices, geometry)
    is_picture = _is_picture(geometry)
    structures: dict[str, StructureHints] = {}
    for structure in labels.structures:
        own = labels.indices_of(structure)
        count = sum(voxels[index] for index in own)
        structures[structure.name] = StructureHints(
            num_voxels=count,
            volume_ml=None if is_picture else round(count * geometry.voxel_volume_ml, 6),
            area_mm2=round(count * _pixel_mm2(geometry), 6) if _has_area(geometry) else None,
            num_components=components[structure.name],
            touches=tuple(side for side, present in touched.items() if present & set(own)),
            signals=tuple(one.get(structure.name, Signals()) for one in signals),
        )
    return judged(CaseHints(structures=structures, warnings=tuple(warnings)), qualities)


def judged(hints: CaseHints, qualities: Qualities) -> CaseHints:
    """The same with the Dice that models predict now, from what they signalled then.

    Args:
        hints: of a case.
        qualities: of each model, one per fold that has been calibrated.
    """
    structures = {
        name: one.model_copy(update={"predicted_dice": _dice(name, one, qualities)})
        for name, one in hints.structures.items()
    }
    values = [one.predicted_dice for one in structures.values()]
    defined = [value for value in values if value is not None]
    mean = round(fmean(defined), 4) if defined else None
    return hints.model_copy(update={"structures": structures, "predicted_dice": mean})


def _dice(name: str, hints: StructureHints, qualities: Qualities) -> float | None:
    # Of what is not there, nothing can be said: it is right or wrong as a whole.
    if hints.num_voxels == 0 or len(hints.signals) != len(qualities):
        return None
    dice = mean_dice(name, hints.signals, qualities)
    return None if dice is None else round(dice, 4)


def _components(indices: npt.NDArray[np.integer], labels: LabelSpace) -> dict[str, int]:
    """Connected components of each structure."""
    if not labels.has_regions:
        counts = count_components(indices, labels.num_classes - 1)
        return {s.name: counts[labels.indices_of(s)[0] - 1] for s in labels.structures}
    found: dict[str, int] = {}
    inside = crop(indices, bounding_box(indices > 0)) if indices.any() else indices[:0]
    for structure in labels.structures:
        union = np.isin(inside, labels.indices_of(structure))
        found[structure.name] = count_components(union.view(np.uint8), 1)[0]
    return found


def _touched(indices: npt.NDArray[np.integer], geometry: Geometry) -> dict[str, set[int]]:
    """Which indices lie on each side of the image; an axis of one voxel has no sides."""
    found: dict[str, set[int]] = {}
    for axis, names in enumerate(_sides(geometry)):
        if geometry.shape[axis] == 1:
            continue
        for name, position in zip(names, (0, -1), strict=True):
            present = np.unique(np.take(indices, position, axis=axis)).tolist()
            found[name] = found.get(name, set()) | set(present)
    return found


def _sides(geometry: Geometry) -> Sequence[tuple[str, str]]:
    """What the lower and the upper side of each axis are called."""
    if _is_picture(geometry):
        return _OF_PICTURES
    return [(_DIRECTIONS[_OPPOSITE[one]], _DIRECTIONS[one]) for one in geometry.orientation]


def _is_picture(geometry: Geometry) -> bool:
    return geometry.shape[0] == 1 and geometry.spacing[0] == SINGLE_SLICE_SPACING_MM


def _has_area(geometry: Geometry) -> bool:
    """Whether it is a picture that tells the size of its pixels: unknown ones are 1 by 1."""
    return _is_picture(geometry) and geometry.spacing[1:] != (1.0, 1.0)


def _pixel_mm2(geometry: Geometry) -> float:
    return geometry.spacing[1] * geometry.spacing[2]
