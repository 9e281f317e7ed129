from pathlib import Path

import pytest
from raw_folders import findings, make_folder, told

from autoseg.core.dataset import Case
from autoseg.io.dataset_folder import find_dataset, survey_dataset

DATA = Path(__file__).parents[3] / "shared" / "data"

OLD = ("flair", "t1", "t1ce", "t2", "seg")
NEW = ("t1n", "t1c", "t2w", "t2f", "seg")


def brats(root: Path, *names: str, ends: tuple[str, ...] = OLD, form: str = "_{}.nii.gz") -> Path:
    files = [f"{name}/{name.split('/')[-1]}{form.format(end)}" for name in names for end in ends]
    return make_folder(root, files)


def values(survey_of: Path) -> dict[str, tuple[int, ...]]:
    return {s.name: s.values for s in find_dataset(survey_of).labels.structures}


# KiTS


def test_a_kits_folder_needs_no_description(tmp_path: Path):
    files = [f"case_0000{i}/{f}.nii.gz" for i in (1, 0) for f in ("imaging", "segmentation")]
    root = make_folder(tmp_path / "KiTS19", [*files, "kits.json", "LICENSE", ".git/x"])

    dataset = find_dataset(root)

    assert dataset.name == "KiTS19"
    assert dataset.layout == "case_folders"
    assert dataset.channels == ("CT",)
    assert values(root) == {"kidney": (1,), "tumour": (2,)}
    assert [case.name for case in dataset.cases] == ["case_00000", "case_00001"]
    assert dataset.cases[0].images == (Path("case_00000/imaging.nii.gz"),)
    assert dataset.cases[0].group is None


def test_a_description_beside_case_folders_overrides_channels_and_labels(tmp_path: Path):
    description = {
        "channels": ["MRI"],
        "labels": {"background": 0, "kidney": 1, "tumour": 2, "cyst": 3},
    }
    files = ["case_00000/imaging.nii.gz", "case_00000/segmentation.nii.gz"]

    dataset = find_dataset(make_folder(tmp_path / "KiTS23", files, description))

    assert dataset.channels == ("MRI",)
    assert dataset.labels.names == ("kidney", "tumour", "cyst")


def test_kits_names_may_have_any_ending_and_an_image_may_be_a_series(tmp_path: Path):
    files = ["a/Imaging.mha", "a/segmentation.nrrd", "b/imaging/1.dcm", "b/segmentation.nii"]

    dataset = find_dataset(make_folder(tmp_path / "X", files))

    assert dataset.cases == (
        Case(name="a", images=(Path("a/Imaging.mha"),), label=Path("a/segmentation.nrrd")),
        Case(name="b", images=(Path("b/imaging"),), label=Path("b/segmentation.nii")),
    )


def test_missing_files_of_case_folders_are_told(tmp_path: Path):
    files = ["case_1/segmentation.nii.gz", "case_2/imaging.mha", "case_3/x.txt", "other/y.txt"]
    root = make_folder(tmp_path / "KiTS", files)

    survey = survey_dataset(root)

    assert told(survey, root) == [
        ("missing-label", "case_2", "case_2/segmentation.nii.gz", "missing"),
        ("missing-label", "case_3", "case_3/segmentation.nii.gz", "missing"),
        ("missing-image", "case_1", "case_1/imaging.nii.gz", "missing"),
        ("missing-image", "case_3", "case_3/imaging.nii.gz", "missing"),
    ]
    assert survey.dataset is not None
    assert survey.dataset.cases == ()


@pytest.mark.skipif(not DATA.is_dir(), reason="the shared data are not here")
def test_label_maps_without_images_are_told_one_by_one():
    survey = survey_dataset(DATA / "KiTS19_geometry")

    assert [problem.kind for problem in survey.problems] == ["missing-image"] * 17
    assert survey.problems[0].case == "case_00000"


# BraTS


def test_a_brats_folder_needs_no_description(tmp_path: Path):
    root = brats(tmp_path / "X", "BraTS20_Training_002", "BraTS20_Training_001")

    dataset = find_dataset(make_folder(root, ["name_mapping.csv"]))

    assert dataset.layout == "case_folders"
    assert dataset.channels == ("T1", "T1ce", "T2", "FLAIR")
    assert values(root) == {"necrosis": (1,), "oedema": (2,), "enhancing tumour": (4,)}
    name = "BraTS20_Training_001"
    assert dataset.cases[0] == Case(
        name=name,
        images=tuple(Path(name, f"{name}_{end}.nii.gz") for end in ("t1", "t1ce", "t2", "flair")),
        label=Path(name, f"{name}_seg.nii.gz"),
    )


def test_brats_names_since_2023_have_other_label_values_and_tell_the_patient(tmp_path: Path):
    names = ("BraTS-GLI-00003-000", "BraTS-GLI-00003-001")
    root = brats(tmp_path / "X", *names, ends=NEW, form="-{}.nii.gz")

    dataset = find_dataset(root)

    assert dataset.channels == ("T1", "T1ce", "T2", "FLAIR")
    assert values(root) == {"necrosis": (1,), "oedema": (2,), "enhancing tumour": (3,)}
    assert [case.group for case in dataset.cases] == ["BraTS-GLI-00003"] * 2
    assert dataset.cases[1].images == tuple(
        Path(names[1], f"{names[1]}-{end}.nii.gz") for end in ("t1n", "t1c", "t2w", "t2f")
    )


@pytest.mark.parametrize("end", ["t1gd", "T1Gd", "T1CE", "t1c"])
def test_the_contrast_enhanced_channel_has_several_names(tmp_path: Path, end: str):
    root = brats(tmp_path / "X", "Brats_1", ends=("T1", end, "T2", "FLAIR", "Seg"), form="_{}.nii")

    dataset = find_dataset(root)

    assert dataset.cases[0].images[1] == Path(f"Brats_1/Brats_1_{end}.nii")
    assert dataset.cases[0].label == Path("Brats_1/Brats_1_Seg.nii")


def test_grades_may_have_folders_of_their_own(tmp_path: Path):
    root = brats(tmp_path / "X", "HGG/Brats18_B", "LGG/Brats18_A")

    cases = find_dataset(root).cases

    assert [case.name for case in cases] == ["Brats18_A", "Brats18_B"]
    assert cases[1].label == Path("HGG/Brats18_B/Brats18_B_seg.nii.gz")


def test_a_label_map_may_have_kept_an_older_name(tmp_path: Path):
    root = brats(tmp_path / "X", "BraTS20_355", ends=OLD[:-1], form="_{}.nii")

    make_folder(root, ["BraTS20_355/W39_1998.09.19_Segm.nii"])

    assert find_dataset(root).cases[0].label == Path("BraTS20_355/W39_1998.09.19_Segm.nii")


def test_what_a_brats_case_lacks_is_told(tmp_path: Path):
    root = brats(tmp_path / "X", "BraTS_1", "BraTS_2", "BraTS_3", form="_{}.mha")
    (root / "BraTS_1/BraTS_1_flair.mha").unlink()
    (root / "BraTS_2/BraTS_2_seg.mha").unlink()
    make_folder(root, ["BraTS_4/letter.txt", "other/letter.txt"])

    assert told(survey_dataset(root), root) == [
        ("missing-label", "BraTS_2", "BraTS_2/BraTS_2_seg.mha", "missing"),
        ("missing-label", "BraTS_4", "BraTS_4/BraTS_4_seg.mha", "missing"),
        ("missing-image", "BraTS_4", "BraTS_4/BraTS_4_t1.mha", "missing"),
        ("missing-channel", "BraTS_1", "BraTS_1/BraTS_1_flair.mha", "missing (FLAIR)"),
    ]


def test_label_maps_alone_lack_their_images(tmp_path: Path):
    root = brats(tmp_path / "X", "BraTS-GLI-00003-000", ends=("seg",), form="-{}.nii.gz")

    survey = survey_dataset(root)

    image = "BraTS-GLI-00003-000/BraTS-GLI-00003-000-t1n.nii.gz"
    assert told(survey, root) == [("missing-image", "BraTS-GLI-00003-000", image, "missing")]


def test_channels_no_case_has_are_no_channels_of_the_data_set(tmp_path: Path):
    root = brats(tmp_path / "X", "BraTS_1", ends=("flair", "t1ce", "seg"))

    assert find_dataset(root).channels == ("T1ce", "FLAIR")


def test_a_description_chooses_brats_channels_by_name_and_renames_them_by_order(tmp_path: Path):
    root = brats(tmp_path / "X", "case_1")
    labels = {"background": 0, "whole": 1}

    make_folder(root, [], {"channels": ["FLAIR", "t1gd"], "labels": labels})
    dataset = find_dataset(root)
    assert dataset.channels == ("FLAIR", "t1gd")
    assert [image.name for image in dataset.cases[0].images] == [
        "case_1_flair.nii.gz",
        "case_1_t1ce.nii.gz",
    ]
    assert dataset.labels.names == ("whole",)

    make_folder(
        root, [], {"channel_names": dict(zip("0123", "abcd", strict=True))} | {"labels": labels}
    )
    dataset = find_dataset(root)
    assert dataset.channels == ("a", "b", "c", "d")
    assert dataset.cases[0].images[3] == Path("case_1/case_1_flair.nii.gz")

    make_folder(root, [], {"channels": ["a", "b"], "labels": labels})
    survey = survey_dataset(root)
    assert survey.dataset is None
    assert findings(survey) == ["2 names for the channels T1, T1ce, T2, FLAIR"]


@pytest.mark.parametrize(
    ("names", "finding"),
    [
        (["sub-01"], "labels: needed, for they are known of BraTS only, and there is sub-01"),
        (
            ["BraTS-PED-00001-000"],
            "labels: needed, for the label values of BraTS-PED differ from year to year",
        ),
        (
            ["BraTS-GLI-00001-000", "BraTS20_1"],
            "labels: needed, for their values differ before 2023 and after",
        ),
    ],
)
def test_label_values_are_not_guessed_where_they_are_not_certain(
    tmp_path: Path, names: list[str], finding: str
):
    survey = survey_dataset(brats(tmp_path / "X", *names))

    assert survey.dataset is None
    assert told(survey, tmp_path / "X") == [("description", None, "dataset.json", finding)]
