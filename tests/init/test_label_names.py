import pytest

from autoseg.init.label_names import best_names, parse_names

KIDNEY = {1: "kidney", 2: "renal tumour"}

SNAP = """################################################
# ITK-SnAP Label Description File
# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL
################################################
    0     0    0    0        0  0  0    "Clear Label"
    1   255    0    0        1  1  1    "kidney"
    2     0  255    0      0.5  1  1    "renal tumour"
"""
COLOUR_TABLE = """# Color table file exported from 3D Slicer
# 3 values
0 Background 0 0 0 0
1 kidney 128 174 128 255
2 renal tumour 241 214 145 255
"""


@pytest.mark.parametrize(
    "text",
    [
        SNAP,
        COLOUR_TABLE,
        "0 background\n1 kidney\n2 renal tumour\n",
        "1: kidney\n\n2: renal tumour\n",
        "1 = kidney\n2 = renal tumour\n",
        "value,name\n0,background\n1,kidney\n2,renal tumour\n",
        "1\tkidney\r\n2\trenal tumour\r\n",
        '1 "kidney"\n2 "renal tumour"\n',
        "background 0\nkidney 1\nrenal tumour 2\n",
        "kidney: 1\nrenal tumour: 2\n",
    ],
)
def test_names_are_read_as_tools_and_people_write_them(text):
    assert parse_names(text) == KIDNEY


@pytest.mark.parametrize(
    "text", ["", "these are the labels\nof our study\n", "case1.nii.gz\ncase2.nii.gz\n", "1 2 3\n"]
)
def test_other_text_names_nothing(text):
    assert parse_names(text) == {}


def test_the_file_that_names_most_values_counts():
    candidates = {"a": {1: "x", 7: "y", 8: "z"}, "b": {1: "kidney", 2: "tumour"}, "c": {1: "k"}}

    assert best_names(candidates, [1, 2]) == "b"
    assert best_names(candidates, [9]) is None
    assert best_names({}, [1]) is None
