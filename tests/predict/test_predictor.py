from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import toy_case

from autoseg.core.image import Image
from autoseg.core.plan import Plan
from autoseg.errors import DataError
from autoseg.imaging.restore import restore_labels
from autoseg.io import artifacts
from autoseg.io.task import load_dataset
from autoseg.networks.precision import Precision
from autoseg.predict import predictor as predictor_module
from autoseg.predict.predictor import Predictor


class Threshold(torch.nn.Module):
    """Classes by normalized intensity, as a network would give them."""

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.limits = (low, high)

    def forward(self, image):
        low, high = self.limits
        return torch.cat([torch.zeros_like(image), image - low, 2 * image - low - high], dim=1)


@pytest.fixture(params=["3d_fullres", "2d"])
def predictor(toy, request) -> Predictor:
    plan = artifacts.load(toy.task.plan_file("default"), Plan)
    return Predictor(
        identity="thresholds",
        networks=[Threshold(0.5, 2.5)],
        configuration=plan.configurations[request.param],
        recipe=plan.recipe(request.param),
        labels=load_dataset(toy.task).labels,
        mirror_axes=(0, 1),
        device=torch.device("cpu"),
        precision=Precision(dtype="float32", channels_last=False),
    )


def test_a_segmentation_lies_on_the_grid_of_its_image(predictor):
    image, labels = toy_case(4)
    found = predictor.segment(image)
    assert found.geometry == image.geometry
    assert found.array.dtype == np.uint8
    overlap = ((found.array > 0) & (labels.array > 0)).sum()
    assert 2 * overlap / ((found.array > 0).sum() + (labels.array > 0).sum()) > 0.8


def test_logits_of_several_networks_are_averaged(predictor):
    image, _ = toy_case(2)
    low, high = Threshold(0.0, 2.0), Threshold(1.0, 3.0)
    both = Predictor(
        **{f: getattr(predictor, f) for f in Predictor.__slots__} | {"networks": [low, high]}
    )
    np.testing.assert_array_equal(both.segment(image).array, predictor.segment(image).array)


def test_an_image_with_other_channels_is_refused_with_their_names(predictor):
    image, _ = toy_case(0)
    double = Image(array=np.concatenate([image.array] * 2), geometry=image.geometry)
    with pytest.raises(DataError, match="has 2 channels, the model needs 1: MRI"):
        predictor.segment(double)


def test_outputs_never_exist_as_a_whole(predictor, monkeypatch):
    seen: list[tuple[int, ...]] = []
    axes: list[int] = []

    def watched(slabs, trace, labels, axis):
        axes.append(axis)

        def pass_on():
            for slab in slabs:
                seen.append(slab.shape)
                yield slab

        return restore_labels(pass_on(), trace, labels, axis)

    monkeypatch.setattr(predictor_module, "restore_labels", watched)
    image, _ = toy_case(1)
    geometry = replace(image.geometry, shape=(image.array.shape[1], image.array.shape[2], 150))
    long = Image(array=np.resize(image.array, (1, *geometry.shape)), geometry=geometry)
    predictor.segment(long)
    patch = predictor.configuration.patch_size
    assert axes == [2 if len(patch) == 3 else 0]
    assert len(seen) > 4
    assert max(shape[1] for shape in seen) <= (patch[2] if len(patch) == 3 else 1)
