from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import toy_case

from autoseg.check.mend import Part, check_targets, mend_parts, parse_mends
from autoseg.core.alignment import flip
from autoseg.core.labels import LabelSpace, Structure
from autoseg.errors import AutosegError

LABELS = LabelSpace(
    structures=(Structure(name="a", values=(1,)), Structure(name="b", values=(2,))), ignore=9
)


def case():
    image, labels = toy_case(0)
    images = [
        Part(raw=Path(f"i{n}"), array=image.array + n, geometry=image.geometry) for n in range(2)
    ]
    label = Part(raw=Path("l"), array=labels.array[np.newaxis], geometry=labels.geometry)
    return images, label


def mend(images, label, *texts):
    mend_parts(images, label, parse_mends(texts), 0)


def shifted(geometry, z):
    a, b, c = geometry.origin
    return replace(geometry, origin=(a + z, b, c))


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("geometri=copy", ["no mend named 'geometri'; did you mean 'geometry'?", "unreadable"]),
        ("copy", ["no mend named 'copy'"]),
        ("sides=leave-out", ["no mend named 'sides'"]),
        (
            "geometry=cpoy",
            ["--mend geometry=cpoy: there is no such way", "geometry=copy or geometry=resample"],
        ),
        ("labels=255", ["write labels=FROM:TO,... or labels=round"]),
        ("labels=a:b", ["write labels=FROM:TO,... or labels=round"]),
        ("voxels", ["write voxels=lowest"]),
        ("spacing=1,1", ["write spacing=Z,Y,X or spacing=leave-out"]),
        ("spacing=1,0,1", ["write spacing=Z,Y,X"]),
        ("spacing=1,nan,1", ["write spacing=Z,Y,X"]),
        ("unreadable=copy", ["write unreadable=leave-out"]),
    ],
)
def test_a_mend_there_is_not_names_those_there_are(text, parts):
    with pytest.raises(AutosegError) as caught:
        parse_mends([text])
    for part in parts:
        assert part in str(caught.value)


def test_two_ways_for_one_geometry_are_refused():
    with pytest.raises(AutosegError, match="--mend geometry is given with copy and resample; choo"):
        parse_mends(["geometry=copy", "geometry=resample"])


def test_mends_are_applied_in_the_order_that_makes_sense():
    texts = ["duplicate=leave-out", "labels=255:1", "labels=round", "geometry=copy"]
    mends = parse_mends([*texts, "voxels=lowest", "spacing=3,1,1"])
    assert [found.text for found in mends] == [
        "spacing=3,1,1",
        "voxels=lowest",
        "geometry=copy",
        "labels=round",
        "labels=255:1",
        "duplicate=leave-out",
    ]
    assert mends[4].values == ((255, 1),)
    assert mends[5].leaves_out


def test_labels_become_declared_ones_only():
    check_targets(parse_mends(["labels=255:1,7:9,8:0"]), LABELS)
    with pytest.raises(AutosegError, match=r"--mend labels=255:3: label 3 is not declared; use"):
        check_targets(parse_mends(["labels=255:3"]), LABELS)


def test_a_copied_geometry_moves_no_voxel():
    images, label = case()
    before = label.array.copy()
    label.geometry = flip(label.geometry, (2,))
    images[1].geometry = shifted(label.geometry, 4)
    mend(images, label, "geometry=copy")
    assert label.geometry == images[1].geometry == images[0].geometry
    np.testing.assert_array_equal(label.array, before)
    assert (images[0].done, images[1].done, label.done) == (
        [],
        ["geometry=copy"],
        ["geometry=copy"],
    )


def test_no_geometry_is_copied_to_another_shape():
    images, label = case()
    label.array = label.array[:, 1:]
    label.geometry = replace(label.geometry, shape=label.array.shape[1:])
    mend(images, label, "geometry=copy")
    assert label.done == []
    assert label.array.shape == (1, 9, 24, 20)


def test_a_true_flip_resampled_is_the_original_again():
    images, label = case()
    original = label.array.copy()
    label.geometry = flip(label.geometry, (0, 2))
    label.array = label.array[:, ::-1, :, ::-1].copy()
    mend(images, label, "geometry=resample")
    np.testing.assert_array_equal(label.array, original)
    assert label.geometry == images[0].geometry


def test_resampling_fills_labels_with_background_and_channels_with_their_lowest_value():
    images, label = case()
    step = images[0].geometry.spacing[0]
    whole = images[1].array.copy()
    for part in (images[1], label):
        part.array = part.array[:, 2:]
        geometry = replace(part.geometry, shape=part.array.shape[1:])
        part.geometry = shifted(geometry, 2 * step)
    mend(images, label, "geometry=resample")
    assert images[1].array.shape == whole.shape
    np.testing.assert_allclose(images[1].array[0, 2:], whole[0, 2:], atol=1e-3)
    np.testing.assert_array_equal(images[1].array[0, :2], whole[0, 2:].min())
    assert not label.array[0, :2].any()


def test_labels_are_translated_all_at_once_and_others_stay():
    images, label = case()
    label.array = np.array([0, 1, 2, 128, 255], np.uint8).reshape(1, 1, 1, 5)
    mend(images, label, "labels=128:2,1:2,2:1")
    assert label.array.ravel().tolist() == [0, 2, 1, 2, 255]
    assert label.done == ["labels=128:2,1:2,2:1"]


def test_a_translation_to_a_value_the_type_does_not_hold_widens_it():
    images, label = case()
    label.array = np.array([0, 255], np.uint8).reshape(1, 1, 1, 2)
    mend(images, label, "labels=255:1000,0:-1")
    assert label.array.ravel().tolist() == [-1, 1000]


def test_rounding_comes_before_translating():
    images, label = case()
    label.array = np.array([0.1, 254.9, np.nan, 1.0]).reshape(1, 1, 1, 4)
    mend(images, label, "labels=255:2", "labels=round")
    assert label.array.ravel().tolist() == [0, 2, 0, 1]
    assert label.done == ["labels=round", "labels=255:2"]


def test_voxels_that_are_not_finite_get_the_lowest_value_of_their_channel():
    images, label = case()
    images[1].array = np.stack([images[1].array[0], images[1].array[0] + 500])
    images[1].array[1, 2, 3, 4] = np.inf
    lowest = images[1].array[1].min()
    mend(images, label, "voxels=lowest")
    assert images[1].array[1, 2, 3, 4] == lowest
    assert (images[0].done, images[1].done) == ([], ["voxels=lowest"])


def test_a_spacing_is_given_to_all_files_and_nothing_else_changes():
    images, label = case()
    geometry = label.geometry
    mend(images, label, "spacing=3,2,1")
    for part in (*images, label):
        assert part.geometry == replace(geometry, spacing=(3.0, 2.0, 1.0))
        assert part.done == ["spacing=3,2,1"]


def test_what_needs_no_mending_is_not_touched():
    images, label = case()
    texts = ["geometry=copy", "labels=round", "labels=77:1", "voxels=lowest"]
    mend(images, label, *texts, "spacing={},{},{}".format(*label.geometry.spacing))
    assert [part.done for part in (*images, label)] == [[], [], []]
