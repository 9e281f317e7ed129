"""Pictures of cases on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from autoseg.core.image import Image
from autoseg.core.labels import LabelSpace, Structure
from autoseg.errors import DataError
from autoseg.figures.overlay import OverlayRow, save_overlay
from autoseg.io.images import read_image, read_labels


@dataclass(frozen=True, slots=True, kw_only=True)
class CasePicture:
    """One row of a picture.

    Attributes:
        title: its caption.
        images: files of the image; the first channel is shown, of a colour picture its colours.
        maps: title and file of each label map beside it, the reference first.
    """

    title: str
    images: tuple[Path, ...]
    maps: tuple[tuple[str, Path], ...]


def draw_cases(path: Path, cases: Sequence[CasePicture], labels: LabelSpace) -> Path:
    """Draw cases one below the other: image, then each label map over it.

    Args:
        path: the PNG.
        cases: at least one.
        labels: what the file values mean.

    Returns:
        ``path``.

    Raises:
        AutosegError: if a file cannot be read or the picture not written.
    """
    return save_overlay(path, [_row(case, labels) for case in cases], labels.index_names)


def draw_overlay(image: Path, labels: Path, path: Path) -> Path:
    """Draw one label map over its image.

    Args:
        image: an image file.
        labels: its label map.
        path: the PNG.

    Raises:
        AutosegError: if a file cannot be read, they do not fit, or the picture not written.
    """
    values = [int(value) for value in np.unique(read_labels(labels).array) if value != 0]
    found = tuple(Structure(name=f"label {value}", values=(value,)) for value in values)
    space = LabelSpace(structures=found or (Structure(name="label 1", values=(1,)),))
    case = CasePicture(title=image.name, images=(image,), maps=((labels.name, labels),))
    return draw_cases(path, [case], space)


def _row(case: CasePicture, labels: LabelSpace) -> OverlayRow:
    image = read_image(case.images)
    panels = []
    for title, file in case.maps:
        array = read_labels(file, labels).array
        if array.shape != image.geometry.shape:
            raise DataError(
                f"{array.shape} voxels (z, y, x), the image has {image.geometry.shape}", place=file
            )
        panels.append((title, labels.to_indices(array)))
    return OverlayRow(
        title=case.title,
        image=shown_channels(image),
        panels=[("image", None), *panels],
        spacing=image.geometry.spacing,
    )


def shown_channels(image: Image) -> npt.NDArray[np.floating]:
    """The first channel, or red, green and blue in 0..1 of a colour picture."""
    is_colour = image.num_channels == 3 and image.geometry.shape[0] == 1
    if not is_colour or image.array.min() < 0:
        return image.array[0]
    return np.moveaxis(image.array, 0, -1) / (255 if image.array.max() < 256 else 65535)
