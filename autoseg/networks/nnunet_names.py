"""What nnU-Net calls the weights of our networks, which are its own but for their names."""

from __future__ import annotations

import re
from collections.abc import Iterable

from autoseg.core.plan import NetworkSpec

_SIMPLE = (
    (re.compile(r"upsample\.(\d+)\."), r"decoder.transpconvs.\1."),
    (re.compile(r"heads\.(\d+)\."), r"decoder.seg_layers.\1."),
    (re.compile(r"decoder\.(\d+)\.(\d+)\."), r"decoder.stages.\1.convs.\2."),
    (re.compile(r"encoder\.0\.stem\."), "encoder.stem.convs.0."),
    (re.compile(r"encoder\.(0)\.blocks\.(\d+)\.(conv[12])\."), r"encoder.stages.\1.blocks.\2.\3."),
    (re.compile(r"encoder\.(\d+)\.(\d+)\.(conv[12])\."), r"encoder.stages.\1.blocks.\2.\3."),
    (re.compile(r"encoder\.(\d+)\.(\d+)\.(conv|norm)\."), r"encoder.stages.\1.0.convs.\2.\3."),
)
_SHORTCUT = re.compile(r"encoder\.(\d+)\.(?:blocks\.)?(\d+)\.shortcut\.")
_SECOND_NAMES = re.compile(r"(^|\.)(all_modules|decoder\.encoder)\.")
_WRAPPERS = re.compile(r"^((_orig_mod|module)\.)+")


def nnunet_name(name: str, spec: NetworkSpec) -> str:
    """The shortest name nnU-Net has for a tensor of ours.

    Args:
        name: in the ``state_dict`` of our network.
        spec: the network, ``unet`` or ``residual_unet``.

    Raises:
        ValueError: if neither network has such a tensor.
    """
    shortcut = _SHORTCUT.match(name)
    if shortcut is not None:
        stage, block = int(shortcut[1]), int(shortcut[2])
        # A pooling comes before the projection where the block has a stride.
        place = 1 if block == 0 and max(spec.strides[stage]) > 1 else 0
        rest = name[shortcut.end() :]
        return f"encoder.stages.{stage}.blocks.{block}.skip.{place}.{rest}"
    for pattern, replacement in _SIMPLE:
        if pattern.match(name):
            return pattern.sub(replacement, name, count=1)
    raise ValueError(f"no network of nnU-Net has a tensor '{name}'")


def nnunet_names(names: Iterable[str], spec: NetworkSpec) -> dict[str, str]:
    """What nnU-Net calls each of our tensors."""
    return {name: nnunet_name(name, spec) for name in names}


def without_second_names(names: Iterable[str]) -> dict[str, str]:
    """The tensors of nnU-Net by their shortest name.

    It lists most tensors several times; and some ways to train put a word before all names.

    Args:
        names: of its ``state_dict``.

    Returns:
        By shortest name the one in its ``state_dict``.
    """
    bare = {_WRAPPERS.sub("", name): name for name in names}
    return {name: full for name, full in bare.items() if not _SECOND_NAMES.search(name)}
