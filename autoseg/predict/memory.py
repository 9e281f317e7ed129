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
# Per raw voxel: label indices as int16; the file's values and the copy that is compressed.
_INDEX_BYTES = 2
_WRITTEN_BYTES = 4
# What allocators hold and cannot use again.
_SLACK = 1.1
_ROWS = 32  # of a slab while images are prepared and outputs restored


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionMemory:
    """Bytes of main memory at the peak of a prediction.

    Attributes:
        process: what is there before: libraries and weights.
        image: the raw image.
        prepared: the image as the networks read it.
        window: sums of outputs in work, finished rows of them, and those being restored.
        network_pass: features of the network for the patches of one pass.
        labels: the result.
        preparing: what the preparation takes for a moment, before there are outputs.
    """

    process: int
    image: int
    prepared: int
    window: int
    network_pass: int
    labels: int
    preparing: int

    @property
    def total(self) -> int:
        """The peak, whatever is at work then."""
        predicting = self.window + self.network_pass + self.labels
        held = self.process + self.image + self.prepared
        return ceil(_SLACK * (held + max(predicting, self.preparing)))


def prediction_memory(predictors: Sequence[Predictor], geometry: Geometry) -> PredictionMemory:
    """Estimate the main memory that segmenting one image takes.

    On a GPU the features of a pass are not in main memory; the window is, in case it must be.

    Args:
        predictors: what predicts together.
        geometry: of the raw image; no voxel is needed, so that the whole of it counts as
            non-zero.
    """
    chains = [_chain(predictor) for predictor in predictors]
    members = [member for chain in chains for member in chain]
    channels = max(len(one.recipe.channels) for one in members)
    voxels = prod(geometry.shape)
    return PredictionMemory(
        process=_process_bytes(members),
        image=channels * voxels * _FLOAT32,
        prepared=sum(_prepared_bytes(one, geometry) for one in members),
        # Members advance together, the stages of each come one after the other.
        window=sum(max(_window_bytes(one, geometry) for one in chain) for chain in chains),
        network_pass=max(_pass_bytes(one) for one in members),
        labels=voxels * (_INDEX_BYTES + _WRITTEN_BYTES),
        preparing=voxels * _MASK_BYTES,
    )


def refuse_too_large(
    predictors: Sequence[Predictor], geometry: Geometry, max_memory_bytes: int | None
) -> None:
    """Refuse an image whose prediction would take more memory than it may.

    Args:
        predictors: what predicts together.
        geometry: of the raw image.
        max_memory_bytes: what it may take; None for any.

    Raises:
        DataError: if it would take more.
    """
    if max_memory_bytes is None:
        return
    needed = prediction_memory(predictors, geometry).total
    if needed > max_memory_bytes:
        size = "x".join(map(str, geometry.shape))
        fewer = ", predict with fewer models" if len(predictors) > 1 else ""
        raise DataError(
            f"predicting {size} voxels would take {size_in_words(needed)}, more than the "
            f"{size_in_words(max_memory_bytes)} allowed",
            remedy=f"allow more with --max-memory{fewer}, or crop the image",
        )


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


def _window_bytes(predictor: Predictor, geometry: Geometry) -> int:
    shape = _prepared_shape(predictor, geometry)
    patch = (1, *predictor.configuration.patch_size)[-3:]
    depths = [min(pair) for pair in zip(patch, shape, strict=True)]
    sections = [prod(shape) // size for size in shape]
    axes = range(3) if len(predictor.configuration.patch_size) == 3 else range(1)
    axis = min(axes, key=lambda one: depths[one] * sections[one])
    depth, section = depths[axis], sections[axis]
    raw = geometry.shape[predictor.recipe.transpose[axis]]
    restored = min(shape[axis], ceil(_ROWS * shape[axis] / raw) + 2)
    # The last patches finish all their rows, while those before are still being restored.
    finished = depth + max(1, ceil(depth * predictor.step)) if depth > 1 else 2
    outputs = predictor.labels.num_outputs
    sums = (outputs + 1) * depth * section
    return _FLOAT32 * (sums + outputs * section * (finished + restored))


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
