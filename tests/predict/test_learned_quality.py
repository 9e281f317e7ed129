import logging
import os
import shutil

import numpy as np
import pytest
from random_models import finish_fold, untrained_task

from autoseg.core.metrics import CaseScores, Report, Scores
from autoseg.core.quality import Signals
from autoseg.io import artifacts, bundle
from autoseg.pipeline.quality import learn_quality, scored_cases
from autoseg.pipeline.training import train_and_validate, validate
from autoseg.predict.record import (
    CaseHints,
    CaseRecord,
    PredictionRecord,
    StructureHints,
    load_record,
    save_record,
)
from autoseg.train.inputs import TrainingChanges, TrainRequest

REQUEST = TrainRequest(
    configuration="2d",
    fold="fold0",
    changes=TrainingChanges(epochs=1, steps_per_epoch=2, validation_steps=1),
    device="cpu",
    precision="float32",
    workers=0,
)


def scores(dice: float | None) -> Scores:
    return Scores(true_positives=1, false_positives=1, false_negatives=1, dice=dice, iou=None)


def report_of(cases: dict[str, float | None], groups: dict[str, str] | None = None) -> Report:
    return Report(
        predictions="there",
        references="here",
        structures=("shell", "core"),
        cases=tuple(
            CaseScores(
                name=name,
                structures={"shell": scores(dice), "core": scores(None)},
                group=(groups or {}).get(name),
            )
            for name, dice in cases.items()
        ),
    )


def noted(expected: float) -> CaseRecord:
    one = StructureHints(num_voxels=9, num_components=1, signals=(Signals(expected=expected),))
    return CaseRecord(source="0f", hints=CaseHints(structures={"shell": one, "core": one}))


@pytest.fixture
def fold(toy, tmp_path):
    return finish_fold(untrained_task(toy, tmp_path), "2d")


def case_files(count: int) -> tuple[Report, dict[str, CaseRecord]]:
    signals = np.linspace(0.7, 0.95, count)
    names = [f"case {number}" for number in range(count)]
    report = report_of(dict(zip(names, (signals - 0.1).tolist(), strict=True)))
    return report, {n: noted(s) for n, s in zip(names, signals.tolist(), strict=True)}


def test_what_was_learned_is_kept_in_the_model_and_beside_the_label_maps(fold, tmp_path, caplog):
    report, record = case_files(20)
    save_record(tmp_path, record)
    with caplog.at_level(logging.INFO, logger="autoseg"):
        learn_quality(fold, report, tmp_path)
    quality = bundle.load_model(fold.bundle).quality
    assert quality.mean.pearson > 0.95
    assert quality.structures["core"].calibrations == ()
    noted_now = load_record(tmp_path).cases["case 19"].hints
    assert noted_now.structures["shell"].predicted_dice == pytest.approx(0.85, abs=0.05)
    assert noted_now.structures["core"].predicted_dice is None
    first, shell, core = caplog.messages
    assert first.startswith(
        "predicted Dice, learned from 10 held-out cases, checked on 10 others: correlation 0.9"
    )
    assert "of ranks 1.00, mean error 0.0" in first
    assert shell.startswith("  shell: correlation 0.9")
    assert core == "no predicted Dice for core: found in too few of the held-out cases"


def test_with_too_few_cases_it_is_said_why_there_is_none(fold, tmp_path, caplog):
    report, record = case_files(1)
    save_record(tmp_path, record)
    before = fold.bundle.stat().st_mtime_ns
    with caplog.at_level(logging.INFO, logger="autoseg"):
        learn_quality(fold, report, tmp_path)
    assert caplog.messages == [
        "no predicted Dice: it takes 5 held-out cases to learn and check it, there is 1"
    ]
    assert bundle.load_model(fold.bundle).quality is None
    assert fold.bundle.stat().st_mtime_ns == before


def test_with_few_cases_no_correlation_is_claimed(fold, tmp_path, caplog):
    report, record = case_files(6)
    save_record(tmp_path, record)
    with caplog.at_level(logging.INFO, logger="autoseg"):
        learn_quality(fold, report, tmp_path)
    assert "checked on 3 others: too few or too much alike for a correlation" in caplog.messages[0]


def test_cases_of_one_patient_alone_cannot_be_checked(fold, tmp_path, caplog):
    report, record = case_files(6)
    twins = report_of({c.name: c.mean_dice for c in report.cases}, dict.fromkeys(record, "twin"))
    save_record(tmp_path, record)
    with caplog.at_level(logging.INFO, logger="autoseg"):
        learn_quality(fold, twins, tmp_path)
    assert caplog.messages[0] == (
        "predicted Dice, learned from 6 held-out cases: not checked, no other cases were held out"
    )


def test_a_calibration_is_forgotten_when_it_cannot_be_learned_any_more(fold, tmp_path):
    report, record = case_files(20)
    save_record(tmp_path, record)
    learn_quality(fold, report, tmp_path)
    save_record(tmp_path, {})
    learn_quality(fold, report, tmp_path)
    assert bundle.load_model(fold.bundle).quality is None


def test_cases_without_signals_or_dice_are_left_out():
    report = report_of({"a": 0.5, "b": 0.6, "c": None, "d": 0.7}, {"a": "patient"})
    record = PredictionRecord(
        cases={"a": noted(0.9), "b": CaseRecord(source="0f"), "c": noted(0.8)}
    )
    first, second = scored_cases(report, record)
    assert (first.group, second.group) == ("patient", "c")
    assert (first.dice, second.dice) == ({"shell": 0.5}, {})
    assert first.signals["shell"].expected == 0.9


@pytest.mark.slow
def test_a_trained_fold_is_scored_once_although_its_model_file_changes_after(toy, tmp_path, caplog):
    task = untrained_task(toy, tmp_path)
    shutil.rmtree(task.root)
    shutil.copytree(toy.task.root, task.root)
    with caplog.at_level(logging.INFO, logger="autoseg"):
        report = train_and_validate(task, REQUEST)
    assert any(line.startswith("no predicted Dice: it takes 5") for line in caplog.messages)
    where = ("default", "2d", "default", "fold0")
    folder, file = task.fold_folder(*where), task.report_file(*where)
    later = file.stat().st_mtime_ns + 10**9
    os.utime(folder.bundle, ns=(later, later))
    artifacts.save(file, report.model_copy(update={"predictions": "marked"}))
    os.utime(file, ns=(later - 1, later - 1))
    assert validate(task, REQUEST).predictions == "marked"
    hints = load_record(task.predictions(*where)).cases
    assert all(one.hints.structures["shell"].signals for one in hints.values())
