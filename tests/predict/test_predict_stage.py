from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import toy_case

from autoseg.core.geometry import Geometry
from autoseg.core.image import Image
from autoseg.core.labels import LabelSpace, Structure
from autoseg.core.plan import Plan
from autoseg.io import artifacts
from autoseg.io.images import read_labels, write_image
from autoseg.io.task import load_dataset
from autoseg.networks.precision import Precision
from autoseg.predict.predictor import Predictor
from autoseg.predict.segmenter import Segmenter
from autoseg.predict.stage import predict_cases


class Counting(torch.nn.Module):
    """A network that counts how often it is asked."""

    calls = 0

    def forward(self, image):
        self.calls += 1
        return torch.cat([image, -image, image - 1], dim=1)


@pytest.fixture
def predictor(toy) -> Predictor:
    plan = artifacts.load(toy.task.plan_file("default"), Plan)
    return Predictor(
        identity="first",
        networks=[Counting()],
        configuration=plan.configurations["3d_fullres"],
        recipe=plan.recipe("3d_fullres"),
        labels=load_dataset(toy.task).labels,
        mirror_axes=(),
        device=torch.device("cpu"),
        precision=Precision(dtype="float32", channels_last=False),
    )


@pytest.fixture
def inputs(tmp_path):
    for number in (0, 1):
        write_image(tmp_path / f"{number}.nii.gz", toy_case(number)[0])
    return [(str(number), (tmp_path / f"{number}.nii.gz",)) for number in (0, 1)]


def calls(predictor) -> int:
    return predictor.networks[0].calls


def test_a_repeated_command_keeps_what_it_has_made(predictor, inputs, tmp_path):
    predict_cases(predictor, inputs, tmp_path / "out")
    made = calls(predictor)
    (tmp_path / "out" / "1.nii.gz").unlink()
    again = predict_cases(predictor, inputs, tmp_path / "out")
    assert made < calls(predictor) < 2 * made
    assert [prediction.error for prediction in again] == [None, None]
    assert (tmp_path / "out" / "1.nii.gz").is_file()


def test_another_model_or_another_image_is_predicted_anew(predictor, inputs, tmp_path):
    predict_cases(predictor, inputs, tmp_path / "out")
    made = calls(predictor)
    predict_cases(replace(predictor, identity="second"), inputs, tmp_path / "out")
    assert calls(predictor) == 2 * made
    write_image(inputs[0][1][0], toy_case(3)[0])
    predict_cases(replace(predictor, identity="second"), inputs, tmp_path / "out")
    assert calls(predictor) > 2 * made


def test_on_request_everything_is_made_again(predictor, inputs, tmp_path):
    predict_cases(predictor, inputs, tmp_path / "out")
    made = calls(predictor)
    predict_cases(predictor, inputs, tmp_path / "out", again=True)
    assert calls(predictor) == 2 * made


def test_a_network_that_fails_on_one_case_does_not_stop_the_others(predictor, inputs, tmp_path):
    class Picky(Counting):
        def forward(self, image):
            self.calls += 1
            if self.calls == 1:
                raise RuntimeError("no memory for this one")
            return torch.cat([image, -image, image - 1], dim=1)

    picky = replace(predictor, networks=[Picky()])
    first, second = predict_cases(picky, inputs, tmp_path / "out")
    assert first.error.endswith("RuntimeError: no memory for this one")
    assert second.error is None
    assert not (tmp_path / "out" / "0.nii.gz").exists()


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_a_label_map_comes_in_the_format_of_its_image(predictor, tmp_path, ending):
    image = toy_case(0)[0]
    write_image(tmp_path / f"a{ending}", image)

    (prediction,) = predict_cases(predictor, [("a", (tmp_path / f"a{ending}",))], tmp_path / "out")

    assert prediction.path == tmp_path / "out" / f"a{ending}"
    written = read_labels(prediction.path)
    assert written.geometry.distance_vox(image.geometry) < 1e-3
    np.testing.assert_array_equal(written.array, predictor.segment(image).array)


def test_values_the_images_format_cannot_hold_are_written_as_nifti(predictor, tmp_path):
    array = toy_case(0)[0].array
    upright = Geometry(shape=array.shape[1:], spacing=(2.5, 1.25, 1.0))
    write_image(tmp_path / "a.gipl", Image(array=array, geometry=upright))
    structures = (
        Structure(name="shell", values=(1,)),
        Structure(name="core", values=(70_000,)),
    )
    huge = replace(predictor, labels=LabelSpace(structures=structures))

    (prediction,) = predict_cases(huge, [("a", (tmp_path / "a.gipl",))], tmp_path / "out")

    assert prediction.path == tmp_path / "out" / "a.nii.gz"


def test_a_case_that_takes_too_much_memory_fails_before_it_is_read(
    predictor, tmp_path, monkeypatch
):
    write_image(tmp_path / "a.nii.gz", toy_case(0)[0])
    monkeypatch.setattr("autoseg.predict.cases.read_image", None)
    limited = Segmenter(predictors=(predictor,), max_memory_bytes=10**8)
    inputs = [("a", (tmp_path / "a.nii.gz",))]
    (prediction,) = predict_cases(limited, inputs, tmp_path / "out")
    assert prediction.path is None
    assert "more than the 100 MB allowed; allow more with --max-memory" in prediction.error
