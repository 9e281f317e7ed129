import numpy as np
import pytest

from autoseg.core.geometry import Geometry
from autoseg.core.image import LabelMap
from autoseg.core.labels import LabelSpace, Structure
from autoseg.core.quality import Calibration, QualityModel, Signals, StructureQuality, evidence
from autoseg.predict.hints import hints_of, judged

LABELS = LabelSpace(
    structures=(Structure(name="liver", values=(100,)), Structure(name="tumour", values=(50,)))
)
REGIONS = LabelSpace(
    structures=(Structure(name="whole", values=(1, 2)), Structure(name="core", values=(2,))),
    output_values=(1, 2),
)
COS, SIN = np.cos(0.2), np.sin(0.2)
# Columns: z towards inferior, y roughly towards right, x roughly towards anterior.
OBLIQUE = ((-1.0, 0.0, 0.0), (0.0, SIN, -COS), (0.0, -COS, -SIN))


def label_map(array: np.ndarray, **geometry: object) -> LabelMap:
    where = {"spacing": (5.0, 2.0, 1.0)} | geometry
    return LabelMap(array=array, geometry=Geometry(shape=array.shape, **where))


def quality(offset: float) -> QualityModel:
    line = Calibration(signals=("expected",), offset=offset, slopes=(0.1,))
    return QualityModel(
        structures={"liver": StructureQuality(calibrations=(line,))},
        mean=None,
        num_fitted=3,
        num_checked=2,
    )


def test_volumes_and_components_are_of_file_values():
    array = np.zeros((6, 9, 8), dtype=np.uint8)
    array[1:3, 1:4, 1:6] = 100
    array[4, 7, 6] = 100
    array[2, 3, 6] = 50  # shares a corner with the liver, but is another label
    hints = hints_of(label_map(array), LABELS).structures
    assert list(hints) == ["liver", "tumour"]
    assert hints["liver"].num_voxels == 31
    assert hints["liver"].volume_ml == pytest.approx(0.31)
    assert (hints["liver"].num_components, hints["tumour"].num_components) == (2, 1)
    assert hints["liver"].area_mm2 is None


def test_a_region_has_the_voxels_of_all_its_labels():
    array = np.zeros((6, 9, 8), dtype=np.uint8)
    array[1:4, 1:4, 1:4] = 1
    array[2, 2, 2] = 2
    array[5, 8, 7] = 2
    hints = hints_of(label_map(array), REGIONS).structures
    assert (hints["whole"].num_voxels, hints["core"].num_voxels) == (28, 2)
    assert (hints["whole"].num_components, hints["core"].num_components) == (2, 2)
    assert hints["whole"].touches == hints["core"].touches == ("superior", "posterior", "left")


def test_what_is_absent_is_told_as_absent():
    hints = hints_of(label_map(np.zeros((6, 9, 8), np.uint8)), LABELS)
    assert hints.predicted_dice is None
    for one in hints.structures.values():
        assert (one.num_voxels, one.volume_ml, one.num_components) == (0, 0.0, 0)
        assert one.touches == ()
    assert hints_of(label_map(np.zeros((6, 9, 8), np.uint8)), REGIONS).structures


@pytest.mark.parametrize(
    ("voxel", "side"),
    [
        ((0, 4, 4), "superior"),
        ((5, 4, 4), "inferior"),
        ((2, 0, 4), "left"),
        ((2, 8, 4), "right"),
        ((2, 4, 0), "posterior"),
        ((2, 4, 7), "anterior"),
    ],
)
def test_each_side_of_an_oblique_image_has_its_anatomical_name(voxel, side):
    array = np.zeros((6, 9, 8), np.uint8)
    array[voxel] = 100
    hints = hints_of(label_map(array, direction=OBLIQUE), LABELS).structures
    assert hints["liver"].touches == (side,)
    assert hints["tumour"].touches == ()


def test_one_voxel_from_the_border_is_not_cut_off():
    array = np.zeros((6, 9, 8), np.uint8)
    array[1:-1, 1:-1, 1:-1] = 100
    assert hints_of(label_map(array), LABELS).structures["liver"].touches == ()


def test_a_single_slice_is_cut_off_at_its_edges_only():
    array = np.zeros((1, 9, 8), np.uint8)
    array[0, 3, 3] = 100
    hints = hints_of(label_map(array), LABELS).structures["liver"]
    assert hints.touches == ()
    assert hints.volume_ml == pytest.approx(0.01)


@pytest.mark.parametrize(("pixel", "area"), [((0.5, 0.25), 0.25), ((1.0, 1.0), None)])
def test_a_picture_has_an_area_instead_of_a_volume(pixel, area):
    array = np.zeros((1, 9, 8), np.uint8)
    array[0, :2, 7] = 100
    picture = label_map(array, spacing=(999.0, *pixel))
    hints = hints_of(picture, LABELS).structures["liver"]
    assert (hints.num_voxels, hints.volume_ml, hints.area_mm2) == (2, None, area)
    assert hints.touches == ("top", "right")


def test_predicted_dice_is_the_mean_over_folds_then_models():
    array = np.zeros((6, 9, 8), np.uint8)
    array[2:4, 2:5, 2:5] = 100
    signals = [{"liver": Signals(expected=0.8)}, {"liver": Signals(expected=0.6)}]
    hints = hints_of(
        label_map(array), LABELS, signals, [[quality(0.4), quality(0.5)], [quality(0)]]
    )
    expected = (0.45 + 0.1 * evidence(0.8) + 0.1 * evidence(0.6)) / 2
    assert hints.structures["liver"].predicted_dice == pytest.approx(expected, abs=1e-4)
    assert hints.structures["tumour"].predicted_dice is None
    assert hints.predicted_dice == pytest.approx(expected, abs=1e-4)
    assert hints.structures["tumour"].signals == (Signals(), Signals())


def test_nothing_is_predicted_of_what_is_not_there():
    array = np.zeros((6, 9, 8), np.uint8)
    hints = hints_of(label_map(array), LABELS, [{"liver": Signals(expected=0.8)}], [[quality(0.4)]])
    assert hints.structures["liver"].predicted_dice is None


def test_what_was_signalled_can_be_judged_anew():
    array = np.zeros((6, 9, 8), np.uint8)
    array[2:4, 2:5, 2:5] = 100
    before = hints_of(label_map(array), LABELS, [{"liver": Signals(expected=0.8)}], [[]], ["dark"])
    assert before.predicted_dice is None
    after = judged(before, [[quality(0.4)]])
    assert after.predicted_dice == pytest.approx(0.4 + 0.1 * evidence(0.8), abs=1e-4)
    assert after.structures["liver"].predicted_dice == after.predicted_dice
    assert after.warnings == ("dark",)
    assert judged(after, [[]]) == before
