"""How large a network may be: the sizes users choose from by name."""

from __future__ import annotations

from dataclasses import dataclass

from autoseg.errors import unknown_name
from autoseg.plan.memory import GIGABYTE


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """A kind of network and the feature maps it may have.

    The limits are numbers of feature map elements of a whole reference batch, counted as
    ``autoseg.core.layers.feature_map_elements`` does, that fit ``budget_bytes``; for another
    budget they are scaled.

    Attributes:
        architecture: a name in ``NETWORKS``.
        budget_bytes: GPU memory the limits stand for.
        elements_3d: feature map elements of one 3D sample when ``REFERENCE_BATCH_3D`` of them
            fill the budget.
        elements_2d: the same for 2D and ``REFERENCE_BATCH_2D``.
        max_batch_fraction: largest part of the data set's voxels in a batch.
        encoder_blocks: blocks of each encoder stage; the last number repeats.
        decoder_blocks: blocks of every decoder stage.
        smallest_batch_2d: batch that has to fit before a 2D patch stops shrinking.
        base_features: channels of the first stage; each further stage has twice as many.
    """

    architecture: str
    budget_bytes: int
    elements_3d: int
    elements_2d: int
    max_batch_fraction: float
    encoder_blocks: tuple[int, ...]
    decoder_blocks: int
    smallest_batch_2d: int
    base_features: int = 32

    def elements(self, dimensions: int) -> int:
        """Limit of one sample in 2D or 3D."""
        return self.elements_2d if dimensions == 2 else self.elements_3d

    def smallest_batch(self, dimensions: int) -> int:
        """Batch that has to fit before a patch stops shrinking."""
        return self.smallest_batch_2d if dimensions == 2 else MIN_BATCH_SIZE

    def blocks(self, num_stages: int) -> tuple[int, ...]:
        """Blocks of each encoder stage."""
        last = len(self.encoder_blocks) - 1
        return tuple(self.encoder_blocks[min(stage, last)] for stage in range(num_stages))


MIN_BATCH_SIZE = 2
REFERENCE_BATCH_3D = 2
REFERENCE_BATCH_2D = 12
MAX_FEATURES_3D = 320
MAX_FEATURES_2D = 512


def _residual(
    budget_gb: int, elements_3d: int, elements_2d: int, max_batch_fraction: float = 1.0
) -> Preset:
    return Preset(
        architecture="residual_unet",
        budget_bytes=budget_gb * GIGABYTE,
        elements_3d=elements_3d,
        elements_2d=elements_2d,
        max_batch_fraction=max_batch_fraction,
        encoder_blocks=(1, 3, 4, 6),
        decoder_blocks=1,
        smallest_batch_2d=REFERENCE_BATCH_2D,
    )


PRESETS: dict[str, Preset] = {
    "default": Preset(
        architecture="unet",
        budget_bytes=8 * GIGABYTE,
        elements_3d=560_000_000,
        elements_2d=85_000_000,
        max_batch_fraction=0.05,
        encoder_blocks=(2,),
        decoder_blocks=2,
        smallest_batch_2d=MIN_BATCH_SIZE,
    ),
    "resenc": _residual(8, 680_000_000, 135_000_000, max_batch_fraction=0.05),
    "resenc-m": _residual(8, 680_000_000, 135_000_000),
    "resenc-l": _residual(24, 2_100_000_000, 380_000_000),
    "resenc-xl": _residual(40, 3_600_000_000, 560_000_000),
}


def max_features(dimensions: int) -> int:
    """Most channels of a stage, in 2D or 3D."""
    return MAX_FEATURES_2D if dimensions == 2 else MAX_FEATURES_3D


def find_preset(name: str) -> Preset:
    """Return the preset of a name.

    Raises:
        UnknownNameError: if there is none.
    """
    if name not in PRESETS:
        raise unknown_name("preset", name, PRESETS)
    return PRESETS[name]
