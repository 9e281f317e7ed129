"""What was measured about a data set."""

from __future__ import annotations

import hashlib

import numpy as np

from autoseg.core.artifact import Artifact, Frozen
from autoseg.core.geometry import Shape, Triple


class IntensityStats(Frozen):
    """Foreground intensities of one channel, every case weighing the same.

    Percentiles are of the foreground voxels; units are those of the images (HU in a CT).
    """

    mean: float
    median: float
    std: float
    min: float
    max: float
    percentile_00_5: float
    percentile_99_5: float


class FileStamp(Frozen):
    """What a file looked like when it was read.

    Attributes:
        size_bytes: its size.
        mtime_ns: its time of modification.
        digest: hash of its content.
    """

    size_bytes: int
    mtime_ns: int
    digest: str


class CaseFingerprint(Frozen):
    """One case, measured.

    Attributes:
        name: the case.
        shape: voxels per axis after cropping to the non-zero region, ``(z, y, x)``.
        spacing: mm, ``(z, y, x)``.
        relative_size: cropped volume over the whole, 0..1.
        label_voxels: number of voxels of each index 1..n of the label space.
        files: stamps of image files and label file, in that order.
    """

    name: str
    shape: Shape
    spacing: Triple
    relative_size: float
    label_voxels: tuple[int, ...]
    files: tuple[FileStamp, ...]

    @property
    def source(self) -> str:
        """Hash of the content of all files of the case."""
        digests = ":".join(file.digest for file in self.files)
        return hashlib.sha256(digests.encode()).hexdigest()[:16]


class Fingerprint(Artifact):
    """A data set, measured: the content of ``fingerprint.json``.

    Attributes:
        label_values: file values by index, as ``LabelSpace.values`` gives them.
        cases: sorted by name.
        intensities: one entry per channel.
    """

    label_values: tuple[int, ...]
    cases: tuple[CaseFingerprint, ...]
    intensities: tuple[IntensityStats, ...]

    @property
    def median_relative_size(self) -> float:
        """Median over cases of cropped volume over whole volume."""
        return float(np.median([case.relative_size for case in self.cases]))

    def case(self, name: str) -> CaseFingerprint:
        """The measurements of a case.

        Raises:
            KeyError: if it was not measured.
        """
        for case in self.cases:
            if case.name == name:
                return case
        raise KeyError(name)

    @property
    def max_spacing(self) -> Triple:
        """Largest spacing per axis, mm."""
        z, y, x = (max(case.spacing[axis] for case in self.cases) for axis in range(3))
        return z, y, x

    @property
    def min_spacing(self) -> Triple:
        """Smallest spacing per axis, mm."""
        z, y, x = (min(case.spacing[axis] for case in self.cases) for axis in range(3))
        return z, y, x
