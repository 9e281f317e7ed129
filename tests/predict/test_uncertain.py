import numpy as np
import pytest
from conftest import toy_case
from random_models import finish_fold, untrained_task

from autoseg.core.image import Image
from autoseg.imaging.entropy import uncertainty
from autoseg.io.images import read_image, read_labels, write_image
from autoseg.io.predict_inputs import label_files, predict_inputs
from autoseg.predict.loading import PredictOptions, load_predictor, load_segmenter
from autoseg.predict.stage import predict_cases
from autoseg.predict.uncertain import segment_with_uncertainty, uncertainty_file

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


def test_label_map_and_uncertainty_come_from_one_pass(bundles):
    segmenter, image = load_segmenter(bundles, ON_CPU), with_margins()
    slabs = segmenter.probability_slabs(image)
    expected = np.full(image.geometry.shape, np.nan, dtype=np.float32)
    for rows, slab in slabs:
        np.moveaxis(expected, slabs.axis, 0)[rows] = uncertainty(slab, has_regions=False)

    label_map, doubts = segment_with_uncertainty(segmenter, image)

    np.testing.assert_array_equal(label_map.array, segmenter.segment(image).array)
    np.testing.assert_array_equal(doubts.array[0], expected)
    assert doubts.geometry == image.geometry
    assert 0.1 < doubts.array.max() <= 1
    assert (doubts.array[0, :2] == 0).all()  # outside of what the network has seen


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
