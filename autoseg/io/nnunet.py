"""Files of nnU-Net v2: what it measured about a data set.

Its arrays have the axes of ours, ``(z, y, x)``; spacings and shapes are listed in that order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from autoseg.core.fingerprint import CaseFingerprint, Fingerprint, IntensityStats
from autoseg.io import artifacts

FINGERPRINT = "dataset_fingerprint.json"
_INTENSITIES = "foreground_intensity_properties_per_channel"

_Mm = Annotated[float, Field(gt=0)]
_Voxels = Annotated[int, Field(gt=0)]


class _Intensities(IntensityStats):
    model_config = ConfigDict(extra="ignore")


class _Measured(BaseModel):
    """Content of ``dataset_fingerprint.json``; keys that are not used may be there."""

    model_config = ConfigDict(allow_inf_nan=False)

    spacings: tuple[tuple[_Mm, _Mm, _Mm], ...]
    shapes_after_crop: tuple[tuple[_Voxels, _Voxels, _Voxels], ...]
    foreground_intensity_properties_per_channel: dict[str, _Intensities]
    median_relative_size_after_cropping: float = Field(gt=0, le=1)

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        num_spacings, num_shapes = len(self.spacings), len(self.shapes_after_crop)
        if num_spacings != num_shapes:
            raise ValueError(
                f"shapes_after_crop: {num_shapes} shapes, but 'spacings' lists {num_spacings}"
            )
        if not num_spacings:
            raise ValueError("spacings: lists no case")
        channels = self.foreground_intensity_properties_per_channel
        if set(channels) != {str(number) for number in range(len(channels))}:
            raise ValueError(f"{_INTENSITIES}: should number the channels from 0")
        return self

    @property
    def intensities(self) -> tuple[IntensityStats, ...]:
        """One entry per channel, in order."""
        channels = self.foreground_intensity_properties_per_channel
        numbered = (channels[str(number)] for number in range(len(channels)))
        return tuple(IntensityStats(**stats.model_dump()) for stats in numbered)


def is_fingerprint(data: Mapping[str, Any]) -> bool:
    """Whether parsed JSON is meant to be a ``dataset_fingerprint.json``."""
    return bool(set(_Measured.model_fields) & set(data))


def read_fingerprint(
    file: Path, data: Mapping[str, Any], label_values: Sequence[int]
) -> Fingerprint:
    """Understand a ``dataset_fingerprint.json``.

    It tells less than a fingerprint of ours. Cases are numbered, since it does not name them;
    each has the median relative size, and as its original shape the one after cropping. All
    else (structures, orientations, ranges, stamps of files) is empty.

    Args:
        file: where it comes from, for messages.
        data: its parsed JSON.
        label_values: file values by index, as ``LabelSpace.values`` gives them.

    Raises:
        ArtifactError: if a key is missing or its value wrong; names its place in the file.
    """
    measured = artifacts.validated(file, _Measured, data)
    cases = tuple(
        CaseFingerprint(
            name=f"case_{number:05d}",
            shape=shape,
            spacing=spacing,
            relative_size=measured.median_relative_size_after_cropping,
            label_voxels=(),
            original_shape=shape,
            orientation="",
            channels=(),
            structures=(),
            files=(),
        )
        for number, (shape, spacing) in enumerate(
            zip(measured.shapes_after_crop, measured.spacings, strict=True)
        )
    )
    return Fingerprint(
        label_values=tuple(label_values), cases=cases, intensities=measured.intensities
    )
