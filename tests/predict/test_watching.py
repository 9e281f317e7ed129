import json

import pytest
from conftest import toy_case
from random_models import finish_fold, untrained_task

from autoseg.core.quality import Calibration, QualityModel, StructureQuality, evidence
from autoseg.io import bundle
from autoseg.io.images import write_image
from autoseg.predict.loading import PredictOptions, load_predictor, load_segmenter
from autoseg.predict.record import load_record
from autoseg.predict.stage import predict_cases
from autoseg.predict.watching import Watched

ON_CPU = PredictOptions(device="cpu", precision="float32")


@pytest.fixture
def task(toy, tmp_path):
    task = untrained_task(toy, tmp_path)
    for seed, fold in enumerate(("fold0", "fold1")):
        finish_fold(task, "2d", fold, seed=seed)
    finish_fold(task, "3d_fullres", seed=2)
    return task


@pytest.fixture
def inputs(tmp_path):
    write_image(tmp_path / "ball.nii.gz", toy_case(0)[0])
    return [("ball", (tmp_path / "ball.nii.gz",))]


def bundle_of(task, configuration="2d", fold="fold0"):
    return task.fold_folder("default", configuration, "default", fold).bundle


def calibrated(task, offset=0.3):
    """Note in the 2d model of fold0 how Dice is predicted."""
    path = bundle_of(task)
    line = Calibration(signals=("expected",), offset=offset, slopes=(0.1,))
    known = StructureQuality(calibrations=(line,))
    quality = QualityModel(
        structures={"shell": known, "core": known}, mean=None, num_fitted=3, num_checked=2
    )
    bundle.save_model(path, bundle.load_model(path).model_copy(update={"quality": quality}))
    return quality


def test_each_model_signals_for_itself(task):
    groups = [[bundle_of(task), bundle_of(task, fold="fold1")], [bundle_of(task, "3d_fullres")]]
    segmenter = load_segmenter(groups, ON_CPU)
    watched = Watched.over(segmenter)
    image = toy_case(0)[0]
    label_map = watched.segmenter.segment(image)
    flat, full = watched.signals
    assert list(flat) == list(full) == ["shell", "core"]
    present = [name for name, one in flat.items() if one.expected is not None]
    assert present
    for name in present:
        assert flat[name].folds is not None
    assert all(one.folds is None for one in full.values())
    hints = watched.hints(label_map, ["dim"])
    assert [len(one.signals) for one in hints.structures.values()] == [2, 2]
    assert hints.warnings == ("dim",)


def test_watching_leaves_the_segmenter_alone(task):
    segmenter = load_segmenter([[bundle_of(task)]], ON_CPU)
    watched = Watched.over(segmenter)
    assert watched.segmenter.identity == segmenter.identity
    assert watched.segmenter.predictors[0].networks[0] is segmenter.predictors[0].networks[0]
    segmenter.segment(toy_case(0)[0])
    assert all(one.expected is None for one in watched.signals[0].values())


def test_what_is_known_of_quality_does_not_make_predictions_stale(task):
    before = load_predictor([bundle_of(task)], ON_CPU)
    quality = calibrated(task)
    after = load_predictor([bundle_of(task)], ON_CPU)
    assert after.identity == before.identity
    assert (before.quality, after.quality) == ((), (quality,))


def test_what_label_maps_depend_on_does(task):
    before = load_predictor([bundle_of(task)], ON_CPU)
    model = bundle.load_model(bundle_of(task))
    other = model.training.model_copy(update={"mirror_axes": ()})
    bundle.save_model(bundle_of(task), model.model_copy(update={"training": other}))
    assert load_predictor([bundle_of(task)], ON_CPU).identity != before.identity
    weights = task.fold_folder("default", "2d", "default", "fold1").weights
    bundle.save_model(bundle_of(task), model)
    weights.replace(bundle_of(task).with_name("weights.safetensors"))
    assert load_predictor([bundle_of(task)], ON_CPU).identity != before.identity


def test_a_model_of_an_earlier_version_is_read(task):
    path = bundle_of(task)
    content = json.loads(path.read_text())
    del content["quality"]
    path.write_text(json.dumps(content | {"format": 1}))
    assert bundle.load_model(path).quality is None


def test_a_case_is_noted_with_all_that_is_known(task, inputs, tmp_path):
    calibrated(task)
    predictor = load_predictor([bundle_of(task)], ON_CPU)
    (prediction,) = predict_cases(predictor, inputs, tmp_path / "out")
    noted = load_record(tmp_path / "out").cases["ball"].hints
    assert noted == prediction.hints
    values = []
    for one in noted.structures.values():
        if one.num_voxels:
            values.append(0.3 + 0.1 * evidence(one.signals[0].expected))
            assert one.predicted_dice == pytest.approx(values[-1], abs=1e-4)
    assert noted.predicted_dice == pytest.approx(sum(values) / len(values), abs=1e-4)


def test_label_maps_that_are_kept_get_the_dice_a_later_calibration_predicts(task, inputs, tmp_path):
    (first,) = predict_cases(load_predictor([bundle_of(task)], ON_CPU), inputs, tmp_path / "out")
    assert first.hints.predicted_dice is None
    calibrated(task)
    predictor = load_predictor([bundle_of(task)], ON_CPU)
    made = (tmp_path / "out" / "ball.nii.gz").stat().st_mtime_ns
    (kept,) = predict_cases(predictor, inputs, tmp_path / "out")
    assert (tmp_path / "out" / "ball.nii.gz").stat().st_mtime_ns == made
    assert kept.hints.predicted_dice is not None
    assert load_record(tmp_path / "out").cases["ball"].hints == kept.hints
