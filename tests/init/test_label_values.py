import pytest

from autoseg.core.labels import LabelSpace, Structure
from autoseg.errors import DataError
from autoseg.init.labels import MOST_VALUES, LabelLook, find_labels


def look(*values: int, border: dict[int, int] | None = None) -> LabelLook:
    voxels = dict.fromkeys(values, 10)
    return LabelLook(voxels=voxels, border=voxels if border is None else border)


def segmented(stored: dict[str, int], sets: dict[tuple[str, ...], int]) -> LabelLook:
    segments = {frozenset(names): count for names, count in sets.items()}
    voxels = {0: 1} | {stored[names[0]]: n for names, n in sets.items() if len(names) == 1}
    return LabelLook(voxels=voxels, border={}, segments=segments, stored=stored)


@pytest.mark.parametrize("value", [1, 255])
def test_a_single_value_is_the_foreground(value):
    found = find_labels([look(0, value), look(0)], {})

    assert found.space == LabelSpace(structures=(Structure(name="foreground", values=(value,)),))
    assert found.presence == {"foreground": 1}
    assert found.remarks == ()


def test_values_without_a_name_are_numbered_by_the_value():
    found = find_labels([look(0, 1), look(0, 4, 2)], {2: "oedema"})

    assert found.space.names == ("structure_1", "oedema", "structure_4")
    assert found.space.values == (0, 1, 2, 4)
    assert found.presence == {"structure_1": 1, "oedema": 1, "structure_4": 1}


def test_without_a_0_the_background_is_what_the_borders_hold():
    looks = [look(1, 2, border={1: 90, 2: 10}), look(1, 2, border={1: 20, 2: 30})]

    found = find_labels(looks, {})

    assert (found.space.background, found.space.values) == (1, (1, 2))
    assert found.remarks == (
        (
            "no label map holds 0: 1, the most frequent value at the borders of the images, is "
            "taken for the background"
        ),
    )


def test_a_name_may_say_that_a_value_is_to_be_ignored():
    space = find_labels([look(0, 1, 255)], {255: "Ignore", 1: "cell"}).space

    assert (space.names, space.ignore) == (("cell",), 255)


def test_255_beside_other_values_may_mean_ignore():
    found = find_labels([look(0, 1, 255)], {})

    assert found.space.values == (0, 1, 255)
    assert found.remarks == (
        (
            "255 is taken for a structure; if it marks voxels nobody annotated, name it "
            "'ignore' in the description"
        ),
    )


def test_equal_names_are_told_apart_by_their_values():
    names = {1: "Kidney", 2: "kidney", 3: "background"}

    assert find_labels([look(0, 1, 2, 3)], names).space.names == (
        *("Kidney_1", "kidney_2", "background_3"),
    )


def test_label_maps_without_a_structure_are_refused():
    with pytest.raises(DataError, match=r"^the label maps hold nothing but 0$"):
        find_labels([look(0), look(0)], {})


def test_intensities_are_no_labels():
    with pytest.raises(DataError, match=r"^1001 label values, which are rather intensities$"):
        find_labels([look(*range(MOST_VALUES + 1))], {})


def test_segments_that_never_overlap_keep_their_numbers_if_all_files_agree():
    looks = [
        segmented({"liver": 3, "spleen": 5}, {(): 50, ("liver",): 30, ("spleen",): 20}),
        segmented({"liver": 3}, {(): 50, ("liver",): 3}),
    ]

    found = find_labels(looks, {})

    assert {s.name: s.values for s in found.space.structures} == {"liver": (3,), "spleen": (5,)}
    assert found.presence == {"liver": 2, "spleen": 1}
    assert found.space.output_values is None


def test_segments_numbered_anew_in_each_file_get_numbers_of_their_own():
    looks = [
        segmented({"liver": 1, "spleen": 2}, {("liver",): 30, ("spleen",): 20}),
        segmented({"Spleen ": 1, "liver": 2}, {("liver",): 3, ("Spleen ",): 2}),
    ]

    found = find_labels(looks, {})

    assert {s.name: s.values for s in found.space.structures} == {"liver": (1,), "spleen": (2,)}
    assert found.presence == {"liver": 2, "spleen": 2}


def test_segments_without_a_voxel_are_declared_all_the_same():
    found = find_labels([segmented({"liver": 1, "tumour": 2}, {(): 9, ("liver",): 9})], {})

    assert found.space.names == ("liver", "tumour")
    assert found.presence == {"liver": 1, "tumour": 0}


def test_overlapping_segments_are_regions_with_a_value_per_combination():
    sets = {(): 100, ("liver",): 30, ("liver", "tumour"): 5, ("vessel",): 8}
    found = find_labels([segmented({"liver": 1, "tumour": 1, "vessel": 2}, sets)], {})

    space = found.space
    by_name = {s.name: set(s.values) for s in space.structures}
    both = by_name["liver"] & by_name["tumour"]
    assert len(both) == 1
    assert len(by_name["liver"]) == 2
    assert by_name["vessel"].isdisjoint(by_name["liver"] | by_name["tumour"])
    assert space.names == ("liver", "vessel", "tumour")  # the largest first
    assert space.output_values is not None
    assert all(v in by_name[n] for n, v in zip(space.names, space.output_values, strict=True))
    assert len(set(space.output_values)) == 3
    assert found.remarks == ("segments overlap: each structure is a region",)


def test_segments_without_any_voxel_are_refused():
    with pytest.raises(DataError, match=r"^no segment of the label maps has a voxel$"):
        find_labels([segmented({"liver": 1}, {(): 9})], {})


def test_a_segment_named_ignore_is_to_be_ignored():
    sets = {(): 1, ("liver",): 2, ("ignore",): 3}

    space = find_labels([segmented({"liver": 1, "ignore": 2}, sets)], {}).space

    assert (space.names, space.ignore) == (("liver",), 2)


def test_named_and_plain_label_maps_together_are_told():
    found = find_labels([segmented({"liver": 1}, {(): 1, ("liver",): 2}), look(0, 1, 2)], {})

    assert found.space.names == ("liver", "structure_2")
    assert found.presence == {"liver": 2, "structure_2": 1}
    assert found.remarks == (
        (
            "1 label maps name their segments and 1 only number them: see that their numbers mean "
            "the same"
        ),
    )
