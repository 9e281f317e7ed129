"""Generated colour pictures with label maps: cells with a nucleus, on a textured ground.

Nothing about a cell is symmetric: it lies left of the middle, leans to one side and holds its
nucleus at one end. Cells are red and nuclei yellow; elsewhere lie blue cells, which are no
structure and as bright as the red ones. So no mirrored, turned or shifted prediction scores
well, nor one with its colours or its labels in another order.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

SHAPE = (96, 128)
NUM_PICTURES = 24

CELL_RGB = (170, 60, 90)
NUCLEUS_RGB = (220, 190, 60)
DECOY_RGB = (90, 60, 170)

Colours = npt.NDArray[np.uint8]
Indices = npt.NDArray[np.uint8]


def draw_picture(number: int, shape: tuple[int, int] = SHAPE) -> tuple[Colours, Indices]:
    """Draw a picture, the same for the same number.

    Args:
        number: decides all that is drawn by chance.
        shape: rows and columns.

    Returns:
        Colours ``(y, x, 3)`` and indices ``(y, x)``: 0 ground, 1 cell, 2 nucleus.
    """
    rng = np.random.default_rng(number)
    rows, columns = np.indices(shape)
    wave = np.sin(rows / 5 + rng.uniform(0, 6)) * np.sin(columns / 9 - rows / 17)
    picture = np.array((120, 110, 105)) + 18 * wave[..., np.newaxis]
    y, x = shape[0] * rng.uniform(0.2, 0.45), shape[1] * rng.uniform(0.2, 0.42)
    cell = _ellipse(shape, (y, x), (12, 24), 0.5)
    nucleus = _ellipse(shape, (y + 4, x + 8), (6, 11), 0.5)
    decoy = _ellipse(shape, (shape[0] * rng.uniform(0.55, 0.7), shape[1] * 0.75), (13, 19), -0.4)
    for where, colour in ((decoy, DECOY_RGB), (cell, CELL_RGB), (nucleus, NUCLEUS_RGB)):
        picture[where] = np.array(colour) + 12 * wave[where, np.newaxis]
    picture += rng.normal(0, 14, picture.shape)
    indices = np.where(nucleus, 2, cell).astype(np.uint8)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8), indices


def _ellipse(
    shape: tuple[int, int], centre: tuple[float, float], radii: tuple[float, float], lean: float
) -> npt.NDArray[np.bool_]:
    """The pixels of an ellipse, turned by ``lean`` radians from the columns to the rows."""
    y, x = (axis - at for axis, at in zip(np.indices(shape), centre, strict=True))
    along, across = x * np.cos(lean) + y * np.sin(lean), y * np.cos(lean) - x * np.sin(lean)
    return (across / radii[0]) ** 2 + (along / radii[1]) ** 2 < 1


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A data set of pictures on disk.

    Attributes:
        folder: what ``autoseg plan`` is given.
        values: the value in label maps of ground, cell and nucleus.
    """

    folder: Path
    values: tuple[int, int, int]


def write_label_map(path: Path, indices: Indices, values: tuple[int, int, int]) -> None:
    """Write indices ``(y, x)`` as a grey PNG of their values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(values, np.uint8)[indices]).save(path)


def write_picture(path: Path, colours: Colours) -> None:
    """Write colours ``(y, x, 3)``, in the format of the ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(colours).save(path)


def write_as_nnunet(folder: Path, num_pictures: int = NUM_PICTURES) -> Drawn:
    """Write the pictures as nnU-Net wants them, with the labels 0, 1 and 2."""
    values = (0, 1, 2)
    for number in range(num_pictures):
        colours, indices = draw_picture(number)
        write_picture(folder / "imagesTr" / f"cell_{number:02d}_0000.png", colours)
        write_label_map(folder / "labelsTr" / f"cell_{number:02d}.png", indices, values)
    _describe(
        folder,
        channel_names={"0": "R", "1": "G", "2": "B"},
        labels={"background": 0, "cell": 1, "nucleus": 2},
        numTraining=num_pictures,
        file_ending=".png",
    )
    return Drawn(folder=folder, values=values)


def write_as_table(folder: Path, num_pictures: int = NUM_PICTURES) -> Drawn:
    """Write the pictures anywhere, with a table that lists them and the labels 0, 255 and 127."""
    values = (0, 255, 127)
    rows = ["case,image,label"]
    for number in range(num_pictures):
        colours, indices = draw_picture(number)
        write_picture(folder / "scans" / f"{number:02d}.png", colours)
        write_label_map(folder / "masks" / f"{number:02d}_mask.png", indices, values)
        rows.append(f"cell_{number:02d},scans/{number:02d}.png,masks/{number:02d}_mask.png")
    (folder / "cases.csv").write_text("\n".join(rows) + "\n")
    _describe(
        folder,
        channels=["R", "G", "B"],
        labels={"background": 0, "nucleus": 127, "cell": 255},
        cases="cases.csv",
    )
    return Drawn(folder=folder, values=values)


def _describe(folder: Path, **description: object) -> None:
    (folder / "dataset.json").write_text(json.dumps(description))
