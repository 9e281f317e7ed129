"""What surrounds an exported network: everything a program of any kind needs to use it."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from autoseg.core.artifact import Artifact, Frozen
from autoseg.core.labels import LabelSpace
from autoseg.core.model import Model
from autoseg.core.selection import CleanUp
from autoseg.imaging.patches import SMALLEST_WEIGHT
from autoseg.imaging.resample import ANISOTROPY

IMAGE, LOGITS = "image", "logits"
STEP = 0.5

NOTES = {
    "axes": "Arrays are (channels, z, y, x), spacings (z, y, x) in mm.",
    "order": "Transpose, crop to the bounding box of voxels where any channel is not 0 (holes "
    "filled), normalize, resample, window, resample logits back into the box, transpose back, "
    "decide. Outside the box all is background.",
    "resampling": "New sizes are round(size * spacing / target). Resizing aligns the outer borders "
    "of the grids and extends the image by its border voxels. Order 3 is a spline whose result is "
    "clipped to the image's range. Where the largest spacing of an image, before or after, is more "
    "than 'anisotropy' times its smallest, that axis alone is resized with 'order_of_coarse_axis'.",
    "masked": "A masked z-score takes mean and deviation of the non-zero voxels (holes filled) and "
    "leaves all others as they are.",
    "window": "Tiles of 'patch_size' start at round(i * (size - patch) / n), n = ceil((size - "
    "patch) / (patch * step)), per axis; a smaller image is surrounded by zeros. Logits of tiles "
    "are added up with Gaussian weights (peak 1 at patch // 2, standard deviation 'sigma' times "
    "the patch, not below 'smallest_weight') and divided by the sum of the weights. With mirror "
    "axes the logits of all combinations of mirrored patches, mirrored back, are averaged.",
    "previous": "A cascade's network reads, after the image's channels, one channel of 0 or 1 per "
    "foreground label of the previous stage's result, which was resampled as logits to this "
    "stage's grid (order 1) and decided there.",
}


class Channel(Frozen):
    """How one channel is normalized.

    Attributes:
        name: of the channel.
        scheme: ``ct``: clip to ``clip``, subtract ``mean``, divide by ``std``; ``zscore``: with the
            image's own mean and standard deviation; ``rescale_to_0_1``: with its own least and
            largest value; ``rgb_to_0_1``: divide by 255; ``none``.
        masked: whether only non-zero voxels count; see ``NOTES``.
        clip: lowest and highest value; None where nothing is clipped.
        mean: of the data set; None where the image's own counts.
        std: likewise.
    """

    name: str
    scheme: str
    masked: bool
    clip: tuple[float, float] | None = None
    mean: float | None = None
    std: float | None = None


class Resampling(Frozen):
    """Orders of interpolation.

    Attributes:
        order_of_image: in resampling to the network's spacing.
        order_of_logits: in resampling back.
        order_of_coarse_axis: along the axis that is treated apart, in both.
        anisotropy: ratio of spacings beyond which there is such an axis.
    """

    order_of_image: int = 3
    order_of_logits: int = 1
    order_of_coarse_axis: int = 0
    anisotropy: float = ANISOTROPY


class SlidingWindow(Frozen):
    """How the network is moved over the image.

    Attributes:
        patch_size: voxels per axis, after the transpose; two axes of a network for slices.
        step: largest distance of neighbouring tiles, as a share of the patch.
        sigma: standard deviation of the Gaussian weights, as a share of the patch.
        smallest_weight: what no weight is below.
        mirror_axes: axes of the patch.
    """

    patch_size: tuple[int, ...]
    step: float = STEP
    sigma: float = 1 / 8
    smallest_weight: float = SMALLEST_WEIGHT
    mirror_axes: tuple[int, ...]


class Stage(Frozen):
    """Networks of one configuration, whose logits are averaged.

    Attributes:
        configuration: its name.
        files: the networks, one per fold; each takes ``image``, float32 ``(batch, inputs,
            *patch)``, and returns ``logits``, float32 ``(batch, outputs, *patch)``.
        num_inputs: channels of the input.
        num_outputs: channels of the output.
        transpose: raw axis that becomes each axis of the network's grid.
        spacing: mm, after the transpose; of a network for slices without the axis across them,
            along which nothing is resampled.
        channels: how each is normalized.
        resampling: orders of interpolation.
        window: how the network is moved over the image.
        previous: number of the stage whose labels are an input, in ``stages``.
    """

    configuration: str
    files: tuple[str, ...] = Field(min_length=1)
    num_inputs: int
    num_outputs: int
    transpose: tuple[int, int, int]
    spacing: tuple[float, ...]
    channels: tuple[Channel, ...]
    resampling: Resampling = Resampling()
    window: SlidingWindow
    previous: int | None = None


class Output(Frozen):
    """What one channel of the logits means.

    Attributes:
        name: of the structure.
        value: what it is written as in a label map.
    """

    name: str
    value: int


class Description(Artifact):
    """The content of ``model.json`` beside exported networks.

    Attributes:
        task: the task's name.
        labels: what label maps hold.
        outputs: the channels of the logits, in order.
        activation: ``softmax`` over the outputs, or ``sigmoid`` of each where structures overlap.
        decision: how a label map comes of the outputs.
        combination: how several stages make one result.
        stages: all there are; a cascade's previous stage comes before it.
        members: numbers of the stages that predict together.
        clean_up: what is removed of the label map.
        notes: what the words above mean.
    """

    task: str
    labels: LabelSpace
    outputs: tuple[Output, ...]
    activation: str
    decision: str
    combination: str
    stages: tuple[Stage, ...]
    members: tuple[int, ...]
    clean_up: tuple[CleanUp, ...]
    notes: dict[str, str] = NOTES


def describe_stage(model: Model, files: Sequence[str], previous: int | None) -> Stage:
    """What a program must know to use networks of one configuration.

    Args:
        model: any of its folds.
        files: the networks.
        previous: number of the stage it builds on; None if there is none.
    """
    recipe, configuration = model.recipe, model.configuration
    channels: list[Channel] = []
    for number, name in enumerate(recipe.channels):
        stats = recipe.intensities[number]
        known = {}
        if stats is not None:
            clip = (stats.percentile_00_5, stats.percentile_99_5)
            known = {"clip": clip, "mean": stats.mean, "std": stats.std}
        masked, scheme = recipe.use_mask_for_norm[number], recipe.normalization[number]
        channels.append(Channel(name=name, scheme=scheme, masked=masked, **known))
    return Stage(
        configuration=model.members[0].configuration,
        files=tuple(files),
        num_inputs=configuration.num_inputs(model.channels, model.labels),
        num_outputs=model.labels.num_outputs,
        transpose=recipe.transpose,
        spacing=recipe.spacing,
        channels=tuple(channels),
        window=SlidingWindow(
            patch_size=configuration.patch_size, mirror_axes=model.training.mirror_axes
        ),
        previous=previous,
    )


def describe(
    model: Model, stages: Sequence[Stage], members: Sequence[int], clean_up: Sequence[CleanUp]
) -> Description:
    """All that surrounds the networks.

    Args:
        model: any of them.
        stages: all there are.
        members: numbers of those that predict together.
        clean_up: what is removed of the label map.
    """
    labels = model.labels
    if labels.has_regions:
        values, names = labels.output_values or (), labels.names
        activation = "sigmoid"
        decision = (
            "regions with a probability above 0.5 are written in their order, each as its value, "
            "later ones over earlier ones"
        )
    else:
        values = (labels.background, *labels.foreground_values)
        names = ("background", *labels.output_names)
        activation, decision = "softmax", "the value of the largest output, of equal ones the first"
    return Description(
        task=model.task,
        labels=labels,
        outputs=tuple(
            Output(name=name, value=value) for name, value in zip(names, values, strict=True)
        ),
        activation=activation,
        decision=decision,
        combination="logits of a stage's files are averaged before they are resampled; of several "
        "members, probabilities on the image's grid are averaged",
        stages=tuple(stages),
        members=tuple(members),
        clean_up=tuple(clean_up),
    )
