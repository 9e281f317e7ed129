"""What a prediction takes of main memory, estimated from shapes before it begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, prod

from autoseg.core.geometry import Geometry, Shape
from autoseg.core.layers import stage_sizes
from autoseg.core.plan import Configuration, NetworkSpec
from autoseg.core.words import size_in_words
from autoseg.errors import DataError
from autoseg.imaging.prepare import resampled_shape
from autoseg.networks.compiled import CompiledNetwork
from autoseg.predict.predictor import Predictor

_FLOAT32 = 4
# The interpreter, torch and the readers; with the libraries of a GPU; OpenVINO on top.
_PROCESS_BYTES = 450_000_000
_PROCESS_BYTES_CUDA = 3_000_000_000
_OPENVINO_BYTES = 150_000_000
# Per raw voxel while the non-zero region is looked for: mask, its inverse, numbered components.
_MASK_BYTES = 6
# Per raw voxel: label indices as int16; the file's values, and what cleaning up, counting
# components and compressing take beside them.
_INDEX_BYTES = 2
_FINISHING_BYTES = 8
# Per raw voxel of a map of uncertainty: thousandths; these as numbers, a copy to write, its test.
_MAP_BYTES = 2
_MAP_FINISHING_BYTES = _MAP_BYTES + 12
# Of a probability, where a member is held that is worked off along another axis than the rest.
_HELD_BYTES = 2
# Per output whose probabilities are written: what its compression takes.
_STREAM_BYTES = 300_000
# What allocators hold and cannot use again.
_SLACK = 1.1
_ROWS = 32  # of a slab while images are prepared and outputs restored
_SLAB_VALUES = 1 << 25
# Arrays of a slab without outputs: what decides, or measures how undecided that is.
_DECIDING = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is made of an image besides its label map.

    Attributes:
        probabilities: a file of them.
        uncertainty: a map of it.
    """

    probabilities: bool = False
    uncertainty: bool = False


LABELS_ONLY = Wanted()


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionMemory:
    """Bytes of main memory at the peak of a prediction.

    Attributes:
        process: what is there before: libraries and weights.
        image: the raw image, until it is prepared.
        prepared: the image as the networks read it.
        preparing: what the preparation takes beside both.
        window: sums of outputs in work, finished rows of them, and those being restored.
        network_pass: features of the network for the patches of one pass.
        labels: the result, while the networks work.
        finishing: what is made of the result in the end.
        slabs: probabilities on the raw grid that pass by.
        held: those of members that are worked off along another axis than the rest.
        uncertainty: the map of it, while the networks work.
    """

    process: int
    image: int
    prepared: int
    preparing: int
    window: int
    network_pass: int
    labels: int
    finishing: int
    slabs: int = 0
    held: int = 0
    uncertainty: int = 0

    @property
    def total(self) -> int:
        """The peak: while the image is prepared, the networks work, or the labels are written."""
        preparing = self.image + self.preparing
        predicting = self.window + self.network_pass + self.labels
        predicting += self.slabs + self.held + self.uncertainty
        finishing = self.labels + self.finishing
        held = self.process + self.prepared
        return ceil(_SLACK * (held + max(preparing, predicting, finishing)))


def prediction_memory(
    predictors: Sequence[Predictor], geometry: Geometry, wanted: Wanted = LABELS_ONLY
) -> PredictionMemory:
    """Estimate the main memory that segmenting one image takes.

    On a GPU the features of a pass are not in main memory; the window is, in case it must be.

    Args:
        predictors: what predicts together.
        geometry: of the raw image; no voxel is needed, so that the whole of it counts as
            non-zero.
        wanted: besides its label map.
    """
    chains = [_chain(predictor) for predictor in predictors]
    members = [member for chain in chains for member in chain]
    channels = max(len(one.recipe.channels) for one in members)
    voxels = prod(geometry.shape)
    axis = _axis_of_work(predictors, geometry, wanted)
    has_slabs = len(predictors) > 1 or wanted != LABELS_ONLY
    rows = slab_rows(predictors[0].labels.num_outputs, geometry.shape, axis) if has_slabs else _ROWS
    finishing = _MAP_FINISHING_BYTES if wanted.uncertainty else _FINISHING_BYTES
    return PredictionMemory(
        process=_process_bytes(members),
        image=channels * voxels * _FLOAT32,
        prepared=sum(_prepared_bytes(one, geometry) for one in members),
        # Members advance together, the stages of each come one after the other.
        window=sum(_chain_window_bytes(chain, geometry, axis, rows) for chain in chains),
        network_pass=max(_pass_bytes(one) for one in members),
        labels=voxels * _INDEX_BYTES,
        preparing=voxels * _MASK_BYTES,
        finishing=voxels * finishing,
        slabs=_slabs_bytes(predictors, geometry, axis, wanted) if has_slabs else 0,
        held=sum(
            _HELD_BYTES * one.labels.num_outputs * voxels
            for one in predictors
            if axis not in one.axes()
        ),
        uncertainty=voxels * _MAP_BYTES * wanted.uncertainty,
    )


def refuse_too_large(
    predictors: Sequence[Predictor],
    geometry: Geometry,
    max_memory_bytes: int | None,
    wanted: Wanted = LABELS_ONLY,
) -> None:
    """Refuse an image whose prediction would take more memory than it may.

    Args:
        predictors: what predicts together.
        geometry: of the raw image.
        max_memory_bytes: what it may take; None for any.
        wanted: besides its label map.

    Raises:
        DataError: if it would take more.
    """
    if max_memory_bytes is None:
        return
    needed = prediction_memory(predictors, geometry, wanted).total
    if needed > max_memory_bytes:
        size = "x".join(map(str, geometry.shape))
        fits_alone = prediction_memory(predictors, geometry).total <= max_memory_bytes
        less = f", leave out {_flags(wanted)}" if fits_alone else ""
        fewer = ", predict with fewer models" if len(predictors) > 1 else ""
        raise DataError(
            f"predicting {size} voxels would take {size_in_words(needed)}, more than the "
            f"{size_in_words(max_memory_bytes)} allowed",
            remedy=f"allow more with --max-memory{less}{fewer}, or crop the image",
        )


def slab_rows(num_outputs: int, shape: Shape, axis: int) -> int:
    """Rows of a slab of probabilities, so that it stays small whatever the number of outputs.

    Args:
        num_outputs: of the networks.
        shape: of the raw grid.
        axis: of it, along which slabs are cut.
    """
    return max(1, min(_ROWS, _SLAB_VALUES // (num_outputs * prod(shape) // shape[axis])))


def _flags(wanted: Wanted) -> str:
    """What asks for it on the command line."""
    named = (
        ("--save-probabilities", wanted.probabilities),
        ("--uncertainty", wanted.uncertainty),
    )
    return " and ".join(flag for flag, is_wanted in named if is_wanted)


def _chain(predictor: Predictor) -> list[Predictor]:
    """A predictor and the previous stages it reads."""
    chain = [predictor]
    while chain[-1].previous is not None:
        chain.append(chain[-1].previous)
    return chain


def _process_bytes(members: Sequence[Predictor]) -> int:
    networks = [network for one in members for network in one.networks]
    compiled = [network for network in networks if isinstance(network, CompiledNetwork)]
    weights = sum(_weights_bytes(network) for network in networks)
    if members[0].device.type == "cuda":
        return _PROCESS_BYTES_CUDA + weights
    # OpenVINO keeps weights as they were beside its own.
    copies = sum(_weights_bytes(network) for network in compiled)
    return _PROCESS_BYTES + weights + (_OPENVINO_BYTES + copies if compiled else 0)


def _weights_bytes(network: object) -> int:
    if isinstance(network, CompiledNetwork):
        network = network.network
    parameters = getattr(network, "parameters", None)
    return sum(_FLOAT32 * p.numel() for p in parameters()) if parameters is not None else 0


def _prepared_shape(predictor: Predictor, geometry: Geometry) -> Shape:
    """Upper bound: as if the whole image were non-zero."""
    transpose, target = predictor.recipe.transpose, predictor.recipe.spacing
    a, b, c = transpose
    shape = geometry.shape[a], geometry.shape[b], geometry.shape[c]
    spacing = geometry.spacing[a], geometry.spacing[b], geometry.spacing[c]
    first = target[0] if len(target) == 3 else spacing[0]
    return resampled_shape(shape, spacing, (first, target[-2], target[-1]))


def _prepared_bytes(predictor: Predictor, geometry: Geometry) -> int:
    shape = _prepared_shape(predictor, geometry)
    channels = len(predictor.recipe.channels)
    slab = channels * min(_ROWS, shape[0]) * prod(shape[1:])
    copies = 1
    if predictor.previous is not None:
        # The image is copied beside the label map, which is there as numbers of both kinds.
        copies, channels = 2, channels + 1
    return _FLOAT32 * (copies * channels * prod(shape) + slab)


def _axis_of_work(predictors: Sequence[Predictor], geometry: Geometry, wanted: Wanted) -> int:
    """The raw axis that ``Segmenter.begin`` takes, or one that takes no less memory.

    It sees the non-zero region, in which less may be in work along another axis.
    """
    if wanted.probabilities and all(0 in one.axes() for one in predictors):
        return 0

    def cost(axis: int) -> tuple[int, int]:
        able = [one for one in predictors if axis in one.axes()]
        return len(predictors) - len(able), sum(_in_work(one, geometry, axis) for one in able)

    return min(range(3), key=cost)


def _in_work(predictor: Predictor, geometry: Geometry, axis: int) -> int:
    """Voxels of the prepared grid that are in work at once along a raw axis."""
    depth, section = _depth_and_section(predictor, geometry, axis)
    return depth * section


def _depth_and_section(predictor: Predictor, geometry: Geometry, axis: int) -> tuple[int, int]:
    """Rows of a patch along a raw axis, and voxels of the prepared grid across it."""
    shape = _prepared_shape(predictor, geometry)
    own = predictor.recipe.transpose.index(axis)
    patch = (1, *predictor.configuration.patch_size)[-3:]
    return min(patch[own], shape[own]), prod(shape) // shape[own]


def _chain_window_bytes(
    chain: Sequence[Predictor], geometry: Geometry, axis: int, rows: int
) -> int:
    """Of the stages of a member; those before the last are each worked off as is best."""
    last, *before = chain
    own = axis if axis in last.axes() else last.axes()[0]
    sizes = [_window_bytes(last, geometry, own, rows)]
    for one in before:
        best = min(one.axes(), key=lambda axis, one=one: _in_work(one, geometry, axis))
        sizes.append(_window_bytes(one, geometry, best, _ROWS))
    return max(sizes)


def _window_bytes(predictor: Predictor, geometry: Geometry, axis: int, rows: int) -> int:
    shape = _prepared_shape(predictor, geometry)
    size = shape[predictor.recipe.transpose.index(axis)]
    depth, section = _depth_and_section(predictor, geometry, axis)
    restored = min(size, ceil(rows * size / geometry.shape[axis]) + 2)
    # The last patches finish all their rows, while those before are still being restored.
    finished = depth + max(1, ceil(depth * predictor.step)) if depth > 1 else 2
    outputs = predictor.labels.num_outputs
    sums = (outputs + 1) * depth * section
    return _FLOAT32 * (sums + outputs * section * (finished + restored))


def _slabs_bytes(
    predictors: Sequence[Predictor], geometry: Geometry, axis: int, wanted: Wanted
) -> int:
    """There is one in the making, within the non-zero region and beyond; of members, the mean."""
    outputs, shape = predictors[0].labels.num_outputs, geometry.shape
    arrays = outputs * (2 + (len(predictors) > 1)) + _DECIDING
    # The image's non-zero region may lead to any axis.
    axes = (axis,) if wanted.probabilities and axis == 0 else range(3)
    voxels = max(slab_rows(outputs, shape, one) * prod(shape) // shape[one] for one in axes)
    streams = _STREAM_BYTES * outputs * wanted.probabilities
    return _FLOAT32 * arrays * voxels + streams


def _pass_bytes(predictor: Predictor) -> int:
    if predictor.device.type == "cuda":
        return 0
    configuration = predictor.configuration
    outputs = predictor.labels.num_outputs * prod(configuration.patch_size)
    # An output as the network makes it, as float32, summed over mirrors, and of empty patches.
    return _features_bytes(configuration, _value_bytes(predictor)) + 4 * _FLOAT32 * outputs


def _value_bytes(predictor: Predictor) -> int:
    """Of a feature."""
    network = predictor.networks[0]
    name = network.dtype if isinstance(network, CompiledNetwork) else predictor.precision.dtype
    return _FLOAT32 if name == "float32" else _FLOAT32 // 2


def _features_bytes(configuration: Configuration, value_bytes: int) -> int:
    """Features that are there at once.

    Of the finer stages those that will be appended; of the stage in work these, the upsampled
    ones, and both together.
    """
    spec: NetworkSpec = configuration.network
    sizes = stage_sizes(spec, configuration.patch_size)
    elements = [f * prod(size) for f, size in zip(spec.features_per_stage, sizes, strict=True)]
    peak = max(sum(elements[:stage]) + 4 * elements[stage] for stage in range(len(elements)))
    return value_bytes * peak
