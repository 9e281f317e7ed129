import pytest

from autoseg.core.sides import side_pairs


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("kidney_left", "kidney_right"),
        ("left kidney", "Kidney Right"),
        ("Left-Lung", "Right-Lung"),
        ("LeftVentricle", "RightVentricle"),
        ("lung_upper_lobe_L", "lung_upper_lobe_R"),
        ("l_hippocampus", "r_hippocampus"),
        ("lKidney", "rKidney"),
        ("rib 3 lt", "rib 3 rt"),
        ("linke Niere", "rechte Niere"),
        ("left", "right"),
    ],
)
def test_names_that_differ_in_the_side_are_a_pair(left, right):
    assert side_pairs([right, "liver", left]) == [(left, right)]


@pytest.mark.parametrize(
    "names",
    [
        ["liver", "spleen"],
        ["kidney_left"],
        ["kidney_left", "lung_right"],
        ["rib_left_1", "rib_right_2"],
        ["cleft", "bright"],
        ["Anterior", "Posterior"],
    ],
)
def test_other_names_are_no_pair(names):
    assert side_pairs(names) == []


def test_several_pairs_are_sorted():
    names = ["eye_r", "eye_l", "ear_l", "ear_r", "nose"]
    assert side_pairs(names) == [("ear_l", "ear_r"), ("eye_l", "eye_r")]
