"""autoseg from Python: load a model once, segment what is in memory, no files needed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from autoseg.core.geometry import Geometry
from autoseg.core.image import Image, LabelMap
from autoseg.core.labels import LabelSpace
from autoseg.core.progress import Progress, silent
from autoseg.core.quantities import parse_bytes
from autoseg.errors import AutosegError, DataError
from autoseg.io.images import read_geometry, read_image, write_labels
from autoseg.io.in_memory import ItkImage, image_from_array, image_from_itk, own_image
from autoseg.io.predict_inputs import predict_inputs
from autoseg.io.readers.base import SINGLE_SLICE_SPACING_MM
from autoseg.predict.choosing import ModelChoice
from autoseg.predict.finding import find_model
from autoseg.predict.loading import PredictOptions, load_segmenter
from autoseg.predict.segmenter import Segmenter
from autoseg.predict.unlike import unlike

PathName = str | PathLike[str]
AnyImage = npt.NDArray[Any] | PathName | Sequence[PathName] | ItkImage | Image


def load_model(
    model: PathName,
    *,
    task: str | None = None,
    configuration: str | None = None,
    folds: Sequence[int | str] | None = None,
    plan: str | None = None,
    run: str | None = None,
    device: str = "auto",
    precision: str = "auto",
    max_memory: str | int | None = None,
) -> LoadedModel:
    """Load a model, ready to predict.

    Args:
        model: a file that ``autoseg export`` wrote; a ``bundle.json``, the folder of one or of
            several folds; the folder of a task in a workspace; or a workspace.
        task: of a workspace, the name of a task; the one planned last by default.
        configuration: of a task, such as ``"3d_fullres"``; what ``autoseg predict`` would choose
            by default.
        folds: of a task, such as ``[0, 1]`` or ``["everything"]``; all that are finished by
            default.
        plan: of a task, the name of a plan; any by default.
        run: of a task, the name of a training run; any by default.
        device: ``auto`` (a GPU if there is one), ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
        precision: ``auto`` (measured), ``float32``, ``bfloat16`` or ``float16``.
        max_memory: main memory that a prediction may take, such as ``"8GB"`` or in bytes; an image
            that would take more is refused. Any by default.

    Returns:
        The model, its networks on the device.

    Raises:
        AutosegError: if there is no such model, it is damaged, or the device is not there; if task,
            configuration, folds, plan or run are named besides a single model; if folds are no
            list, or ``max_memory`` is no size; in one line that says what to do.
    """
    if not _is_path(model):
        raise AutosegError(f"a {type(model).__name__} is no place of a model", remedy="pass a path")
    choice = ModelChoice(configuration=configuration, plan=plan, run=run, folds=_fold_names(folds))
    limit = None if max_memory is None else parse_bytes(str(max_memory), "max_memory")
    options = PredictOptions(device=device, precision=precision, max_memory_bytes=limit)
    found = find_model(Path(model), task, choice)
    return LoadedModel(load_segmenter(found.groups, options, found.clean_up))


def _fold_names(folds: Iterable[int | str] | None) -> tuple[str, ...]:
    if folds is None:
        return ()
    if isinstance(folds, str) or not isinstance(folds, Iterable):
        raise AutosegError(
            f"folds={folds!r:.40} is no list of folds",
            remedy="write for example folds=[0, 1] or folds=['everything']",
        )
    return tuple(f"fold{fold}" if str(fold).isdigit() else str(fold) for fold in folds)


class LoadedModel:
    """A model that is ready to segment images; made by ``autoseg.load_model``.

    Args:
        segmenter: networks and what surrounds them.

    Attributes:
        segmenter: networks and what surrounds them.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        self.segmenter = segmenter

    @property
    def labels(self) -> LabelSpace:
        """The structures, and the values they have in a result."""
        return self.segmenter.labels

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels an image must bring, in order."""
        return self.segmenter.channels

    def predict(
        self,
        image: AnyImage,
        spacing: Sequence[float] | None = None,
        *,
        progress: Progress = silent,
    ) -> Result:
        """Segment an image.

        What sets it apart from the images of the training, so that the result is doubtful, is told
        in ``Result.warnings``.

        Args:
            image: a numpy array of real numbers, ``(channels, z, y, x)`` or, of one channel,
                ``(z, y, x)``; with two spacings ``(channels, y, x)`` or ``(y, x)``. Or a file or
                the folder of a DICOM series, or a sequence of files, one per channel. Or an image
                of SimpleITK, in which components of a vector are channels.
            spacing: of an array, the distance of voxel centres in mm, ``(z, y, x)`` or, of a 2D
                image, ``(y, x)``; files and SimpleITK bring their own.
            progress: called as ``progress(done, total)`` after every tile.

        Returns:
            The segmentation, on the image's grid.

        Raises:
            DataError: if it is no image of finite numbers, does not have the model's channels, has
                nothing to segment, a spacing that cannot be right or one besides its own, is a 2D
                picture where the model needs volumes, or would take more memory than it may.
        """
        if not isinstance(image, np.ndarray) and spacing is not None:
            raise DataError(
                "'spacing' is for arrays; files and images bring their own", remedy="leave it out"
            )
        found = self._image(image, spacing)
        self.segmenter.check(found)
        seen = self.segmenter.seen
        warnings = unlike(found, seen) if seen is not None else ()
        labels = self.segmenter.segment(found, progress)
        return Result(self.segmenter, found, labels, warnings)

    def _image(self, image: AnyImage, spacing: Sequence[float] | None) -> Image:
        if isinstance(image, np.ndarray):
            return image_from_array(image, spacing)
        if isinstance(image, Image):
            return own_image(image, image.array)
        if isinstance(image, (str, PathLike)):
            return self._read(self._files(Path(image)))
        if isinstance(image, ItkImage):
            return image_from_itk(image)
        if isinstance(image, Sequence) and image and all(map(_is_path, image)):
            return self._read([Path(path).expanduser() for path in image])
        raise DataError(
            f"a {type(image).__name__} is no image",
            remedy="pass a numpy array with its spacing, a path, or an image of SimpleITK",
        )

    def _read(self, paths: Sequence[Path]) -> Image:
        if self.segmenter.max_memory_bytes is not None:
            self.segmenter.refuse_too_large(read_geometry(paths[0])[0])
        return read_image(paths)

    def _files(self, path: Path) -> tuple[Path, ...]:
        """The files of one image; of several channels the first stands for all."""
        cases = predict_inputs(path, len(self.channels))
        if len(cases) > 1:
            raise DataError(f"holds {len(cases)} images", place=path, remedy="name one of them")
        return cases[0][1]


def _is_path(value: object) -> bool:
    return isinstance(value, (str, PathLike))


class Result:
    """The segmentation of one image.

    A 2D image has no axis z, here as in what was handed in.

    Args:
        segmenter: what made it.
        image: what was segmented; kept for ``probabilities``.
        labels: file values on the image's grid.
        warnings: what sets the image apart from those of the training.

    Attributes:
        warnings: what sets the image apart from those the model was trained on, so that the result
            is doubtful, a line each; none for an image like the others.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        image: Image,
        labels: LabelMap,
        warnings: Sequence[str] = (),
    ) -> None:
        self.warnings = tuple(warnings)
        self._segmenter = segmenter
        self._image = image
        self._labels = labels

    @property
    def geometry(self) -> Geometry:
        """Where the voxels lie: spacing, origin and direction in mm, ``(z, y, x)``."""
        return self._labels.geometry

    @property
    def array(self) -> npt.NDArray[np.integer]:
        """Label values as files hold them, integer ``(z, y, x)`` or ``(y, x)``.

        Which value a structure has, ``LoadedModel.labels`` tells.
        """
        return self._labels.array[0] if self._is_flat else self._labels.array

    @cached_property
    def volumes_ml(self) -> dict[str, float]:
        """Volume of each structure in millilitres, 0 where it was not found.

        Empty for a 2D image, which has no volume.
        """
        if self._is_flat:
            return {}
        counts = dict(zip(*np.unique(self._labels.array, return_counts=True), strict=True))
        voxel_ml = self.geometry.voxel_volume_ml
        return {
            structure.name: float(sum(counts.get(value, 0) for value in structure.values))
            * voxel_ml
            for structure in self._segmenter.labels.structures
        }

    def probabilities(self, progress: Progress = silent) -> npt.NDArray[np.float32]:
        """The probability of every output in every voxel.

        Computed when it is asked for, which takes as long as the prediction; nothing is cleaned
        up.

        Args:
            progress: called as ``progress(done, total)`` after every tile.

        Returns:
            float32 ``(outputs, z, y, x)``, or without z: background and the structures by
            ascending value, which sum to 1; or, where structures overlap, one of them each.
        """
        slabs = self._segmenter.probability_slabs(self._image, progress)
        outputs = self._segmenter.labels.num_outputs
        found = np.empty((outputs, *self.geometry.shape), dtype=np.float32)
        along = np.moveaxis(found, slabs.axis + 1, 1)
        for rows, slab in slabs:
            along[:, rows] = slab
        return found[:, 0] if self._is_flat else found

    def save(self, path: PathName) -> None:
        """Write the label map, compressed, whole or not at all.

        Args:
            path: the file; its ending decides the format.

        Raises:
            AutosegError: if the file cannot be written, or its format cannot hold the values.
        """
        write_labels(Path(path).expanduser(), self._labels)

    @property
    def _is_flat(self) -> bool:
        return self.geometry.shape[0] == 1 and self.geometry.spacing[0] == SINGLE_SLICE_SPACING_MM
