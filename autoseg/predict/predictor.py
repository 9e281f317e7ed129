"""A trained model applied to an image: values in, values out, no files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
from autoseg.imaging.next_stage import indices_on_grid
from autoseg.imaging.prepare import Prepared, Trace, prepare, restore_indices
from autoseg.networks.precision import Precision
from autoseg.networks.sliding_window import predict_logits


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
        logits = self.logits(prepared, progress, self._read(image, prepared.trace, progress))
        indices = restore_indices(logits, prepared.trace, self.labels)
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
        logits = self.logits(prepared, progress, self._read(image, prepared.trace, progress))
        return indices_on_grid(logits, prepared.trace, grid, self.labels)

    def _read(self, image: Image, grid: Trace, progress: Progress) -> Labels | None:
        return None if self.previous is None else self.previous.indices_on(image, grid, progress)

    def logits(
        self, prepared: Prepared, progress: Progress = silent, read: Labels | None = None
    ) -> npt.NDArray[np.float32]:
        """Mean logits of all networks.

        Args:
            prepared: a prepared image.
            progress: called after each tile of each network.
            read: of a cascade, label indices of the previous stage on the same grid.

        Returns:
            ``(classes, z, y, x)`` on the prepared grid.
        """
        tensor = torch.from_numpy(prepared.image)
        if read is not None:
            tensor = torch.cat([tensor, torch.from_numpy(read)[None].float()])
        total: torch.Tensor | None = None
        for network in self.networks:
            logits = predict_logits(
                network,
                tensor,
                self.configuration.patch_size,
                self.labels.num_outputs,
                mirror_axes=self.mirror_axes,
                precision=self.precision,
                device=self.device,
                progress=progress,
            )
            total = logits if total is None else total.add_(logits)
        assert total is not None
        return total.div_(len(self.networks)).numpy()

    def _check(self, image: Image) -> None:
        expected = self.recipe.channels
        if image.num_channels != len(expected):
            raise DataError(
                f"has {counted(image.num_channels, 'channel')}, the model needs {len(expected)}: "
                f"{', '.join(expected)}"
            )
