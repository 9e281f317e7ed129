"""What was measured about a data set."""

from __future__ import annotations

import hashlib
from typing import Any, ClassVar

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
    """What a file, or a folder that is an image, looked like when it was read.

    Attributes:
        size_bytes: its size; of a folder, that of all its files.
        mtime_ns: its time of modification; of a folder, the newest.
        digest: hash of its content.
    """

    size_bytes: int
    mtime_ns: int
    digest: str


class ChannelRange(Frozen):
    """All voxels of one channel of a case.

    Attributes:
        min: lowest value.
        max: highest value.
        is_whole: whether every value is a whole number.
    """

    min: float
    max: float
    is_whole: bool


class StructureMeasure(Frozen):
    """One label value of a case: where it lies and what it looks like.

    Attributes:
        centroid: world position in mm, ``(superior, posterior, left)``.
        means: mean intensity per channel.
        stds: standard deviation of the intensity per channel.
    """

    centroid: Triple
    means: tuple[float, ...]
    stds: tuple[float, ...]


class Remark(Frozen):
    """Something a user should know about a file, noticed when it was read.

    Attributes:
        kind: as in ``problem.KINDS``.
        finding: what was found.
        file: position of the file among the case's, as in ``CaseFingerprint.files``.
    """

    kind: str
    finding: str
    file: int


class CaseFingerprint(Frozen):
    """One case, measured.

    Attributes:
        name: the case.
        shape: voxels per axis after cropping to the non-zero region, ``(z, y, x)``.
        spacing: mm, ``(z, y, x)``.
        relative_size: cropped volume over the whole, 0..1.
        label_voxels: number of voxels of each index 1..n of the label space.
        original_shape: voxels per axis of the file, ``(z, y, x)``.
        orientation: where the axes point, as ``Geometry.orientation`` says.
        channels: range of the values of each channel.
        structures: measurements of each index 1..n of the label space; None if it is absent.
            Empty, as are ``label_voxels`` and ``num_components``, if the label map could not be
            used.
        files: stamps of image files and label file, in that order.
        content: hash of shape and voxels, however the files store them; None if not made.
        patient: hash of the patient's identity in the files' headers; None where they have none.
        remarks: what a user should know but does not stop planning.
        num_components: connected components of each index 1..n; voxels that share a face, an
            edge or a corner are connected.
    """

    name: str
    shape: Shape
    spacing: Triple
    relative_size: float
    label_voxels: tuple[int, ...]
    original_shape: Shape
    orientation: str
    channels: tuple[ChannelRange, ...]
    structures: tuple[StructureMeasure | None, ...]
    files: tuple[FileStamp, ...]
    content: str | None = None
    patient: str | None = None
    remarks: tuple[Remark, ...] = ()
    num_components: tuple[int, ...] = ()

    @property
    def source(self) -> str:
        """Hash of the content of all files of the case."""
        digests = ":".join(file.digest for file in self.files)
        return hashlib.sha256(digests.encode()).hexdigest()[:16]


class Fingerprint(Artifact):
    """A data set, measured: the content of ``fingerprint.json``.

    Attributes:
        label_values: file values by index, as ``LabelSpace.values`` gives them.
        label_key: hash of the labels as they were declared; None if it is not known.
        cases: sorted by name.
        intensities: one entry per channel; none if no case has a labelled voxel.
    """

    FORMAT: ClassVar[int] = 3
    format: int = 3
    label_values: tuple[int, ...]
    label_key: str | None = None
    cases: tuple[CaseFingerprint, ...]
    intensities: tuple[IntensityStats, ...]

    @classmethod
    def migrate(cls, data: dict[str, Any]) -> dict[str, Any] | None:
        """Nothing older can be lifted: earlier versions measured less."""
        del data
        return None

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
