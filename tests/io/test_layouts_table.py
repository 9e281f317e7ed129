from pathlib import Path
from typing import Any

import pytest
from raw_folders import findings, make_folder, told

from autoseg.core.dataset import Case, Dataset, Split
from autoseg.core.labels import LabelSpace, Structure
from autoseg.errors import DataError
from autoseg.io.dataset_folder import find_dataset, survey_dataset
from autoseg.io.layouts.table import root_of, write_table

TABLE = {"channels": ["CT"], "labels": {"background": 0, "kidney": 1, "tumour": 2}}
FILES = ["a/ct.nii.gz", "a/seg.nii.gz", "b/ct.nii.gz", "b/seg.nii.gz"]
CASES = "case,CT,label\na,a/ct.nii.gz,a/seg.nii.gz\nb,b/ct.nii.gz,b/seg.nii.gz\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "kidneys"


def write(folder: Path, cases: str | bytes | None = CASES, **changes: Any) -> Path:
    make_folder(folder, FILES, TABLE | changes)
    if cases is not None:
        content = cases.encode() if isinstance(cases, str) else cases
        (folder / "cases.csv").write_bytes(content)
    return folder


def only(root: Path) -> str:
    """The only finding; it concerns the table."""
    survey = survey_dataset(root)
    assert [problem.file for problem in survey.problems] == [root / "cases.csv"], survey.problems
    return survey.problems[0].finding


def read(root: Path, cases: str | bytes, **changes: Any) -> Dataset:
    return find_dataset(write(root, cases, **changes))


def test_five_lines_and_a_table_describe_a_data_set(root: Path):
    dataset = find_dataset(write(root))

    assert dataset == Dataset(
        name="kidneys",
        root=root,
        layout="table",
        channels=("CT",),
        labels=LabelSpace(
            structures=(
                Structure(name="kidney", values=(1,)),
                Structure(name="tumour", values=(2,)),
            )
        ),
        cases=tuple(
            Case(name=n, images=(Path(n, "ct.nii.gz"),), label=Path(n, "seg.nii.gz")) for n in "ab"
        ),
    )


def test_the_table_may_have_another_name(root: Path):
    make_folder(root, [*FILES, "lists/mine.csv"], TABLE | {"cases": "lists/mine.csv"})
    (root / "lists/mine.csv").write_text(CASES)

    assert len(find_dataset(root).cases) == 2


def test_channels_may_be_numbered_as_elsewhere(root: Path):
    description = {"modality": {"0": "CT"}, "labels": {"0": "background", "1": "kidney"}}
    make_folder(write(root), [], description)

    dataset = find_dataset(root)

    assert dataset.layout == "table"
    assert dataset.channels == ("CT",)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_spreadsheets_of_any_country_are_read(root: Path, delimiter: str, ends: str):
    text = CASES.replace(",", delimiter).replace("\n", ends)

    assert len(read(root, text.encode("utf-8-sig")).cases) == 2


def test_blank_lines_comments_and_columns_put_aside_are_skipped(root: Path):
    text = (
        "# kidneys; of, the, second, round\n\n case ,ct, LABEL ,#age,_note\n"
        '"a", a/ct.nii.gz ,a/seg.nii.gz,50,"x, y"\n,,,,\n  # b,is,not,good,enough\n'
    )

    assert read(root, text).cases == (
        Case(name="a", images=(Path("a/ct.nii.gz"),), label=Path("a/seg.nii.gz")),
    )


def test_paths_may_have_backslashes_quotes_or_be_absolute(root: Path, tmp_path: Path):
    elsewhere = make_folder(tmp_path / "else, where", ["seg.nii.gz"])
    text = f'case;image;label\na;.\\a\\ct.nii.gz;"{elsewhere}/seg.nii.gz"\n'

    dataset = read(root, text)

    assert dataset.image_paths(dataset.cases[0]) == (root / "a/ct.nii.gz",)
    assert dataset.label_path(dataset.cases[0]) == elsewhere / "seg.nii.gz"


def test_a_column_per_channel_is_in_the_order_of_the_channels(root: Path):
    make_folder(root, ["a/t1.mha", "a/t2.mha"])
    text = "label,t2,T1,case\na/seg.nii.gz,a/t2.mha,a/t1.mha,a\n"

    dataset = read(root, text, channels=["T1", "T2"])

    assert dataset.cases[0].images == (Path("a/t1.mha"), Path("a/t2.mha"))


def test_one_file_may_hold_all_channels_in_some_cases_or_all(root: Path):
    make_folder(root, ["a/t1.mha", "a/t2.mha"])
    text = (
        "case,image,T1,T2,label\na,,a/t1.mha,a/t2.mha,a/seg.nii.gz\nb,b/ct.nii.gz,,,b/seg.nii.gz\n"
    )

    cases = read(root, text, channels=["T1", "T2"]).cases

    assert [len(case.images) for case in cases] == [2, 1]


def test_an_image_may_be_a_folder(root: Path):
    make_folder(root, ["a/series/1.dcm"])

    dataset = read(root, "case,image,label\na,a/series,a/seg.nii.gz\n")

    assert dataset.cases[0].images == (Path("a/series"),)


@pytest.mark.parametrize("column", ["group", "Patient"])
def test_patients_keep_their_cases_together(root: Path, column: str):
    text = CASES.replace("label\n", f"label,{column}\n").replace("seg.nii.gz\n", "seg.nii.gz,p1\n")

    assert [case.group for case in read(root, text).cases] == ["p1", "p1"]


def split(root: Path, *splits: str) -> Path:
    """A table of as many cases, all of the same files, with a column ``split``."""
    lines = (f"c{i},a/ct.nii.gz,a/seg.nii.gz,{s}\n" for i, s in enumerate(splits))
    return write(root, "case,image,label,split\n" + "".join(lines))


def test_a_number_in_split_is_the_fold_that_holds_the_case_out(root: Path):
    dataset = find_dataset(split(root, "1", "0", "1", "test"))

    assert [case.name for case in dataset.cases] == ["c0", "c1", "c2"]
    assert dataset.folds == (
        Split(train=("c0", "c2"), validation=("c1",)),
        Split(train=("c1",), validation=("c0", "c2")),
    )


def test_nothing_in_split_leaves_the_dealing_to_autoseg(root: Path):
    dataset = find_dataset(split(root, "", "", "Test"))

    assert [case.name for case in dataset.cases] == ["c0", "c1"]
    assert dataset.folds is None


def test_cases_for_testing_need_no_files(root: Path):
    text = "case,image,label,split\na,a/ct.nii.gz,a/seg.nii.gz,\nz,nowhere.mha,,test\n"

    assert [case.name for case in read(root, text).cases] == ["a"]


@pytest.mark.parametrize(
    ("splits", "finding"),
    [
        (("0", "", "1"), "line 3: no split, though other cases have one"),
        (("0", "2"), "split: there should be folds 0, 1 and so on, found 0, 2"),
        (("0", "0"), "split: there should be folds 0, 1 and so on, found 0"),
        (("0", "1", "train"), "line 4: split 'train' is no fold's number and not 'test'"),
        (("0", "1", "-1"), "line 4: split '-1' is no fold's number and not 'test'"),
    ],
)
def test_folds_that_cannot_be_are_told(root: Path, splits: tuple[str, ...], finding: str):
    assert only(split(root, *splits)) == finding


@pytest.mark.parametrize(
    ("cases", "finding"),
    [
        ("case,CT,label,goup\n", "unknown column 'goup' (did you mean 'group'?)"),
        ("case,CT,label,age\n", "unknown column 'age'"),
        ("case,CT,label,patient,group\n", "2 columns mean 'group'"),
        ("CT,label\n", "no column 'case'"),
        ("case,image\n", "no column 'label'"),
        ("case,label\n", "no column for the images: 'image', or one per channel, 'CT'"),
        ("case,CT,label\n", "no case below the names of the columns"),
        ("# nothing\n\n", "empty"),
        (CASES + "c,a/ct.nii.gz\n", "line 4: 2 cells under 3 columns"),
        (CASES + "\nc,a/ct.nii.gz,a/seg.nii.gz,x\n", "line 5: 4 cells under 3 columns"),
        (CASES + ",a/ct.nii.gz,a/seg.nii.gz\n", "line 4: 'case' is empty"),
        (CASES + "a,a/ct.nii.gz,a/seg.nii.gz\n", "line 4: the case is in the table 2 times"),
        (CASES.encode("utf-16"), "not in UTF-8: save it as 'CSV UTF-8'"),
        (CASES + '"c' + "x" * 140000, "line 4: field larger than field limit (131072)"),
    ],
)
def test_a_wrong_table_is_told_with_the_line(root: Path, cases: str | bytes, finding: str):
    assert only(write(root, cases)).startswith(finding)


def test_all_unknown_columns_are_told_at_once(root: Path):
    survey = survey_dataset(write(root, "case;CT;labl;sex\n"))

    assert findings(survey) == [
        "unknown column 'labl' (did you mean 'label'?)",
        "unknown column 'sex'",
        "no column 'label'",
    ]


def test_a_channel_without_a_column_is_told(root: Path):
    write(root, "case,T1,label\na,a/ct.nii.gz,a/seg.nii.gz\n", channels=["T1", "T2"])

    assert only(root) == "no column 'T2'"


def test_channels_that_cannot_be_told_apart_as_columns_are_told(root: Path):
    write(root, "case,T1,label\n", channels=["T1", "t1"])

    assert only(root) == "two channels, or a channel and another column, have one name"
    write(root, "case,T1,label\n", channels=["T1", "label"])
    assert only(root) == "two channels, or a channel and another column, have one name"


@pytest.mark.parametrize("name", ["image", "R"])
def test_in_one_file_channels_may_have_any_names(root: Path, name: str):
    text = "case,image,label\na,a/ct.nii.gz,a/seg.nii.gz\n"

    assert read(root, text, channels=[name] * 3).channels == (name,) * 3


def test_missing_files_and_empty_cells_are_told_with_case_and_place(root: Path):
    text = (
        "case,T1,T2,label\n"
        "c,a/ct.nii.gz,,a/seg.nii.gz\n"
        "d,,,a/seg.nii.gz\n"
        "e,a/ct.nii.gz,b/ct.nii.gz,\n"
        "f,a/ct.nii.gz,x.mha,y.mha\n"
        "g,x.mha,x.mha,a/seg.nii.gz\n"
        "h,a/ct.nii.gz,b/ct.nii.gz,a/seg.nii.gz\n"
    )
    survey = survey_dataset(write(root, text, channels=["T1", "T2"]))

    assert told(survey, root) == [
        ("missing-label", "e", "cases.csv", "line 4: 'label' is empty"),
        ("missing-label", "f", "y.mha", "missing"),
        ("missing-image", "d", "cases.csv", "line 3: 't1' is empty"),
        ("missing-image", "d", "cases.csv", "line 3: 't2' is empty"),
        ("missing-image", "g", "x.mha", "missing"),
        ("missing-channel", "c", "cases.csv", "line 2: 't2' is empty"),
        ("missing-channel", "f", "x.mha", "missing (T2)"),
    ]
    assert survey.dataset is not None
    assert [case.name for case in survey.dataset.cases] == ["h"]


def test_a_table_that_is_not_there_is_told(root: Path):
    assert only(write(root, cases=None)) == "missing"
    (root / "cases.csv").mkdir()
    make_folder(root, [], TABLE | {"cases": "cases.csv"})
    assert only(root).startswith("cannot be read (")


def test_wrong_keys_of_a_description_are_told(root: Path):
    write(root, cases=CASES, name="a/b", root=3, channels={"1": "CT"})

    assert findings(survey_dataset(root)) == [
        'channels: should list the channels, such as ["CT"]',
        "name: 'a/b' cannot be the name of a task",
        "root: should be text",
    ]
    make_folder(root, [], {"cases": "cases.csv", "labels": {"a": 1}})
    assert findings(survey_dataset(root)) == ["channels: missing key"]
    for gone in ("gone", "x" * 300):
        make_folder(root, [], TABLE | {"root": gone})
        assert findings(survey_dataset(root)) == [f"root: there is no folder {root / gone}"]


# Descriptions that lie elsewhere


@pytest.mark.parametrize("form", ["{}", "../kidneys"])
def test_a_description_elsewhere_names_the_folder_it_speaks_of(
    root: Path, tmp_path: Path, form: str
):
    make_folder(root, FILES)
    elsewhere = write(tmp_path / "elsewhere", root=form.format(root), name="Task_Kidneys")

    dataset = find_dataset(root, elsewhere / "dataset.json")

    assert dataset.name == "Task_Kidneys"
    assert dataset.root == root
    assert dataset.description == elsewhere / "dataset.json"
    assert dataset.image_paths(dataset.cases[0]) == (root / "a/ct.nii.gz",)
    assert root_of(elsewhere / "dataset.json") == root
    assert find_dataset(elsewhere) == dataset


def test_a_task_is_named_like_its_folder_unless_the_description_names_it(
    root: Path, tmp_path: Path
):
    make_folder(root, FILES)
    elsewhere = write(tmp_path / "elsewhere", root=str(root))

    assert find_dataset(root, elsewhere / "dataset.json").name == "kidneys"
    assert root_of(write(tmp_path / "here") / "dataset.json") == tmp_path / "here"


def test_a_description_that_is_not_there_is_told(root: Path, tmp_path: Path):
    survey = survey_dataset(make_folder(root, FILES), tmp_path / "gone.json")

    assert survey.dataset is None
    assert survey.problems[0].file == tmp_path / "gone.json"
    assert survey.problems[0].finding.startswith("cannot be read (")
    with pytest.raises(DataError, match="cannot be read"):
        root_of(tmp_path / "gone.json")


# Writing

WHOLE = LabelSpace(
    structures=(
        Structure(name="whole", values=(4, 1, 2)),
        Structure(name="core", values=(1, 4)),
        Structure(name="enhancing", values=(4,)),
    ),
    background=7,
    ignore=9,
    output_values=(2, 1, 4),
)


def some_cases(num_images: int) -> tuple[Case, ...]:
    return tuple(
        Case(
            name=f"{n}, ü",
            images=tuple(Path(f"{n} x/i{i}.mha") for i in range(num_images)),
            label=Path(f"{n} x/l.mha"),
            group=f"p;{i % 2}",
        )
        for i, n in enumerate("abcd")
    )


@pytest.mark.parametrize("num_images", [1, 2])
@pytest.mark.parametrize("place", ["elsewhere", "kidneys"])
def test_what_is_written_is_read_back(root: Path, tmp_path: Path, num_images: int, place: str):
    cases = some_cases(num_images)
    make_folder(root, [str(p) for case in cases for p in (*case.images, case.label)])
    names = [case.name for case in cases]
    folds = (
        Split(train=tuple(names[1:]), validation=(names[0],)),
        Split(train=(names[0],), validation=tuple(names[1:])),
    )
    description = tmp_path / place / "dataset.json"

    write_table(
        description,
        name="Task_X",
        root=root,
        channels=("T1", "a, b"),
        labels=WHOLE,
        cases=cases,
        folds=folds,
    )

    assert find_dataset(root, description) == Dataset(
        name="Task_X",
        root=root,
        layout="table",
        channels=("T1", "a, b"),
        labels=WHOLE,
        cases=cases,
        folds=folds,
        description=description if place == "elsewhere" else None,
    )


def test_a_description_is_written_in_a_few_lines_people_can_edit(root: Path, tmp_path: Path):
    labels = LabelSpace(structures=(Structure(name="kidney", values=(1,)),))
    inside, outside = root / "a/ct.mha", tmp_path / "else where/seg.mha"
    case = Case(name="a", images=(inside,), label=outside)

    write_table(
        root / "dataset.json", name="X", root=root, channels=["CT"], labels=labels, cases=[case]
    )

    assert (root / "dataset.json").read_text() == (
        '{\n  "name": "X",\n  "channels": ["CT"],\n  "labels": {"background": 0, "kidney": 1},\n'
        '  "cases": "cases.csv"\n}\n'
    )
    assert (root / "cases.csv").read_text() == (
        f"case,image,label\na,a/ct.mha,{outside.as_posix()}\n"
    )


def test_cases_with_one_file_and_with_several_are_written_into_one_table(root: Path):
    cases = (some_cases(1)[0], *some_cases(2)[1:])
    make_folder(root, [str(p) for case in cases for p in (*case.images, case.label)])

    write_table(
        root / "dataset.json", name="X", root=root, channels=["A", "B"], labels=WHOLE, cases=cases
    )

    assert find_dataset(root).cases == cases


def test_what_a_table_cannot_hold_is_refused(root: Path):
    def write_with(**changes: Any) -> None:
        given = {"channels": ["A", "B"], "cases": some_cases(2)} | changes
        write_table(root / "dataset.json", name="X", root=root, labels=WHOLE, **given)

    with pytest.raises(ValueError, match=r"channels \['A', 'a'\] cannot be names of columns"):
        write_with(channels=["A", "a"])
    with pytest.raises(ValueError, match="cannot be names of columns"):
        write_with(channels=["A", "Label"])
    names = [case.name for case in some_cases(2)]
    with pytest.raises(ValueError, match="folds that hold out every case once"):
        write_with(folds=[Split(train=tuple(names[1:]), validation=tuple(names[:1]))])
    assert not root.exists()
