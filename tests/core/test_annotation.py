from pathlib import Path

import pytest

from autoseg.core.annotation import (
    annotated_indices,
    in_words,
    is_annotated,
    known_outputs,
    left_out,
    partly_annotated,
)
from autoseg.core.changes import changed_annotation
from autoseg.core.dataset import Case, Dataset
from autoseg.core.labels import LabelSpace, Structure

# In the files liver is 7, kidney 3 and spleen 5, so that their indices are 3, 1 and 2.
ORGANS = LabelSpace(
    structures=tuple(
        Structure(name=name, values=(value,))
        for name, value in (("liver", 7), ("kidney", 3), ("spleen", 5))
    ),
    ignore=9,
)
REGIONS = LabelSpace(
    structures=(
        Structure(name="whole", values=(1, 2, 4)),
        Structure(name="core", values=(1, 4)),
        Structure(name="enhancing", values=(4,)),
    ),
    output_values=(2, 1, 4),
)


def case(name="a", annotated=None):
    return Case(name=name, images=(Path("i"),), label=Path("l"), annotated=annotated)


def test_outputs_are_known_by_index_and_the_background_always():
    assert known_outputs(ORGANS, ("liver",)) == (True, False, False, True)
    assert known_outputs(ORGANS, ("kidney", "spleen")) == (True, True, True, False)


def test_outputs_of_regions_are_known_one_by_one_and_have_no_background():
    assert known_outputs(REGIONS, ("core",)) == (False, True, False)


@pytest.mark.parametrize("labels", [ORGANS, REGIONS])
def test_a_case_that_is_annotated_for_everything_knows_every_output(labels):
    assert known_outputs(labels, None) == (True,) * labels.num_outputs
    assert left_out(labels, None) == ()


def test_a_label_map_holds_the_values_of_any_region_it_is_annotated_for():
    assert annotated_indices(REGIONS, ("core",)) == {1, 3}
    assert annotated_indices(REGIONS, ("whole",)) == annotated_indices(REGIONS, None) == {1, 2, 3}
    assert annotated_indices(ORGANS, ("liver",)) == {3}


def test_what_is_left_out_is_named_in_declared_order():
    assert left_out(ORGANS, ("kidney",)) == ("liver", "spleen")


def test_only_cases_that_leave_something_out_are_partly_annotated():
    cases = [case("a"), case("b", ("liver",))]
    assert partly_annotated(cases) == {"b": ("liver",)}
    assert is_annotated(cases[0], "kidney")
    assert not is_annotated(cases[1], "kidney")


def test_structures_are_counted_where_they_are_not_everywhere():
    cases = [case(), case(), case(annotated=("liver", "spleen")), case(annotated=("liver",))]
    assert in_words(cases, ORGANS) == "kidney in 2 of 4 cases, spleen in 3"
    assert in_words(cases[2:3], ORGANS, "training case") == "kidney in 0 of 1 training case"
    assert in_words(cases[:2], ORGANS) is None


def test_of_many_structures_those_in_fewest_cases_are_counted():
    labels = LabelSpace(
        structures=tuple(Structure(name=f"s{i}", values=(i,)) for i in range(1, 10))
    )
    cases = [case(annotated=tuple(f"s{i}" for i in range(n, 10))) for n in range(2, 10)]
    assert in_words(cases, labels) == (
        "s1 in 0 of 8 cases, s2 in 1, s3 in 2, s4 in 3, s5 in 4, s6 in 5 and 2 more structures "
        "in more of them"
    )


def test_changed_annotations_are_counted_and_the_first_is_named():
    before = [case("a"), case("b", ("liver",)), case("c")]
    now = [case("c", ("liver",)), case("b"), case("a"), case("new", ("liver",))]
    assert changed_annotation(before, now) == (
        "2 cases are annotated for other structures (the first is 'b')"
    )
    assert changed_annotation(before, now[2:]) is None


def test_a_data_set_noted_before_cases_said_what_is_annotated_is_still_read():
    old = Dataset(
        name="T", root=Path("/r"), layout="table", channels=("CT",), labels=ORGANS, cases=(case(),)
    ).model_dump(mode="json")
    del old["cases"][0]["annotated"]
    assert Dataset.model_validate(old).cases[0].annotated is None
