"""A whole volume through networks that see one patch at a time."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain, combinations, product

import torch
from torch import Tensor, nn

from autoseg.core.progress import Progress, silent
from autoseg.errors import AutosegError
from autoseg.imaging.patches import gaussian_weights, tile_starts
from autoseg.networks.agreement import Agreement
from autoseg.networks.precision import Precision, autocast, place

logger = logging.getLogger(__name__)

_Region = tuple[slice, ...]
_Job = tuple[nn.Module, _Region, tuple[int, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """How networks are moved over a volume.

    Attributes:
        patch_size: ``(z, y, x)`` or, of 2D networks, ``(y, x)``, in voxels.
        num_outputs: channels of the networks' output.
        mirror_axes: axes of the patch; outputs of the patch mirrored along each of their
            combinations are mirrored back and averaged. None if empty.
        precision: what the networks compute in; sums are always float32.
        device: where the networks compute.
        step: largest distance of neighbouring patches, as a share of the patch.
        patches_per_pass: patches, mirrored ones among them, per forward pass.
    """

    patch_size: tuple[int, ...]
    num_outputs: int
    mirror_axes: tuple[int, ...]
    precision: Precision
    device: torch.device
    step: float = 0.5
    patches_per_pass: int = 1

    @property
    def dimensions(self) -> int:
        """Of the networks."""
        return len(self.patch_size)

    @property
    def flips(self) -> list[tuple[int, ...]]:
        """All combinations of the mirrored axes of ``(channels, *patch)``, the empty one first."""
        axes = [axis + 1 for axis in self.mirror_axes]
        return list(chain.from_iterable(combinations(axes, n) for n in range(len(axes) + 1)))


def predict_slabs(
    networks: Sequence[nn.Module],
    image: Tensor,
    window: Window,
    axis: int = 0,
    progress: Progress = silent,
    agreement: Agreement | None = None,
) -> Iterator[Tensor]:
    """Compute the mean logits of some networks over a volume, slab by slab.

    Outputs of overlapping patches are averaged with weights that fall off from the patch's
    centre. A volume smaller than the patch is surrounded by zeros. A 2D network sees the volume
    slice by slice. The networks move to the device and stay there; their mode and their
    ``deep_supervision`` are as before when the last slab was taken.

    Memory besides the networks' own is a float32 buffer of ``num_outputs`` times the cross-section
    times the depth of a patch, and some patches. Where a GPU is short of it, fewer patches
    go through a pass, and then the buffer moves to the host.

    Args:
        networks: take ``(batch, channels, *patch_size)``, return ``(batch, num_outputs,
            *patch_size)``.
        image: float32 ``(channels, z, y, x)``, prepared as the networks expect.
        window: how they are moved.
        axis: of the volume, along which it is worked off; 0 for 2D networks.
        progress: told about every pass.
        agreement: counts how far passes and networks agree, if somebody wants to know.

    Yields:
        Consecutive parts of the logits, float32 ``(num_outputs, rows, *others)`` on the CPU: rows
        along ``axis``, then the other axes in their order.

    Raises:
        AutosegError: if a network returns infinity or NaN.
        ValueError: if image, patch or axis do not fit together.

    References:
        Isensee et al., nnU-Net (2021), whose sliding window this is, except that it sums in
        float16, where the small weights at a volume's border lose their digits.
    """
    if image.ndim != 4 or window.dimensions not in (2, 3) or (window.dimensions == 2 and axis):
        raise ValueError(
            f"need a (c, z, y, x) image and 2 or 3 patch sizes, got {tuple(image.shape)} and "
            f"{window.patch_size}, along axis {axis}"
        )
    tiling = _Tiling.over(image.shape[1:], window, axis)
    if agreement is not None:
        tiles = [tile for layer in tiling.layers for tile in layer.tiles]
        agreement.begin(tiles, len(window.flips), len(networks))
    with ExitStack() as stack:
        for network in networks:
            place(network, window.precision, window.device, window.dimensions)
            stack.enter_context(_evaluating(network))
        sweep = _Sweep(networks, image, window, tiling, agreement)
        total = len(networks) * sum(len(layer.tiles) for layer in tiling.layers) * len(window.flips)
        done = 0
        for layer in tiling.layers:
            for passed in sweep.add(layer):
                done += passed
                progress(done, total)
            yield sweep.finish(layer)


def predict_logits(
    network: nn.Module, image: Tensor, window: Window, progress: Progress = silent
) -> Tensor:
    """The logits of a whole volume; see ``predict_slabs``.

    Args:
        network: as there.
        image: float32 ``(channels, z, y, x)``.
        window: as there.
        progress: told about every pass.

    Returns:
        float32 ``(num_outputs, z, y, x)`` on the CPU.
    """
    return torch.cat(list(predict_slabs([network], image, window, progress=progress)), dim=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layer:
    """Patches that start together; after them some rows are finished.

    Attributes:
        start: row of the first patch.
        num_finished: rows from there on that no later patch reaches.
        tiles: the grid's part of each patch.
    """

    start: int
    num_finished: int
    tiles: tuple[_Region, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tiling:
    """Where patches lie on a volume; along an axis where it is smaller, one lies around it.

    Attributes:
        shape: of the volume.
        axis: along which it is worked off.
        depth: rows that a layer reaches at most.
        patch: of three axes.
        inside: the volume's part of a patch.
        weights: of the voxels of that part, float32.
        layers: in order.
    """

    shape: tuple[int, ...]
    axis: int
    depth: int
    patch: tuple[int, ...]
    inside: _Region
    weights: Tensor
    layers: tuple[_Layer, ...]

    @classmethod
    def over(cls, shape: Sequence[int], window: Window, axis: int) -> _Tiling:
        patch = (1,) * (3 - window.dimensions) + window.patch_size
        sizes = [min(pair) for pair in zip(shape, patch, strict=True)]
        margins = [max(p - size, 0) // 2 for size, p in zip(shape, patch, strict=True)]
        starts = [
            tile_starts(max(size, p), p, 1.0 if p == 1 else window.step)
            for size, p in zip(shape, patch, strict=True)
        ]
        across = [*starts[:axis], [0], *starts[axis + 1 :]]
        per_start = len(window.flips) * len(list(product(*across)))
        together = max(1, window.patches_per_pass // per_start) if patch[axis] == 1 else 1
        groups = [starts[axis][i : i + together] for i in range(0, len(starts[axis]), together)]
        ends = [group[0] for group in groups[1:]] + [shape[axis]]
        return cls(
            shape=tuple(shape),
            axis=axis,
            depth=max(group[-1] - group[0] for group in groups) + sizes[axis],
            patch=patch,
            inside=tuple(slice(m, m + size) for m, size in zip(margins, sizes, strict=True)),
            weights=_weights(patch, window.dimensions)[
                tuple(slice(m, m + size) for m, size in zip(margins, sizes, strict=True))
            ],
            layers=tuple(
                _Layer(
                    start=group[0],
                    num_finished=end - group[0],
                    tiles=tuple(
                        tuple(slice(s, s + size) for s, size in zip(corner, sizes, strict=True))
                        for corner in product(*starts[:axis], group, *starts[axis + 1 :])
                    ),
                )
                for group, end in zip(groups, ends, strict=True)
            ),
        )

    def pad(self, tile: Tensor) -> Tensor:
        """Surround the volume's part of a patch with zeros, as much below as above."""
        sides = zip(reversed(self.inside), reversed(self.patch), strict=True)
        padding = [(part.start, size - part.stop) for part, size in sides]
        return nn.functional.pad(tile, list(chain.from_iterable(padding)))


def _weights(patch: tuple[int, ...], dimensions: int) -> Tensor:
    weights = torch.tensor(gaussian_weights(patch[3 - dimensions :]))
    return weights.reshape(patch)


class _Sweep:
    """Sums over the patches that reach the rows in work."""

    def __init__(
        self,
        networks: Sequence[nn.Module],
        image: Tensor,
        window: Window,
        tiling: _Tiling,
        agreement: Agreement | None,
    ) -> None:
        self._networks, self._window, self._tiling = networks, window, tiling
        self._agreement = agreement
        self._passes = window.patches_per_pass
        across = [size for axis, size in enumerate(tiling.shape) if axis != tiling.axis]
        # Made outside inference mode: what callers get must be theirs to change.
        self._sums = torch.zeros(window.num_outputs, tiling.depth, *across)
        self._weights = torch.zeros(tiling.depth, *across)
        self._image = image
        self._mirrored: Tensor | None = None
        self._share = len(networks) * len(window.flips)  # outputs that are added for a tile
        self._move_to(window.device)

    def _move_to(self, device: torch.device) -> None:
        """Keep sums and image on a device, if it has room."""
        try:
            self._weight = self._tiling.weights.to(device)
            self._sums, self._weights = self._sums.to(device), self._weights.to(device)
            self._image = self._image.to(device)
            if self._mirrored is not None:
                self._mirrored = self._mirrored.to(device)
        except torch.OutOfMemoryError:
            self._give_way()

    def _give_way(self) -> None:
        """Leave the device to the networks."""
        logger.info("the GPU is short of memory: sums are kept in main memory")
        self._move_to(torch.device("cpu"))
        torch.cuda.empty_cache()

    def add(self, layer: _Layer) -> Iterator[int]:
        """Take the patches of a layer into account; yields the patches of each pass."""
        jobs: list[_Job] = [
            (network, tile, flip)
            for network in self._networks
            for tile in layer.tiles
            for flip in self._window.flips
        ]
        while jobs:
            chosen = [job for job in jobs[: self._passes] if job[0] is jobs[0][0]]
            try:
                parts = self._parts(chosen)
            except torch.OutOfMemoryError:
                if len(chosen) == 1 and self._sums.device.type == "cpu":
                    raise
                self._shrink(len(chosen))
                continue
            self._accumulate(layer, chosen, parts)
            del jobs[: len(chosen)]
            yield len(chosen)
        self._count(layer)

    def _shrink(self, failed: int) -> None:
        torch.cuda.empty_cache()
        if failed > 1:
            self._passes = failed // 2
            logger.info("the GPU is short of memory: %d patches per pass", self._passes)
        else:
            self._give_way()

    @torch.inference_mode()
    def _parts(self, jobs: Sequence[_Job]) -> list[Tensor]:
        """The volume's part of each output, mirrored back, float32 where the sums are."""
        window, flat = self._window, self._window.dimensions == 2
        patches: list[Tensor] = []
        known: tuple[_Region, Tensor] | None = None
        for _, tile, flip in jobs:
            if known is None or known[0] != tile:
                patch = self._tiling.pad(self._image[(slice(None), *tile)].to(window.device))
                known = tile, patch[:, 0] if flat else patch
            patches.append(known[1].flip(flip) if flip else known[1])
        layout = window.precision.memory_format(window.dimensions)
        batch = torch.stack(patches).contiguous(memory_format=layout)
        with autocast(window.precision, window.device):
            outputs = jobs[0][0](batch)
        inside = (slice(None), *self._tiling.inside[3 - window.dimensions :])
        turned = (o.flip(f) if f else o for o, (_, _, f) in zip(outputs, jobs, strict=True))
        return [one[inside].to(self._sums.device, torch.float32) for one in turned]

    @torch.inference_mode()
    def _accumulate(self, layer: _Layer, jobs: Sequence[_Job], parts: Sequence[Tensor]) -> None:
        """Add outputs to the sums, in place: nothing here can be short of memory halfway."""
        for (_, tile, flip), part in zip(jobs, parts, strict=True):
            if self._agreement is not None:
                self._agreement.add_flip(tile, part)
            self._mirrored = part if self._mirrored is None else self._mirrored.add_(part)
            if flip == self._window.flips[-1]:
                if self._agreement is not None:
                    self._agreement.add_network(tile, self._mirrored)
                rows = self._mirrored[:, None] if part.ndim == 3 else self._mirrored
                weighted = rows.mul_(self._weight).movedim(self._tiling.axis + 1, 1)
                self._of(layer, tile, self._sums).add_(weighted)
                self._mirrored = None

    @torch.inference_mode()
    def _count(self, layer: _Layer) -> None:
        for tile in layer.tiles:
            place = self._of(layer, tile, self._weights[None])
            place.add_(self._weight.movedim(self._tiling.axis, 0), alpha=self._share)

    def _of(self, layer: _Layer, tile: _Region, rows: Tensor) -> Tensor:
        """A tile's part of the rows in work."""
        axis = self._tiling.axis
        along = slice(tile[axis].start - layer.start, tile[axis].stop - layer.start)
        return rows[(slice(None), along, *tile[:axis], *tile[axis + 1 :])]

    def finish(self, layer: _Layer) -> Tensor:
        """The finished rows; those after them come to the front."""
        count = layer.num_finished
        try:
            logits = self._divided(count)
        except torch.OutOfMemoryError:
            if self._sums.device.type == "cpu":
                raise
            self._give_way()
            logits = self._divided(count)
        # One pass instead of two: infinity and NaN survive a sum.
        if not logits.sum().isfinite():
            raise AutosegError(
                "the network's output is not finite",
                remedy="use --precision float32, and check the image for NaN",
            )
        for rows in (self._sums, self._weights[None]):
            _bring_forward(rows, count)
        return logits

    def _divided(self, count: int) -> Tensor:
        return (self._sums[:, :count] / self._weights[:count]).cpu()


def _bring_forward(rows: Tensor, count: int) -> None:
    """Move rows of ``(channels, rows, ...)`` that far to the front, and clear those behind."""
    size = rows.shape[1]
    for start in range(0, size - count, count):
        stop = min(start + count, size - count)
        rows[:, start:stop] = rows[:, start + count : stop + count]
    rows[:, max(size - count, 0) :] = 0


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """Switch training mode and deep supervision off for a while."""
    training = network.training
    supervised = getattr(network, "deep_supervision", False)
    network.eval()
    _supervise(network, False)
    try:
        yield
    finally:
        network.train(training)
        _supervise(network, supervised)


def _supervise(network: nn.Module, deep: bool) -> None:
    # A network of a plug-in that knows no deep supervision has no such attribute.
    if hasattr(network, "deep_supervision"):
        setattr(network, "deep_supervision", deep)  # noqa: B010 - nn.Module types hide it
