import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - the name everybody knows
from conftest import toy_case, toy_geometry
from random_models import finish_fold, score_fold, untrained_task
from small_models import REGIONS, pack, small_plan, write_cascade, write_fold

import autoseg
from autoseg.core.geometry import Geometry
from autoseg.core.image import Image
from autoseg.core.selection import CleanUp, Group, Selection
from autoseg.errors import AutosegError, DataError, WorkspaceError
from autoseg.io import artifacts
from autoseg.io.images import read_image, read_labels, write_image
from autoseg.io.readers.itk import to_itk
from autoseg.networks import precision

ON_CPU = {"device": "cpu", "precision": "float32"}
SPACING = (3.0, 1.5, 1.25)
SHAPE = (5, 11, 14)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Every probe takes as long as any other, and no time."""
    monkeypatch.setattr(precision, "_seconds", lambda step: 1.0)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """An ensemble of two folds and a cascade, of two channels."""
    root = tmp_path_factory.mktemp("api")
    folds = tuple(
        write_fold(root / fold, fold=fold, seed=int(fold[-1])) for fold in ("fold0", "fold1")
    )
    return root, folds, (write_cascade(root / "cascade"),)


@pytest.fixture(scope="module")
def file(bundles):
    root, folds, cascade = bundles
    rule = CleanUp(structure="rim", largest_only=True)
    return pack(root / "m.autoseg", folds, cascade, clean_up=[rule]).path


@pytest.fixture(scope="module")
def flat(bundles):
    """One fold of one channel for slices."""
    root = bundles[0]
    plan = small_plan(channels=("CT",)).model_copy(update={"transpose": (0, 1, 2)})
    return write_fold(root / "flat", plan=plan)


def array(channels=2, shape=SHAPE):
    return np.random.default_rng(3).normal(50, 30, (channels, *shape)).astype(np.float32)


def test_importing_autoseg_imports_no_torch():
    code = "import autoseg, sys; autoseg.__version__; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_unknown_names_are_refused():
    with pytest.raises(AttributeError, match="module 'autoseg' has no attribute 'lod_model'"):
        autoseg.lod_model  # noqa: B018
    assert autoseg.LoadedModel.__name__ == "LoadedModel"


def test_a_file_predicts_what_the_folds_it_was_made_of_predict(file, bundles):
    from autoseg.predict.loading import PredictOptions, load_segmenter

    _, folds, cascade = bundles
    rule = CleanUp(structure="rim", largest_only=True)
    segmenter = load_segmenter([folds, cascade], PredictOptions(**ON_CPU), [rule])
    image = Image(array=array(), geometry=Geometry(shape=SHAPE, spacing=SPACING))
    expected = segmenter.segment(image).array
    found = autoseg.load_model(file, **ON_CPU).predict(array(), SPACING)
    np.testing.assert_array_equal(found.array, expected)
    assert len(np.unique(expected)) > 1
    assert found.array.dtype == expected.dtype


def test_a_model_says_what_it_needs_and_finds(file):
    model = autoseg.load_model(str(file), **ON_CPU)
    assert model.channels == ("CT", "MR")
    assert model.labels.names == ("rim", "core")


def test_volumes_count_the_voxels_of_each_structure(file):
    result = autoseg.load_model(file, **ON_CPU).predict(array(), SPACING)
    voxel_ml = 3.0 * 1.5 * 1.25 / 1000
    assert result.volumes_ml == pytest.approx(
        {"rim": (result.array == 3).sum() * voxel_ml, "core": (result.array == 1).sum() * voxel_ml}
    )
    assert result.geometry.spacing == SPACING


def test_volumes_of_overlapping_structures_count_shared_voxels_twice(bundles):
    path = write_fold(bundles[0] / "regions", labels=REGIONS)
    result = autoseg.load_model(path, **ON_CPU).predict(array(), SPACING)
    voxel_ml = 3.0 * 1.5 * 1.25 / 1000
    assert result.volumes_ml == pytest.approx(
        {"whole": (result.array > 0).sum() * voxel_ml, "core": (result.array == 2).sum() * voxel_ml}
    )
    assert (result.array == 2).any()


def test_probabilities_are_those_the_labels_were_decided_by(bundles):
    root, folds, cascade = bundles
    model = autoseg.load_model(pack(root / "p.autoseg", folds, cascade).path, **ON_CPU)
    result = model.predict(array(), SPACING)
    found = result.probabilities()
    assert found.shape == (3, *SHAPE)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-5)
    np.testing.assert_array_equal(np.array([0, 1, 3])[found.argmax(axis=0)], result.array)


@pytest.mark.parametrize("kind", ["2d", "channels", "whole numbers"])
def test_2d_images_have_no_axis_z(flat, kind):
    image = array(1, (1, 13, 20))[0, 0]
    given, spacing = {
        "2d": (image, None),
        "channels": (image[None], (1, 1)),
        "whole numbers": (np.rint(image).astype(np.int16), (1, 1)),
    }[kind]
    model = autoseg.load_model(flat, **ON_CPU)
    result = model.predict(given, spacing)
    assert result.array.shape == (13, 20)
    assert result.volumes_ml == {}
    assert result.probabilities().shape == (3, 13, 20)
    if kind != "whole numbers":
        np.testing.assert_array_equal(result.array, model.predict(image).array)


def test_one_channel_needs_no_axis_of_its_own(flat):
    model = autoseg.load_model(flat, **ON_CPU)
    image = array(1)
    with_axis, without = model.predict(image, SPACING), model.predict(image[0], SPACING)
    assert with_axis.array.shape == SHAPE
    np.testing.assert_array_equal(with_axis.array, without.array)


def test_arrays_in_any_memory_layout_and_type_give_the_same(file):
    model = autoseg.load_model(file, **ON_CPU)
    image = np.rint(array())
    expected = model.predict(image, SPACING).array
    for other in (image.astype(np.int16), np.asfortranarray(image), image.astype(np.float64)):
        np.testing.assert_array_equal(model.predict(other, SPACING).array, expected)


@pytest.mark.parametrize("kind", ["array", "one channel", "image"])
def test_a_result_does_not_change_with_the_array_it_was_made_of(file, flat, kind):
    buffer = array(1 if kind == "one channel" else 2)
    whole = Image(array=buffer, geometry=Geometry(shape=SHAPE, spacing=SPACING))
    model = autoseg.load_model(flat if kind == "one channel" else file, **ON_CPU)
    given = {"array": buffer, "one channel": buffer[0], "image": whole}[kind]
    result = model.predict(given, None if kind == "image" else SPACING)
    before = result.probabilities()
    buffer[:] = 7 - buffer
    np.testing.assert_array_equal(result.probabilities(), before)


@pytest.fixture
def oblique():
    geometry = replace(toy_geometry(1), shape=SHAPE)
    return Image(array=np.rint(array()), geometry=geometry)


def test_files_and_images_of_simpleitk_keep_their_place(file, oblique, tmp_path):
    model = autoseg.load_model(file, **ON_CPU)
    paths = [tmp_path / f"case_{number:04d}.nii.gz" for number in (0, 1)]
    for path, channel in zip(paths, oblique.array, strict=True):
        write_image(path, Image(array=channel[None], geometry=oblique.geometry))
    expected = model.predict(oblique)
    channels = [to_itk(channel, oblique.geometry) for channel in oblique.array]
    for given in (paths, [str(path) for path in paths], paths[0], str(paths[0])):
        found = model.predict(given)
        np.testing.assert_array_equal(found.array, expected.array)
        assert found.geometry.distance_vox(oblique.geometry) < 1e-3
    found = model.predict(sitk.Compose(channels))
    np.testing.assert_array_equal(found.array, expected.array)
    assert found.geometry.distance_vox(oblique.geometry) < 1e-6
    np.testing.assert_array_equal(model.predict(sitk.JoinSeries(channels)).array, expected.array)


def test_a_result_is_saved_in_the_format_of_its_ending(file, oblique, tmp_path):
    result = autoseg.load_model(file, **ON_CPU).predict(oblique)
    for name in ("a.nii.gz", "b.nrrd"):
        result.save(tmp_path / "out" / name)
        saved = read_labels(tmp_path / "out" / name)
        np.testing.assert_array_equal(saved.array, result.array)
        assert saved.geometry.distance_vox(oblique.geometry) < 1e-3


def test_a_volume_that_is_saved_as_a_picture_is_refused_by_its_own_name(file, oblique, tmp_path):
    result = autoseg.load_model(file, **ON_CPU).predict(oblique)
    with pytest.raises(AutosegError) as caught:
        result.save(tmp_path / "x.png")
    assert str(caught.value) == (
        f"{tmp_path / 'x.png'}: a picture holds one slice, not 5; write another format, such as "
        ".nii.gz"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_flat_image_of_simpleitk_is_a_slice(flat):
    image = array(1, (1, 13, 20))[0, 0]
    model = autoseg.load_model(flat, **ON_CPU)
    found = model.predict(sitk.GetImageFromArray(image))
    np.testing.assert_array_equal(found.array, model.predict(image).array)


@pytest.mark.parametrize(
    ("given", "spacing", "message"),
    [
        (array(1), SPACING, "has 1 channel, the model needs 2: CT, MR"),
        (array(), None, r"an array of 4 axes needs its spacing; write predict\(array, spacing="),
        (array()[0, 0, 0], SPACING, "an array of 1 axes and a spacing of 3 numbers do not fit"),
        (array(), (1, 1), "an array of 4 axes and a spacing of 2 numbers do not fit"),
        (array(), (1, 1, 1, 1), "a spacing of 4 numbers"),
        (array(), (1, -1, 1), "spacing must be three positive numbers"),
        (array(), (1, float("nan"), 1), "spacing must be three positive numbers"),
        (array() * np.nan, SPACING, "voxels are infinite or not a number"),
        (array().astype(complex), SPACING, "values must be real numbers, but are complex128"),
        (array().astype(object), SPACING, "values must be real numbers, but are object"),
        (array(2, (0, 4, 4)), SPACING, "shape must be three positive numbers"),
        ([array(), array()], None, "a list is no image; pass a numpy array with its spacing"),
        (None, None, "a NoneType is no image"),
        (sitk.Image(4, 4, sitk.sitkComplexFloat32), None, "values must be real numbers"),
        (sitk.Image([2] * 5, sitk.sitkFloat32), None, "has 5 dimensions"),
        ("nowhere.nii.gz", None, "nowhere.nii.gz: no such file or folder"),
    ],
)
def test_what_is_no_image_is_refused_in_a_line(file, given, spacing, message):
    with pytest.raises(DataError, match=message):
        autoseg.load_model(file, **ON_CPU).predict(given, spacing)


def test_a_folder_of_several_images_is_refused(flat, tmp_path):
    for number in (0, 1):
        write_image(tmp_path / f"{number}.nii.gz", toy_case(number)[0])
    with pytest.raises(DataError, match="holds 2 images; name one of them"):
        autoseg.load_model(flat, **ON_CPU).predict(tmp_path)


def test_files_bring_their_own_spacing(file):
    with pytest.raises(DataError, match=r"'spacing' is for arrays.*; leave it out"):
        autoseg.load_model(file, **ON_CPU).predict("a.nii.gz", SPACING)


# Which model


@pytest.fixture(scope="module")
def task(toy, tmp_path_factory):
    task = untrained_task(toy, tmp_path_factory.mktemp("found"))
    for seed, (configuration, fold) in enumerate(
        [("2d", "fold0"), ("2d", "fold1"), ("3d_fullres", "fold0")]
    ):
        finish_fold(task, configuration, fold, seed=seed)
    score_fold(task, "2d", "fold0", 0.7)
    score_fold(task, "3d_fullres", "fold0", 0.8)
    return task


def used(model):
    return [
        (predictor.configuration.dimensions, len(predictor.networks))
        for predictor in model.segmenter.predictors
    ]


def test_of_a_task_the_best_model_is_loaded_or_the_one_that_is_named(task):
    load = autoseg.load_model
    assert used(load(task.root, **ON_CPU)) == [(3, 1)]
    assert used(load(task.root.parent, **ON_CPU)) == [(3, 1)]
    assert used(load(task.root.parent, task=task.name, configuration="2d", **ON_CPU)) == [(2, 2)]
    assert used(load(task.root, configuration="2d", folds=[1], **ON_CPU)) == [(2, 1)]
    assert used(load(task.root, configuration="2d", folds=["fold0", 1], **ON_CPU)) == [(2, 2)]
    assert used(load(task.root, configuration="2d", plan="default", **ON_CPU)) == [(2, 2)]
    with pytest.raises(AutosegError, match="no plan with a trained model named 'theirs'"):
        load(task.root, plan="theirs", **ON_CPU)
    bundle = task.fold_folder("default", "2d", "default", "fold1").bundle
    assert used(load(bundle, **ON_CPU)) == used(load(bundle.parent, **ON_CPU)) == [(2, 1)]
    assert used(load(bundle.parents[1], **ON_CPU)) == [(2, 2)]


def test_of_a_task_the_selected_model_is_loaded_with_its_clean_up(task):
    def group(configuration, *folds):
        return Group(plan="default", configuration=configuration, run="default", folds=folds)

    rule = CleanUp(structure="core", largest_only=True)
    groups = (group("2d", "fold0", "fold1"), group("3d_fullres", "fold0"))
    artifacts.save(task.selection, Selection(groups=groups, clean_up=(rule,)))
    try:
        model = autoseg.load_model(task.root, **ON_CPU)
    finally:
        task.selection.unlink()
    assert used(model) == [(2, 2), (3, 1)]
    assert model.segmenter.clean_up == (rule,)


def test_what_is_no_model_is_refused_in_a_line(task, tmp_path):
    with pytest.raises(WorkspaceError, match=r"there is no model here; name a \.autoseg file"):
        autoseg.load_model(tmp_path, **ON_CPU)
    with pytest.raises(AutosegError, match="no trained fold named 'fold4'"):
        autoseg.load_model(task.root, folds=[4], **ON_CPU)
    with pytest.raises(AutosegError, match="no task named 'Task_Other'"):
        autoseg.load_model(task.root.parent, task="Task_Other", **ON_CPU)


def test_nothing_is_chosen_of_a_single_model(file):
    for named in (
        {"configuration": "2d"},
        {"folds": [0]},
        {"plan": "default"},
        {"task": "Task_Small"},
    ):
        with pytest.raises(AutosegError) as caught:
            autoseg.load_model(file, **named, **ON_CPU)
        assert str(caught.value) == (
            f"{file}: is one model, of which nothing is chosen; leave out task, configuration, "
            "folds, plan and run"
        )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"folds": 0}, "folds=0 is no list of folds; write for example folds=[0, 1]"),
        ({"folds": "everything"}, "folds='everything' is no list of folds"),
        ({"max_memory": "much"}, "max_memory: 'much' is no size; write for example 8GB"),
        ({"max_memory": -1}, "max_memory: '-1' is no size"),
        ({"max_memory": True}, "max_memory: 'True' is no size"),
        ({"device": "quantum"}, "there is no device 'quantum' here"),
        ({"precision": "float7"}, "no precision named 'float7'"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_a_line(task, given, message):
    with pytest.raises(AutosegError) as caught:
        autoseg.load_model(task.root, **(ON_CPU | given))
    assert str(caught.value).startswith(message)


def test_what_is_no_path_is_no_model():
    with pytest.raises(AutosegError, match="a NoneType is no place of a model; pass a path"):
        autoseg.load_model(None)


# What is told of an image


def test_an_image_unlike_those_of_the_training_comes_with_a_warning(file):
    model = autoseg.load_model(file, **ON_CPU)
    assert model.predict(array(), SPACING).warnings == ()
    (line,) = model.predict(array(), (3.0, 1.5, 9.0)).warnings
    assert line == (
        "spacing 3 x 1.5 x 9 mm (z, y, x), the training data had 1-3 x 1-2 x 1-2 mm: the model "
        "knows nothing like it along x"
    )
    (line,) = model.predict(array() + 5000, SPACING).warnings
    assert line.startswith("CT: intensities mostly ")


@pytest.mark.parametrize(
    ("given", "spacing", "message"),
    [
        (array() * 0, SPACING, "every voxel has the value 0: there is nothing to segment"),
        (array(), (1000, 1, 1), "1000 x 1 x 1 mm .*: it cannot be right; mend the spacing of the"),
        (array(3), SPACING, "has 3 channels.*; a fourth axis counts as channels: give time points"),
        (array(1), SPACING, r"has 1 channel.*, or stack them in one array"),
        (array(), 1.0, r"a spacing of 1\.0; write predict\(array, spacing="),
        (array(), "111", r"a spacing of '111'; write predict\(array, spacing="),
        (array(2, (1, 9, 9))[:, 0], (1, 1), "is a 2D picture, the model needs volumes"),
    ],
)
def test_what_the_command_refuses_is_refused_in_memory(file, given, spacing, message):
    with pytest.raises(DataError, match=message):
        autoseg.load_model(file, **ON_CPU).predict(given, spacing)


@pytest.mark.parametrize("limit", ["100MB", 100_000_000])
def test_an_image_that_would_take_too_much_memory_is_refused(flat, tmp_path, limit):
    model = autoseg.load_model(flat, max_memory=limit, **ON_CPU)
    write_image(tmp_path / "a.nii.gz", toy_case(0)[0])
    for given, spacing in ((array(1), SPACING), (tmp_path / "a.nii.gz", None)):
        with pytest.raises(DataError, match="more than the 100 MB allowed"):
            model.predict(given, spacing)
    enough = autoseg.load_model(flat, max_memory="8GB", **ON_CPU)
    assert enough.predict(array(1), SPACING).array.shape == SHAPE


def test_a_file_is_not_read_where_its_header_tells_that_it_is_too_large(flat, tmp_path):
    write_image(tmp_path / "a.nii", toy_case(0)[0])
    whole = (tmp_path / "a.nii").read_bytes()
    (tmp_path / "a.nii").write_bytes(whole[:400])
    with pytest.raises(DataError, match="more than the 100 MB allowed"):
        autoseg.load_model(flat, max_memory="100MB", **ON_CPU).predict(tmp_path / "a.nii")


def test_the_image_read_is_the_image_in_the_file(flat, tmp_path):
    write_image(tmp_path / "a.nii.gz", toy_case(0)[0])
    model = autoseg.load_model(flat, **ON_CPU)
    expected = model.predict(read_image([tmp_path / "a.nii.gz"]))
    np.testing.assert_array_equal(model.predict(tmp_path / "a.nii.gz").array, expected.array)
