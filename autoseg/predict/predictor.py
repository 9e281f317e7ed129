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
from autoseg.core.words import counted
from autoseg.errors import DataError
from autoseg.imaging.decide import Labels
from autoseg.imaging.prepare import Prepared, Trace, prepare
from autoseg.imaging.restore import hand_on_labels, restore_labels
from autoseg.networks.precision import Precision
from autoseg.networks.sliding_window import Window, predict_slabs


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
        self._check(image)
        prepared = prepare(image.array, image.geometry.spacing, self.recipe)
        axis = self._axis(prepared.trace)
        slabs = self._slabs(prepared, axis, progress, self._read(image, prepared.trace, progress))
        indices = restore_labels(slabs, prepared.trace, self.labels, axis)
        return LabelMap(array=self.labels.to_values(indices), geometry=image.geometry)

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
        self._check(image)
        prepared = prepare(image.array, image.geometry.spacing, self.recipe)
        axis = self._axis(prepared.trace)
        slabs = self._slabs(prepared, axis, progress, self._read(image, prepared.trace, progress))
        return hand_on_labels(slabs, prepared.trace, grid, self.labels, axis)

    def _read(self, image: Image, grid: Trace, progress: Progress) -> Labels | None:
        return None if self.previous is None else self.previous.indices_on(image, grid, progress)

    def _axis(self, trace: Trace) -> int:
        """The axis along which least of the outputs is in work; slices come one by one."""
        patch, shape = self.configuration.patch_size, trace.prepared_shape
        if len(patch) == 2:
            return 0
        depths = [min(pair) for pair in zip(patch, shape, strict=True)]
        in_work = [depth * prod(shape) / size for depth, size in zip(depths, shape, strict=True)]
        return in_work.index(min(in_work))

    def _slabs(
        self, prepared: Prepared, axis: int, progress: Progress, read: Labels | None
    ) -> Iterator[npt.NDArray[np.float32]]:
        """Mean logits of all networks, slab by slab along an axis of the prepared grid.

        Of a cascade ``read`` are label indices of the previous stage on that grid.
        """
        tensor = torch.from_numpy(prepared.image)
        if read is not None:
            tensor = torch.cat([tensor, torch.from_numpy(read)[None].float()])
        window = Window(
            patch_size=self.configuration.patch_size,
            num_outputs=self.labels.num_outputs,
            mirror_axes=self.mirror_axes,
            precision=self.precision,
            device=self.device,
            # What training holds with gradients, prediction holds without.
            patches_per_pass=self.configuration.batch_size if self.device.type == "cuda" else 1,
        )
        slabs = predict_slabs(self.networks, tensor, window, axis, progress)
        return (slab.numpy() for slab in slabs)

    def _check(self, image: Image) -> None:
        expected = self.recipe.channels
        if image.num_channels != len(expected):
            raise DataError(
                f"has {counted(image.num_channels, 'channel')}, the model needs {len(expected)}: "
                f"{', '.join(expected)}"
            )
