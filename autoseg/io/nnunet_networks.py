"""Networks in the words of nnU-Net's plans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from autoseg.core.plan import NetworkSpec

_Rows = list[list[int] | int] | int

ARCHITECTURES = {"PlainConvUNet": "unet", "ResidualEncoderUNet": "residual_unet"}
"""Our name of each of nnU-Net's networks."""
_PACKAGE = "dynamic_network_architectures."
_NEGATIVE_SLOPE, _EPSILON = 0.01, 1e-5
_WITHOUT_EFFECT = ("input_channels", "num_classes", "deep_supervision")
"""Arguments that a plan does not decide."""


class NetworkError(ValueError):
    """A network that autoseg does not have; says which field of the plan asks for it."""


class _Arguments(BaseModel):
    """``arch_kwargs``; what is not listed must ask for nothing."""

    model_config = ConfigDict(extra="allow", strict=True)

    n_stages: int
    features_per_stage: list[int] | int
    conv_op: str
    kernel_sizes: _Rows
    strides: _Rows
    n_conv_per_stage: list[int] | int | None = None
    n_blocks_per_stage: list[int] | int | None = None
    n_conv_per_stage_decoder: list[int] | int
    conv_bias: bool = False
    norm_op: str | None = None
    norm_op_kwargs: dict[str, Any] | None = None
    dropout_op: str | None = None
    dropout_op_kwargs: dict[str, Any] | None = None
    nonlin: str | None = None
    nonlin_kwargs: dict[str, Any] | None = None
    stem_channels: int | None = None
    block: str | None = None
    pool: str = "conv"


class _Before(BaseModel):
    """How a network was described before plans had ``architecture``."""

    model_config = ConfigDict(strict=True)

    UNet_class_name: str
    UNet_base_num_features: int
    unet_max_num_features: int
    n_conv_per_stage_encoder: list[int]
    n_conv_per_stage_decoder: list[int]
    pool_op_kernel_sizes: list[list[int]]
    conv_kernel_sizes: list[list[int]]


def read_network(entry: Mapping[str, Any], dimensions: int) -> NetworkSpec:
    """Understand the network of a configuration.

    Args:
        entry: the configuration, inheritance resolved.
        dimensions: of its patch.

    Raises:
        NetworkError: if it is none that autoseg has, or described badly.
    """
    try:
        if "architecture" in entry:
            return _current(entry["architecture"], dimensions)
        return _before(_Before.model_validate(entry))
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(str(part) for part in problem["loc"] if not str(part).startswith("list["))
        if problem["type"] == "missing":
            raise NetworkError(f"missing key '{place}'") from None
        message = str(problem["msg"]).removeprefix("Value error, ").removeprefix("Input ")
        raise NetworkError(f"{place}: {message}" if place else message) from None


def drops_out(entry: Mapping[str, Any]) -> bool:
    """Whether a configuration's network drops features out in training."""
    architecture = entry.get("architecture")
    arguments = architecture.get("arch_kwargs") if isinstance(architecture, dict) else None
    if not isinstance(arguments, dict) or arguments.get("dropout_op") is None:
        return False
    return (arguments.get("dropout_op_kwargs") or {}).get("p", 0.5) != 0


def _current(architecture: object, dimensions: int) -> NetworkSpec:
    if not isinstance(architecture, dict):
        raise NetworkError("architecture: should be an object")
    name = _known(architecture.get("network_class_name"))
    arguments = _Arguments.model_validate(architecture.get("arch_kwargs"))
    _refuse_others(arguments, dimensions)
    stages = arguments.n_stages
    is_plain = name == "unet"
    blocks = arguments.n_conv_per_stage if is_plain else arguments.n_blocks_per_stage
    if blocks is None:
        missing = "n_conv_per_stage" if is_plain else "n_blocks_per_stage"
        raise NetworkError(f"arch_kwargs: missing key '{missing}'")
    return _spec(
        name,
        features=_each(arguments.features_per_stage, stages),
        strides=_rows(arguments.strides, stages, dimensions),
        kernels=_rows(arguments.kernel_sizes, stages, dimensions),
        blocks=_each(blocks, stages),
        decoder=_each(arguments.n_conv_per_stage_decoder, stages - 1),
    )


def _before(old: _Before) -> NetworkSpec:
    stages = len(old.n_conv_per_stage_encoder)
    return _spec(
        _known(_PACKAGE + old.UNet_class_name),
        features=[
            min(old.unet_max_num_features, old.UNet_base_num_features * 2**stage)
            for stage in range(stages)
        ],
        strides=old.pool_op_kernel_sizes,
        kernels=old.conv_kernel_sizes,
        blocks=old.n_conv_per_stage_encoder,
        decoder=old.n_conv_per_stage_decoder,
    )


def _spec(
    name: str,
    *,
    features: Sequence[int],
    strides: Sequence[Sequence[int]],
    kernels: Sequence[Sequence[int]],
    blocks: Sequence[int],
    decoder: Sequence[int],
) -> NetworkSpec:
    if any(stride != 1 for row in strides[:1] for stride in row):
        raise NetworkError("strides: the first stage has a stride, so outputs would be coarser")
    return NetworkSpec(
        architecture=name,
        features_per_stage=tuple(features),
        strides=tuple(map(tuple, strides)),
        kernel_sizes=tuple(map(tuple, kernels)),
        blocks_per_stage=tuple(blocks),
        # nnU-Net counts the stages of a decoder from the coarsest.
        decoder_blocks_per_stage=tuple(reversed(decoder)),
    )


def _known(class_name: object) -> str:
    known = _PACKAGE, str(class_name).rpartition(".")[2]
    if not str(class_name).startswith(known[0]) or known[1] not in ARCHITECTURES:
        raise NetworkError(
            f"network '{class_name}' is none that autoseg has ({', '.join(ARCHITECTURES)})"
        )
    return ARCHITECTURES[known[1]]


def _refuse_others(given: _Arguments, dimensions: int) -> None:
    """Refuse what would make it another network.

    Raises:
        NetworkError: naming the first such argument.
    """
    slope = (given.nonlin_kwargs or {}).get("negative_slope", _NEGATIVE_SLOPE)
    norm = given.norm_op_kwargs or {}
    first = given.features_per_stage
    first = first if isinstance(first, int) else (first or [0])[0]
    wrong = {
        "conv_op": not given.conv_op.endswith(f"Conv{dimensions}d"),
        "conv_bias": not given.conv_bias,
        "norm_op": not str(given.norm_op).endswith(f"InstanceNorm{dimensions}d"),
        "norm_op_kwargs": norm.get("eps", _EPSILON) != _EPSILON
        or norm.get("affine", False) is not True
        or bool(norm.get("track_running_stats")),
        "nonlin": not str(given.nonlin).endswith(".LeakyReLU"),
        "nonlin_kwargs": slope != _NEGATIVE_SLOPE,
        "stem_channels": given.stem_channels not in (None, first),
        "block": given.block is not None and not given.block.endswith("BasicBlockD"),
        "pool": given.pool != "conv",
    }
    values = {**given.model_dump(), **(given.model_extra or {})}
    asked_for = [
        name
        for name, value in (given.model_extra or {}).items()
        if value and name not in _WITHOUT_EFFECT
    ]
    for name in [name for name, is_wrong in wrong.items() if is_wrong] + asked_for:
        raise NetworkError(
            f"architecture.arch_kwargs.{name}: {values[name]!r} is nothing autoseg's networks have"
        )


def _each(value: list[int] | int, number: int) -> list[int]:
    return [value] * number if isinstance(value, int) else value


def _rows(value: _Rows, stages: int, dimensions: int) -> list[list[int]]:
    rows = [value] * stages if isinstance(value, int) else value
    return [[row] * dimensions if isinstance(row, int) else row for row in rows]
