from pathlib import Path

import pytest
from raw_folders import findings, make_folder

from autoseg.core.dataset import Case
from autoseg.core.labels import LabelSpace, Structure
from autoseg.init.stage import describe_folder
from autoseg.io.dataset_folder import find_dataset, survey_dataset
from autoseg.io.layouts.table import write_table
from autoseg.io.mended import MendedFile, Mends, put_in_place

NAMES = ("liver", "left kidney", "right kidney")
FILES = [f"{case}/{file}.nii.gz" for case in "abcd" for file in ("ct", "seg")]
DESCRIPTION = {
    "channels": ["CT"],
    "labels": {"background": 0, **{name: value for value, name in enumerate(NAMES, 1)}},
}


def write(root: Path, *cells: str, divider: str = ",", **changes: object) -> Path:
    """A data set with a case for each cell of the column ``annotated``."""
    make_folder(root, FILES, DESCRIPTION | changes)
    rows = [("case", "CT", "label", "annotated")]
    rows += [
        (name, f"{name}/ct.nii.gz", f"{name}/seg.nii.gz", cell)
        for name, cell in zip("abcd", cells, strict=False)
    ]
    (root / "cases.csv").write_text("\n".join(divider.join(row) for row in rows) + "\n")
    return root


def annotated(root: Path) -> list[tuple[str, ...] | None]:
    return [case.annotated for case in find_dataset(root).cases]


def test_a_column_says_what_is_annotated_in_which_case(tmp_path):
    root = write(tmp_path / "t", "right kidney | liver", "", "left kidney")
    assert annotated(root) == [("liver", "right kidney"), None, ("left kidney",)]


def test_a_case_that_lists_every_structure_is_like_one_that_lists_none(tmp_path):
    assert annotated(write(tmp_path / "t", "|".join(NAMES))) == [None]


def test_upper_and_lower_case_do_not_matter(tmp_path):
    assert annotated(write(tmp_path / "t", "LIVER|Left Kidney")) == [("liver", "left kidney")]


def test_a_name_written_exactly_wins(tmp_path):
    labels = {"background": 0, "LV": 1, "lv": 2}
    assert annotated(write(tmp_path / "t", "lv", "LV", labels=labels)) == [("lv",), ("LV",)]
    (finding,) = findings(survey_dataset(write(tmp_path / "u", "Lv", labels=labels)))
    assert finding == (
        "line 2: annotated: no structure named 'Lv' (available: LV, lv); divide several by '|'"
    )


def test_regions_are_named_like_structures(tmp_path):
    labels = {"background": 0, "whole": [1, 2], "core": [2]}
    root = write(tmp_path / "t", "whole", labels=labels, regions_class_order=[1, 2])
    assert annotated(root) == [("whole",)]


def test_names_of_a_table_with_semicolons_are_divided_alike(tmp_path):
    root = write(tmp_path / "t", "liver|left kidney", divider=";")
    assert annotated(root) == [("liver", "left kidney")]


def test_unknown_names_are_told_with_their_line_and_the_right_ones(tmp_path):
    survey = survey_dataset(write(tmp_path / "t", "liver", "livr", '"liver,left kidney"', "| |"))
    assert findings(survey) == [
        (
            "line 3: annotated: no structure named 'livr'; did you mean 'liver'? (available: left "
            "kidney, liver, right kidney); divide several by '|'"
        ),
        (
            "line 4: annotated: no structure named 'liver,left kidney'; did you mean 'left "
            "kidney'? (available: left kidney, liver, right kidney); divide several by '|'"
        ),
        "line 5: annotated: '| |' names no structure; leave the cell empty if all were annotated",
    ]
    assert [problem.case for problem in survey.problems] == ["b", "c", "d"]
    assert survey.dataset is not None
    assert [case.name for case in survey.dataset.cases] == ["a"]


def test_what_a_table_says_is_written_back(tmp_path):
    root = write(tmp_path / "t", "right kidney|liver", "", "left kidney")
    described = describe_folder(root, tmp_path / "new" / "dataset.json", workers=0)
    assert (tmp_path / "new" / "cases.csv").read_text().splitlines()[:3] == [
        "case,image,label,annotated",
        "a,a/ct.nii.gz,a/seg.nii.gz,liver|right kidney",
        "b,b/ct.nii.gz,b/seg.nii.gz,",
    ]
    read = find_dataset(root, tmp_path / "new" / "dataset.json")
    assert read.cases == described.dataset.cases == find_dataset(root).cases


def test_a_name_that_a_cell_cannot_hold_is_refused(tmp_path):
    structures = tuple(Structure(name=n, values=(v,)) for v, n in enumerate(("a|b", "c"), 1))
    case = Case(name="x", images=(Path("i"),), label=Path("l"), annotated=("a|b",))
    with pytest.raises(ValueError, match=r"cannot list structures with '\|' in their names"):
        write_table(
            tmp_path / "dataset.json",
            name="T",
            root=tmp_path,
            channels=["CT"],
            labels=LabelSpace(structures=structures),
            cases=[case],
        )


def test_a_case_with_mended_copies_is_annotated_for_what_it_was(tmp_path):
    dataset = find_dataset(write(tmp_path / "t", "liver"))
    label = dataset.label_path(dataset.cases[0])
    mended = MendedFile(raw=label, copies=("a_label.nii.gz",), done=("labels=5:0",), sources=())
    (case,) = put_in_place(dataset, Mends(files=(mended,)), tmp_path / "m").cases
    assert case.label == tmp_path / "m" / "a_label.nii.gz"
    assert case.annotated == ("liver",)
