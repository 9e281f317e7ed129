import json
import logging

import numpy as np
import pytest

from autoseg.core.geometry import Geometry
from autoseg.core.image import LabelMap
from autoseg.core.labels import LabelSpace, Structure
from autoseg.core.measures import USUAL
from autoseg.evaluate.pairs import Pair
from autoseg.evaluate.scored import save_nnunet_summary
from autoseg.evaluate.stage import Options, evaluate_folders, score_pairs
from autoseg.io.images import write_labels

IGNORE = 40
LABELS = LabelSpace(
    structures=(Structure(name="liver", values=(10,)), Structure(name="kidney", values=(20,))),
    ignore=IGNORE,
)
GEOMETRY = Geometry(shape=(5, 7, 6), spacing=(3.0, 1.0, 1.5), origin=(-7.0, 2.0, 11.0))


def rated(*boxes):
    """A label map of boxes ``(value, z, y, x)``, later ones over earlier ones."""
    array = np.zeros(GEOMETRY.shape, dtype=np.uint8)
    for value, *where in boxes:
        array[tuple(where)] = value
    return array


MINE = rated(
    (10, slice(1, 4), slice(1, 4), slice(1, 5)),
    (20, 4, slice(4, 7), slice(0, 3)),
    (IGNORE, 1, slice(None), slice(None)),
)
THEIRS = rated(
    (10, slice(1, 4), slice(2, 5), slice(1, 5)),
    (20, 4, slice(4, 7), slice(1, 4)),
    (IGNORE, slice(None), slice(None), 4),
)
UNKNOWN = (MINE == IGNORE) | (THEIRS == IGNORE)


def pair_in(folder, prediction, reference, name="a"):
    paths = [folder / where / f"{name}.nii.gz" for where in ("p", "r")]
    for path, array in zip(paths, (prediction, reference), strict=True):
        write_labels(path, LabelMap(array=array, geometry=GEOMETRY))
    return Pair(name=name, prediction=paths[0], reference=paths[1])


def scored(pair):
    report = score_pairs([pair], LABELS, Options(metrics=USUAL, tolerance=1.0, workers=0))
    return report.cases[0].structures


def test_voxels_that_the_prediction_ignores_are_left_out_of_all_counts(tmp_path):
    found = scored(pair_in(tmp_path, MINE, THEIRS))
    for name, value in (("liver", 10), ("kidney", 20)):
        mine, theirs = ((rater == value) & ~UNKNOWN for rater in (MINE, THEIRS))
        counts = (int((mine & theirs).sum()), int((mine & ~theirs).sum()))
        assert (found[name].true_positives, found[name].false_positives) == counts
        assert found[name].false_negatives == int((theirs & ~mine).sum())
    assert found["liver"].true_positives > 0


def test_which_side_ignores_a_voxel_changes_neither_overlap_nor_distances(tmp_path):
    alike = scored(pair_in(tmp_path, MINE, THEIRS))
    only_theirs = scored(
        pair_in(tmp_path / "other", MINE * (MINE != IGNORE), np.where(UNKNOWN, IGNORE, THEIRS))
    )
    assert alike == only_theirs
    assert alike["liver"].hd95 is not None


def test_predictions_that_ignore_voxels_are_told_in_one_line(tmp_path, caplog):
    pair_in(tmp_path, MINE, THEIRS)
    pair_in(tmp_path, MINE * (MINE != IGNORE), THEIRS, name="b")
    with caplog.at_level(logging.WARNING):
        evaluate_folders(tmp_path / "p", tmp_path / "r", LABELS, 0)
    assert caplog.messages == [
        (
            "1 prediction holds the ignore label, the first is 'a': these voxels are left out of "
            "all scores, as are those of the references"
        )
    ]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_summary_counts_no_voxel_that_either_side_ignores(tmp_path, workers):
    pair_in(tmp_path, MINE, THEIRS)
    report = evaluate_folders(tmp_path / "p", tmp_path / "r", LABELS, workers).report
    save_nnunet_summary(tmp_path / "summary.json", report, LABELS)
    summary = json.loads((tmp_path / "summary.json").read_text())
    liver = summary["metric_per_case"][0]["metrics"]["10"]
    num_known = int(np.count_nonzero(~UNKNOWN))
    assert sum(liver[name] for name in ("TP", "FP", "FN", "TN")) == num_known
