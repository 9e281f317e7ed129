import json

import numpy as np
import pytest

from autoseg.demo import stage
from autoseg.demo.stage import write_dataset
from autoseg.errors import AutosegError
from autoseg.io.dataset_folder import find_dataset
from autoseg.io.images import read_image, read_labels

TUMOUR = 2


@pytest.fixture(scope="module")
def small():
    """Fewer cases than the demonstration has; the fifth is without a tumour as there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "NUM_TRAINING", 5)
        patch.setattr(stage, "NUM_TEST", 1)
        yield


@pytest.fixture(scope="module")
def data(small, tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("demo"))


def test_it_is_equal_on_every_call(small, data, tmp_path):
    again = write_dataset(tmp_path)
    files = sorted(path.relative_to(data.root) for path in data.root.rglob("*.*"))
    assert len(files) == 2 * 6 + 1
    assert files == sorted(path.relative_to(again.root) for path in again.root.rglob("*.*"))
    for file in files:
        if file.suffix == ".gz":
            one, other = read_image([data.root / file]), read_image([again.root / file])
            assert np.array_equal(one.array, other.array)
            assert one.geometry == other.geometry
        else:
            assert (data.root / file).read_bytes() == (again.root / file).read_bytes()


def test_it_is_recognised_as_a_decathlon_data_set(data):
    dataset = find_dataset(data.root)
    assert dataset.name == "Task00_Kidneys"
    assert dataset.layout == "decathlon"
    assert dataset.channels == ("CT",)
    assert [s.name for s in dataset.labels.structures] == ["kidney", "tumour"]
    assert len(dataset.cases) == 5


def test_test_images_are_not_for_training(data):
    training = {case.name for case in find_dataset(data.root).cases}
    test = {path.name.removesuffix(".nii.gz") for path in data.test_images.iterdir()}
    assert test == {"kidneys_05"}
    assert not training & test
    assert {path.name for path in data.test_labels.iterdir()} == {"kidneys_05.nii.gz"}
    description = json.loads((data.root / "dataset.json").read_text())
    assert description["test"] == ["./imagesTs/kidneys_05.nii.gz"]
    assert (description["numTraining"], description["numTest"]) == (5, 1)


def test_every_case_has_a_grid_of_its_own_and_some_have_no_tumour(data):
    dataset = find_dataset(data.root)
    maps = [read_labels(dataset.label_path(case)) for case in dataset.cases]
    assert len({labels.geometry.shape for labels in maps}) == len(maps)
    assert len({labels.geometry.spacing for labels in maps}) == len(maps)
    assert [bool((labels.array == TUMOUR).any()) for labels in maps] == [True] * 4 + [False]


def test_image_and_label_map_lie_on_one_grid(data):
    dataset = find_dataset(data.root)
    for case in dataset.cases:
        image, labels = read_image(dataset.image_paths(case)), read_labels(dataset.label_path(case))
        assert image.geometry.distance_vox(labels.geometry) < 1e-3


def test_progress_counts_all_cases(small, tmp_path):
    seen = []
    write_dataset(tmp_path, lambda done, total, note="": seen.append((done, total, note)))
    assert seen == [(number + 1, 6, f"kidneys_{number:02d}") for number in range(6)]


def test_a_place_that_cannot_be_written_is_named(small, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(AutosegError, match="file"):
        write_dataset(tmp_path / "file")
