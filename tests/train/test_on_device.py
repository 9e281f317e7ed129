from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from batchgenerators.transforms.noise_transforms import GaussianNoiseTransform
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from autoseg.io.case_store import CaseInfo, write_case
from autoseg.train.augmentation.augment import (
    AUGMENTATIONS,
    Augmentation,
    apply,
    box_to_read,
    draw_warp,
)
from autoseg.train.augmentation.drawn import Unfinished, draw_rest, joined
from autoseg.train.augmentation.intensity import (
    Blur,
    Brightness,
    Contrast,
    DrawnTransform,
    Gamma,
    LowResolution,
    Noise,
)
from autoseg.train.augmentation.intensity_on_device import make_changes
from autoseg.train.augmentation.local_intensity import (
    BlankRectangles,
    BrightnessGradient,
    LocalGamma,
    Offset,
    Sharpen,
)
from autoseg.train.augmentation.on_device import finish, foreign_transform
from autoseg.train.augmentation.warp import Warp, WarpRange
from autoseg.train.augmentation.warp_on_device import Warped, warp_samples
from autoseg.train.batches import BatchSource, BatchSpec, make_batch

SOLID, FLAT, PLANE = (12, 20, 16), (4, 20, 16), (24, 18)
NAMES = ("default", "no-mirror", "light", "strong", "none")
CUDA = pytest.param(
    "cuda",
    marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here"),
)
# Images have a deviation of 1. Sums are made in another order, a GPU multiplies and adds in one.
ROUNDING = 2e-5


@pytest.fixture(params=["cpu", CUDA])
def device(request) -> torch.device:
    return torch.device(request.param)


def rng(*seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def read(augmentation: Augmentation, number: int, channels: int = 2):
    """A sample's image, labels in blocks, box and warp as read, and its generator."""
    source, content = rng(11, number), rng(12, number)
    warp = draw_warp(augmentation, source)
    box = box_to_read(augmentation, warp)
    blocks = content.integers(-1, 4, [-(-n // 3) for n in box.size])
    labels = np.kron(blocks, np.ones((3,) * len(box.size)))
    labels = labels[tuple(slice(n) for n in box.size)].astype(np.int16)
    image = content.normal(size=(channels, *box.size)).astype(np.float32)
    return image, labels, box, warp, source


def by_processes(augmentation: Augmentation, numbers, masked=()):
    images, all_labels = [], []
    for number in numbers:
        image, labels, _, warp, source = read(augmentation, number)
        image, labels = apply(image, labels, warp, augmentation, source)
        for channel in masked:
            image[channel][labels < 0] = 0
        images.append(image)
        all_labels.append(np.maximum(labels, 0))
    return np.stack(images), np.stack(all_labels)


def unfinished_batch(augmentation: Augmentation, numbers, device: torch.device, masked=()):
    images, all_labels, drawn = [], [], []
    for number in numbers:
        image, labels, box, warp, source = read(augmentation, number)
        images.append(image)
        all_labels.append(labels)
        drawn.append(draw_rest(box.size, warp, len(image), augmentation, source))
    unfinished = Unfinished(
        samples=tuple(drawn),
        channels=2,
        patch_size=augmentation.patch_size,
        masked_channels=masked,
    )
    flat, flat_labels = (torch.from_numpy(joined(part)) for part in (images, all_labels))
    return flat.to(device), flat_labels.to(device), unfinished


def by_device(augmentation: Augmentation, numbers, device: torch.device, masked=()):
    images, labels = finish(*unfinished_batch(augmentation, numbers, device, masked))
    return images.cpu().numpy(), labels.cpu().numpy()


def all_axes(patch):
    return tuple(range(len(patch)))


# One transform at a time ----------------------------------------------------------------------

TRANSFORMS = [
    Noise(share=1, deviation_range=(0.0, 0.1)),
    Blur(share=1, sigma_range=(0.3, 1.5)),
    Brightness(share=1, factor_range=(0.75, 1.25)),
    Contrast(share=1, factor_range=(0.5, 2.0), channel_share=0.5, clipped_share=0.5),
    LowResolution(share=1, factor_range=(0.05, 1.0), in_plane=False),
    LowResolution(share=1, factor_range=(0.5, 1.0), in_plane=True),
    Gamma(share=1, exponent_range=(0.7, 1.5), inverted=True),
    Gamma(share=1, exponent_range=(0.7, 1.5), inverted=False),
    Offset(share=1, deviation=0.5),
    BlankRectangles(share=1),
    BrightnessGradient(share=1, strength_range=(1.0, 5.0)),
    LocalGamma(share=1, low_range=(0.01, 0.8), high_range=(1.5, 4.0)),
    Sharpen(share=1, strength_range=(0.1, 1.0), in_plane=False),
    Sharpen(share=1, strength_range=(0.1, 1.0), in_plane=True),
]


@pytest.mark.parametrize(
    ("transform", "patch"),
    [
        (transform, patch)
        for transform in TRANSFORMS
        for patch in (SOLID, (5, 1, 7), PLANE)
        if len(patch) == 3 or not getattr(transform, "in_plane", False)
    ],
    ids=lambda one: str(one) if isinstance(one, tuple) else type(one).__name__,
)
def test_a_transform_changes_a_sample_in_the_same_way_wherever_it_is_made(transform, patch, device):
    images = rng(1).normal(size=(8, 3, *patch)).astype(np.float32)
    expected = np.concatenate(
        [transform(data=one[None].copy(), rng=rng(2, n))["data"] for n, one in enumerate(images)]
    )
    changed = images.copy()
    chosen, changes = [], []
    for number in range(len(images)):
        for change in transform.drawn((3, *patch), rng(2, number)):
            chosen.append((number, change.channel))
            changes.append(change)
    places = tuple(np.array(chosen).T)
    made = make_changes(torch.from_numpy(images[places]).to(device), changes)
    changed[places] = made.cpu().numpy()
    assert len(chosen) > 4
    assert not np.array_equal(changed, images)
    np.testing.assert_allclose(changed, expected, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize(
    "transform",
    [
        Gamma(share=1, exponent_range=(0.7, 1.5), inverted=True),
        LocalGamma(share=1, low_range=(0.1, 0.8), high_range=(1.5, 4.0), channel_share=1),
        Contrast(share=1, factor_range=(0.75, 1.25)),
    ],
    ids=lambda one: type(one).__name__,
)
def test_a_constant_channel_stays_beside_one_that_changes(transform, device):
    rows = rng(3).normal(size=(2, *SOLID)).astype(np.float32)
    rows[1] = 2.5
    changes = list(transform.draw(rows.shape, rng(4)))
    made = make_changes(torch.from_numpy(rows.copy()).to(device), changes).cpu().numpy()
    np.testing.assert_array_equal(made[1], rows[1])
    assert not np.array_equal(made[0], rows[0])


# Warps ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("patch", [SOLID, FLAT, PLANE], ids=str)
def test_turned_scaled_and_plain_samples_of_one_batch_each_get_their_own(patch, device):
    shifts = tuple(min(3, n // 4) for n in patch)
    ranges = WarpRange(
        rotation_degrees=60, rotation_share=0.5, scale_range=(0.7, 1.4), scale_share=0.5
    )
    augmentation = Augmentation(patch_size=patch, warp=ranges, in_plane=patch == FLAT)
    shifted = replace(augmentation, warp=replace(ranges, shift_vox=shifts, is_isotropic=False))
    for one in (augmentation, shifted):
        images, labels = by_processes(one, range(24))
        made, made_labels = by_device(one, range(24), device)
        np.testing.assert_allclose(made, images, rtol=0, atol=ROUNDING)
        # Equal weights may come out unequal by a rounding, and another label then wins.
        assert (made_labels != labels).mean() <= 1e-4
        assert len(np.unique(labels)) > 3


def test_equal_weights_are_settled_in_the_same_way(device):
    warp = Warp(angles=(0.0,), scales=(1.0, 1.0), shift_vox=(0.5, 0.5))
    augmentation = Augmentation(patch_size=PLANE)
    box = box_to_read(augmentation, warp)
    labels = rng(5).integers(0, 4, box.size).astype(np.int16)
    image = np.zeros((1, *box.size), dtype=np.float32)
    _, expected = apply(image.copy(), labels, warp, augmentation, rng(0))
    sample = Warped(
        image=torch.from_numpy(image).to(device),
        labels=torch.from_numpy(labels).to(device),
        warp=warp,
    )
    _, picked = warp_samples([sample], PLANE)
    np.testing.assert_array_equal(picked[0].cpu().numpy(), expected)


# Whole samples --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("patch", [SOLID, FLAT, PLANE], ids=str)
def test_whole_samples_are_the_same_wherever_they_are_made(name, patch, device):
    augmentation = AUGMENTATIONS.get(name)(patch, all_axes(patch))
    images, labels = by_processes(augmentation, range(40), masked=(1,))
    made, made_labels = by_device(augmentation, range(40), device, masked=(1,))
    assert (made.shape, made.dtype) == (images.shape, np.float32)
    assert (made_labels.shape, made_labels.dtype) == (labels.shape, np.int16)
    differs = made_labels != labels
    assert differs.mean() <= 1e-4
    agrees = np.abs(made - images) <= ROUNDING
    # Where a tie makes a voxel masked or not, its intensity is 0 or not.
    assert (agrees | differs[:, None]).all()


@pytest.mark.parametrize("name", NAMES)
def test_the_rest_takes_as_many_draws_as_the_processes_do(name):
    augmentation = AUGMENTATIONS.get(name)(SOLID, all_axes(SOLID))
    for number in range(20):
        image, labels, box, warp, here = read(augmentation, number)
        *_, there = read(augmentation, number)
        draw_rest(box.size, warp, len(image), augmentation, here)
        apply(image, labels, warp, augmentation, there)
        assert here.bit_generator.state == there.bit_generator.state


def test_what_was_read_is_not_written_over(device):
    augmentation = AUGMENTATIONS.get("default")(SOLID, all_axes(SOLID))
    flat, flat_labels, unfinished = unfinished_batch(augmentation, range(6), device, (0,))
    before = flat.clone(), flat_labels.clone()
    once = finish(flat, flat_labels, unfinished)
    again = finish(flat, flat_labels, unfinished)
    for one, other in ((before, (flat, flat_labels)), (once, again)):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


class OnOneDevice(TorchDispatchMode):
    """Refuses to compute with tensors of two devices, as a GPU would."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        tensors = [one for one in tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)]
        devices = {one.device.type for one in tensors if one.ndim}
        assert len(devices) < 2 or "copy" in str(func), f"{func} with {devices}"
        if str(func).startswith("aten.nonzero"):  # of a tensor without content: five places
            return torch.zeros((5, args[0].ndim), dtype=torch.long, device="meta")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["default", "strong"])
@pytest.mark.parametrize("patch", [SOLID, FLAT, PLANE], ids=str)
def test_all_is_computed_on_the_device_of_the_images(name, patch):
    augmentation = AUGMENTATIONS.get(name)(patch, all_axes(patch))
    with OnOneDevice():
        images, labels = finish(*unfinished_batch(augmentation, range(24), torch.device("meta")))
    assert (images.device.type, labels.device.type) == ("meta", "meta")
    assert images.shape == (24, 2, *patch)
    assert labels.shape == (24, *patch)


# What cannot be made there --------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("patch", [SOLID, FLAT, PLANE], ids=str)
def test_every_augmentation_of_ours_can_be_made_on_a_device(name, patch):
    assert foreign_transform(AUGMENTATIONS.get(name)(patch, all_axes(patch))) is None


class OwnGamma(Gamma):
    """What another package made of ours: it may do something else."""


def test_transforms_of_other_packages_are_named():
    foreign = GaussianNoiseTransform(p_per_sample=1)
    own = OwnGamma(share=1, exponent_range=(0.7, 1.5), inverted=False)
    for transform, name in ((foreign, "GaussianNoiseTransform"), (own, "OwnGamma")):
        assert foreign_transform(Augmentation(patch_size=SOLID, intensity=(transform,))) == name


def test_a_foreign_transform_is_never_drawn_apart():
    foreign = Augmentation(patch_size=SOLID, intensity=(GaussianNoiseTransform(p_per_sample=1),))
    with pytest.raises(TypeError, match="GaussianNoiseTransform cannot be drawn apart"):
        draw_rest(SOLID, None, 1, foreign, rng(0))


def test_a_transform_that_can_be_drawn_apart_still_changes_images_itself():
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Twice(DrawnTransform):
        def draw(self, shape, rng):
            yield from Brightness(share=1, factor_range=(2.0, 2.0)).draw(shape, rng)

    data = np.ones((1, 2, 3, 4), dtype=np.float32)
    np.testing.assert_array_equal(Twice(share=1)(data=data, rng=rng(1))["data"], 2.0)


# Batches --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def spec(tmp_path_factory) -> BatchSpec:
    """Three small cases, of which one row lies outside the mask."""
    folder: Path = tmp_path_factory.mktemp("store")
    shapes = {"first": (10, 25, 20), "second": (12, 24, 21), "third": (9, 26, 22)}
    for number, (name, shape) in enumerate(shapes.items()):
        labels = np.zeros(shape, dtype=np.int16)
        labels[2:7, 4:12, 9:17] = 1
        labels[3:5, 6:9, 11:14] = 2
        labels[:, -1] = -1
        image = (labels + rng(7, number).normal(0, 1, shape)).astype(np.float32)[None]
        positions = [np.flatnonzero(labels == value) for value in (1, 2)]
        info = CaseInfo(
            name=name,
            source="generated",
            shape=shape,
            trace={},
            position_counts=tuple(map(len, positions)),
            label_voxels=tuple(map(len, positions)),
        )
        write_case(folder, name, [image], labels, positions, info, (8, 12, 16))
    return BatchSpec(
        folder=folder,
        cases=tuple(shapes),
        batch_size=3,
        patch_size=(8, 12, 16),
        centre_on_annotated=False,
        foreground_fraction=0.33,
        augmentation="default",
        mirror_axes=(0, 1, 2),
        masked_channels=(0,),
        seed=4,
        part="train",
    )


def finished(batch, device):
    assert batch.unfinished is not None
    images, labels = torch.from_numpy(batch.images), torch.from_numpy(batch.labels)
    images, labels = finish(images.to(device), labels.to(device), batch.unfinished)
    return images.cpu().numpy(), labels.cpu().numpy()


@pytest.mark.parametrize("name", ["default", "strong"])
@pytest.mark.parametrize("patch", [(8, 12, 16), (4, 16, 16), (12, 16)], ids=str)
def test_a_batch_finished_later_is_the_batch_of_the_processes(spec, name, patch, device):
    whole = replace(spec, patch_size=patch, mirror_axes=all_axes(patch), augmentation=name)
    for step in range(6):
        expected = make_batch(whole, 1, step)
        batch = make_batch(replace(whole, finished_later=True), 1, step)
        images, labels = finished(batch, device)
        assert batch.cases == expected.cases
        differs = labels != expected.labels
        assert differs.mean() <= 1e-3  # one voxel of these small batches, or two
        # Intensities are up to 30 times the deviation after the strong augmentation.
        agrees = np.abs(images - expected.images) <= 10 * ROUNDING
        assert (agrees | differs[:, None]).all()


def test_nothing_is_left_to_do_to_the_batches_of_the_processes(spec):
    assert make_batch(spec, 0, 0).unfinished is None


@pytest.mark.parametrize("workers", [1, 2])
def test_unfinished_batches_are_the_same_for_any_number_of_workers(spec, workers):
    later = replace(spec, finished_later=True, augmentation="strong")
    source = BatchSource(later, workers)
    together = list(source(1, range(3)))
    source.close()
    for one, other in zip(BatchSource(later, 0)(1, range(3)), together, strict=True):
        assert one.cases == other.cases
        for a, b in zip(finished(one, "cpu"), finished(other, "cpu"), strict=True):
            np.testing.assert_array_equal(a, b)
