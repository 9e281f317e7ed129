import numpy as np
import pytest
import torch
from torch import nn

from autoseg.core.labels import LabelSpace, Structure
from autoseg.io.case_store import CaseInfo, CaseStore, write_case
from autoseg.networks.precision import Precision
from autoseg.train.monitoring.preview import Previewer, choose_case, choose_view, read_view

LABELS = LabelSpace(
    structures=(Structure(name="liver", values=(1,)), Structure(name="vessel", values=(2,)))
)
SPACING = (4.0, 1.5, 2.0)


class ByIntensity(nn.Module):
    """Takes a voxel of intensity k in the last channel for class k; counts its patches."""

    def __init__(self, num_classes=3):
        super().__init__()
        self.num_classes = num_classes
        self.num_patches = 0

    def forward(self, batch):
        self.num_patches += len(batch)
        return torch.stack([-((batch[:, -1] - k) ** 2) for k in range(self.num_classes)], dim=1)


def add_case(folder, name, labels, image=None):
    """A prepared case whose image is its labels, unless there is another."""
    image = np.maximum(labels, 0)[np.newaxis] if image is None else image
    positions = [np.flatnonzero(labels == index) for index in (1, 2)]
    info = CaseInfo(
        name=name,
        source="0",
        shape=labels.shape,
        trace={"target_spacing": SPACING},
        position_counts=tuple(map(len, positions)),
        label_voxels=tuple(map(len, positions)),
    )
    write_case(folder, name, [image.astype(np.float32)], labels, positions, info, (4, 8, 8))
    return CaseStore(folder)


def volume(shape=(12, 30, 40)):
    """A block of 1 in the slices 2 to 8; a few voxels of 2 in the slices 9 (six) and 10 (two)."""
    labels = np.zeros(shape, dtype=np.int16)
    labels[2:9, 4:14, 6:30] = 1
    labels[9, 10:12, 8:11] = 2
    labels[10, 10, 8:10] = 2
    labels[:, :2] = -1
    return labels


def previewer(store, view, network=None, patch_size=(4, 8, 8), **changes):
    options = {
        "network": network or ByIntensity(),
        "device": torch.device("cpu"),
        "precision": Precision(),
        "patch_size": patch_size,
        "labels": LABELS,
        "store": store,
        "view": view,
        "masked_channels": (),
        "is_colour": False,
    }
    return Previewer(**(options | changes))


def panels(row):
    return dict(row.panels)


def test_the_case_is_the_median_of_those_with_the_most_structures(tmp_path):
    sizes = {"a": (3, 9, 9), "b": (5, 9, 9), "c": (4, 9, 9), "poor": (4, 8, 9)}
    for name, size in sizes.items():
        labels = np.zeros(size, dtype=np.int16)
        labels[0, 0, 0] = 1
        labels[1, 0, 0] = 1 if name == "poor" else 2
        store = add_case(tmp_path, name, labels)
    assert choose_case(store, tuple(sizes), LABELS) == "c"
    assert choose_case(store, ("poor",), LABELS) == "poor"


def test_every_structure_is_on_one_of_the_slices_and_the_rarest_on_its_best(tmp_path):
    view = choose_view(add_case(tmp_path, "a", volume()), "a", (4, 8, 8), LABELS)
    assert 9 in view.slices
    assert any(2 <= number < 9 for number in view.slices)
    assert len(view.slices) == 2


def test_a_stray_voxel_on_a_slice_does_not_show_a_structure(tmp_path):
    labels = volume()
    labels[9, 5, 7] = 1
    view = choose_view(add_case(tmp_path, "a", labels), "a", (4, 8, 8), LABELS)
    assert len(view.slices) == 2


def test_the_box_is_two_patches_at_most_and_around_what_is_rarest(tmp_path):
    view = choose_view(add_case(tmp_path, "a", volume()), "a", (4, 8, 8), LABELS)
    assert view.size == (8, 16, 16)
    assert not view.is_whole
    z, y, x = view.lower
    assert z <= 9 < z + 8
    assert y <= 4 < 14 <= y + 16
    assert x <= 8 < 11 <= x + 16


def test_a_small_case_is_shown_whole(tmp_path):
    view = choose_view(add_case(tmp_path, "a", volume()), "a", (8, 16, 24), LABELS)
    assert (view.lower, view.size, view.is_whole) == ((0, 0, 0), (12, 30, 40), True)


def test_a_case_without_a_structure_shows_its_middle(tmp_path):
    store = add_case(tmp_path, "a", np.zeros((12, 30, 40), dtype=np.int16))
    view = choose_view(store, "a", (4, 8, 8), LABELS)
    assert view.slices == (6,)
    assert view.lower == (2, 7, 12)
    (row,) = previewer(store, view).rows(epoch=5)
    assert row.title == "a, slice 7, epoch 5   Dice of this part  liver -  vessel -"


def test_rows_show_image_reference_and_prediction_of_the_same_slice(tmp_path):
    labels = volume()
    image = np.maximum(labels, 0)[np.newaxis].copy()
    image[0, 9, 10:12, 8:11] = 1
    store = add_case(tmp_path, "a", labels, image)
    view = choose_view(store, "a", (8, 16, 24), LABELS)
    rows = previewer(store, view, patch_size=(8, 16, 24)).rows(epoch=5)
    assert len(rows) == len(view.slices) == 2
    for row, number in zip(rows, view.slices, strict=True):
        assert np.array_equal(row.image[0], image[0, number])
        assert np.array_equal(panels(row)["reference"][0], labels[number])
        assert np.array_equal(panels(row)["prediction"][0], image[0, number])
        assert panels(row)["image"] is None
        assert row.spacing == SPACING


def test_the_title_tells_case_epoch_and_dice(tmp_path):
    labels = volume()
    image = np.maximum(labels, 0)[np.newaxis].copy()
    image[0, 9, 10:12, 8:11] = 1
    store = add_case(tmp_path, "a", labels, image)
    view = choose_view(store, "a", (8, 16, 24), LABELS)
    first, second = previewer(store, view, patch_size=(8, 16, 24)).rows(epoch=5)
    # 7 x 10 x 24 voxels are liver and 6 too many; 2 of 8 vessel voxels are found.
    assert first.title.endswith(f"epoch 5   Dice  liver {2 * 1680 / 3366:.3f}  vessel 0.400")
    assert first.title.startswith(f"a, slice {view.slices[0] + 1}, ")
    assert second.title == f"slice {view.slices[1] + 1}"


def test_long_scores_are_shortened_to_their_mean(tmp_path):
    store = add_case(tmp_path, "a", volume())
    view = choose_view(store, "a", (8, 16, 24), LABELS)
    names = ("a structure with a rather long name " * 2, "another one with a long name")
    long = LabelSpace(
        structures=tuple(Structure(name=n, values=(i,)) for i, n in enumerate(names, start=1))
    )
    row = previewer(store, view, patch_size=(8, 16, 24), labels=long).rows(epoch=5)[0]
    assert "Dice  mean 1.000" in row.title


def test_voxels_nobody_annotated_do_not_count(tmp_path):
    labels = volume()
    labels[:, 20:] = 3
    image = np.maximum(labels, 0)[np.newaxis].copy()
    image[0, :, 20:] = 1
    store = add_case(tmp_path, "a", labels, image)
    view = choose_view(store, "a", (8, 16, 24), LABELS)
    row = previewer(store, view, patch_size=(8, 16, 24)).rows(epoch=1)[0]
    assert "liver 1.000" in row.title


def test_a_network_of_slices_predicts_no_other_slices(tmp_path):
    labels = volume()
    store = add_case(tmp_path, "a", labels)
    view = choose_view(store, "a", (30, 40), LABELS)
    network = ByIntensity()
    rows = previewer(store, view, network, patch_size=(30, 40)).rows(epoch=5)
    assert network.num_patches == len(view.slices) == len(rows) == 2
    assert not view.is_whole
    for row, number in zip(rows, view.slices, strict=True):
        assert np.array_equal(panels(row)["reference"][0], labels[number])
        assert np.array_equal(panels(row)["prediction"][0], np.maximum(labels[number], 0))


def test_a_colour_picture_keeps_its_colours_and_has_no_slices(tmp_path):
    labels = np.zeros((1, 30, 40), dtype=np.int16)
    labels[0, 5:12, 9:30] = 1
    image = np.random.default_rng(0).uniform(size=(3, 1, 30, 40)).astype(np.float32)
    image[2] = labels
    store = add_case(tmp_path, "a", labels, image)
    view = choose_view(store, "a", (16, 24), LABELS)
    assert view.is_whole
    (row,) = previewer(store, view, patch_size=(16, 24), is_colour=True).rows(epoch=5)
    assert row.is_colour
    assert np.array_equal(row.image, np.moveaxis(image, 0, -1))
    assert row.title == "a, epoch 5   Dice  liver 1.000  vessel -"


def test_colours_that_were_normalized_are_stretched_to_what_can_be_shown(tmp_path):
    labels = np.zeros((1, 30, 40), dtype=np.int16)
    labels[0, 5:12, 9:30] = 1
    image = np.random.default_rng(0).normal(size=(3, 1, 30, 40)).astype(np.float32)
    image[2] += labels
    store = add_case(tmp_path, "a", labels, image)
    (row,) = previewer(
        store, choose_view(store, "a", (16, 24), LABELS), patch_size=(16, 24), is_colour=True
    ).rows(epoch=5)
    assert (row.image.min(), row.image.max()) == (0, 1)
    middle = (row.image > 0) & (row.image < 1)
    order = np.argsort(row.image[..., 1][middle[..., 1]])
    assert np.all(np.diff(image[1][middle[..., 1]][order]) >= 0)


def test_masked_channels_are_0_outside_as_in_training(tmp_path):
    labels = volume()
    image = np.full((2, *labels.shape), 7.0)
    store = add_case(tmp_path, "a", labels, image)
    read, _ = read_view(store, choose_view(store, "a", (8, 16, 24), LABELS), masked_channels=(1,))
    assert (read[0] == 7).all()
    assert np.array_equal(read[1] == 0, labels < 0)


@pytest.mark.parametrize("patch_size", [(4, 8, 8), (8, 8)])
def test_the_number_of_patches_is_bounded_however_large_the_case(tmp_path, patch_size):
    labels = np.zeros((40, 60, 80), dtype=np.int16)
    labels[3:30, 5:50, 5:70] = 1
    labels[20, 9, 9] = 2
    store = add_case(tmp_path, "a", labels)
    network = ByIntensity()
    view = choose_view(store, "a", patch_size, LABELS)
    previewer(store, view, network, patch_size).rows(epoch=1)
    assert 0 < network.num_patches <= 27


REGIONS = LabelSpace(
    structures=(Structure(name="liver", values=(1, 2)), Structure(name="vessel", values=(2,))),
    output_values=(1, 2),
)


class RegionsByIntensity(nn.Module):
    """Liver where the intensity is above a half, vessel above one and a half."""

    def forward(self, batch):
        return torch.cat([batch - 0.5, batch - 1.5], dim=1)


def add_case_of_regions(folder, name, labels, image):
    positions = [np.flatnonzero(np.isin(labels, indices)) for indices in ((1, 2), (2,))]
    info = CaseInfo(
        name=name,
        source="0",
        shape=labels.shape,
        trace={"target_spacing": SPACING},
        position_counts=tuple(map(len, positions)),
        label_voxels=(int((labels == 1).sum()), int((labels == 2).sum())),
    )
    write_case(folder, name, [image.astype(np.float32)], labels, positions, info, (4, 8, 8))
    return CaseStore(folder)


def test_regions_are_drawn_one_over_the_other_and_scored_as_unions(tmp_path):
    labels = volume()
    image = np.maximum(labels, 0)[np.newaxis].copy()
    image[0, 9, 10:12, 8:11] = 1
    store = add_case_of_regions(tmp_path, "a", labels, image)
    assert choose_case(store, ["a"], REGIONS) == "a"
    view = choose_view(store, "a", (8, 16, 24), REGIONS)
    first, *_ = rows = previewer(
        store, view, RegionsByIntensity(), (8, 16, 24), labels=REGIONS
    ).rows(epoch=5)
    for row, number in zip(rows, view.slices, strict=True):
        assert np.array_equal(panels(row)["prediction"][0], image[0, number])
    assert first.title.endswith("liver 1.000  vessel 0.400")


def test_the_rarest_region_decides_about_the_slices(tmp_path):
    """By its voxels, not by those of the label whose number it has."""
    labels = np.zeros((12, 30, 40), dtype=np.int16)
    labels[1:3, 4:14, 6:8] = 1
    labels[6:9, 4:14, 6:30] = 2
    store = add_case_of_regions(tmp_path, "a", labels, labels[np.newaxis])
    view = choose_view(store, "a", (12, 30, 40), REGIONS)
    assert view.slices[0] in (6, 7, 8)
