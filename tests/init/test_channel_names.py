import pytest

from autoseg.init.channels import ChannelRange, ImageLook, name_channels

HU = (-1024, 1500, True)
MR = (0, 3000.5, False)


def look(*ranges: tuple[float, float, bool], flat: bool = False, modality: str | None = None):
    channels = tuple(ChannelRange(min=r[0], max=r[1], is_whole=r[2]) for r in ranges)
    return ImageLook(is_flat=flat, channels=channels, modality=modality)


def named(guessed, marks, looks) -> list[tuple[str, str]]:
    return [(c.name, c.reason) for c in name_channels(guessed, marks, looks)]


def test_a_word_in_the_names_comes_first():
    found = named(["CT"], ["ct"], [[look(MR, modality="MR")]])

    assert found == [("CT", "'ct' in the names of the files")]


def test_dicom_knows_its_modality():
    found = named(["image"], [""], [[look((0, 4095, True), modality="CT")] * 3])

    assert found == [("CT", "modality of the DICOM files")]


def test_modalities_that_differ_tell_nothing():
    looks = [look(MR, modality="CT"), look(MR, modality="MR")]

    assert named(["image"], [""], [looks])[0][0] == "image"


def test_values_of_most_images_tell_a_ct():
    found = named(["image"], [""], [[look(HU), look(HU), look(MR)]])

    assert found == [
        (
            "CT",
            "2 of 3 images looked at hold whole numbers from air to bone, as in Hounsfield units",
        )
    ]


def test_values_of_few_images_do_not():
    found = named(["image"], [""], [[look(HU), look(MR), look(MR)]])

    assert found == [
        (
            "image",
            (
                "values from -1024 to 3000.5, only 1 of 3 images looked at can be CT; no name says "
                "more"
            ),
        )
    ]


def test_an_image_that_nothing_tells_is_one():
    found = named(["image"], [""], [[look(MR)]])

    assert found == [("image", "values from 0 to 3000.5, which is no CT; no name says what it is")]


def test_unknown_words_name_a_channel_but_not_a_ct():
    looks = [[look(MR)], [look(HU)]]

    assert named(["early", "late"], ["early", "late"], looks) == [
        ("early", "'early' in the names of the files"),
        ("CT", ("1 of 1 images looked at hold whole numbers from air to bone, as in Hounsfield "
         "units")),
    ]  # fmt: skip


def test_a_b_value_is_named_by_its_word():
    assert named(["b50", "b800"], ["b50", "b800"], [[look(MR)], [look(MR)]]) == [
        ("b50", "'b50' in the names of the files"),
        ("b800", "'b800' in the names of the files"),
    ]


def test_two_channels_of_one_name_are_numbered():
    assert [n for n, _ in named(["a", "b"], ["", ""], [[look(HU)], [look(HU)]])] == ["CT_0", "CT_1"]


def test_colours_are_three():
    picture = look(*[(0, 255, True)] * 3, flat=True)

    assert named(["image"], [""], [[picture]]) == [(c, "colour pictures") for c in "RGB"]


@pytest.mark.parametrize(
    "volume", [look(*[(0, 255, True)] * 3), look(*[(0, 256, True)] * 3, flat=True)]
)
def test_other_channels_in_one_file_are_numbered(volume):
    reason = "the files hold 3 channels, whose names they do not tell"

    assert named(["image"], [""], [[volume]]) == [(f"image_{i}", reason) for i in range(3)]
