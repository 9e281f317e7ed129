from pathlib import Path

import pytest

from autoseg.check.findings import judge
from autoseg.core.dataset import Case, Dataset, Split
from autoseg.core.fingerprint import (
    CaseFingerprint,
    ChannelRange,
    Fingerprint,
    IntensityStats,
    StructureMeasure,
)
from autoseg.core.labels import LabelSpace, Structure

STATS = IntensityStats(mean=1, median=1, std=1, min=0, max=2, percentile_00_5=0, percentile_99_5=2)
THERE = StructureMeasure(centroid=(0, 0, 0), means=(1.0,), stds=(1.0,))
MR = ChannelRange(min=0, max=800, is_whole=True)
HU = ChannelRange(min=-1024, max=1800, is_whole=True)


def measured(number, **changes):
    """Case ``liver_<number>``, sound and unlike all others."""
    fields = {
        "name": f"liver_{number}",
        "shape": (30, 200, 200),
        "spacing": (3.0, 0.8, 0.8),
        "relative_size": 1.0,
        "label_voxels": (10, 10),
        "original_shape": (30, 200, 200),
        "orientation": "SPL",
        "channels": (MR,),
        "structures": (THERE, THERE),
        "files": (),
        "content": f"{number:016d}",
    }
    return CaseFingerprint(**{**fields, **changes})


def dataset_of(cases, *, channels=("MRI",), names=("liver", "tumour"), groups=None, folds=None):
    structures = tuple(Structure(name=name, values=(value,)) for value, name in enumerate(names, 1))
    return Dataset(
        name="Task",
        root=Path("/raw"),
        layout="table",
        channels=channels,
        labels=LabelSpace(structures=structures),
        cases=tuple(
            Case(
                name=case.name,
                images=tuple(Path("i", f"{case.name}_{c}.nii.gz") for c in range(len(channels))),
                label=Path("l", f"{case.name}.nii.gz"),
                group=(groups or {}).get(case.name),
            )
            for case in cases
        ),
        folds=folds,
    )


def found(cases, **about):
    dataset = dataset_of(cases, **about)
    fingerprint = Fingerprint(
        label_values=dataset.labels.values,
        cases=tuple(cases),
        intensities=(STATS,) * len(dataset.channels),
    )
    return judge(dataset, fingerprint)


def words(problems):
    return [(problem.kind, problem.case, problem.finding) for problem in problems]


def sound(count=10, **changes):
    return [measured(number, **changes) for number in range(count)]


def test_sound_cases_have_no_problem():
    assert found(sound()) == ()


def test_a_label_map_without_structures_is_told_with_its_file():
    cases = [*sound(), measured(10, structures=(None, None))]
    (problem,) = found(cases)
    assert (problem.kind, problem.case) == ("empty-label", "liver_10")
    assert problem.file == Path("/raw/l/liver_10.nii.gz")


def test_a_case_whose_label_map_cannot_be_used_is_not_empty():
    assert found([*sound(), measured(10, structures=(), label_voxels=())]) == ()


def test_an_impossible_spacing_is_an_error_and_no_outlier():
    cases = [*sound(), measured(10, spacing=(0.001, 0.001, 0.001))]
    (problem,) = found(cases)
    assert (problem.kind, problem.case, problem.is_error) == ("spacing", "liver_10", True)


@pytest.mark.parametrize("mm", [0.5, 20.0])
def test_a_spacing_far_from_the_others_is_told(mm):
    cases = [*sound(), measured(10, spacing=(mm, 0.8, 0.8))]
    assert words(found(cases)) == [
        (
            "spacing-outlier",
            "liver_10",
            f"{mm:g} mm from head to feet, the median of all cases is 3 mm",
        )
    ]


def test_a_spacing_within_a_factor_of_five_is_usual():
    assert found([*sound(), measured(10, spacing=(14.0, 0.8, 0.8))]) == ()


def test_the_true_spread_of_a_data_set_is_no_outlier():
    slices = [0.5, 0.5, 0.75, 1.0, 1.0, 1.25, 2.0, 2.5, 3.0, 3.0, 3.0, 5.0, 5.0, 5.0]
    assert found([measured(i, spacing=(mm, 0.8, 0.8)) for i, mm in enumerate(slices)]) == ()


def test_few_cases_have_no_usual_spacing():
    assert found([*sound(3), measured(3, spacing=(20.0, 0.8, 0.8))]) == ()


def test_spacing_is_compared_along_the_same_direction_of_the_patient():
    turned = measured(10, orientation="LPS", spacing=(0.8, 0.8, 3.0))
    assert [problem.kind for problem in found([*sound(), turned])] == ["axis-order"]


def test_an_orientation_unlike_the_others_is_told():
    assert words(found([*sound(), measured(10, orientation="IAR")])) == [
        (
            "axis-order",
            "liver_10",
            "axes z, y, x point to I, A, R; in 10 of 11 cases to S, P, L",
        )
    ]


def test_one_image_under_two_names_is_told_of_all_but_the_first():
    cases = [*sound(), measured(10, content=f"{3:016d}"), measured(11, content=f"{3:016d}")]
    assert words(found(cases)) == [
        ("duplicate", "liver_10", "the same voxels as liver_3"),
        ("duplicate", "liver_11", "the same voxels as liver_3"),
    ]


def test_constant_channels_are_told_and_are_no_duplicates():
    flat = ChannelRange(min=7, max=7, is_whole=True)
    cases = [*sound(), *(measured(n, channels=(flat,), content="0" * 16) for n in (20, 21))]
    assert words(found(cases)) == [
        ("constant-channel", f"liver_{n}", "every voxel of MRI is 7") for n in (20, 21)
    ]


def test_the_file_of_the_channel_is_named():
    flat = ChannelRange(min=7, max=7, is_whole=True)
    cases = [*sound(5, channels=(MR, MR)), measured(5, channels=(MR, flat))]
    (problem,) = found(cases, channels=("T1", "T2"))
    assert problem.file == Path("/raw/i/liver_5_1.nii.gz")


def test_a_ct_whose_values_are_not_hu_is_told():
    grey = ChannelRange(min=0, max=255, is_whole=True)
    cases = [*sound(channels=(HU,)), measured(10, channels=(grey,))]
    assert words(found(cases, channels=("CT",))) == [("not-ct", "liver_10", "values 0 to 255")]


def test_a_channel_of_another_name_with_hu_is_told_once():
    cases = [*sound(channels=(HU,)), measured(10)]
    assert words(found(cases, channels=("image",))) == [
        ("maybe-ct", None, "channel 'image': in 10 of 11 cases")
    ]


def test_structures_on_two_sides_are_told():
    assert words(found(sound(), names=("left lung", "right lung"))) == [
        ("sides", None, "'left lung' and 'right lung'")
    ]


def test_patients_with_several_cases_are_told_unless_they_have_a_group():
    names = ["sub-01_ses-1", "sub-01_ses-2", "sub-02_ses-1"]
    cases = [measured(i, name=name) for i, name in enumerate(names)]
    assert words(found(cases)) == [
        ("patient", None, "sub-01 has 2 cases by name: sub-01_ses-1, sub-01_ses-2")
    ]
    assert found(cases, groups=dict.fromkeys(names, "sub-01")) == ()


def test_patients_in_the_headers_are_told_by_their_cases_only():
    cases = [measured(n, patient="a1b2" if n in (2, 7) else f"{n}") for n in range(10)]
    assert words(found(cases)) == [
        ("patient", None, "2 cases have one PatientID: liver_2, liver_7")
    ]


def test_a_patient_known_by_name_and_header_is_told_once():
    names = ["sub-01_ses-1", "sub-01_ses-2", "sub-02_ses-1"]
    cases = [measured(i, name=name, patient=name[:6]) for i, name in enumerate(names)]
    assert [problem.kind for problem in found(cases)] == ["patient"]


def test_a_structure_in_fewer_cases_than_folds_is_told_with_its_cases():
    cases = [measured(n, structures=(THERE, THERE if n < 4 else None)) for n in range(10)]
    assert words(found(cases)) == [
        (
            "rare-structure",
            None,
            "'tumour' is in 4 of 10 cases: liver_0, liver_1, liver_2, liver_3",
        )
    ]


def test_as_many_cases_as_folds_are_enough():
    cases = [measured(n, structures=(THERE, THERE if n < 5 else None)) for n in range(10)]
    assert found(cases) == ()
    assert found(sound(3)) == ()
    names = [case.name for case in cases]
    two = tuple(
        Split(train=tuple(names[i::2]), validation=tuple(names[1 - i :: 2])) for i in (0, 1)
    )
    rare = [measured(n, structures=(THERE, THERE if n < 2 else None)) for n in range(10)]
    assert found(rare, folds=two) == ()


def test_label_maps_that_cannot_be_used_may_hold_what_is_rare():
    cases = [measured(n, structures=(THERE, THERE if n < 4 else None)) for n in range(9)]
    assert found([*cases, measured(9, structures=(), label_voxels=())]) == ()


def test_a_structure_nobody_has_is_told_separately():
    assert words(found(sound(structures=(THERE, None)))) == [
        ("absent-structure", None, "'tumour' (label 2) is in none of 10 label maps")
    ]


def test_a_data_set_without_any_structure_is_an_error():
    problems = found(sound(structures=(None, None)))
    assert [problem.kind for problem in problems] == ["empty-label"] * 10 + ["nothing-labelled"]
    assert problems[-1].is_error


def test_a_data_set_without_a_case_is_an_error():
    (problem,) = judge(dataset_of([]), None)
    assert (problem.kind, problem.finding) == ("nothing-labelled", "no case is left")


def test_nothing_is_judged_where_no_image_could_be_read():
    assert judge(dataset_of(sound()), None) == ()
