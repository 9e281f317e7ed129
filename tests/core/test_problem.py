from pathlib import Path

import pytest

from autoseg.core.problem import KINDS, Problem, Severity, by_kind, in_words


def problem(kind, finding="wrong", case=None, file=None):
    return Problem(kind=kind, finding=finding, case=case, file=file)


def test_errors_come_before_warnings_and_kinds_in_their_order():
    mixed = ["sides", "geometry", "empty-label", "missing-label", "geometry"]
    grouped = by_kind(problem(kind, str(i)) for i, kind in enumerate(mixed))
    assert list(grouped) == ["missing-label", "geometry", "empty-label", "sides"]
    assert [p.finding for p in grouped["geometry"]] == ["1", "4"]


@pytest.mark.parametrize(
    ("file", "case", "words"),
    [
        (Path("/raw/labelsTr/a.nii.gz"), "a", "labelsTr/a.nii.gz: wrong"),
        (Path("/elsewhere/a.nii.gz"), "a", "/elsewhere/a.nii.gz: wrong"),
        (None, "a", "a: wrong"),
        (None, None, "wrong"),
        (Path("/raw"), None, "wrong"),
    ],
)
def test_a_problem_is_told_with_its_place(file, case, words):
    assert in_words(problem("geometry", case=case, file=file), Path("/raw")) == words


def test_a_kind_that_can_be_left_out_and_stops_planning_says_how():
    for kind, about in KINDS.items():
        mends = "leave-out" in about.remedy or "--mend" in about.remedy
        assert mends or not about.can_leave_out or about.severity is Severity.WARNING, kind
        if "=leave-out" in about.remedy:
            assert f"--mend {kind}=leave-out" in about.remedy
            assert about.can_leave_out
