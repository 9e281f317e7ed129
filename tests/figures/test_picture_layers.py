import io
import itertools
import re

import numpy as np
import pytest
from conftest import toy_case
from PIL import Image as PillowImage

from autoseg.core.geometry import Geometry
from autoseg.core.image import Image, LabelMap
from autoseg.core.labels import LabelSpace, Structure
from autoseg.errors import DataError
from autoseg.figures.cases import CasePicture
from autoseg.figures.colours import structure_colours
from autoseg.figures.layers import (
    ERROR_COLOURS,
    MOST_OUTLINE,
    MOST_PIXELS,
    draw_layers,
)
from autoseg.io.images import write_image, write_labels

LABELS = LabelSpace(
    structures=(Structure(name="shell", values=(1,)), Structure(name="core", values=(2,)))
)

# How the two common kinds of colour blindness and the rare one see linear red, green and blue
# (Machado et al. 2009, severity 1).
BLIND = {
    "none": np.eye(3),
    "protan": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deutan": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "tritan": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}


def written(folder, image, reference, prediction):
    paths = [folder / f"{name}.nii.gz" for name in ("image", "reference", "prediction")]
    write_image(paths[0], image)
    write_labels(paths[1], reference)
    write_labels(paths[2], prediction)
    maps = (("reference", paths[1]), ("prediction", paths[2]))
    return CasePicture(title="case", images=(paths[0],), maps=maps)


@pytest.fixture
def toy_picture(tmp_path):
    image, reference = toy_case(1)
    array = np.roll(reference.array, 2, axis=1)
    prediction = LabelMap(array=array, geometry=reference.geometry)
    return written(tmp_path, image, reference, prediction), reference.array, array


def opened(png):
    return PillowImage.open(io.BytesIO(png))


def area(path):
    """Area within lines of relative steps, in voxels."""
    total = 0.0
    for line in path.split("z")[:-1]:
        numbers = [int(n) for n in re.findall(r"-?\d+", line)]
        points = np.cumsum(np.array(numbers).reshape(-1, 2), axis=0)
        x, y = points.T
        total += 0.5 * float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))
    return abs(total) / 4


def test_slices_hold_image_outlines_and_errors(toy_picture):
    picture, reference, prediction = toy_picture
    layers = draw_layers(picture, LABELS)
    assert 1 <= len(layers) <= 3
    for one in layers:
        number, count = map(int, re.findall(r"\d+", one.caption))
        assert count == reference.shape[0]
        # Only directions within the slice differ from the file's, not how much is wrong.
        wrong = reference[number - 1] != prediction[number - 1]
        assert sum(one.num_errors) == np.count_nonzero(wrong)
        assert opened(one.image).size == (one.shape[1], one.shape[0])
        assert opened(one.errors).size == (one.shape[1], one.shape[0])
        assert one.spacing == pytest.approx((1.25, 1.125))
        assert {outline.index for outline in one.outlines} <= {1, 2}


def test_errors_have_their_colours_and_all_else_is_transparent(toy_picture):
    picture, *_ = toy_picture
    one = draw_layers(picture, LABELS)[0]
    pixels = np.asarray(opened(one.errors).convert("RGBA")).reshape(-1, 4)
    shown = {tuple(int(v) for v in p[:3]) for p in pixels if p[3]}
    known = {tuple(bytes.fromhex(colour[1:])) for colour in ERROR_COLOURS.values()}
    assert shown <= known
    assert np.count_nonzero(pixels[:, 3]) == sum(one.num_errors)


def test_outlines_enclose_their_structure(tmp_path):
    labels = np.zeros((3, 12, 14), dtype=np.uint8)
    labels[1, 3:9, 0:7] = 2
    geometry = Geometry(shape=labels.shape, spacing=(5.0, 1.0, 1.0))
    array = np.random.default_rng(0).normal(size=(1, *labels.shape)).astype(np.float32)
    label_map = LabelMap(array=labels, geometry=geometry)
    picture = written(tmp_path, Image(array=array, geometry=geometry), label_map, label_map)
    (one,) = draw_layers(picture, LABELS)
    (outline,) = one.outlines
    assert one.errors is None
    assert outline.index == 2
    assert outline.reference == outline.prediction
    # Lines run half way between voxels and cut the four corners.
    assert area(outline.reference) == pytest.approx(6 * 7 - 4 * 0.125)


def test_a_missing_structure_has_no_outline(tmp_path):
    image, reference = toy_case(0)
    empty = LabelMap(array=np.zeros_like(reference.array), geometry=reference.geometry)
    layers = draw_layers(written(tmp_path, image, reference, empty), LABELS)
    assert all(o.prediction == "" and o.reference for one in layers for o in one.outlines)
    assert all(one.num_errors[1:] == (0, 0) for one in layers)


def test_ragged_outlines_and_large_slices_stay_small(tmp_path):
    rng = np.random.default_rng(0)
    shape = (1, 350, 450)
    geometry = Geometry(shape=shape, spacing=(5.0, 0.5, 0.5))
    array = rng.normal(size=(1, *shape)).astype(np.float32)
    reference, prediction = (
        LabelMap(array=rng.integers(0, 3, shape, dtype=np.uint8), geometry=geometry)
        for _ in range(2)
    )
    picture = written(tmp_path, Image(array=array, geometry=geometry), reference, prediction)
    (one,) = draw_layers(picture, LABELS)
    assert one.shape == (350, 450)
    assert max(opened(one.image).size) == max(opened(one.errors).size) == MOST_PIXELS
    assert sum(len(o.reference) + len(o.prediction) for o in one.outlines) <= MOST_OUTLINE


def test_a_colour_picture_keeps_its_colours(tmp_path):
    geometry = Geometry(shape=(1, 9, 8), spacing=(999.0, 1.0, 1.0))
    labels = np.zeros((1, 9, 8), dtype=np.uint8)
    labels[0, 2:5, 2:5] = 1
    label_map = LabelMap(array=labels, geometry=geometry)
    paths = [tmp_path / f"{name}.png" for name in ("image", "reference", "prediction")]
    PillowImage.new("RGB", (8, 9), (255, 0, 0)).save(paths[0])
    write_labels(paths[1], label_map)
    write_labels(paths[2], label_map)
    maps = (("reference", paths[1]), ("prediction", paths[2]))
    (one,) = draw_layers(CasePicture(title="", images=(paths[0],), maps=maps), LABELS)
    assert one.caption == "the picture"
    assert opened(one.image).getpixel((0, 0)) == (255, 0, 0)


def test_a_prediction_of_another_size_is_refused(tmp_path):
    image, reference = toy_case(0)
    _, other = toy_case(1)
    with pytest.raises(DataError, match=r"voxels \(z, y, x\), the image has"):
        draw_layers(written(tmp_path, image, reference, other), LABELS)


@pytest.mark.parametrize("kind", BLIND)
def test_errors_can_be_told_apart_whatever_colours_one_sees(kind):
    seen = [
        (np.array(BLIND[kind]) @ (np.array(list(bytes.fromhex(c[1:]))) / 255) ** 2.2).clip(0, 1)
        ** (1 / 2.2)
        for c in ERROR_COLOURS.values()
    ]
    for one, other in itertools.combinations(seen, 2):
        assert np.linalg.norm(one - other) > 0.35


def test_errors_are_unlike_the_first_structures():
    for colour in structure_colours(3):
        for error in ERROR_COLOURS.values():
            own = np.array(list(bytes.fromhex(error[1:]))) / 255
            assert np.linalg.norm(own - colour) > 0.4
