import pytest

from autoseg.core.patients import MOST_NUMBERED_SCANS, patient_of, patients_of


@pytest.mark.parametrize(
    ("name", "patient"),
    [
        ("patient01_scan1", "patient01"),
        ("patient_07_left", "patient_07"),
        ("patient101_frame01", "patient101"),
        ("Subject12-b", "Subject12"),
        ("sub-01_ses-02", "sub-01"),
        ("sub-A03_T1w", "sub-A03"),
        ("BraTS-GLI-00003-000", "BraTS-GLI-00003"),
        ("BraTS19_TCIA01_147_1", "BraTS19_TCIA01_147"),
        ("UPENN-GBM-00001_11", "UPENN-GBM-00001"),
        ("TCGA-02-0006_1996.08.23", "TCGA-02-0006"),
        ("P012_20190304", "P012"),
        ("P012_2019-03-04", "P012"),
        ("ID7_visit_2", "ID7"),
        ("liver_12_slice_034", "liver_12"),
        ("9001104_LEFT", "9001104"),
        ("A0S9V9_sa_ED", "A0S9V9"),
        ("012_baseline", "012"),
        ("study1_img12", "study1"),
        ("12_3", "12"),
    ],
)
def test_what_stands_before_a_visit_is_the_patient(name, patient):
    assert patient_of(name) == patient


@pytest.mark.parametrize(
    "name",
    [
        *("case_00001", "hippocampus_001", "liver_12", "kits_3", "BRATS_001", "la_007"),
        *("BraTS20_Training_001", "LIDC-IDRI-0001", "slice_001", "liver_slice_12", "scan_3"),
        *("case_scan_001", "img_20190304", "T1_001", "2021_004", "prostate_3d_12", "abc", "17"),
        "1.3.6.1.4.1.14519.5.2.1.6279.6001.100225287222365663678666836860",
    ],
)
def test_a_running_number_is_a_case_and_no_scan_of_a_patient(name):
    assert patient_of(name) is None


def test_only_patients_with_several_cases_are_told():
    names = ["patient01_scan1", "patient01_scan2", "patient02_scan1", "patient03"]

    assert patients_of(names) == {"patient01_scan1": "patient01", "patient01_scan2": "patient01"}


def test_two_numbers_are_patient_and_scan_where_patients_differ():
    names = ["BraTS-GLI-00003-000", "BraTS-GLI-00003-001", "BraTS-GLI-00005-000"]

    assert patients_of(names) == dict.fromkeys(names[:2], "BraTS-GLI-00003")


@pytest.mark.parametrize(
    "names",
    [
        [f"LUNG1-{i:03d}" for i in range(5)],
        [f"kits19_{i:05d}" for i in range(5)],
        [f"kits19_scan{i}" for i in range(5)],
        [f"kits19_visit{i}" for i in range(5)],
    ],
)
def test_a_number_in_the_name_of_the_data_set_is_no_patient(names):
    assert patients_of(names) == {}


def test_a_number_that_runs_far_counts_cases():
    few = [f"LUNG{k}-{i:03d}" for k in (1, 2) for i in range(MOST_NUMBERED_SCANS)]

    assert len(patients_of(few)) == len(few)
    assert patients_of([*few, "LUNG1-999"]) == {}


def test_slices_of_a_volume_belong_together_however_many():
    names = [f"vol{k}_slice{i}" for k in (1, 2) for i in range(MOST_NUMBERED_SCANS + 5)]

    found = patients_of(names)

    assert set(found.values()) == {"vol1", "vol2"}
    assert len(found) == len(names)


def test_the_only_patient_is_one_if_a_word_says_so():
    assert patients_of(["sub-01_ses-1", "sub-01_ses-2"]) == {
        "sub-01_ses-1": "sub-01",
        "sub-01_ses-2": "sub-01",
    }


def test_plain_cases_have_no_patients():
    assert patients_of([f"hippocampus_{i:03d}" for i in range(50)]) == {}
