"""A trained model applied to an image: values in, values out, no files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from autoseg.core.image import Image, LabelMap
from autoseg.core.labels import LabelSpace
from autoseg.core.plan import Configuration, Recipe
from autoseg.core.progress import Progress, silent
from autoseg.core.quality import QualityModel
from autoseg.core.words import counted
from autoseg.errors import DataError
from autoseg.imaging.decide import Labels
from autoseg.imaging.operators import Floats
from autoseg.imaging.prepare import Prepared, Trace, prepare
from autoseg.imaging.restore import hand_on_labels, restore_labels, restore_probability_slabs
from autoseg.networks.agreement import Agreement
from autoseg.networks.precision import Precision
from autoseg.networks.sliding_window import Window, predict_slabs
from autoseg.predict.pace import told_if_slow
from autoseg.predict.unlike import Seen


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ready:
    """An image as a predictor reads it.

    Attributes:
        prepared: for its own networks.
        previous: of a cascade, the image as the previous stage reads it.
    """

    prepared: Prepared
    previous: Ready | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictor:
    """Networks of one configuration, whose logits are averaged.

    Attributes:
        identity: a hash of the weights and of how they are used.
        networks: one per fold, on ``device``.
        configuration: patch size and spacing they were trained with.
        recipe: how raw images are prepared for them.
        labels: what their classes mean.
        mirror_axes: patch axes to mirror along.
        device: where the networks live.
        precision: number format of the forward pass.
        previous: of a cascade, the predictor whose label map its networks read, too.
        step: largest distance of neighbouring patches, as a share of the patch.
        seen: what its images were like in training, if that is known.
        quality: what is known of each fold that was calibrated.
        agreement: counts how far its passes agree, if somebody wants to know.
    """

    identity: str
    networks: Sequence[nn.Module]
    configuration: Configuration
    recipe: Recipe
    labels: LabelSpace
    mirror_axes: tuple[int, ...]
    device: torch.device
    precision: Precision
    previous: Predictor | None = None
    step: float = 0.5
    seen: Seen | None = None
    quality: tuple[QualityModel, ...] = ()
    agreement: Agreement | None = None

    @property
    def value_range(self) -> tuple[int, int]:
        """Smallest and largest value a label map of this model may hold."""
        foreground = self.labels.output_values or self.labels.foreground_values
        values = (self.labels.background, *foreground)
        return min(values), max(values)

    def segment(self, image: Image, progress: Progress = silent) -> LabelMap:
        """Segment an image.

        Args:
            image: raw intensities, the channels in the order of training.
            progress: called after each tile.

        Returns:
            File values on the image's grid.

        Raises:
            DataError: if the image does not have the model's channels.
        """
        indices = self.indices(self.ready(image), progress)
        return LabelMap(array=self.labels.to_values(indices), geometry=image.geometry)

    def ready(self, image: Image) -> Ready:
        """Prepare an image, for the previous stage, too, if there is one.

        Args:
            image: raw intensities, the channels in the order of training.

        Raises:
            DataError: if the image does not have the model's channels.
        """
        self.check(image)
        prepared = prepare(image.array, image.geometry.spacing, self.recipe)
        previous = None if self.previous is None else self.previous.ready(image)
        return Ready(prepared=prepared, previous=previous)

    def reads_as(self, other: Predictor) -> bool:
        """Whether what is ready for another predictor is ready for this one."""
        if self.previous is None or other.previous is None:
            return self.recipe == other.recipe and self.previous is other.previous
        return self.recipe == other.recipe and self.previous.reads_as(other.previous)

    def indices(self, ready: Ready, progress: Progress = silent) -> Labels:
        """The label index of every raw voxel.

        Args:
            ready: the image.
            progress: called after each tile.

        Returns:
            int16 ``(z, y, x)``, on the raw grid.
        """
        axis = self.best_axis(ready)
        slabs = self.logits(ready, axis, progress)
        return restore_labels(slabs, ready.prepared.trace, self.labels, axis)

    def logits(
        self, ready: Ready, axis: int, progress: Progress = silent
    ) -> Iterator[npt.NDArray[np.float32]]:
        """The mean logits of all networks, slab by slab of the prepared grid.

        Args:
            ready: the image.
            axis: of the prepared grid; 0 of 2D networks.
            progress: called after each tile.

        Yields:
            As ``predict_slabs`` does; nothing happens before the first is taken.
        """
        yield from self._slabs(ready.prepared, axis, progress, self._read(ready, progress))

    def best_axis(self, ready: Ready) -> int:
        """The prepared axis along which least of the outputs is in work."""
        return self._axis(ready.prepared.trace)

    def probabilities(
        self, ready: Ready, axis: int, rows: int, progress: Progress = silent
    ) -> Iterator[tuple[slice, Floats]]:
        """The probability of every output, slab by slab of the raw grid.

        Args:
            ready: the image.
            axis: of the raw grid, one of ``axes``.
            rows: thickness of a slab at most.
            progress: called after each tile.

        Yields:
            As ``restore_probability_slabs`` does.
        """
        trace = ready.prepared.trace
        own = trace.transpose.index(axis)
        slabs = self.logits(ready, own, progress)
        yield from restore_probability_slabs(slabs, trace, self.labels, own, rows)

    def axes(self) -> tuple[int, ...]:
        """Raw axes along which an image can be worked off: of slices, the one across them."""
        transpose = self.recipe.transpose
        return transpose[:1] if self.configuration.dimensions == 2 else tuple(sorted(transpose))

    def in_work(self, ready: Ready, axis: int) -> int:
        """Voxels of the prepared grid that are in work at once along a raw axis."""
        trace = ready.prepared.trace
        return self._in_work(trace)[trace.transpose.index(axis)]

    def indices_on(self, image: Image, grid: Trace, progress: Progress = silent) -> Labels:
        """What a cascade's next stage sees of an image, in training and in prediction.

        Args:
            image: raw intensities, the channels in the order of training.
            grid: how the same image is prepared for the next stage.
            progress: called after each tile.

        Returns:
            Label indices, int16 ``grid.prepared_shape``.

        Raises:
            DataError: if the image does not have the model's channels.
        """
        return self._handed_on(self.ready(image), grid, progress)

    def _handed_on(self, ready: Ready, grid: Trace, progress: Progress) -> Labels:
        trace = ready.prepared.trace
        axis = self._axis(trace)
        slabs = self._slabs(ready.prepared, axis, progress, self._read(ready, progress))
        return hand_on_labels(slabs, trace, grid, self.labels, axis)

    def _read(self, ready: Ready, progress: Progress) -> Labels | None:
        """What the previous stage of a cascade found."""
        if self.previous is None:
            return None
        assert ready.previous is not None
        return self.previous._handed_on(ready.previous, ready.prepared.trace, progress)

    def _axis(self, trace: Trace) -> int:
        """The prepared axis along which least of the outputs is in work; 0 of slices."""
        if self.configuration.dimensions == 2:
            return 0
        in_work = self._in_work(trace)
        return in_work.index(min(in_work))

    def _in_work(self, trace: Trace) -> list[int]:
        """Voxels in work along each prepared axis: a patch's depth of the cross-section."""
        patch, shape = self.configuration.patch_size, trace.prepared_shape
        depths = [min(pair) for pair in zip((1, *patch)[-3:], shape, strict=True)]
        return [depth * (prod(shape) // size) for depth, size in zip(depths, shape, strict=True)]

    def _slabs(
        self, prepared: Prepared, axis: int, progress: Progress, read: Labels | None
    ) -> Iterator[npt.NDArray[np.float32]]:
        """Mean logits of all networks, slab by slab along an axis of the prepared grid.

        Of a cascade ``read`` are label indices of the previous stage on that grid.
        """
        tensor = torch.from_numpy(prepared.image)
        if read is not None:
            tensor = torch.cat([tensor, torch.from_numpy(read)[None].float()])
        seen, told = self.agreement, told_if_slow(progress, self.device)
        slabs = predict_slabs(self.networks, tensor, self._window(), axis, told, seen)
        if seen is not None:
            slabs = seen.watch(slabs)
        return (slab.numpy() for slab in slabs)

    def _window(self) -> Window:
        return Window(
            patch_size=self.configuration.patch_size,
            num_outputs=self.labels.num_outputs,
            mirror_axes=self.mirror_axes,
            precision=self.precision,
            device=self.device,
            step=self.step,
            # What training holds with gradients, prediction holds without.
            patches_per_pass=self.configuration.batch_size if self.device.type == "cuda" else 1,
        )

    def check(self, image: Image) -> None:
        """See that an image has the model's channels.

        Raises:
            DataError: if it has not.
        """
        expected = self.recipe.channels
        if image.num_channels != len(expected):
            raise DataError(
                f"has {counted(image.num_channels, 'channel')}, the model needs {len(expected)}: "
                f"{', '.join(expected)}",
                remedy="a fourth axis counts as channels: give time points one by one"
                if image.num_channels > len(expected)
                else "name their files CASE_0000, CASE_0001, ..., or stack them in one array",
            )
