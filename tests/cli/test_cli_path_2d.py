"""The path in two dimensions, as a user walks it: colour pictures, and slices of volumes.

The networks are small but have to learn; their scores are counted here, from the files.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from commands import ON_CPU, Called, assert_done, assert_refused, call, edit
from pictures_dataset import (
    NUM_PICTURES,
    SHAPE,
    draw_picture,
    write_as_nnunet,
    write_as_table,
    write_picture,
)
from PIL import Image as Picture

from autoseg.core.geometry import Geometry
from autoseg.core.image import Image, LabelMap
from autoseg.io.case_store import CaseStore
from autoseg.io.images import write_image, write_labels

NEW_SHAPES = {"new_100": (96, 128), "new_101": (70, 150), "new_102": (131, 97)}
VOLUME_VALUES = {"shell": 5, "core": 2}
NUM_VOLUMES = 8
NEW_VOLUMES = (20, 21)
SCORED = ("case", "Dice", "IoU", "Dice", "IoU")


@dataclass(frozen=True, kw_only=True)
class Walked:
    """A workspace with a trained fold, new images, and what every command said."""

    root: Path
    task: Path
    images: Path
    values: Mapping[str, int]
    said: dict[str, Called]

    @property
    def output(self) -> Path:
        return self.root / "out"

    @property
    def held_out(self) -> list[str]:
        folds = json.loads((self.task / "splits.json").read_text())["folds"]
        return folds[0]["validation"]

    @property
    def configurations(self) -> dict:
        return json.loads((self.task / "plans" / "default.json").read_text())["configurations"]

    def validated(self) -> dict[str, dict[str, float]]:
        """Dice of the held-out cases, by case and structure."""
        parts = ("predictions", "default", "2d", "default", "fold0", "report.json")
        cases = json.loads(self.task.joinpath(*parts).read_text())["cases"]
        return {c["name"]: {s: v["dice"] for s, v in c["structures"].items()} for c in cases}


def walk(root, data, images, references, values, *, batch_size, steps):
    """From a data set to scores of new images, each command called once."""
    where = ("-w", root / "workspace")
    small = ("--base-features", 8, "--batch-size", batch_size)
    said = {
        "plan": call("plan", data, *where, *small, "--workers", 0),
        "preprocess": call("preprocess", "2d", *where, "--workers", 0),
    }
    task = root / "workspace" / data.name
    place = "configurations__2d__training__"
    changes = {place + "steps_per_epoch": steps, place + "validation_steps": 1}
    edit(task / "plans" / "default.json", **changes)
    quick = ("--epochs", 1, "--optimizer", "adamw", "--lr", 0.01, "--workers", 0)
    said["train"] = call("train", "2d", "fold0", *quick, *where, *ON_CPU)
    said["predict"] = call("predict", "-i", images, "-o", root / "out", *where, *ON_CPU)
    said["evaluate"] = call("evaluate", root / "out", references, *where, "--workers", 0)
    return Walked(root=root, task=task, images=images, values=values, said=said)


def dice(predicted, reference):
    """Overlap of two masks."""
    return 2 * (predicted & reference).sum() / (predicted.sum() + reference.sum())


def shown_scores(called):
    """What ``evaluate`` prints: the Dice of each structure, by case."""
    _, *lines = [line.split() for line in called.out.splitlines()]
    header, *rows = lines[: next(i for i, line in enumerate(lines) if line[:2] == ["mean", "of"])]
    structures = [word for word in header if word not in SCORED]
    dices = {row[0]: row[1::2] for row in rows}
    return {
        case: dict(zip(structures, map(float, scores), strict=True))
        for case, scores in dices.items()
    }


# Pictures


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    root = tmp_path_factory.mktemp("pictures")
    drawn = write_as_table(root / "Cells")
    for name, shape in NEW_SHAPES.items():
        colours, indices = draw_picture(int(name.removeprefix("new_")), shape)
        write_picture(root / "new" / f"{name}.png", colours)
        labels = np.array(drawn.values, np.uint8)[indices]
        write_picture(root / "references" / f"{name}.png", labels)
    values = dict(zip(("cell", "nucleus"), drawn.values[1:], strict=True))
    return walk(
        *(root, drawn.folder, root / "new", root / "references", values),
        batch_size=2,
        steps=90,
    )


@pytest.fixture(scope="module")
def constant_dice():
    """The best mean Dice on the pictures by one mask that is the same for all of them."""
    maps = np.array([draw_picture(number)[1] for number in range(NUM_PICTURES)])
    best = {}
    for structure, index in (("cell", 1), ("nucleus", 2)):
        share = (maps == index).mean(axis=0)
        masks = [share >= level for level in np.linspace(0, 1, 21)]
        best[structure] = max(np.mean([dice(m, one == index) for one in maps]) for m in masks)
    return best


@pytest.mark.slow
def test_every_command_of_the_path_of_pictures_comes_to_its_end(pictures):
    for called in pictures.said.values():
        assert_done(called)


@pytest.mark.slow
def test_pictures_are_planned_in_two_dimensions_with_three_channels(pictures):
    assert list(pictures.configurations) == ["2d"]
    planned = pictures.configurations["2d"]
    assert planned["patch_size"] == [96, 128]
    assert planned["spacing"] == [1, 1]
    assert len(planned["normalization"]) == 3


@pytest.mark.slow
def test_pictures_laid_out_as_for_nnunet_are_prepared_alike(pictures, tmp_path):
    folder = write_as_nnunet(tmp_path / "Cells").folder
    where = ("-w", tmp_path / "workspace", "--workers", 0)
    assert_done(call("plan", folder, *where))
    assert_done(call("preprocess", *where))
    [mine] = (tmp_path / "workspace" / "Cells" / "prepared").glob("2d-*")
    [others] = (pictures.task / "prepared").glob("2d-*")
    store, other_store = CaseStore(mine), CaseStore(others)
    for number in range(NUM_PICTURES):
        name = f"cell_{number:02d}"
        assert store.shape(name) == (1, *SHAPE)
        image, indices = store.read(name, (0, 0, 0), (1, *SHAPE))
        other_image, other_indices = other_store.read(name, (0, 0, 0), (1, *SHAPE))
        np.testing.assert_array_equal(image, other_image)
        np.testing.assert_array_equal(indices[0], draw_picture(number)[1])
        # In the table the nucleus, 127, comes before the cell, 255.
        np.testing.assert_array_equal(other_indices, np.array((0, 2, 1))[indices])


@pytest.mark.slow
def test_a_configuration_in_three_dimensions_is_refused_for_pictures(pictures):
    called = call("train", "3d_fullres", "0", "-w", pictures.task.parent, *ON_CPU)
    assert_refused(called, "no configuration named '3d_fullres' (available: 2d)")


@pytest.mark.slow
def test_held_out_pictures_are_segmented_better_than_by_any_mask_that_is_always_the_same(
    pictures, constant_dice
):
    scores = pictures.validated()
    assert list(scores) == pictures.held_out
    for structure, trivial in constant_dice.items():
        reached = np.mean([case[structure] for case in scores.values()])
        assert trivial < 0.65
        assert reached > 0.8


@pytest.mark.slow
def test_predictions_of_pictures_are_pictures_of_the_same_size_and_with_the_users_values(pictures):
    written = {path.name for path in pictures.output.iterdir()} - {"predictions.json"}
    assert {name for name in written if not name.startswith(".")} == {
        "report.json",
        *(f"{name}.png" for name in NEW_SHAPES),
    }
    for name, shape in NEW_SHAPES.items():
        with Picture.open(pictures.output / f"{name}.png") as picture:
            assert picture.mode == "L"
            assert np.asarray(picture).shape == shape
            assert set(np.unique(picture)) == {0, *pictures.values.values()}


@pytest.mark.slow
def test_new_pictures_are_segmented_right_way_round_and_scored_as_counted(pictures):
    shown = shown_scores(pictures.said["evaluate"])
    assert set(shown) == set(NEW_SHAPES)
    for name, shape in NEW_SHAPES.items():
        indices = draw_picture(int(name.removeprefix("new_")), shape)[1]
        predicted = np.asarray(Picture.open(pictures.output / f"{name}.png"))
        for index, (structure, value) in enumerate(pictures.values.items(), start=1):
            counted = dice(predicted == value, indices == index)
            assert counted > 0.75
            assert shown[name][structure] == pytest.approx(counted, abs=5e-4)


@pytest.mark.slow
def test_pictures_in_other_formats_are_segmented_and_one_without_colours_is_named(
    pictures, tmp_path
):
    colours, indices = draw_picture(104)
    for name in ("map.bmp", "photo.jpg"):
        write_picture(tmp_path / "new" / name, colours)
    opaque = np.dstack([colours, np.full(colours.shape[:2], 200, np.uint8)])
    write_picture(tmp_path / "new" / "with_alpha.png", opaque)
    write_picture(tmp_path / "new" / "grey.png", colours[..., 0])
    where = ("-w", pictures.task.parent, *ON_CPU)
    called = call("predict", "-i", tmp_path / "new", "-o", tmp_path / "out", *where)
    assert called.code == 1
    failed = [line for line in called.err.splitlines() if line.startswith("failed: ")]
    assert len(failed) == 1
    assert failed[0].startswith("failed: grey: ")
    assert "grey.png" in failed[0]
    assert "has 1 channel, the model needs 3: R, G, B" in failed[0]
    for name in ("map.bmp", "photo.png", "with_alpha.png"):
        predicted = np.asarray(Picture.open(tmp_path / "out" / name))
        assert dice(predicted == pictures.values["cell"], indices == 1) > 0.75


# What is wrong with pictures


@pytest.fixture
def four_pictures(tmp_path):
    return write_as_nnunet(tmp_path / "Cells", 4).folder


def check(folder):
    return call("check", folder, "-w", folder.parent / "workspace", "--workers", 0)


def test_a_picture_with_transparency_among_others_and_one_of_another_size_are_fine(four_pictures):
    colours, _ = draw_picture(1)
    alpha = np.tile(np.arange(128, dtype=np.uint8), (96, 1))
    write_picture(four_pictures / "imagesTr" / "cell_01_0000.png", np.dstack([colours, alpha]))
    colours, labels = draw_picture(2, (50, 140))
    write_picture(four_pictures / "imagesTr" / "cell_02_0000.png", colours)
    write_picture(four_pictures / "labelsTr" / "cell_02.png", labels)
    called = check(four_pictures)
    assert_done(called)
    assert called.out == "Cells: 4 cases, nothing wrong\n"


def test_a_grey_picture_among_coloured_ones_is_named(four_pictures):
    file = four_pictures / "imagesTr" / "cell_01_0000.png"
    write_picture(file, draw_picture(1)[0][..., 0])
    called = check(four_pictures)
    assert called.code == 2
    assert "imagesTr/cell_01_0000.png: 1 channel, but 3 declared" in called.out
    assert_refused(call("plan", four_pictures, "-w", four_pictures.parent / "w"), "cell_01_0000")


def test_a_label_map_of_a_picture_as_jpeg_is_named(four_pictures):
    file = four_pictures / "labelsTr" / "cell_01.png"
    Picture.open(file).save(file.with_suffix(".jpg"))
    file.unlink()
    called = check(four_pictures)
    assert called.code == 2
    assert "labelsTr/cell_01.jpg: a JPEG blurs label values; export the labels as PNG" in called.out


def test_a_label_map_of_a_picture_in_colours_is_named_with_its_colours(four_pictures):
    table = np.array([(0, 0, 0), (255, 0, 0), (0, 255, 0)], np.uint8)
    file = four_pictures / "labelsTr" / "cell_01.png"
    write_picture(file, table[draw_picture(1)[1]])
    called = check(four_pictures)
    assert called.code == 2
    assert "labelsTr/cell_01.png: the labels are 3 colours, not values: (0, 0, 0)" in called.out


def test_a_label_map_turned_against_its_picture_is_named(four_pictures):
    file = four_pictures / "labelsTr" / "cell_01.png"
    write_picture(file, draw_picture(1)[1].T.copy())
    called = check(four_pictures)
    assert called.code == 2
    assert "shape (1, 128, 96), its image has (1, 96, 128); the axes seem" in called.out


# Slices of volumes


def volume_geometry(number: int) -> Geometry:
    """Coarsest along x, oblique, off-origin, another size per case."""
    cos, sin = np.cos(0.3), np.sin(0.3)
    return Geometry(
        shape=(30 + number % 2, 36 + number % 3, 9 + number % 2),
        spacing=(1.0, 1.25, 4.0),
        origin=(-40.0 + number, 12.5, 7.0),
        direction=((cos, -sin, 0.0), (sin, cos, 0.0), (0.0, 0.0, -1.0)),
    )


def volume_case(number: int) -> tuple[Image, LabelMap]:
    """An egg off the middle, its core at one end, in noise."""
    geometry = volume_geometry(number)
    rng = np.random.default_rng(number)
    centre = np.array(geometry.shape) * rng.uniform((0.3, 0.35, 0.45), (0.45, 0.5, 0.55))
    offsets = (np.indices(geometry.shape).T - centre) * geometry.spacing
    shell = np.linalg.norm(offsets / (8, 12, 12), axis=-1).T < 1
    core = np.linalg.norm((offsets - (0, 5, 0)) / (5, 5, 8), axis=-1).T < 1
    labels = np.where(core, VOLUME_VALUES["core"], shell * VOLUME_VALUES["shell"])
    array = 100 + 60 * shell + 80 * core + rng.normal(0, 25, geometry.shape)
    image = Image(array=np.round(array)[np.newaxis].astype(np.float32), geometry=geometry)
    return image, LabelMap(array=labels.astype(np.uint8), geometry=geometry)


def write_volume(number: int, image_file: Path, label_file: Path) -> None:
    image, labels = volume_case(number)
    write_image(image_file, image)
    write_labels(label_file, labels)


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    root = tmp_path_factory.mktemp("volumes")
    data = root / "Eggs"
    for number in range(NUM_VOLUMES):
        name = f"egg_{number:02d}"
        write_volume(
            number,
            data / "imagesTr" / f"{name}_0000.nii.gz",
            data / "labelsTr" / f"{name}.nii.gz",
        )
    labels = {"background": 0} | VOLUME_VALUES
    description = {"channel_names": {"0": "MRI"}, "labels": labels, "file_ending": ".nii.gz"}
    (data / "dataset.json").write_text(json.dumps(description))
    for number in NEW_VOLUMES:
        file = f"new_{number}.nii.gz"
        write_volume(number, root / "new" / file, root / "references" / file)
    return walk(
        *(root, data, root / "new", root / "references", VOLUME_VALUES),
        batch_size=8,
        steps=80,
    )


@pytest.mark.slow
def test_every_command_of_the_path_of_slices_comes_to_its_end(volumes):
    for called in volumes.said.values():
        assert_done(called)


@pytest.mark.slow
def test_slices_lie_across_the_axis_the_plan_puts_first(volumes):
    plan = json.loads((volumes.task / "plans" / "default.json").read_text())
    assert plan["transpose"] == [2, 0, 1]
    assert {"2d", "3d_fullres"} <= set(plan["configurations"])
    assert plan["configurations"]["2d"]["spacing"] == pytest.approx([1.0, 1.25])
    assert plan["configurations"]["2d"]["patch_size"] == [32, 40]


@pytest.mark.slow
def test_held_out_volumes_are_segmented_slice_by_slice(volumes):
    scores = volumes.validated()
    assert list(scores) == volumes.held_out
    for structure in VOLUME_VALUES:
        assert np.mean([case[structure] for case in scores.values()]) > 0.6


@pytest.mark.slow
def test_predictions_of_slices_lie_where_the_volume_lies_and_meet_its_structures(volumes):
    shown = shown_scores(volumes.said["evaluate"])
    for number in NEW_VOLUMES:
        image = SimpleITK.ReadImage(volumes.images / f"new_{number}.nii.gz")
        prediction = SimpleITK.ReadImage(volumes.output / f"new_{number}.nii.gz")
        assert prediction.GetSize() == image.GetSize()
        assert prediction.GetSpacing() == pytest.approx(image.GetSpacing(), abs=1e-6)
        assert prediction.GetOrigin() == pytest.approx(image.GetOrigin(), abs=1e-5)
        assert prediction.GetDirection() == pytest.approx(image.GetDirection(), abs=1e-6)
        predicted = SimpleITK.GetArrayFromImage(prediction)
        reference = volume_case(number)[1].array
        for structure, value in VOLUME_VALUES.items():
            counted = dice(predicted == value, reference == value)
            assert counted > 0.6
            assert shown[f"new_{number}"][structure] == pytest.approx(counted, abs=5e-4)
