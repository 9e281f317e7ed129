import json

import numpy as np
import pytest
from conftest import toy_case
from random_models import finish_fold, untrained_task

from autoseg.core.selection import CleanUp
from autoseg.errors import ArtifactError
from autoseg.networks import precision
from autoseg.predict.loading import PredictOptions, load_predictor, load_segmenter

ON_CPU = PredictOptions(device="cpu", precision="float32")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Every probe takes as long as any other, and no time."""
    monkeypatch.setattr(precision, "_seconds", lambda step: 1.0)


@pytest.fixture(scope="module")
def task(toy, tmp_path_factory):
    task = untrained_task(toy, tmp_path_factory.mktemp("loading"))
    for seed, (configuration, fold) in enumerate(
        [("2d", "fold0"), ("2d", "fold1"), ("3d_fullres", "fold0")]
    ):
        finish_fold(task, configuration, fold, seed=seed)
    return task


def bundle_of(task, configuration="2d", fold="fold0"):
    return task.fold_folder("default", configuration, "default", fold).bundle


def edited(bundle, change):
    """The same model elsewhere, with another content."""
    content = json.loads(bundle.read_text())
    change(content)
    other = bundle.with_name("other.json")
    other.write_text(json.dumps(content))
    return other


def test_folds_are_one_predictor_and_configurations_are_several(task):
    groups = [[bundle_of(task), bundle_of(task, fold="fold1")], [bundle_of(task, "3d_fullres")]]
    segmenter = load_segmenter(groups, ON_CPU)
    assert [len(one.networks) for one in segmenter.predictors] == [2, 1]
    assert segmenter.channels == ("MRI",)
    assert segmenter.value_range == (0, 2)
    image, _ = toy_case(1)
    found = segmenter.segment(image)
    assert set(np.unique(found.array)) <= {0, 1, 2}
    assert found.geometry == image.geometry


def test_identity_tells_members_and_clean_up_apart(task):
    flat, full = [bundle_of(task)], [bundle_of(task, "3d_fullres")]
    rule = CleanUp(structure="core", largest_only=True)
    loaded = [
        load_segmenter([flat], ON_CPU),
        load_segmenter([flat, full], ON_CPU),
        load_segmenter([flat], ON_CPU, [rule]),
        load_segmenter([flat], ON_CPU, [rule.model_copy(update={"smallest_ml": 0.5})]),
    ]
    identities = {segmenter.identity for segmenter in loaded}
    assert len(identities) == len(loaded)
    assert load_predictor(flat, ON_CPU).identity in identities


def test_models_with_other_labels_do_not_predict_together(task):
    def rename(content):
        content["labels"]["structures"][0]["name"] = "kernel"

    other = edited(bundle_of(task, "3d_fullres"), rename)
    with pytest.raises(ArtifactError, match=r"other\.json: has other labels than .*bundle\.json, "):
        load_segmenter([[bundle_of(task)], [other]], ON_CPU)


def test_models_with_other_channels_do_not_predict_together(task):
    def rename(content):
        content["plan"]["channels"] = ["CT"]

    other = edited(bundle_of(task, "3d_fullres"), rename)
    with pytest.raises(ArtifactError, match=r"has other channels than .*; choose models of one"):
        load_segmenter([[bundle_of(task)], [other]], ON_CPU)


def test_clean_up_of_an_unknown_structure_is_refused(task):
    rule = CleanUp(structure="kidney", largest_only=True)
    with pytest.raises(ArtifactError, match="clean_up: the model has no structure 'kidney'"):
        load_segmenter([[bundle_of(task)]], ON_CPU, [rule])
