import numpy as np
import pytest

from autoseg.core.fingerprint import IntensityStats
from autoseg.core.geometry import Geometry
from autoseg.core.image import Image
from autoseg.errors import DataError
from autoseg.predict.unlike import Seen, unlike

LIVER = IntensityStats(
    mean=60.0,
    median=61.0,
    std=40.0,
    min=-500.0,
    max=900.0,
    percentile_00_5=-60.0,
    percentile_99_5=200.0,
)


def seen(**changes) -> Seen:
    fields = {
        "min_spacing": (2.5, 0.7, 0.7),
        "max_spacing": (5.0, 0.9, 0.7),
        "channels": ("CT",),
        "intensities": (LIVER,),
    }
    return Seen(**(fields | changes))


def ct(spacing=(3.0, 0.8, 0.7), scale=1.0, offset=0.0) -> Image:
    values = np.random.default_rng(0).uniform(-1000, 600, (1, 6, 9, 8)) * scale + offset
    geometry = Geometry(shape=(6, 9, 8), spacing=spacing)
    return Image(array=values.astype(np.float32), geometry=geometry)


def test_an_image_like_the_others_is_not_remarked_upon():
    assert unlike(ct(), seen()) == ()
    assert unlike(ct(spacing=(2.5 / 1.49, 0.9 * 1.49, 0.7)), seen()) == ()


def test_a_spacing_beyond_that_of_the_training_is_told():
    (line,) = unlike(ct(spacing=(10.0, 0.8, 0.2)), seen())
    assert line == (
        "spacing 10 x 0.8 x 0.2 mm (z, y, x), the training data had 2.5-5 x 0.7-0.9 x 0.7 mm: the "
        "model knows nothing like it along z, x"
    )


def test_a_spacing_in_another_unit_is_refused():
    with pytest.raises(DataError, match=r"2\.5 x 1 x 1 mm: it cannot be right; mend the spacing"):
        unlike(
            ct(spacing=(0.0025, 0.001, 0.001)),
            seen(min_spacing=(2.5, 1, 1), max_spacing=(2.5, 1, 1)),
        )


def test_the_distance_of_slices_is_of_less_account_where_they_are_seen_one_by_one():
    (line,) = unlike(ct(spacing=(999.0, 0.8, 0.7)), seen(across=0))
    assert line.endswith("knows nothing like it along z")
    with pytest.raises(DataError, match="cannot be right"):
        unlike(ct(spacing=(999.0, 0.8, 0.7)), seen())


def picture(spacing=(0.8, 0.7)) -> Image:
    values = np.random.default_rng(0).uniform(-1000, 600, (1, 1, 9, 8)).astype(np.float32)
    return Image(array=values, geometry=Geometry(shape=(1, 9, 8), spacing=(999.0, *spacing)))


PICTURES = {"min_spacing": (999.0, 0.7, 0.7), "max_spacing": (999.0, 0.9, 0.7), "across": 0}


@pytest.mark.parametrize("across", [None, 1])
def test_a_picture_is_refused_where_volumes_are_needed(across):
    with pytest.raises(DataError) as caught:
        unlike(picture(), seen(across=across))
    assert str(caught.value) == (
        "is a 2D picture, the model needs volumes; choose a model of configuration 2d, or one of "
        "pictures"
    )


def test_a_picture_among_slices_and_a_volume_among_pictures_are_told():
    assert unlike(picture(), seen(across=0)) == ("is a 2D picture, the training data were volumes",)
    assert unlike(ct(), seen(**PICTURES)) == ("is a volume, the training data were 2D pictures",)
    assert unlike(picture(), seen(**PICTURES)) == ()
    mixed = {"min_spacing": (2.5, 0.7, 0.7), "across": 0}
    assert unlike(picture(), seen(**(PICTURES | mixed))) == ()
    assert unlike(ct(), seen(**(PICTURES | mixed))) == ()


def test_of_a_picture_no_distance_of_slices_is_named():
    _, line = unlike(picture((2.0, 0.7)), seen(across=0))
    assert line == (
        "spacing 2 x 0.7 mm (y, x), the training data had 0.7-0.9 x 0.7 mm: the model knows "
        "nothing like it along y"
    )
    with pytest.raises(DataError, match=r"spacing 2 x 100 mm \(y, x\).*cannot be right"):
        unlike(picture((2.0, 100.0)), seen(across=0))


@pytest.mark.parametrize(("scale", "offset"), [(1.0, 5000.0), (0.001, 0.0)])
def test_intensities_in_another_unit_are_told(scale, offset):
    (line,) = unlike(ct(scale=scale, offset=offset), seen())
    assert line.startswith("CT: intensities mostly ")
    assert line.endswith("the structures of the training data had -60 to 200: is the unit another?")


def test_intensities_that_are_normalized_by_themselves_are_not_compared():
    assert unlike(ct(scale=0.001), seen(intensities=(None,))) == ()


def test_an_empty_image_is_refused():
    with pytest.raises(DataError, match="every voxel has the value 3: there is nothing to segment"):
        unlike(ct(scale=0.0, offset=3.0), seen())
