from pathlib import Path

import pytest

from autoseg.check.gate import refuse_errors, warnings_of
from autoseg.core.problem import Problem
from autoseg.errors import DataError

ROOT = Path("/raw")


def problem(kind, number=0):
    file = ROOT / "labelsTr" / f"{number}.nii.gz"
    return Problem(kind=kind, finding=f"odd {number}", case=str(number), file=file)


def test_warnings_stop_nothing():
    assert refuse_errors([problem("geometry-slight")], ROOT) is None


def test_a_single_error_is_told_with_what_mends_it():
    with pytest.raises(DataError) as caught:
        refuse_errors([problem("not-finite"), problem("sides")], ROOT)
    assert str(caught.value) == (
        "/raw: labelsTr/0.nii.gz: odd 0; autoseg check TASK --mend voxels=lowest gives them the "
        "image's lowest value"
    )


def test_errors_are_counted_by_kind_in_one_line_and_the_first_is_told():
    errors = [problem("not-finite", 1), problem("shape", 2), problem("not-finite", 3)]
    with pytest.raises(DataError) as caught:
        refuse_errors(errors, ROOT)
    assert str(caught.value) == (
        "/raw: 3 problems: label maps or channels of another shape than their image (1), images "
        "with NaN or infinite voxels (2); the first is labelsTr/2.nii.gz: odd 2; autoseg check "
        "TASK lists all, with what mends each"
    )


def test_warnings_are_a_line_for_each_kind():
    found = [problem("empty-label", 1), problem("sides"), problem("empty-label", 2)]
    empty, sides = warnings_of([*found, problem("shape")], ROOT)
    assert empty == (
        "label maps without any structure: labelsTr/1.nii.gz: odd 1 and 1 more; autoseg check "
        "TASK lists them"
    )
    assert sides == (
        "structures whose names tell left from right: labelsTr/0.nii.gz: odd 0; see the mirror "
        "axes of the plan; autoseg plan TASK --mirror-axes sets them"
    )
