from pathlib import Path

import pytest

from autoseg.check.findings import judge
from autoseg.check.mend import parse_mends
from autoseg.core.dataset import Case, Dataset
from autoseg.core.fingerprint import CaseFingerprint, Fingerprint, StructureMeasure
from autoseg.core.labels import LabelSpace, Structure

THERE = StructureMeasure(centroid=(0, 0, 0), means=(1.0,), stds=(1.0,))
ORGANS = LabelSpace(
    structures=(Structure(name="liver", values=(7,)), Structure(name="kidney", values=(3,)))
)
REGIONS = LabelSpace(
    structures=(Structure(name="whole", values=(1, 2)), Structure(name="core", values=(2,))),
    output_values=(1, 2),
)
KIDNEY, LIVER = 1, 2


def found(*cases, labels=ORGANS):
    """Judge cases given as (what is annotated, indices in the label map)."""
    names = [f"case_{number}" for number in range(len(cases))]
    dataset = Dataset(
        name="T",
        root=Path("/raw"),
        layout="table",
        channels=(),
        labels=labels,
        cases=tuple(
            Case(name=name, images=(Path("i"),), label=Path(f"{name}.nii"), annotated=annotated)
            for name, (annotated, _) in zip(names, cases, strict=True)
        ),
    )
    measured = tuple(
        CaseFingerprint(
            name=name,
            shape=(30, 200, 200),
            spacing=(3.0, 0.8, 0.8),
            relative_size=1.0,
            label_voxels=(),
            original_shape=(30, 200, 200),
            orientation="SPL",
            channels=(),
            structures=tuple(THERE if index in indices else None for index in (1, 2)),
            files=(),
        )
        for name, (_, indices) in zip(names, cases, strict=True)
    )
    judged = judge(dataset, Fingerprint(label_values=(), cases=measured, intensities=()))
    return [(problem.kind, problem.case, problem.finding) for problem in judged]


BOTH = (None, {LIVER, KIDNEY})


def test_partly_annotated_cases_are_no_problem():
    assert found(*[BOTH] * 3, *[(("liver",), {LIVER})] * 3, *[(("kidney",), {KIDNEY})] * 3) == []


def test_a_structure_that_its_case_is_not_annotated_for_is_an_error():
    assert found(*[BOTH] * 5, (("liver",), {LIVER, KIDNEY})) == [
        ("unannotated-structure", "case_5", "'kidney' (label 3); annotated: 'liver'")
    ]


def test_a_region_may_be_there_as_part_of_an_annotated_one():
    whole = (("whole",), {1, 2})
    assert found(*[BOTH] * 5, whole, labels=REGIONS) == []
    assert found(*[BOTH] * 5, (("core",), {1, 2}), labels=REGIONS) == [
        ("unannotated-structure", "case_5", "'whole' (label 1); annotated: 'core'")
    ]


def test_a_structure_that_no_case_is_annotated_for_is_an_error_and_not_absent():
    assert found(*[(("liver",), {LIVER})] * 6) == [
        ("never-annotated", None, "'kidney' is annotated in none of 6 cases")
    ]


def test_a_structure_is_rare_among_the_cases_annotated_for_it():
    liver_only = [(("liver",), {LIVER})] * 5
    assert found(*liver_only, *[BOTH] * 2, (None, {LIVER})) == [
        (
            "rare-structure",
            None,
            "'kidney' is in 2 of 3 cases annotated for it: case_5, case_6",
        )
    ]


def test_a_structure_is_absent_from_the_cases_annotated_for_it():
    assert found(*[(("liver",), {LIVER})] * 5, *[(None, {LIVER})] * 2) == [
        (
            "absent-structure",
            None,
            "'kidney' (label 3) is in none of 2 label maps annotated for it",
        )
    ]


@pytest.mark.parametrize("text", ["labels=3:0", "unannotated-structure=leave-out"])
def test_two_mends_are_for_structures_that_should_not_be_there(text):
    (mend,) = parse_mends([text])
    assert "unannotated-structure" in mend.kinds
