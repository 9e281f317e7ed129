from pathlib import Path

import numpy as np
import pytest
from commands import assert_done, assert_refused, call

from autoseg.core.geometry import Geometry
from autoseg.core.image import Image, LabelMap
from autoseg.io.dataset_folder import find_dataset
from autoseg.io.images import write_image, write_labels

GEOMETRY = Geometry(shape=(4, 7, 6), spacing=(3.0, 1.5, 0.75), origin=(-4.0, 5.0, 6.0))


@pytest.fixture
def heads(tmp_path: Path) -> Path:
    """Two scans of one patient, one of another, one that nobody annotated."""
    folder = tmp_path / "Heads"
    rng = np.random.default_rng(2)
    for name in ("patient1_scan1", "patient1_scan2", "patient2_scan1", "patient3_scan1"):
        array = rng.uniform(0, 90, (1, *GEOMETRY.shape)).astype(np.float32)
        write_image(folder / "scans" / f"{name}_T2.nii.gz", Image(array=array, geometry=GEOMETRY))
        labels = np.zeros(GEOMETRY.shape, np.uint8)
        labels[1, 2:5, 2:4], labels[2, 3, 3] = 1, 2 if name.endswith("1") else 1
        if not name.startswith("patient3"):
            label_map = LabelMap(array=labels, geometry=GEOMETRY)
            write_labels(folder / "masks" / f"{name}.nii.gz", label_map)
    return folder


def init(folder: Path, *words: object):
    return call("init", folder, "-w", folder.parent / "ws", "--workers", "0", *words)


def test_it_says_what_it_saw_and_what_comes_next(heads: Path):
    called = init(heads)

    assert_done(called)
    assert called.out.splitlines() == [
        "Heads: 3 cases",
        "  channel T2: 't2' in the names of the files",
        "  label 1 structure_1: in 3 of 3 cases",
        "  label 2 structure_2: in 2 of 3 cases",
        "  patients: 1 with a group, whose cases stay in one fold",
        "  left out: 1 images without a label map (scans/patient3_scan1_T2.nii.gz)",
        f"description: {heads.parent / 'ws' / 'Heads' / 'dataset.json'}",
        f"next: autoseg check {heads}, then autoseg plan {heads}",
    ]


def test_a_second_time_says_that_nothing_changed(heads: Path):
    init(heads)

    called = init(heads)

    assert_done(called)
    file = heads.parent / "ws" / "Heads" / "dataset.json"
    assert f"description: {file} (was there already, the same)" in called.out.splitlines()


def test_a_folder_with_a_blank_in_its_name_is_quoted(heads: Path):
    folder = heads.rename(heads.with_name("My heads"))

    assert init(folder).out.endswith(
        f"next: autoseg check '{folder}', then autoseg plan '{folder}'\n"
    )


def test_quiet_says_nothing(heads: Path):
    called = init(heads, "-q")

    assert_done(called)
    assert called.out == ""
    assert (heads.parent / "ws" / "Heads" / "cases.csv").is_file()


def test_the_description_may_be_written_elsewhere(heads: Path):
    place = heads.parent / "mine"

    called = init(heads, "-o", place / "dataset.json")

    assert_done(called)
    assert sorted(file.name for file in place.iterdir()) == ["cases.csv", "dataset.json"]
    assert not (heads.parent / "ws").exists()
    assert called.out.endswith(f"next: autoseg check {place}, then autoseg plan {place}\n")
    assert find_dataset(place).cases[0].name == "patient1_scan1"


@pytest.mark.parametrize("name", ["mine", "mine.json"])
def test_a_description_of_another_name_is_refused(heads: Path, name: str):
    place = heads.parent / name

    assert_refused(
        init(heads, "-o", place),
        f"-o {place}: a description is found by its name, dataset.json; write for example -o "
        f"{heads.parent / 'mine' / 'dataset.json'}",
    )


def test_a_folder_named_like_a_description_is_refused(heads: Path):
    (heads / "dataset.json").mkdir()

    assert_refused(init(heads, "-o", heads / "dataset.json"), "found by its name, dataset.json")


def test_another_description_is_not_overwritten(heads: Path):
    init(heads)
    (heads / "masks" / "patient1_scan2.nii.gz").unlink()

    assert_refused(init(heads), "is there already and says something else", "-o FILE")


def test_a_folder_of_nothing_is_refused(tmp_path: Path):
    (tmp_path / "Empty").mkdir()

    assert_refused(init(tmp_path / "Empty"), "no images there (found no files)", "choose a folder")


def test_a_workspace_in_the_raw_data_is_refused(heads: Path):
    called = call("init", heads, "-w", heads / "ws")

    assert_refused(called, "would lie inside the raw data", "-w")
    assert not (heads / "ws").exists()


def test_many_labels_are_told_in_one_line(heads: Path):
    for number, file in enumerate(sorted((heads / "masks").iterdir())):
        labels = np.arange(np.prod(GEOMETRY.shape)).reshape(GEOMETRY.shape) % 16
        if number == 0:
            labels[labels == 7] = 0
        write_labels(file, LabelMap(array=labels.astype(np.uint8), geometry=GEOMETRY))

    lines = init(heads).out.splitlines()

    assert "  14 labels in every case: structure_1, structure_2, structure_3, ..." in lines
    assert "  label 7 structure_7: in 2 of 3 cases" in lines
    assert sum(line.startswith("  label") for line in lines) == 1


def test_many_files_left_out_are_counted_and_the_first_named(heads: Path):
    for name in "bcad":
        image = Image(array=np.zeros((1, *GEOMETRY.shape), np.float32), geometry=GEOMETRY)
        write_image(heads / "scans" / f"{name}_T2.nii.gz", image)

    assert (
        "  left out: 5 images without a label map (scans/a_T2.nii.gz, scans/b_T2.nii.gz, "
        "scans/c_T2.nii.gz, ...)"
    ) in init(heads).out.splitlines()


def test_a_known_layout_is_told_and_an_ignore_label_with_it(heads: Path):
    table = "case,image,label\na,scans/patient1_scan1_T2.nii.gz,masks/patient1_scan1.nii.gz\n"
    (heads / "cases.csv").write_text(table)
    (heads / "dataset.json").write_text(
        '{"channels": ["T2"], "labels": {"background": 0, "rim": 1, "ignore": 2}}'
    )

    assert init(heads).out.splitlines()[:4] == [
        "Heads: 1 case, as its layout (table) says",
        "  channel T2",
        "  label 1 rim",
        "  label 2 ignore",
    ]
