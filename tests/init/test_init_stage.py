import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from autoseg.core.geometry import Geometry
from autoseg.core.image import Image, LabelMap
from autoseg.core.labels import LabelSpace, Structure
from autoseg.errors import AutosegError, DataError
from autoseg.init.stage import Described, describe_folder
from autoseg.io.dataset_folder import find_dataset
from autoseg.io.images import read_labels, write_image, write_labels

DATA = Path(__file__).parents[3] / "shared" / "data"
BY_HAND = (
    "write cases.csv with the columns case, image, label and beside it dataset.json with channels "
    "and labels"
)
GEOMETRY = Geometry(
    shape=(5, 8, 6),
    spacing=(3.0, 1.25, 0.75),
    origin=(-40.0, 12.5, 7.0),
    direction=((1.0, 0.0, 0.0), (0.0, -0.8, 0.6), (0.0, 0.6, 0.8)),
)


def write_mr(path: Path, scale: float = 1.0) -> None:
    array = np.random.default_rng(3).uniform(0, 900, GEOMETRY.shape) * scale
    write_image(path, Image(array=array[np.newaxis].astype(np.float32), geometry=GEOMETRY))


def write_ct(path: Path, air: float = -1024) -> None:
    array = np.random.default_rng(4).integers(0, 1200, (1, *GEOMETRY.shape)).astype(np.float32)
    array[0, 0] = air
    write_image(path, Image(array=array, geometry=GEOMETRY))


def write_map(path: Path, *values: int, background: int = 0) -> None:
    array = np.full(GEOMETRY.shape, background, np.int16)
    for number, value in enumerate(values):
        array[1 + number, 2:5, 1:4] = value
    write_labels(path, LabelMap(array=array, geometry=GEOMETRY))


def write_segmentation(path: Path, layers: np.ndarray, *segments: tuple[str, int, int]) -> None:
    image = sitk.GetImageFromArray(np.moveaxis(layers, 0, -1), isVector=len(layers) > 1)
    image = image if len(layers) > 1 else sitk.GetImageFromArray(layers[0])
    for number, (name, value, layer) in enumerate(segments):
        entries = {"Name": name, "ID": f"S{number}", "LabelValue": value, "Layer": layer}
        for key, entry in entries.items():
            image.SetMetaData(f"Segment{number}_{key}", str(entry))
    sitk.WriteImage(image, str(path))


def write_series(folder: Path, patient: str, modality: str) -> None:
    folder.mkdir(parents=True)
    writer = sitk.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.KeepOriginalImageUIDOn()
    for number in range(GEOMETRY.shape[0]):
        one = sitk.GetImageFromArray(np.full((1, 8, 6), 10 + number, np.int16))
        one.SetSpacing((0.75, 1.25, 3.0))
        one.SetOrigin((7.0, 12.5, -40.0 + 3 * number))
        tags = {
            "0008|0016": "1.2.840.10008.5.1.4.1.1.4",
            "0008|0018": f"1.2.826.1.{patient}.{number + 1}".replace("p", "7"),
            "0008|0060": modality,
            "0010|0020": patient,
            "0020|000e": "1.2.826.1",
            "0020|0032": f"7.0\\12.5\\{-40.0 + 3 * number}",
        }
        for key, value in tags.items():
            one.SetMetaData(key, value)
        writer.SetFileName(str(folder / f"{number}.dcm"))
        writer.Execute(one)


def make_folder(root: Path, *names: str) -> Path:
    """MR images and label maps with the values 1 and 4."""
    for name in names or ("a", "b"):
        write_mr(root / "img" / f"{name}.nii.gz")
        write_map(root / "seg" / f"{name}.nii.gz", 1, 4)
    return root


def describe(folder: Path, file: Path) -> Described:
    return describe_folder(folder, file, workers=0)


def refused(folder: Path, file: Path) -> AutosegError:
    with pytest.raises(AutosegError) as caught:
        describe(folder, file)
    assert "\n" not in str(caught.value)
    assert caught.value.remedy is not None
    return caught.value


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_what_is_written_reads_as_the_data_set(tmp_path: Path):
    folder, file = make_folder(tmp_path / "Heads"), tmp_path / "ws" / "dataset.json"
    before = contents(folder)

    described = describe(folder, file)
    dataset = find_dataset(folder, file)

    assert described.is_new
    assert described.layout is None
    assert (dataset.name, dataset.root, dataset.description) == ("Heads", folder, file)
    assert dataset.channels == ("image",)
    assert dataset.labels.values == (0, 1, 4)
    assert [(case.name, case.images, case.label) for case in dataset.cases] == [
        (n, (Path(f"img/{n}.nii.gz"),), Path(f"seg/{n}.nii.gz")) for n in "ab"
    ]
    assert described.presence == {"structure_1": 2, "structure_4": 2}
    assert contents(folder) == before


def test_the_same_again_is_no_news_and_touches_nothing(tmp_path: Path):
    folder, file = make_folder(tmp_path / "Heads"), tmp_path / "ws" / "dataset.json"
    describe(folder, file)
    before = [path.stat().st_mtime_ns for path in (file, file.with_name("cases.csv"))]

    described = describe(folder, file)

    assert not described.is_new
    assert [path.stat().st_mtime_ns for path in (file, file.with_name("cases.csv"))] == before


def test_an_edited_description_is_not_overwritten(tmp_path: Path):
    folder, file = make_folder(tmp_path / "Heads"), tmp_path / "ws" / "dataset.json"
    describe(folder, file)
    file.write_text(file.read_text().replace("structure_4", "tumour"))
    before = contents(file.parent)

    assert str(refused(folder, file)) == (
        f"{file}: is there already and says something else, perhaps because it was edited; keep "
        "it, or delete it and repeat the command, or write another with -o FILE"
    )
    assert contents(file.parent) == before


@pytest.mark.parametrize("text", ["{", "[]", '{"channels": ["CT"]}'])
def test_a_broken_description_is_not_overwritten(tmp_path: Path, text: str):
    folder, file = make_folder(tmp_path / "Heads"), tmp_path / "dataset.json"
    file.write_text(text)

    assert refused(folder, file).place == str(file)
    assert file.read_text() == text


def test_a_table_without_a_description_is_not_overwritten(tmp_path: Path):
    folder, table = make_folder(tmp_path / "Heads"), tmp_path / "cases.csv"
    table.write_text("mine")

    assert str(refused(folder, tmp_path / "dataset.json")) == (
        f"{table}: is there already, without its description; delete it and repeat the command, "
        "or write into another folder with -o FILE"
    )
    assert table.read_text() == "mine"


def test_a_description_may_lie_in_the_raw_data(tmp_path: Path):
    folder = make_folder(tmp_path / "Heads")

    describe(folder, folder / "dataset.json")

    assert find_dataset(folder).labels.values == (0, 1, 4)
    assert "root" not in json.loads((folder / "dataset.json").read_text())


def test_whole_numbers_from_air_to_bone_are_a_ct(tmp_path: Path):
    for name in "abc":
        write_ct(tmp_path / "d" / f"{name}.mha", air=-1024 if name < "c" else 0)
        write_map(tmp_path / "d" / f"{name}_mask.mha", 255)

    described = describe(tmp_path / "d", tmp_path / "ws" / "dataset.json")

    assert described.dataset.channels == ("CT",)
    assert described.reasons == (
        "2 of 3 images looked at hold whole numbers from air to bone, as in Hounsfield units",
    )
    assert described.dataset.labels.names == ("foreground",)


def test_voxels_tell_label_maps_where_names_do_not(tmp_path: Path):
    for name in "abc":
        write_mr(tmp_path / "d" / name / "brain.nrrd")
        write_map(tmp_path / "d" / name / "hippocampus.nrrd", 1)

    described = describe(tmp_path / "d", tmp_path / "ws" / "dataset.json")

    assert [case.label.as_posix() for case in described.dataset.cases] == [
        f"{name}/hippocampus.nrrd" for name in "abc"
    ]


def test_two_kinds_that_may_be_label_maps_are_the_users_choice(tmp_path: Path):
    for name in "ab":
        write_mr(tmp_path / "d" / name / "brain.nrrd")
        write_map(tmp_path / "d" / name / "liver.nrrd", 1)
        write_map(tmp_path / "d" / name / "spleen.nrrd", 1)

    assert str(refused(tmp_path / "d", tmp_path / "ws" / "dataset.json")) == (
        f"{tmp_path / 'd'}: files with 'liver' and 'spleen' in their names may all be the label "
        f"maps; choose, and {BY_HAND}"
    )


def test_images_alone_are_no_data_set(tmp_path: Path):
    write_mr(tmp_path / "d" / "a.nrrd")
    write_mr(tmp_path / "d" / "b.nrrd")

    assert str(refused(tmp_path / "d", tmp_path / "ws" / "dataset.json")) == (
        f"{tmp_path / 'd'}: neither names nor voxels tell which files are label maps: 2 images "
        f"found, 2 images without a label map such as a.nrrd; {BY_HAND}"
    )


def test_names_that_do_not_meet_are_told(tmp_path: Path):
    for name, other in (("a", "x"), ("b", "y")):
        write_mr(tmp_path / "d" / "img" / f"{name}.nrrd")
        write_map(tmp_path / "d" / "seg" / f"{other}.nrrd", 1)

    assert str(refused(tmp_path / "d", tmp_path / "ws" / "dataset.json")) == (
        f"{tmp_path / 'd'}: names do not tell which label map belongs to which image: 4 images "
        "found, 2 images without a label map such as img/a.nrrd, 2 label maps without an image "
        f"such as seg/x.nrrd; {BY_HAND}"
    )


def test_a_label_map_per_structure_is_told(tmp_path: Path):
    for name in "ab":
        write_ct(tmp_path / "d" / name / "ct.nrrd")
        for organ in ("liver", "spleen"):
            write_map(tmp_path / "d" / name / "segmentations" / f"{organ}.nrrd", 1)

    assert str(refused(tmp_path / "d", tmp_path / "ws" / "dataset.json")) == (
        f"{tmp_path / 'd'}: 2 cases have several label maps each, such as "
        "a/segmentations/liver.nrrd, a/segmentations/spleen.nrrd; merge them into one file per "
        f"case with a value for each structure, or choose one of them and {BY_HAND}"
    )


def test_label_maps_of_intensities_are_refused(tmp_path: Path):
    folder = make_folder(tmp_path / "d")
    values = np.arange(1200, dtype=np.int16).reshape(5, 16, 15)
    geometry = Geometry(shape=values.shape, spacing=(1.0, 1.0, 1.0))
    write_labels(folder / "seg" / "a.nii.gz", LabelMap(array=values, geometry=geometry))

    assert str(refused(folder, tmp_path / "ws" / "dataset.json")) == (
        f"{folder}: 1200 label values, which are rather intensities; if label maps are not such "
        f"as seg/a.nii.gz, {BY_HAND}"
    )


@pytest.mark.parametrize(("kind", "what"), [("seg", "label maps"), ("img", "images")])
def test_files_none_of_which_can_be_read_are_told(tmp_path: Path, kind: str, what: str):
    folder = make_folder(tmp_path / "d")
    for file in (folder / kind).iterdir():
        file.write_bytes(b"nothing")

    message = str(refused(folder, tmp_path / "ws" / "dataset.json"))

    assert message.startswith(f"none of 2 {what} can be read: {folder / kind / 'a.nii.gz'}: ")
    assert message.endswith("; convert or copy them again")


def test_a_label_map_that_cannot_be_read_is_told_and_stays_a_case(tmp_path: Path):
    folder = make_folder(tmp_path / "d")
    (folder / "seg" / "b.nii.gz").write_bytes(b"nothing")

    described = describe(folder, tmp_path / "ws" / "dataset.json")

    assert len(described.dataset.cases) == 2
    assert described.remarks[0].startswith("1 label maps cannot be read, such as ")


def test_label_maps_with_fractions_are_counted_as_rounded(tmp_path: Path):
    folder = make_folder(tmp_path / "d")
    array = np.zeros((1, *GEOMETRY.shape), np.float32)
    array[0, 1, 2:5], array[0, 1, 5] = 1, 0.25
    write_image(folder / "seg" / "b.nii.gz", Image(array=array, geometry=GEOMETRY))

    described = describe(folder, tmp_path / "ws" / "dataset.json")

    assert described.presence == {"structure_1": 2, "structure_4": 1}
    assert described.remarks == ("1 label maps hold fractions, counted as rounded here",)


@pytest.mark.parametrize("place", ["labels.txt", "seg/structures.ctbl"])
def test_names_of_labels_come_from_a_file_beside_them(tmp_path: Path, place: str):
    folder = make_folder(tmp_path / "d")
    (folder / place).write_text("1 oedema 255 0 0 255\n4 enhancing tumour 0 255 0 255\n")
    (folder / "labels_old.txt").write_text("1: something else\n")

    described = describe(folder, tmp_path / "ws" / "dataset.json")

    assert described.dataset.labels.names == ("oedema", "enhancing tumour")
    assert described.remarks == (f"names of the labels are those of {place}",)


def test_names_of_labels_come_from_a_description_that_is_of_no_use_else(tmp_path: Path):
    folder = make_folder(tmp_path / "d")
    labels = {"background": 0, "core": 1, "rim": 4}
    (folder / "dataset.json").write_text(json.dumps({"labels": labels}))

    described = describe(folder, tmp_path / "ws" / "dataset.json")

    assert described.dataset.labels.names == ("core", "rim")


def test_label_maps_without_a_0_have_their_background_at_the_border(tmp_path: Path):
    write_mr(tmp_path / "d" / "a.nrrd")
    write_map(tmp_path / "d" / "a_gt.nrrd", 1, 3, background=2)

    labels = describe(tmp_path / "d", tmp_path / "ws" / "dataset.json").dataset.labels

    assert (labels.background, labels.values) == (2, (2, 1, 3))


def test_overlapping_segments_read_back_as_regions(tmp_path: Path):
    layers = np.zeros((2, 5, 8, 6), np.uint8)
    layers[0, 1:4, 2:6, 1:5] = 1
    layers[0, 4, 7] = 2
    layers[1, 2, 3:5, 2:4] = 1
    for name in "ab":
        write_mr(tmp_path / "d" / f"{name}.nrrd")
        segments = [("liver", 1, 0), ("vessel", 2, 0), ("tumour", 1, 1)]
        write_segmentation(tmp_path / "d" / f"{name}.seg.nrrd", layers, *segments)

    describe(tmp_path / "d", tmp_path / "ws" / "dataset.json")
    dataset = find_dataset(tmp_path / "d", tmp_path / "ws" / "dataset.json")

    array = read_labels(tmp_path / "d" / "a.seg.nrrd", dataset.labels).array
    for name, expected in (
        ("liver", layers[0] == 1),
        ("vessel", layers[0] == 2),
        ("tumour", layers[1] == 1),
    ):
        values = next(s.values for s in dataset.labels.structures if s.name == name)
        assert np.array_equal(np.isin(array, values), expected), name


def test_named_segments_need_no_common_numbers(tmp_path: Path):
    layers = np.zeros((1, 5, 8, 6), np.uint8)
    layers[0, 1, 2:4], layers[0, 3, 3:5] = 1, 2
    for name, segments in (("a", ("liver", "spleen")), ("b", ("spleen", "liver"))):
        write_mr(tmp_path / "d" / f"{name}.nrrd")
        numbered = [(segment, number, 0) for number, segment in enumerate(segments, start=1)]
        write_segmentation(tmp_path / "d" / f"{name}.seg.nrrd", layers, *numbered)

    labels = describe(tmp_path / "d", tmp_path / "ws" / "dataset.json").dataset.labels

    liver = next(s.values[0] for s in labels.structures if s.name == "liver")
    for name, number in (("a", 1), ("b", 2)):
        array = read_labels(tmp_path / "d" / f"{name}.seg.nrrd", labels).array
        assert np.array_equal(array == liver, layers[0] == number)


def test_dicom_series_beside_label_maps_are_cases_of_numbered_patients(tmp_path: Path):
    for case, patient in (("x", "p1"), ("y", "p1"), ("z", "p2")):
        write_series(tmp_path / "d" / case / "series", patient, "MR")
        write_map(tmp_path / "d" / case / "mask.nii.gz", 1)

    described = describe(tmp_path / "d", tmp_path / "ws" / "dataset.json")

    assert [(c.name, c.images[0].as_posix(), c.group) for c in described.dataset.cases] == [
        ("x", "x/series", "patient-1"),
        ("y", "y/series", "patient-1"),
        ("z", "z/series", None),
    ]
    assert described.dataset.channels == ("MR",)
    assert described.remarks == (
        "1 patients have several cases by their DICOM PatientID: one group each",
    )
    assert "p1" not in (tmp_path / "ws" / "cases.csv").read_text()


def test_one_patient_id_for_all_is_an_anonymised_one(tmp_path: Path):
    for case in "xy":
        write_series(tmp_path / "d" / case / "series", "ANON", "MR")
        write_map(tmp_path / "d" / case / "mask.nii.gz", 1)

    described = describe(tmp_path / "d", tmp_path / "ws" / "dataset.json")

    assert {case.group for case in described.dataset.cases} == {None}


def test_patients_in_the_names_are_groups(tmp_path: Path):
    folder = make_folder(tmp_path / "d", "patient1_scan1", "patient1_scan2", "patient2_scan1")

    describe(folder, tmp_path / "ws" / "dataset.json")

    cases = find_dataset(folder, tmp_path / "ws" / "dataset.json").cases
    assert [case.group for case in cases] == ["patient1", "patient1", None]


def test_colour_pictures_are_three_channels(tmp_path: Path):
    rng = np.random.default_rng(1)
    for folder in ("image", "mask"):
        (tmp_path / "d" / folder).mkdir(parents=True)
    for name in "ab":
        colours = rng.integers(0, 256, (7, 5, 3), np.uint8)
        picture = sitk.GetImageFromArray(colours, isVector=True)
        sitk.WriteImage(picture, str(tmp_path / "d" / "image" / f"{name}.png"))
        mask = sitk.GetImageFromArray(np.eye(7, 5, dtype=np.uint8) * 255)
        sitk.WriteImage(mask, str(tmp_path / "d" / "mask" / f"{name}.png"))

    describe(tmp_path / "d", tmp_path / "ws" / "dataset.json")

    dataset = find_dataset(tmp_path / "d", tmp_path / "ws" / "dataset.json")
    assert dataset.channels == ("R", "G", "B")
    assert [len(case.images) for case in dataset.cases] == [1, 1]


def test_channels_named_like_columns_get_another_name(tmp_path: Path):
    for case in "ab":
        for channel in ("case", "late"):
            write_mr(tmp_path / "d" / case / f"{channel}.nrrd")
        write_map(tmp_path / "d" / case / "seg.nrrd", 1)

    dataset = describe(tmp_path / "d", tmp_path / "ws" / "dataset.json").dataset

    assert dataset.channels == ("case_0", "late")
    assert find_dataset(tmp_path / "d", tmp_path / "ws" / "dataset.json").channels == (
        *("case_0", "late"),
    )


def test_a_known_layout_is_described_as_it_is_read(tmp_path: Path):
    folder = make_folder(tmp_path / "d", "P01_1", "P01_2", "P02_1")
    (folder / "img").rename(folder / "imagesTr")
    (folder / "seg").rename(folder / "labelsTr")
    names = sorted(path.name for path in (folder / "imagesTr").iterdir())
    training = [{"image": f"./imagesTr/{n}", "label": f"./labelsTr/{n}"} for n in names]
    labels = {"0": "background", "1": "rim", "4": "core"}
    data = {"modality": {"0": "MRI"}, "labels": labels, "training": training}
    (folder / "dataset.json").write_text(json.dumps(data))

    described = describe(folder, tmp_path / "ws" / "dataset.json")
    dataset = find_dataset(folder, tmp_path / "ws" / "dataset.json")

    assert described.layout == "decathlon"
    assert dataset.channels == ("MRI",)
    assert dataset.labels == LabelSpace(
        structures=(Structure(name="rim", values=(1,)), Structure(name="core", values=(4,)))
    )
    assert [case.group for case in dataset.cases] == ["P01", "P01", None]
    assert not describe(folder, tmp_path / "ws" / "dataset.json").is_new


def test_problems_of_a_known_layout_are_counted(tmp_path: Path):
    folder = make_folder(tmp_path / "d")
    describe(folder, folder / "dataset.json")
    (folder / "img" / "b.nii.gz").unlink()

    described = describe(folder, tmp_path / "ws" / "dataset.json")

    assert [case.name for case in described.dataset.cases] == ["a"]
    assert described.remarks == (
        "it has a description of its own; delete that to have the files looked at",
        "1 problems with its files: autoseg check lists them",
    )


def test_folds_of_a_known_layout_are_kept_if_a_table_can_hold_them(tmp_path: Path):
    folder = make_folder(tmp_path / "d", "a", "b", "c")
    for name in "abc":
        image = folder / "imagesTr" / f"{name}_0000.nii.gz"
        image.parent.mkdir(exist_ok=True)
        (folder / "img" / f"{name}.nii.gz").rename(image)
    (folder / "seg").rename(folder / "labelsTr")
    labels = {"background": 0, "rim": 1, "core": 4}
    data = {"channel_names": {"0": "MR"}, "labels": labels, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(data))
    splits = [{"train": ["b", "c"], "val": ["a"]}, {"train": ["a"], "val": ["b", "c"]}]
    (folder / "splits_final.json").write_text(json.dumps(splits))

    whole = describe(folder, tmp_path / "whole" / "dataset.json")
    splits[1]["val"] = ["b"]
    (folder / "splits_final.json").write_text(json.dumps(splits))
    half = describe(folder, tmp_path / "half" / "dataset.json")

    dataset = find_dataset(folder, tmp_path / "whole" / "dataset.json")
    assert [fold.validation for fold in dataset.folds or ()] == [("a",), ("b", "c")]
    assert whole.remarks == ()
    assert find_dataset(folder, tmp_path / "half" / "dataset.json").folds is None
    assert half.remarks[-1] == (
        "its folds do not hold out every case once: a table cannot hold them"
    )


def test_a_folder_that_is_not_there_is_told(tmp_path: Path):
    with pytest.raises(DataError, match="no such folder"):
        describe(tmp_path / "nowhere", tmp_path / "dataset.json")


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the shared real data")
def test_a_real_ct_in_a_case_folder_is_one(tmp_path: Path):
    for name in ("p1", "p2"):
        (tmp_path / "d" / name).mkdir(parents=True)
        (tmp_path / "d" / name / "volume.nii.gz").symlink_to(DATA / "chest_ct" / "ct.nii.gz")
        (tmp_path / "d" / name / "organs.nii.gz").symlink_to(DATA / "chest_ct" / "organs.nii.gz")

    described = describe(tmp_path / "d", tmp_path / "ws" / "dataset.json")

    assert described.dataset.channels == ("CT",)
    assert len(described.dataset.labels.structures) == 61
    assert [case.name for case in described.dataset.cases] == ["p1", "p2"]
