import pytest

from autoseg.check.plausible import impossible_spacing, is_ct, is_no_ct


@pytest.mark.parametrize(
    ("spacing", "shape", "channels", "words"),
    [
        ((0.001, 0.001, 0.001), (100, 512, 512), ["CT"], "the whole image is 0.512 mm long"),
        ((0.001, 0.8, 0.8), (100, 512, 512), ["MRI T2"], "voxels of 0.001 x 0.8 x 0.8 mm"),
        ((800.0, 800.0, 5000.0), (100, 512, 512), ["CT"], "voxels of 800 x 800 x 5000 mm"),
        ((60.0, 1.0, 1.0), (20, 300, 300), ["image"], "voxels of 60 x 1 x 1 mm"),
        ((5.0, 8.0, 8.0), (40, 512, 512), ["CT"], "the image is 4.1 m long"),
        ((999.0, 0.7, 0.7), (2, 512, 512), ["CT"], "voxels of 999 x 0.7 x 0.7 mm"),
    ],
)
def test_voxel_sizes_that_cannot_be_are_told(spacing, shape, channels, words):
    assert words in impossible_spacing(spacing, shape, channels)


@pytest.mark.parametrize(
    ("spacing", "shape", "channels"),
    [
        ((1.0, 1.0, 1.0), (35, 51, 35), ["MRI"]),
        ((5.0, 0.97, 0.97), (29, 512, 512), ["CT"]),
        ((0.5, 0.44, 0.44), (1059, 512, 512), ["CT"]),
        ((2.0, 4.07, 4.07), (900, 168, 168), ["PET"]),
        ((999.0, 1.0, 1.0), (1, 4000, 6000), ["R", "G", "B"]),
        ((999.0, 0.143, 0.143), (1, 3000, 3000), ["X-ray"]),
        ((1.0, 1.0, 1.0), (10, 5000, 5000), ["EM"]),
        ((2.9e-4, 1e-4, 1e-4), (50, 512, 512), ["fluorescence"]),
        ((0.005, 0.005, 0.005), (400, 400, 400), ["micro-CT"]),
        ((1e-6, 5e-6, 5e-6), (100, 1024, 1024), ["image"]),
        ((0.3, 0.02, 0.02), (20, 512, 512), ["OCT"]),
        ((3.0, 1.0, 1.0), (1, 1, 1), ["CT"]),
    ],
)
def test_voxel_sizes_of_patients_pictures_and_microscopes_may_be(spacing, shape, channels):
    assert impossible_spacing(spacing, shape, channels) is None


@pytest.mark.parametrize(
    ("minimum", "maximum", "expected"),
    [
        (-1024, 3071, False),
        (-3024, 1410, False),
        (-200.5, 300.25, False),
        (-160, 240, False),
        (0, 255, True),
        (0, 4095, True),
        (-1, 1, True),
        (-32768, 3071, True),
    ],
)
def test_a_ct_has_something_lighter_than_water(minimum, maximum, expected):
    assert is_no_ct(minimum, maximum) is expected


def test_a_ct_is_a_channel_of_that_name():
    assert is_ct(" ct ")
    assert not is_ct("CTA")
