"""From the plan to the scores with overlapping structures, and with little of it annotated."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from overlapping_dataset import (
    IGNORE,
    REGIONS,
    SHELL_AND_CORE,
    completely,
    hold_out_last,
    prepared_task,
    some_slices,
)

from autoseg.core.metrics import Report
from autoseg.io import artifacts, bundle
from autoseg.io.images import read_labels
from autoseg.io.task import load_dataset
from autoseg.networks import precision
from autoseg.pipeline.training import train_and_validate
from autoseg.train.batches import make_batch
from autoseg.train.inputs import TrainingChanges, TrainRequest, load_inputs
from autoseg.train.objective.losses import LOSSES
from autoseg.train.stage import train_fold

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _without_probes(monkeypatch):
    monkeypatch.setattr(precision, "_seconds", lambda step: 1.0)


def request(configuration="2d", **changes):
    length = {"epochs": 2, "steps_per_epoch": 25, "validation_steps": 2}
    learning = {"optimizer": "adam", "learning_rate": 0.01}
    return TrainRequest(
        configuration=configuration,
        fold="fold0",
        device="cpu",
        precision="float32",
        workers=0,
        changes=TrainingChanges(**(length | learning | changes)),
    )


def folder_of(task, configuration="2d"):
    return task.fold_folder("default", configuration, "default", "fold0")


@pytest.mark.parametrize("configuration", ["2d", "3d_fullres"])
@pytest.mark.parametrize(
    ("declared", "annotate"),
    [
        (REGIONS, completely),
        (REGIONS | {"ignore": IGNORE}, some_slices),
        (SHELL_AND_CORE | {"ignore": IGNORE}, some_slices),
    ],
    ids=["regions", "regions of some slices", "classes of some slices"],
)
def test_structures_are_learnt_and_scored(tmp_path, configuration, declared, annotate, caplog):
    task = prepared_task(tmp_path, declared, annotate, configuration)
    hold_out_last(task)
    report = train_and_validate(task, request(configuration))

    assert report is not None
    scores = report.cases[0].structures
    names = [name for name in declared if name not in ("background", "ignore")]
    assert list(scores) == names
    # The core is small, and slices tell less of it: for so short a training, too little in 2D.
    learnt = names if configuration == "3d_fullres" else names[:1]
    assert all(scores[name].dice > 0.5 for name in learnt)
    assert not [record for record in caplog.records if record.levelname == "WARNING"]

    predictions = task.predictions("default", configuration, "default", "fold0")
    found = read_labels(predictions / "ball_5.nii.gz").array
    true = read_labels(load_dataset(task).root / "labelsTr" / "ball_5.nii.gz").array
    assert set(np.unique(found)) == {0, 4, 7}
    for name in names:
        values = declared[name]
        one, other = np.isin(found, values), np.isin(true, values)
        dice = 2 * (one & other).sum() / (one.sum() + other.sum())
        assert scores[name].dice == pytest.approx(dice)


def test_scores_leave_out_what_nobody_annotated(tmp_path):
    task = prepared_task(tmp_path, REGIONS | {"ignore": IGNORE}, some_slices)
    # The held-out cases of the fold as it was dealt are annotated in three slices.
    train_and_validate(task, request(epochs=1, steps_per_epoch=3))
    where = ("default", "2d", "default", "fold0")
    report = artifacts.load(task.report_file(*where), Report)
    case = report.cases[0]
    found = read_labels(task.predictions(*where) / f"{case.name}.nii.gz").array
    true = read_labels(load_dataset(task).root / "labelsTr" / f"{case.name}.nii.gz").array
    annotated = true != IGNORE
    assert 0 < annotated.mean() < 0.4
    score = case.structures["whole"]
    assert score.true_positives == ((found > 0) & np.isin(true, (4, 7))).sum()
    assert score.false_positives == ((found > 0) & (true == 0)).sum()
    assert score.false_negatives == ((found == 0) & np.isin(true, (4, 7))).sum()


def overwritten(image, labels):
    """Whatever nobody annotated looks different."""
    nowhere = labels == IGNORE
    image[nowhere] = np.random.default_rng(7).uniform(500, 900, nowhere.sum()).round()


def short(task):
    assert train_fold(task, request(epochs=1, steps_per_epoch=4))
    return bundle.load_weights(folder_of(task).weights)


@pytest.mark.parametrize("declared", [REGIONS, SHELL_AND_CORE], ids=["regions", "classes"])
def test_slices_that_nobody_annotated_may_look_like_anything(tmp_path, declared):
    """Intensities, sampling and loss take no notice: the weights are the same."""
    sparse = declared | {"ignore": IGNORE}

    def slices(number, labels):
        return some_slices(0, labels)

    one = prepared_task(tmp_path / "one", sparse, slices)
    other = prepared_task(tmp_path / "other", sparse, slices, change=overwritten)
    images = [load_dataset(task).root / "imagesTr" / "ball_0.nii.gz" for task in (one, other)]
    assert images[0].read_bytes() != images[1].read_bytes()
    first, second = short(one), short(other)
    assert all(torch.equal(weight, second[name]) for name, weight in first.items())


def test_slices_that_somebody_annotated_may_not(tmp_path):
    """The test above would notice."""
    sparse = REGIONS | {"ignore": IGNORE}

    def brighter(image, labels):
        image[labels == 4] += 1

    one = prepared_task(tmp_path / "one", sparse, some_slices)
    other = prepared_task(tmp_path / "other", sparse, some_slices, change=brighter)
    first, second = short(one), short(other)
    assert not all(torch.equal(weight, second[name]) for name, weight in first.items())


def test_every_loss_trains_on_regions(tmp_path):
    task = prepared_task(tmp_path, REGIONS | {"ignore": IGNORE}, some_slices)
    for name in LOSSES:
        wanted = request(loss=name, epochs=1, steps_per_epoch=1, validation_steps=1)
        assert train_fold(task, replace(wanted, run=name.replace("_", "-")))


def test_patches_are_centred_on_regions_and_on_what_somebody_annotated(tmp_path):
    task = prepared_task(tmp_path, REGIONS | {"ignore": IGNORE}, some_slices)
    inputs = load_inputs(task, request())
    info = inputs.store.info("ball_0")
    _, labels = inputs.store.read("ball_0", (0, 0, 0), info.shape)
    whole, core = np.isin(labels, (1, 2)).sum(), (labels == 2).sum()
    assert info.position_counts == (whole, core, (labels < 3).sum())
    assert (labels == 3).mean() > 0.5

    points = replace(inputs.batches("validation"), patch_size=(1, 1), batch_size=3)
    drawn = np.stack([make_batch(points, 0, step).labels for step in range(20)])
    assert (drawn < 3).all()
    assert set(drawn[:, 2].ravel()) == {1, 2}
    assert 0 in drawn[:, :2]
