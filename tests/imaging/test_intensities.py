import pytest

from autoseg.imaging.intensities import looks_like_hu


@pytest.mark.parametrize(
    ("minimum", "maximum"),
    [(-1024, 1310), (-1000, 3071), (-2048, 2976), (-3024, 1410), (-900, 300), (-1024, 30710)],
)
def test_whole_numbers_from_air_to_bone_look_like_hu(minimum, maximum):
    assert looks_like_hu(minimum, maximum, is_whole=True)


@pytest.mark.parametrize(
    ("minimum", "maximum"),
    [
        (0, 500_000),  # MR of the Hippocampus task
        (0, 255),
        (0, 4095),  # cone-beam CT shifted to start at 0
        (-4096, 4094),  # MR phase
        (-32768, 32767),  # scaled to a type
        (-1024, 120),  # nothing but fat and air
        (-160, 240),  # a soft-tissue window
        (-899, 1000),
        (-1000, 299),
    ],
)
def test_other_ranges_do_not(minimum, maximum):
    assert not looks_like_hu(minimum, maximum, is_whole=True)


def test_fractions_are_no_hu():
    assert not looks_like_hu(-1024, 1310, is_whole=False)
