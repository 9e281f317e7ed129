import logging
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import toy_case

from autoseg.core.image import Image
from autoseg.core.plan import Plan
from autoseg.core.selection import CleanUp
from autoseg.errors import DataError
from autoseg.imaging.restore import restore_probabilities
from autoseg.io import artifacts
from autoseg.io.task import load_dataset
from autoseg.networks.precision import Precision
from autoseg.networks.sliding_window import predict_logits
from autoseg.predict.predictor import Predictor
from autoseg.predict.segmenter import ProbabilitySlabs, Segmenter, _averaged, indices_of
from autoseg.predict.uncertain import UncertaintyMap


class Threshold(torch.nn.Module):
    """Classes by normalized intensity, as a network would give them."""

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.limits = (low, high)

    def forward(self, image):
        low, high = self.limits
        return torch.cat([torch.zeros_like(image), image - low, 2 * image - low - high], dim=1)


def predictor_of(toy, configuration: str, low=0.5, high=2.5, **changes) -> Predictor:
    plan = artifacts.load(toy.task.plan_file("default"), Plan)
    fields = {
        "identity": f"{configuration} {low} {high}",
        "networks": [Threshold(low, high)],
        "configuration": plan.configurations[configuration],
        "recipe": plan.recipe(configuration),
        "labels": load_dataset(toy.task).labels,
        "mirror_axes": (),
        "device": torch.device("cpu"),
        "precision": Precision(dtype="float32", channels_last=False),
    }
    return Predictor(**(fields | changes))


def framed(number: int) -> Image:
    """A toy case with zeros around it."""
    image, _ = toy_case(number)
    array = image.array.copy()
    array[:, :1] = array[:, :, -3:] = array[..., :2] = 0
    return Image(array=array, geometry=image.geometry)


def probabilities_of(predictor: Predictor, image: Image) -> np.ndarray:
    """As a whole, the other way: all logits, then all probabilities."""
    ready = predictor.ready(image)
    window = predictor._window()
    tensor = torch.from_numpy(ready.prepared.image)
    logits = sum(predict_logits(n, tensor, window) for n in predictor.networks).numpy()
    logits = logits / len(predictor.networks)
    return restore_probabilities([logits], ready.prepared.trace, predictor.labels)


def gathered(segmenter: Segmenter, image: Image) -> tuple[np.ndarray, int]:
    slabs = segmenter.probability_slabs(image)
    found = np.full((segmenter.labels.num_outputs, *image.geometry.shape), np.nan)
    for rows, slab in slabs:
        assert slab.dtype == np.float32
        np.moveaxis(found, slabs.axis + 1, 1)[:, rows] = slab
    return found, slabs.axis


def test_one_predictor_segments_as_it_does_alone(toy):
    predictor = predictor_of(toy, "3d_fullres")
    image = framed(1)
    one = Segmenter(predictors=(predictor,))
    np.testing.assert_array_equal(one.segment(image).array, predictor.segment(image).array)
    assert one.identity == predictor.identity


def test_an_ensemble_averages_probabilities_on_the_grid_of_the_image(toy):
    members = (predictor_of(toy, "2d", 0.2, 1.0), predictor_of(toy, "3d_fullres", 1.5, 3.0))
    image = framed(2)
    expected = np.mean([probabilities_of(one, image) for one in members], axis=0)
    ensemble = Segmenter(predictors=members)

    found, axis = gathered(ensemble, image)

    assert axis == members[0].recipe.transpose[0]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    segmented = ensemble.segment(image)
    assert segmented.geometry == image.geometry
    differs = segmented.array != expected.argmax(axis=0)
    ties = np.sort(expected, axis=0)
    assert (ties[-1] - ties[-2])[differs].max(initial=0) < 1e-5


def test_members_without_a_common_axis_are_right_too_and_one_is_held(toy, caplog):
    flat = predictor_of(toy, "2d", 0.2, 1.0)
    turned = (flat.recipe.transpose[1], flat.recipe.transpose[0], flat.recipe.transpose[2])
    other = replace(flat, recipe=flat.recipe.model_copy(update={"transpose": turned}))
    full = predictor_of(toy, "3d_fullres", 1.5, 3.0)
    image = framed(0)
    members = (flat, other, full)
    expected = np.mean([probabilities_of(one, image) for one in members], axis=0)
    with caplog.at_level(logging.INFO):
        found, _ = gathered(Segmenter(predictors=members), image)
    np.testing.assert_allclose(found, expected, atol=5e-4)
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith(
        "a 2d model is worked off along another axis than the rest: its probabilities are held "
        "in main memory ("
    )


def test_slices_across_another_axis_are_not_held_for_the_sake_of_probabilities(toy, caplog):
    flat = predictor_of(toy, "2d", 0.2, 1.0)
    turned = flat.recipe.model_copy(update={"transpose": (1, 0, 2)})
    flat = replace(flat, recipe=turned)
    members = (flat, predictor_of(toy, "3d_fullres", 1.5, 3.0))
    for some in (members[:1], members):
        segmenter = Segmenter(predictors=some)
        with caplog.at_level(logging.INFO):
            begun = segmenter.begin(segmenter.ready(framed(0)), axis=0)
            slabs = begun.probabilities(begun.parts)
            assert slabs.axis == begun.axis == 1
            assert sum(slab.shape[1] for _, slab in slabs) == framed(0).geometry.shape[1]
    assert caplog.records == []


def passing(number: int, low: float):
    """Slabs, none of which may be kept by anybody when the next is made."""
    for row in range(number):
        slab = np.full((3, 1, 4, 5), low + row, dtype=np.float32)
        known = weakref.ref(slab)
        yield slice(row, row + 1), slab
        del slab
        assert known() is None


def test_slabs_are_let_go_of_before_the_next_are_made(toy):
    members = [passing(3, 0.0), passing(3, 1.0), passing(3, 5.0)]
    doubts = UncertaintyMap((3, 4, 5), 0, has_regions=False)
    slabs = ProbabilitySlabs(axis=0, slabs=doubts.watch(_averaged(members)))
    found = indices_of(slabs, (3, 4, 5), load_dataset(toy.task).labels)
    assert found.shape == (3, 4, 5)


def test_members_of_one_recipe_share_the_prepared_image(toy):
    low, high = predictor_of(toy, "3d_fullres"), predictor_of(toy, "3d_fullres", 1.0)
    ready = Segmenter(predictors=(low, high, predictor_of(toy, "2d"))).ready(framed(0))
    first, second, third = ready.inputs
    assert first is second
    assert third is not first


def test_what_is_segmented_is_cleaned_up(toy):
    predictor = predictor_of(toy, "3d_fullres")
    image, labels = toy_case(1)
    array = image.array.copy()
    array[0, 0, 0, :2] = array.max()
    spotted = Image(array=array, geometry=image.geometry)
    rules = tuple(CleanUp(structure=name, largest_only=True) for name in ("shell", "core"))
    cleaned = Segmenter(predictors=(predictor,), clean_up=rules)
    assert predictor.segment(spotted).array[0, 0, :2].all()
    assert not cleaned.segment(spotted).array[0, 0, :2].any()
    assert cleaned.identity != predictor.identity
    assert labels.array.any()


def test_regions_of_an_ensemble_are_averaged_each_by_itself(toy):
    labels = load_dataset(toy.task).labels
    whole, core = labels.structures
    whole = whole.model_copy(update={"values": (1, 2)})
    regions = labels.model_copy(update={"structures": (whole, core), "output_values": (1, 2)})

    class Pair(Threshold):
        def forward(self, image):
            return torch.cat([3 * (image - limit) for limit in self.limits], dim=1)

    members = tuple(
        predictor_of(toy, name, labels=regions, networks=[Pair(low, low + 1)])
        for name, low in (("2d", 0.2), ("3d_fullres", 1.5))
    )
    image = framed(1)
    expected = np.mean([probabilities_of(one, image) for one in members], axis=0)
    assert np.abs(expected.sum(axis=0) - 1).max() > 0.5
    found = Segmenter(predictors=members).segment(image).array
    written = np.where(expected[1] > 0.5, 2, np.where(expected[0] > 0.5, 1, 0))
    near = np.abs(expected - 0.5).min(axis=0) < 1e-5
    np.testing.assert_array_equal(found[~near], written[~near])


def test_progress_counts_the_tiles_of_all_members(toy):
    members = (predictor_of(toy, "2d"), predictor_of(toy, "3d_fullres"))
    told = []
    Segmenter(predictors=members).segment(
        framed(0), lambda done, total, *_, **__: told.append((done, total))
    )
    alone = []
    for one in members:
        last = []
        one.segment(framed(0), lambda done, total, *_, last=last, **__: last.append(total))
        alone.append(last[-1])
    assert told[-1] == (sum(alone), sum(alone))


def test_an_image_with_other_channels_is_refused(toy):
    image = framed(0)
    double = Image(array=np.concatenate([image.array] * 2), geometry=image.geometry)
    with pytest.raises(DataError, match="has 2 channels, the model needs 1: MRI"):
        Segmenter(predictors=(predictor_of(toy, "2d"),)).probability_slabs(double)


def test_an_image_that_takes_too_much_memory_is_refused_before_it_is_prepared(toy, monkeypatch):
    predictor = predictor_of(toy, "2d")
    monkeypatch.setattr(Predictor, "ready", None)
    limited = Segmenter(predictors=(predictor,), max_memory_bytes=10**8)
    with pytest.raises(DataError, match="more than the 100 MB allowed"):
        limited.segment(framed(0))
