import json
import logging
from pathlib import Path

import numpy as np
import pytest

from autoseg.core.dataset import Case, Dataset
from autoseg.core.geometry import Geometry
from autoseg.core.image import LabelMap
from autoseg.core.labels import LabelSpace, Structure
from autoseg.evaluate.pairs import Pair, with_annotated
from autoseg.evaluate.stage import evaluate_folders, evaluate_pairs
from autoseg.io.images import write_labels

LABELS = LabelSpace(
    structures=(Structure(name="liver", values=(1,)), Structure(name="kidney", values=(2,)))
)
GEOMETRY = Geometry(
    shape=(4, 6, 5),
    spacing=(3.0, 1.0, 1.5),
    origin=(-7.0, 2.0, 11.0),
    direction=((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
)


def write(path, *boxes):
    """A label map of boxes ``(value, slices of z)``, on a part of y and x."""
    array = np.zeros(GEOMETRY.shape, dtype=np.uint8)
    for value, planes in boxes:
        array[planes, 1:3, 2:5] = value
    write_labels(path, LabelMap(array=array, geometry=GEOMETRY))
    return path


@pytest.fixture
def pair(tmp_path):
    """Kidney where the reference, annotated for the liver only, has background or liver."""
    prediction = write(
        tmp_path / "p" / "a.nii.gz", (1, slice(0, 1)), (2, slice(1, 2)), (2, slice(3, 4))
    )
    reference = write(tmp_path / "r" / "a.nii.gz", (1, slice(0, 2)))
    return Pair(name="a", prediction=prediction, reference=reference, annotated=("liver",))


def dataset(tmp_path, annotated=("liver",), label="r/a.nii.gz"):
    case = Case(name="a", images=(Path("i"),), label=Path(label), annotated=annotated)
    return Dataset(
        name="Joined",
        root=tmp_path,
        layout="table",
        channels=("CT",),
        labels=LABELS,
        cases=(case,),
    )


def test_what_is_not_annotated_has_no_score_and_is_listed(pair, tmp_path):
    report = evaluate_pairs([pair], LABELS, tmp_path / "report.json", workers=0)
    (case,) = report.cases
    assert set(case.structures) == {"liver"}
    assert case.not_annotated == ("kidney",)
    assert report.mean_dice("kidney") is None
    written = json.loads((tmp_path / "report.json").read_text())
    assert written["structures"] == ["liver", "kidney"]
    assert written["cases"][0]["not_annotated"] == ["kidney"]


def test_predicted_voxels_of_it_are_nobodys_false_positives(pair, tmp_path):
    (case,) = evaluate_pairs([pair], LABELS, tmp_path / "report.json", workers=0).cases
    liver = case.structures["liver"]
    # A plane is 6 voxels; the kidney predicted on the liver is liver that was missed.
    assert (liver.true_positives, liver.false_positives, liver.false_negatives) == (6, 0, 6)


def test_folders_know_what_label_maps_of_the_task_are_annotated_for(pair, tmp_path):
    known = dataset(tmp_path)
    for must_fit in (True, False):
        report = evaluate_folders(
            tmp_path / "p", tmp_path / "r", LABELS, 0, must_fit=must_fit, dataset=known
        ).report
        assert report.cases[0].not_annotated == ("kidney",)


def test_other_files_count_as_those_of_a_task_only_if_it_is_named(pair, tmp_path, caplog):
    known = dataset(tmp_path, label="elsewhere/a.nii.gz")
    (by_name,) = with_annotated([pair], known, by_name=True)
    assert by_name.annotated == ("liver",)
    assert caplog.messages == []
    with caplog.at_level(logging.WARNING):
        (by_file,) = with_annotated([pair], known, by_name=False)
    assert by_file.annotated is None
    assert caplog.messages == [
        (
            "1 reference is named like a case of Joined that is not annotated for all structures, "
            "but scored in all: --task Joined leaves those structures out"
        )
    ]


def test_other_labels_are_scored_whatever_the_task_is_annotated_for(pair, tmp_path):
    write(tmp_path / "p" / "b.nii.gz", (5, slice(0, 1)))
    write(tmp_path / "r" / "b.nii.gz", (5, slice(0, 1)))
    report = evaluate_folders(
        tmp_path / "p", tmp_path / "r", LABELS, 0, must_fit=False, dataset=dataset(tmp_path)
    ).report
    assert report.structures == ("1", "2", "5")
    assert [case.not_annotated for case in report.cases] == [(), ()]


def test_fully_annotated_cases_are_scored_in_all_structures(pair, tmp_path):
    known = dataset(tmp_path, annotated=None)
    report = evaluate_folders(tmp_path / "p", tmp_path / "r", LABELS, 0, dataset=known).report
    assert set(report.cases[0].structures) == {"liver", "kidney"}
    assert report.cases[0].structures["kidney"].dice == 0.0
