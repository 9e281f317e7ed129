from dataclasses import replace

from made_up import case_scores, made_up, report_of, with_scores

from autoseg.core.selection import Group, Selection
from autoseg.report.choice import cases_to_show, choose
from autoseg.report.material import Trained

METRICS = ("dice",)


def model(configuration, run="default", **folds):
    scores = {
        fold: report_of([case_scores(n, kidney=d) for n, d in cases.items()], METRICS)
        for fold, cases in folds.items()
    }
    return Trained(configuration=configuration, run=run, folds=(), scores=scores, pooled=None)


def selected(*groups):
    return Selection(
        groups=tuple(
            Group(plan=plan, configuration=c, run=run, folds=("fold0",)) for plan, c, run in groups
        )
    )


def test_the_best_on_held_out_cases_is_chosen():
    flat = model("2d", fold0={"a": 0.7}, fold1={"b": 0.8})
    full = model("3d_fullres", fold0={"a": 0.76})
    assert choose([flat, full], None, "default") == (full, "the best on held-out cases")
    assert choose([flat], None, "default") == (flat, "the only one with scores")


def test_what_was_selected_comes_before_what_is_best():
    flat, full = model("2d", fold0={"a": 0.7}), model("3d_fullres", fold0={"a": 0.9})
    one = selected(("default", "2d", "default"))
    assert choose([flat, full], one, "default") == (flat, "selected")
    two = selected(("default", "2d", "default"), ("default", "3d_fullres", "default"))
    together = "the best of those selected to predict together"
    assert choose([flat, full], two, "default") == (full, together)
    assert choose([full, flat], two, "default") == (full, together)
    worse = model("2d", run="other", fold0={"a": 0.95})
    assert choose([worse, flat, full], two, "default") == (full, together)


def test_a_selection_of_another_plan_or_run_does_not_count():
    flat, full = model("2d", fold0={"a": 0.7}), model("3d_fullres", fold0={"a": 0.9})
    for group in (("other", "2d", "default"), ("default", "2d", "other")):
        assert choose([flat, full], selected(group), "default")[0] is full


def test_without_scores_nothing_is_chosen():
    assert choose([model("2d")], None, "default") == (None, "")


def test_best_median_and_worst_are_found_over_all_folds():
    scored = model(
        "2d", fold0={"a": 0.5, "b": 0.9}, fold1={"c": 0.7, "d": 0.6, "e": 0.8, "f": None}
    )
    shown = {case.roles: (case.fold, case.scores.name) for case in cases_to_show(scored)}
    assert shown == {
        ("best",): ("fold0", "b"),
        ("median",): ("fold1", "c"),
        ("worst",): ("fold0", "a"),
    }


def test_a_case_that_is_several_of_them_comes_once():
    assert [c.roles for c in cases_to_show(model("2d", fold0={"a": 0.5}))] == [
        ("best", "median", "worst")
    ]
    two = cases_to_show(model("2d", fold0={"a": 0.5, "b": 0.6}))
    assert [c.roles for c in two] == [("best",), ("median", "worst")]


def test_without_a_defined_score_no_case_is_shown():
    assert cases_to_show(model("2d", fold0={"a": None})) == []


def test_the_chosen_model_comes_first():
    material = with_scores(made_up())
    other = replace(material.trained[0], run="other")
    both = replace(material, trained=(other, *material.trained))
    assert both.scored[0] is material.chosen
