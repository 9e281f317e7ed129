from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import toy_case

from autoseg.core.geometry import Geometry
from autoseg.core.image import Image
from autoseg.core.labels import LabelSpace, Structure
from autoseg.core.plan import Plan
from autoseg.errors import AutosegError
from autoseg.io import artifacts
from autoseg.io.images import read_image, read_labels, write_image
from autoseg.io.task import load_dataset
from autoseg.networks.precision import Precision
from autoseg.predict.memory import prediction_memory
from autoseg.predict.predictor import Predictor
from autoseg.predict.record import load_record
from autoseg.predict.segmenter import Segmenter
from autoseg.predict.stage import Part, predict_cases
from autoseg.predict.unlike import Seen


class Counting(torch.nn.Module):
    """A network that counts how often it is asked."""

    calls = 0

    def forward(self, image):
        self.calls += 1
        return torch.cat([image, -image, image - 1], dim=1)


class Sure(torch.nn.Module):
    """A network to which two structures are alike but for less than half precision tells."""

    def forward(self, image):
        likely = 3 + 2e-4 * image.sin()
        return torch.cat([torch.zeros_like(image), likely, likely.mul(0).add(3)], dim=1)


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


def test_probabilities_are_written_beside_and_missing_ones_are_made(predictor, inputs, tmp_path):
    out = tmp_path / "out"
    predict_cases(predictor, inputs, out)
    made = calls(predictor)
    first, _ = predict_cases(predictor, inputs, out, probabilities=True)
    assert calls(predictor) == 2 * made
    predict_cases(predictor, inputs, out, probabilities=True)
    predict_cases(predictor, inputs, out)
    assert calls(predictor) == 2 * made

    image = toy_case(0)[0]
    slabs = Segmenter(predictors=(predictor,)).probability_slabs(image)
    expected = np.zeros((3, *image.geometry.shape))
    for rows, slab in slabs:
        np.moveaxis(expected, slabs.axis + 1, 1)[:, rows] = slab
    stored = np.load(out / "0.npz")
    assert stored.files == ["background", "shell", "core"]
    for name, values in zip(stored.files, expected, strict=True):
        np.testing.assert_allclose(stored[name] / 255, values, atol=0.5 / 255 + 1e-5)
    assert np.isin(read_labels(first.path).array, (0, 1, 2)).all()


def test_probabilities_leave_the_label_map_as_it_is_whatever_a_model_sees_slices_of(
    predictor, inputs, tmp_path, toy
):
    plan = artifacts.load(toy.task.plan_file("default"), Plan)
    turned = plan.recipe("2d").model_copy(update={"transpose": (1, 0, 2)})
    flat = replace(predictor, configuration=plan.configurations["2d"], recipe=turned)
    flat = replace(flat, networks=[Sure()])
    (alone, _), (beside, _) = (
        predict_cases(flat, inputs, tmp_path / folder, probabilities=folder == "beside")
        for folder in ("alone", "beside")
    )
    labels = read_labels(alone.path).array
    assert set(np.unique(labels)) == {1, 2}
    np.testing.assert_array_equal(read_labels(beside.path).array, labels)
    image = toy_case(0)[0]
    slabs = Segmenter(predictors=(flat,)).probability_slabs(image)
    stored = np.stack([*np.load(tmp_path / "beside" / "0.npz").values()]) / 255
    for rows, slab in slabs:
        np.testing.assert_allclose(
            np.moveaxis(stored, slabs.axis + 1, 1)[:, rows], slab, atol=0.5 / 255 + 1e-5
        )


def test_probabilities_of_an_earlier_label_map_do_not_stay(predictor, inputs, tmp_path):
    out = tmp_path / "out"
    predict_cases(predictor, inputs, out, probabilities=True)
    predict_cases(replace(predictor, identity="second"), inputs, out)
    assert not (out / "0.npz").exists()


def test_probabilities_are_smaller_than_a_quarter_of_zipped_floats(predictor, inputs, tmp_path):
    predict_cases(predictor, inputs, tmp_path / "out", probabilities=True)
    slabs = Segmenter(predictors=(predictor,)).probability_slabs(toy_case(0)[0])
    whole = np.concatenate([np.moveaxis(s, 1, slabs.axis + 1) for _, s in slabs], slabs.axis + 1)
    np.savez_compressed(tmp_path / "floats.npz", probabilities=whole)
    size = (tmp_path / "out" / "0.npz").stat().st_size
    assert size < (tmp_path / "floats.npz").stat().st_size / 4


def test_a_probability_file_never_lies_without_its_whole(predictor, inputs, tmp_path):
    class Breaking(Counting):
        def forward(self, image):
            self.calls += 1
            if self.calls > 4:
                raise RuntimeError("gone")
            return torch.cat([image, -image, image - 1], dim=1)

    small = predictor.configuration.model_copy(update={"patch_size": (8, 16, 12)})
    breaking = replace(predictor, networks=[Breaking()], configuration=small)
    first, _ = predict_cases(breaking, inputs, tmp_path / "out", probabilities=True)
    assert first.error.endswith("RuntimeError: gone")
    assert [p.name for p in (tmp_path / "out").iterdir() if not p.name.startswith(".")] == []


def test_steps_one_after_the_other_make_the_same(predictor, inputs, tmp_path):
    predict_cases(predictor, inputs, tmp_path / "together")
    predict_cases(predictor, inputs, tmp_path / "apart", overlapping=False)
    for name in ("0.nii.gz", "1.nii.gz"):
        together = read_labels(tmp_path / "together" / name).array
        np.testing.assert_array_equal(together, read_labels(tmp_path / "apart" / name).array)


def test_cases_stand_alone_and_keep_their_order(predictor, inputs, tmp_path):
    (tmp_path / "broken.nii.gz").write_bytes(b"no image")
    flat = toy_case(2)[0]
    write_image(tmp_path / "empty.nii.gz", replace(flat, array=np.zeros_like(flat.array)))
    several = [
        inputs[0],
        ("broken", (tmp_path / "broken.nii.gz",)),
        ("empty", (tmp_path / "empty.nii.gz",)),
        ("double", inputs[0][1] * 2),
        inputs[1],
    ]
    known = replace(
        predictor,
        seen=Seen(
            min_spacing=(2.5, 1.25, 1.0),
            max_spacing=(2.5, 1.25, 1.25),
            channels=("MRI",),
            intensities=(None,),
        ),
    )
    found = predict_cases(known, several, tmp_path / "out")
    assert [one.name for one in found] == ["0", "broken", "empty", "double", "1"]
    assert [one.error is None for one in found] == [True, False, False, False, True]
    assert found[1].error.startswith(str(tmp_path / "broken.nii.gz"))
    assert found[2].error == (
        f"{tmp_path / 'empty.nii.gz'}: every voxel has the value 0: there is nothing to segment; "
        "look at the image"
    )
    assert found[3].error == (
        f"{inputs[0][1][0]}: has 2 channels, the model needs 1: MRI; a fourth axis counts as "
        "channels: give time points one by one"
    )


def test_an_image_unlike_those_of_the_training_is_predicted_with_a_warning(
    predictor, inputs, tmp_path
):
    seen = Seen(
        min_spacing=(2.5, 0.25, 1.0),
        max_spacing=(2.5, 0.5, 1.25),
        channels=("MRI",),
        intensities=(None,),
    )
    first, _ = predict_cases(replace(predictor, seen=seen), inputs, tmp_path / "out")
    assert first.error is None
    (line,) = first.warnings
    assert line.endswith("the model knows nothing like it along y")
    again, _ = predict_cases(replace(predictor, seen=seen), inputs, tmp_path / "out")
    assert again.warnings == first.warnings
    assert load_record(tmp_path / "out").cases["0"].hints.warnings == first.warnings


def test_an_interrupt_ends_at_once_and_keeps_what_is_done(predictor, inputs, tmp_path):
    def interrupt(done, total, note="", **_):
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_cases(predictor, inputs, tmp_path / "out", interrupt)
    assert list(load_record(tmp_path / "out").cases) == ["0"]
    found = predict_cases(predictor, inputs, tmp_path / "out")
    assert [one.error for one in found] == [None, None]


def test_parts_are_all_cases_each_once_and_share_a_record(predictor, inputs, tmp_path):
    parts = [Part(number=number, count=2) for number in (0, 1)]
    assert [[name for name, _ in part.of(inputs)] for part in parts] == [["0"], ["1"]]
    for part in parts:
        predict_cases(predictor, part.of(inputs), tmp_path / "out")
    assert sorted(load_record(tmp_path / "out").cases) == ["0", "1"]
    assert list(Part(number=4, count=5).of(inputs)) == []


@pytest.mark.parametrize(("number", "count"), [(2, 2), (-1, 2), (0, 0)])
def test_a_part_that_does_not_exist_is_refused(number, count):
    with pytest.raises(AutosegError, match=r"does not exist; parts count from 0"):
        Part(number=number, count=count)


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


class Failing(Counting):
    """A network that fails at its fifth patch."""

    def forward(self, image):
        self.calls += 1
        if self.calls == 5:
            raise RuntimeError("gone")
        return torch.cat([image, -image, image - 1], dim=1)


@pytest.mark.parametrize("overlapping", [False, True])
def test_a_case_that_fails_twice_fails_alone(predictor, inputs, tmp_path, overlapping):
    small = predictor.configuration.model_copy(update={"patch_size": (8, 16, 12)})
    failing = replace(predictor, networks=[Failing()], configuration=small)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "blocked").touch()
    # Where the first is to be written nothing can be; its networks fail as well.
    cases = [("blocked/0", inputs[0][1]), inputs[1]]
    first, second = predict_cases(
        failing, cases, tmp_path / "out", probabilities=True, overlapping=overlapping
    )
    assert "is a file" in first.error or "gone" in first.error
    assert second.error is None


@pytest.mark.parametrize("overlapping", [False, True])
def test_a_case_that_cannot_be_written_is_told_once_and_in_a_line(
    predictor, inputs, tmp_path, overlapping
):
    out = tmp_path / "out"
    out.mkdir()
    (out / "uncertainty").touch()
    found = predict_cases(predictor, inputs, out, uncertainty=True, overlapping=overlapping)
    assert [one.name for one in found] == ["0", "1"]
    assert found[0].error == (
        f"{out / 'uncertainty'}: cannot be written, {out / 'uncertainty'} is a file; choose "
        "another folder"
    )


class Other(Counting):
    """A network with another opinion."""

    def forward(self, image):
        self.calls += 1
        return torch.cat([-image, image - 1, image], dim=1)


def test_files_of_another_model_are_not_kept_where_it_was_stopped_halfway(
    predictor, inputs, tmp_path
):
    out, other = tmp_path / "out", replace(predictor, identity="second", networks=[Other()])
    predict_cases(predictor, inputs, out, probabilities=True)
    first = np.load(out / "0.npz")["core"]
    # Where the label map should go there is a folder: the other's probabilities are written only.
    (out / "0.nii.gz").rename(tmp_path / "aside")
    (out / "0.nii.gz").mkdir()
    failed, _ = predict_cases(other, inputs, out, probabilities=True)
    assert failed.error is not None
    (out / "0.nii.gz").rmdir()
    (tmp_path / "aside").rename(out / "0.nii.gz")
    assert (np.load(out / "0.npz")["core"] != first).any()

    predict_cases(predictor, inputs, out, probabilities=True)

    np.testing.assert_array_equal(np.load(out / "0.npz")["core"], first)


def test_a_label_map_nobody_noted_is_not_taken_for_an_earlier_one(
    predictor, inputs, tmp_path, monkeypatch
):
    def interrupt(*_):
        raise KeyboardInterrupt

    out, other = tmp_path / "out", replace(predictor, identity="second", networks=[Other()])
    predict_cases(predictor, inputs, out)
    first = read_labels(out / "0.nii.gz").array
    with monkeypatch.context() as patch:
        patch.setattr("autoseg.predict.stage.note_case", interrupt)
        with pytest.raises(KeyboardInterrupt):
            predict_cases(other, inputs, out)
    assert (read_labels(out / "0.nii.gz").array != first).any()

    predict_cases(predictor, inputs, out)

    np.testing.assert_array_equal(read_labels(out / "0.nii.gz").array, first)
    assert sorted(load_record(out).cases) == ["0", "1"]


def test_what_lies_beside_an_unknown_label_map_does_not_stay(predictor, inputs, tmp_path):
    out = tmp_path / "out"
    predict_cases(predictor, inputs, out, probabilities=True, uncertainty=True)
    (out / "predictions.json").unlink()
    predict_cases(predictor, inputs, out)
    assert not (out / "0.npz").exists()
    assert list((out / "uncertainty").iterdir()) == []


def test_a_file_called_uncertainty_is_no_matter_where_no_maps_are_wanted(
    predictor, inputs, tmp_path
):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "uncertainty").touch()
    assert predict_cases(predictor, inputs, tmp_path / "out")[0].error is None


def test_what_is_wanted_besides_counts_before_a_case_is_read(predictor, inputs, tmp_path):
    where = read_image(inputs[0][1]).geometry
    limit = prediction_memory([predictor], where).total
    limited = Segmenter(predictors=(predictor,), max_memory_bytes=limit)
    first = predict_cases(limited, inputs[:1], tmp_path / "plain")[0]
    assert first.error is None
    for wanted in ("probabilities", "uncertainty"):
        (first,) = predict_cases(limited, inputs[:1], tmp_path / wanted, **{wanted: True})
        assert ", leave out --" in first.error
