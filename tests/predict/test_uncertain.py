import numpy as np
import pytest
from conftest import toy_case
from random_models import finish_fold, untrained_task

from autoseg.cli.main import main
from autoseg.core.geometry import Geometry
from autoseg.core.image import Image
from autoseg.imaging.entropy import uncertainty
from autoseg.io.images import read_image, read_labels, write_image
from autoseg.io.predict_inputs import label_files, predict_inputs
from autoseg.predict.loading import PredictOptions, load_predictor, load_segmenter
from autoseg.predict.stage import predict_cases
from autoseg.predict.uncertain import UncertaintyMap, uncertainty_file

ON_CPU = PredictOptions(device="cpu", precision="float32")


@pytest.fixture(scope="module")
def bundles(toy, tmp_path_factory):
    task = untrained_task(toy, tmp_path_factory.mktemp("uncertain"))
    return [[finish_fold(task, "2d", seed=0).bundle], [finish_fold(task, "3d_fullres").bundle]]


def with_margins() -> Image:
    """Zero around, so that the network sees a part of the image."""
    image = toy_case(1)[0]
    array = np.zeros_like(image.array)
    array[:, 2:-1, 3:-4, 1:-2] = image.array[:, 2:-1, 3:-4, 1:-2]
    return Image(array=array, geometry=image.geometry)


def test_the_map_is_the_entropy_of_the_probabilities(bundles, tmp_path):
    segmenter, image = load_segmenter(bundles, ON_CPU), with_margins()
    slabs = segmenter.probability_slabs(image)
    expected = np.full(image.geometry.shape, np.nan, dtype=np.float32)
    for rows, slab in slabs:
        np.moveaxis(expected, slabs.axis, 0)[rows] = uncertainty(slab, has_regions=False)
    write_image(tmp_path / "ball.nii.gz", image)
    inputs = [("ball", (tmp_path / "ball.nii.gz",))]

    (prediction,) = predict_cases(segmenter, inputs, tmp_path / "out", uncertainty=True)

    doubts = read_image([uncertainty_file(tmp_path / "out", "ball", inputs[0][1][0])])
    labels = read_labels(prediction.path).array
    np.testing.assert_array_equal(labels, segmenter.segment(image).array)
    np.testing.assert_allclose(doubts.array[0], expected, atol=6e-4)  # three digits are written
    assert 0.1 < doubts.array.max() <= 1
    assert (doubts.array[0, :2] == 0).all()  # outside of what the network has seen


@pytest.mark.parametrize("regions", [False, True])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_map_is_made_slab_by_slab_along_any_axis(axis, regions):
    rng = np.random.default_rng(axis)
    values = rng.uniform(0, 0.5, (2, 5, 4, 3)).astype(np.float32)
    along = np.moveaxis(values, axis + 1, 1)
    slabs = [(rows, along[:, rows]) for rows in (slice(0, 2), slice(2, along.shape[1]))]
    doubts = UncertaintyMap((5, 4, 3), axis, regions)
    assert [rows for rows, _ in doubts.watch(slabs)] == [rows for rows, _ in slabs]
    geometry = Geometry(shape=(5, 4, 3), spacing=(3.0, 2.0, 1.0))
    expected = np.round(uncertainty(values, regions), 3)
    np.testing.assert_array_equal(doubts.image(geometry).array[0], expected)


@pytest.mark.parametrize(
    ("image", "file"),
    [
        ("a.nii.gz", "case_uncertainty.nii.gz"),
        ("a.nrrd", "case_uncertainty.nrrd"),
        ("a.mha", "case_uncertainty.mha"),
        ("a.png", "case_uncertainty.nii.gz"),
        ("a.seg.nrrd", "case_uncertainty.nii.gz"),
        ("series", "case_uncertainty.nii.gz"),
    ],
)
def test_the_map_has_the_format_of_its_image_if_that_holds_fractions(tmp_path, image, file):
    assert uncertainty_file(tmp_path, "case", tmp_path / image) == tmp_path / "uncertainty" / file


def predict(bundles, tmp_path, uncertainty: bool, ending=".nii.gz"):
    write_image(tmp_path / f"ball{ending}", toy_case(0)[0])
    predictor = load_predictor(bundles[0], ON_CPU)
    inputs = [("ball", (tmp_path / f"ball{ending}",))]
    return predict_cases(predictor, inputs, tmp_path / "out", uncertainty=uncertainty)[0]


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd"])
def test_the_map_lies_where_nothing_takes_it_for_labels_or_an_image(bundles, tmp_path, ending):
    prediction = predict(bundles, tmp_path, uncertainty=True, ending=ending)
    assert prediction.error is None
    written = read_image([tmp_path / "out" / "uncertainty" / f"ball_uncertainty{ending}"])
    assert written.geometry.distance_vox(toy_case(0)[0].geometry) < 1e-3
    assert 0 < written.array.max() <= 1
    assert list(label_files(tmp_path / "out")) == ["ball"]
    assert [name for name, _ in predict_inputs(tmp_path / "out", 1)] == ["ball"]
    assert set(np.unique(read_labels(prediction.path).array)) <= {0, 1, 2}


def test_a_map_that_is_asked_for_later_is_made_then(bundles, tmp_path):
    file = tmp_path / "out" / "uncertainty" / "ball_uncertainty.nii.gz"
    predict(bundles, tmp_path, uncertainty=False)
    assert not file.parent.exists()
    predict(bundles, tmp_path, uncertainty=True)
    made = file.stat().st_mtime_ns
    predict(bundles, tmp_path, uncertainty=True)
    predict(bundles, tmp_path, uncertainty=False)
    assert file.stat().st_mtime_ns == made


def test_a_map_does_not_stay_beside_another_label_map(bundles, tmp_path):
    predict(bundles, tmp_path, uncertainty=True)
    predict([bundles[1]], tmp_path, uncertainty=False)
    assert not (tmp_path / "out" / "uncertainty" / "ball_uncertainty.nii.gz").exists()


def test_the_flag_makes_maps_and_what_was_seen_is_printed(bundles, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("autoseg.cli.prediction.set_up_logging", lambda *_: None)
    write_image(tmp_path / "in" / "ball.nii.gz", toy_case(0)[0])
    folders = ("-i", tmp_path / "in", "-o", tmp_path / "out", "-m", bundles[0][0])
    words = ("predict", *folders, "--device", "cpu", "--precision", "float32", "--uncertainty")
    with pytest.raises(SystemExit) as left:
        main([str(word) for word in words])
    assert left.value.code == 0
    assert (tmp_path / "out" / "uncertainty" / "ball_uncertainty.nii.gz").is_file()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["case", "shell", "ml", "core", "ml"]
    assert lines[1].startswith("ball ")
    assert lines[-1] == f"1 label map in {tmp_path / 'out'}"
