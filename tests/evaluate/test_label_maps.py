"""Label maps of held-out cases, as files, beside their references."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import toy_case

from autoseg.core.image import LabelMap
from autoseg.core.labels import LabelSpace, Structure
from autoseg.errors import DataError
from autoseg.evaluate.label_maps import compare_label_maps
from autoseg.evaluate.pairs import Pair
from autoseg.io.images import write_labels
from autoseg.io.readers.base import SINGLE_SLICE_SPACING_MM

LABELS = LabelSpace(
    structures=(Structure(name="core", values=(2,)), Structure(name="shell", values=(1,)))
)


@pytest.fixture
def pair(tmp_path):
    """A prediction that lacks a slice of the reference and has a speck beside it."""
    _, reference = toy_case(1)
    predicted = reference.array.copy()
    predicted[3:5] = 0
    predicted[0, 0, 0:2] = 2
    write_labels(tmp_path / "reference.nii.gz", reference)
    write_labels(tmp_path / "x.nii.gz", LabelMap(array=predicted, geometry=reference.geometry))
    return Pair(name="x", prediction=tmp_path / "x.nii.gz", reference=tmp_path / "reference.nii.gz")


@pytest.mark.parametrize("workers", [0, 1])
def test_what_is_right_is_counted_and_the_prediction_taken_apart(pair, workers):
    found = compare_label_maps([pair], LABELS, workers=workers)["x"]
    _, reference = toy_case(1)
    lost = [int((reference.array[3:5] == value).sum()) for value in (2, 1)]
    there = [int((reference.array == value).sum()) for value in (2, 1)]
    assert found.voxels == (
        (there[0] - lost[0], 2, lost[0]),
        (there[1] - lost[1], 0, lost[1]),
    )
    assert found.parts.reference == tuple(there)
    assert 2 in found.parts.voxels
    assert found.parts.voxel_ml == pytest.approx(reference.geometry.voxel_volume_ml)


def test_nothing_to_compare_is_nothing_found():
    assert compare_label_maps([], LABELS) == {}


def test_pictures_have_no_volume(tmp_path):
    _, labels = toy_case(2)
    spacing = (SINGLE_SLICE_SPACING_MM, 1.0, 1.0)
    shape = (1, *labels.array.shape[1:])
    geometry = replace(
        labels.geometry, shape=shape, spacing=spacing, origin=(0.0,) * 3, direction=np.eye(3)
    )
    flat = LabelMap(array=labels.array[5:6], geometry=geometry)
    for name in ("a", "b"):
        write_labels(tmp_path / f"{name}.png", flat)
    pair = Pair(name="a", prediction=tmp_path / "a.png", reference=tmp_path / "b.png")
    assert compare_label_maps([pair], LABELS, workers=0)["a"].parts.voxel_ml is None


def test_other_sizes_and_other_values_are_named_with_their_file(pair, tmp_path):
    _, other = toy_case(2)
    write_labels(pair.prediction, other)
    with pytest.raises(DataError, match=r"1 cases cannot be scored: x: .*reference\.nii\.gz: \(11"):
        compare_label_maps([pair], LABELS, workers=0)
    write_labels(pair.prediction, replace(other, array=other.array * 3))
    with pytest.raises(DataError, match=r"x\.nii\.gz: label values \[3, 6\] are not declared"):
        compare_label_maps([pair], LABELS, workers=0)
