"""Label maps never lie where the next command would take them for images."""

from pathlib import Path

import pytest
import SimpleITK
from conftest import toy_case
from random_models import finish_fold, untrained_task

from autoseg.errors import AutosegError
from autoseg.io.images import write_image
from autoseg.predict.choosing import ModelChoice
from autoseg.predict.loading import PredictOptions
from autoseg.predict.stage import predict_folder

ON_CPU = PredictOptions(device="cpu", precision="float32")


@pytest.fixture(scope="module")
def bundle(toy, tmp_path_factory) -> Path:
    return finish_fold(untrained_task(toy, tmp_path_factory.mktemp("output")), "2d").bundle


@pytest.fixture
def images(tmp_path) -> Path:
    """An image beside a case folder."""
    write_image(tmp_path / "in" / "ball_0000.nii.gz", toy_case(0)[0])
    write_image(tmp_path / "in" / "case_00001" / "imaging.nii.gz", toy_case(1)[0])
    return tmp_path / "in"


def predict(bundle: Path, source: Path, output: Path) -> list[str]:
    found = predict_folder(None, source, output, ModelChoice(bundle=bundle), ON_CPU)
    assert [one.error for one in found] == [None] * len(found)
    return [one.name for one in found]


def refused(bundle: Path, source: Path, output: Path) -> str:
    before = sorted(source.rglob("*"))
    with pytest.raises(AutosegError) as caught:
        predict(bundle, source, output)
    assert sorted(source.rglob("*")) == before
    return str(caught.value)


@pytest.mark.parametrize("folder", ["", "case_00001", "case_00001/.."])
def test_a_folder_that_images_are_read_from_is_refused_at_once(bundle, images, folder):
    assert refused(bundle, images, images / folder) == (
        f"{images / folder}: the predictions would lie among the images; choose another folder "
        "with --output"
    )


def test_what_an_earlier_version_left_among_the_images_is_told_as_that(bundle, images):
    write_image(images / "ball.nii.gz", toy_case(2)[0])
    assert "would lie among the images" in refused(bundle, images, images)


def test_a_folder_of_its_own_below_the_images_is_fine(bundle, images):
    for _ in range(2):
        assert predict(bundle, images, images / "predicted") == ["ball", "case_00001"]


def test_the_label_map_of_a_single_image_may_lie_beside_it_but_not_over_it(bundle, images):
    assert predict(bundle, images / "ball_0000.nii.gz", images) == ["ball"]
    assert (images / "ball.nii.gz").is_file()
    with pytest.raises(AutosegError) as caught:
        predict(bundle, images / "ball.nii.gz", images)
    assert str(caught.value) == (
        f"{images}: the predictions would overwrite the images; choose another folder with --output"
    )


@pytest.mark.parametrize("source", ["scans", "scans/patient", "scans/patient/ct"])
@pytest.mark.parametrize("output", ["scans/patient/ct", "scans/patient/ct/predicted"])
def test_nothing_is_written_into_a_series(bundle, tmp_path, source, output):
    folder = tmp_path / "scans" / "patient" / "ct"
    folder.mkdir(parents=True)
    for number in range(3):
        one = SimpleITK.Image(6, 5, SimpleITK.sitkInt16)
        one.SetMetaData("0008|0060", "CT")
        SimpleITK.WriteImage(one, str(folder / f"{number}.dcm"))
    assert "would lie among the images" in refused(bundle, tmp_path / source, tmp_path / output)
