"""What the network makes of a validation case: image, reference and prediction of some slices.

A box of a case is predicted, not all of it, so that the cost is bounded: a few patches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from autoseg.core.geometry import Shape, Triple
from autoseg.core.labels import LabelSpace
from autoseg.figures.overlay import OverlayRow
from autoseg.imaging.decide import Labels, decide
from autoseg.io.case_store import CaseStore
from autoseg.networks.precision import Precision
from autoseg.networks.sliding_window import Window, predict_logits
from autoseg.train.augmentation.previous_stage import one_hot
from autoseg.train.batches import PreviousLabels
from autoseg.train.monitoring.history import dice_in_words

MOST_SLICES = 3

_PATCHES_ACROSS = 2
_LONGEST_SCORES = 90

# Of the voxels in the slice that has most of them: a stray one shows no structure.
_WELL_SHOWN = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The part of a case that is shown again and again.

    Attributes:
        case: its name.
        lower: first voxel of the box, ``(z, y, x)``.
        size: voxels of the box, ``(z, y, x)``.
        slices: numbers of the slices to show, ascending, all within the box.
        in_plane: whether the network sees slices: then only these are predicted.
        is_whole: whether the box is the whole case.
        spacing: mm, ``(z, y, x)``.
        not_annotated: structures the case is not annotated for: they get no Dice.
    """

    case: str
    lower: Shape
    size: Shape
    slices: tuple[int, ...]
    in_plane: bool
    is_whole: bool
    spacing: Triple
    not_annotated: tuple[str, ...] = ()

    @property
    def positions(self) -> tuple[int, ...]:
        """Where the slices are in what ``read_view`` reads."""
        if self.in_plane:
            return tuple(range(len(self.slices)))
        return tuple(number - self.lower[0] for number in self.slices)


def choose_case(store: CaseStore, cases: Sequence[str], labels: LabelSpace) -> str:
    """The case of median size among those with the most structures.

    Args:
        store: the prepared cases.
        cases: names to choose from, at least one.
        labels: what the indices mean.
    """

    def num_present(case: str) -> int:
        return sum(count > 0 for count in _voxels(store, case, labels))

    most = max(map(num_present, cases))
    richest = [case for case in cases if num_present(case) == most]
    richest.sort(key=lambda case: (prod(store.shape(case)), case))
    return richest[len(richest) // 2]


def choose_view(store: CaseStore, case: str, patch_size: Sequence[int], labels: LabelSpace) -> View:
    """What to show of a case: a box of at most two patches along each axis, and slices in it.

    Args:
        store: the prepared cases.
        case: its name.
        patch_size: ``(z, y, x)``, or ``(y, x)`` for slices.
        labels: what the indices mean.
    """
    shape, spacing = store.shape(case), store.info(case).trace["target_spacing"]
    places = _places(store, case, len(labels.structures))
    rarest = min(places, key=_voxels(store, case, labels).__getitem__) if places else None
    in_plane = len(patch_size) == 2
    patch = (shape[0], *patch_size) if in_plane else tuple(patch_size)
    size = tuple(min(full, _PATCHES_ACROSS * p) for full, p in zip(shape, patch, strict=True))
    centre = np.array(shape) // 2 if rarest is None else _centre(places, rarest, size)
    limits = [full - part for full, part in zip(shape, size, strict=True)]
    lower = np.clip(centre - np.array(size) // 2, 0, limits)
    slices = _slices(places, rarest, int(lower[0]), int(lower[0]) + size[0])
    return View(
        case=case,
        lower=(int(lower[0]), int(lower[1]), int(lower[2])),
        size=(size[0], size[1], size[2]),
        slices=slices or (int(centre[0]),),
        in_plane=in_plane,
        is_whole=size == tuple(shape) and not (in_plane and shape[0] > MOST_SLICES),
        spacing=tuple(spacing),
    )


def read_view(
    store: CaseStore, view: View, masked_channels: Sequence[int]
) -> tuple[npt.NDArray[np.float32], Labels]:
    """Read what a view shows, as the network sees it.

    Args:
        store: the prepared cases.
        view: what to read.
        masked_channels: channels that are 0 outside the non-zero mask.

    Returns:
        Image ``(channels, z, y, x)`` and labels ``(z, y, x)``; z are the slices of a network
        that sees slices, and the box otherwise.
    """
    if view.in_plane:
        _, height, width = view.size
        corners = [(z, *view.lower[1:]) for z in view.slices]
        parts = [store.read(view.case, corner, (1, height, width)) for corner in corners]
        image = np.concatenate([part for part, _ in parts], axis=1)
        labels = np.concatenate([part for _, part in parts])
    else:
        image, labels = store.read(view.case, view.lower, view.size)
    for channel in masked_channels:
        image[channel][labels < 0] = 0.0
    return image, labels


def read_previous(previous: PreviousLabels, view: View) -> Labels:
    """Read what a previous stage predicted of what a view shows.

    Args:
        previous: its predictions.
        view: what to read.

    Returns:
        Label indices ``(z, y, x)`` of the image that ``read_view`` gives.
    """
    if not view.in_plane:
        return previous.read(view.case, view.lower, view.size)
    corners = [(z, *view.lower[1:]) for z in view.slices]
    size = (1, *view.size[1:])
    return np.concatenate([previous.read(view.case, corner, size) for corner in corners])


@dataclass(frozen=True, slots=True, kw_only=True)
class Previewer:
    """Predicts one view of one case, epoch after epoch.

    Attributes:
        network: not changed; predicts without mirroring.
        device: where it lives.
        precision: number format of the forward pass.
        patch_size: ``(z, y, x)``, or ``(y, x)`` for slices.
        labels: what the indices mean.
        store: the prepared cases.
        view: what is shown.
        masked_channels: channels that are 0 outside the non-zero mask.
        is_colour: whether the channels are red, green and blue.
        previous: predictions that a cascade sees, too.
    """

    network: nn.Module
    device: torch.device
    precision: Precision
    patch_size: tuple[int, ...]
    labels: LabelSpace
    store: CaseStore
    view: View
    masked_channels: tuple[int, ...]
    is_colour: bool
    previous: PreviousLabels | None = None

    def rows(self, epoch: int) -> list[OverlayRow]:
        """Predict the view; image, reference and prediction of each of its slices.

        Args:
            epoch: epochs trained so far.

        Raises:
            AutosegError: if the network's output is not finite.
        """
        image, labels = read_view(self.store, self.view, self.masked_channels)
        prediction = self._predict(self._seen(image))
        title = _title(self.view, epoch, _dice(prediction, labels, self.labels))
        shown = _colours(image) if self.is_colour else image[0]
        rows: list[OverlayRow] = []
        for number, at in zip(self.view.slices, self.view.positions, strict=True):
            panels = [
                ("image", None),
                ("reference", labels[at : at + 1]),
                ("prediction", prediction[at : at + 1]),
            ]
            row = OverlayRow(
                title=f"slice {number + 1}" if rows else title,
                image=shown[at : at + 1],
                panels=panels,
                spacing=self.view.spacing,
            )
            rows.append(row)
        return rows

    def _seen(self, image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The image with the channels of a previous stage."""
        if self.previous is None:
            return image
        labels = read_previous(self.previous, self.view)
        masks = one_hot(labels, self.previous.num_labels)
        return np.concatenate([image, masks], dtype=np.float32)

    def _predict(self, image: npt.NDArray[np.float32]) -> Labels:
        window = Window(
            patch_size=self.patch_size,
            num_outputs=self.labels.num_outputs,
            mirror_axes=(),
            precision=self.precision,
            device=self.device,
        )
        logits = predict_logits(self.network, torch.from_numpy(image), window)
        return decide(iter(logits.numpy()), self.labels)


def _colours(image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Channels as colours in 0..1, ``(z, y, x, 3)``, whatever normalization did to them."""
    colours = np.moveaxis(image, 0, -1)
    if colours.min() >= 0 and colours.max() <= 1:
        return colours
    low, high = np.percentile(colours, (0.5, 99.5), axis=(0, 1, 2))
    return ((colours - low) / np.maximum(high - low, 1e-6)).clip(0, 1).astype(np.float32)


def _title(view: View, epoch: int, dice: Mapping[str, float | None]) -> str:
    dice = {name: value for name, value in dice.items() if name not in view.not_annotated}
    scores = dice_in_words(dice)
    if len(scores) > _LONGEST_SCORES:
        scores = dice_in_words(dice, most_named=0)
    part = "" if view.is_whole else " of this part"
    place = f", slice {view.slices[0] + 1}" if view.size[0] > 1 else ""
    return f"{view.case}{place}, epoch {epoch}   Dice{part}  {scores}"


def _voxels(store: CaseStore, case: str, labels: LabelSpace) -> list[int]:
    """Voxels of each structure of a case, in declared order."""
    counts = store.info(case).label_voxels
    return [sum(counts[i - 1] for i in labels.indices_of(s)) for s in labels.structures]


def _places(store: CaseStore, case: str, num_structures: int) -> dict[int, npt.NDArray[np.int64]]:
    """Some voxels of each structure that is there, by its number from 0, ``(voxels, 3)``."""
    found = {k: store.positions(case, k) for k in range(num_structures)}
    shape = store.shape(case)
    return {
        k: np.stack(np.unravel_index(np.asarray(flat, dtype=np.int64), shape), axis=1)
        for k, flat in found.items()
        if len(flat)
    }


def _centre(
    places: Mapping[int, npt.NDArray[np.int64]], rarest: int, size: Sequence[int]
) -> npt.NDArray[np.int64]:
    """The middle of all structures; along an axis where they do not fit, that of the rarest."""
    every = np.concatenate(list(places.values()))
    low, high = every.min(0), every.max(0)
    fits = high - low < np.array(size)
    return np.where(fits, (low + high + 1) // 2, np.median(places[rarest], axis=0).astype(int))


def _slices(
    places: Mapping[int, npt.NDArray[np.int64]], rarest: int | None, first: int, stop: int
) -> tuple[int, ...]:
    """The slice that shows the rarest structure best, and others for what it does not show."""
    counts = {k: np.bincount(voxels[:, 0], minlength=stop) for k, voxels in places.items()}
    inside = {k: count[first:stop] for k, count in counts.items() if count[first:stop].any()}
    chosen: list[int] = []
    order = sorted(inside, key=lambda k: k != rarest)
    for k in order:
        shown = max((int(inside[k][z]) for z in chosen), default=0)
        if len(chosen) < MOST_SLICES and shown < _WELL_SHOWN * inside[k].max():
            chosen.append(int(inside[k].argmax()))
    return tuple(first + z for z in sorted(chosen))


def _dice(prediction: Labels, labels: Labels, space: LabelSpace) -> dict[str, float | None]:
    """Over what was annotated."""
    annotated = labels < space.num_classes
    dice: dict[str, float | None] = {}
    for name, indices in zip(space.output_names, space.output_indices, strict=True):
        one, other = np.isin(prediction, indices) & annotated, np.isin(labels, indices)
        total = int(one.sum() + other.sum())
        dice[name] = 2 * int((one & other).sum()) / total if total else None
    return dice
