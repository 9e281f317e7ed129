from pathlib import Path

from autoseg.core.dataset import Case
from autoseg.core.labels import LabelSpace, Structure
from autoseg.plan.reasons import partial_labels
from autoseg.plan.splits import SplitCase, make_splits

LABELS = LabelSpace(
    structures=(Structure(name="liver", values=(1,)), Structure(name="kidney", values=(2,)))
)


def cases(count, **where):
    """Cases with a liver; ``kidney`` has or lacks one, and ``annotated`` is what says so."""
    return [
        SplitCase(
            name=f"case_{number:02d}",
            structures=frozenset({"liver"} | ({"kidney"} if number in where["kidney"] else set())),
            annotated=None if number in where["annotated"] else frozenset({"liver"}),
        )
        for number in range(count)
    ]


def held_out(splits):
    return [{int(name[-2:]) for name in fold.validation} for fold in splits.folds]


def test_every_fold_holds_out_a_case_that_shows_where_a_rare_structure_is_not():
    # By chance fold 0 holds out cases 0 and 7, fold 1 cases 3 and 9, fold 2 cases 4 and 6.
    full = {0, 7, 3, 9, 1}
    splits = make_splits(cases(10, kidney={0, 3}, annotated=full))
    assert all(fold & full for fold in held_out(splits))
    assert all(set(range(10)) - fold & {0, 3} for fold in held_out(splits))
    assert "because fold 2 would have held out no annotated 'kidney'" in splits.reason
    assert "'kidney' is in too few cases for every fold to hold one out" in splits.reason


def test_a_fold_that_would_train_without_annotations_gets_some():
    splits = make_splits(cases(10, kidney={0}, annotated={0, 7}))
    assert "because fold 0 would have trained without annotated 'kidney'" in splits.reason
    assert sum(bool(fold & {0, 7}) for fold in held_out(splits)) == 2


def test_folds_are_those_of_full_labels_where_every_part_has_every_structure():
    everywhere = set(range(10))
    full = make_splits(cases(10, kidney=everywhere, annotated=everywhere))
    assert make_splits(cases(10, kidney={0, 3, 4, 1, 2}, annotated={0, 3, 4, 1, 2})) == full


def test_a_rare_structure_that_all_are_annotated_for_is_told_as_ever():
    everywhere = set(range(10))
    assert "annotated" not in make_splits(cases(10, kidney={0}, annotated=everywhere)).reason


def test_the_plan_counts_who_is_annotated_for_what_and_says_what_follows():
    def case(annotated):
        return Case(name="a", images=(Path("i"),), label=Path("l"), annotated=annotated)

    (decision,) = partial_labels([case(None), case(("liver",)), case(("liver",))], LABELS)
    assert (decision.what, decision.value) == ("partial labels", "kidney in 1 of 3 cases")
    assert decision.reason == (
        "listed under 'annotated' in the table of cases; where a structure is not annotated, "
        "background may be that structure: the loss takes it for either, scores leave it out"
    )
    assert partial_labels([case(None)], LABELS) == ()
