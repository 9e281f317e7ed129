import base64
import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_up import case_scores, history, made_up, report_of, with_pictures, with_scores
from pages import Page

from autoseg.core.problem import Problem
from autoseg.core.selection import Group, Selection
from autoseg.report.material import Trained, TrainedFold
from autoseg.report.page import build_page

EVIL = "<script>alert(1)</script>"
ATTRIBUTE = '"><img src=x onerror=alert(2)>'


def read(material):
    return Page(build_page(material))


def full(**options):
    return with_pictures(with_scores(made_up(**options)))


def test_a_planned_task_has_a_page_that_says_what_brings_the_rest():
    page = read(made_up())
    ids = {attributes.get("id") for attributes in page.all("section")}
    assert ids == {"scores", "training", "data", "plan"}
    assert "autoseg train 3d_fullres fold0" in page.texts
    assert "Scores come with the first trained fold" in page.text


@pytest.mark.parametrize(
    ("is_finished", "run", "command"),
    [
        (True, "default", "autoseg validate 3d_fullres fold0"),
        (False, "slow", "autoseg train 3d_fullres fold0 --run slow"),
    ],
)
def test_a_fold_without_scores_says_how_to_score_it(is_finished, run, command):
    fold = TrainedFold(fold="fold0", history=[], is_finished=is_finished)
    trained = Trained(configuration="3d_fullres", run=run, folds=(fold,), scores={}, pooled=None)
    page = read(replace(made_up(), trained=(trained,)))
    assert command in page.texts
    assert "No epoch is finished yet." in page.texts


def test_commands_of_a_report_on_another_plan_name_it():
    material = replace(made_up(), plan_name="small")
    assert "autoseg train 3d_fullres fold0 --plan small" in read(material).texts
    fold = TrainedFold(fold="fold0", history=[], is_finished=True)
    trained = Trained(configuration="2d", run="slow", folds=(fold,), scores={}, pooled=None)
    page = read(replace(material, trained=(trained,)))
    assert "autoseg validate 2d fold0 --plan small --run slow" in page.texts


def test_a_selection_is_shown_where_no_fold_has_scores_and_what_happened_since_before_it():
    fold = TrainedFold(fold="fold0", history=[], is_finished=True)
    trained = Trained(configuration="2d", run="default", folds=(fold,), scores={}, pooled=None)
    group = Group(plan="default", configuration="2d", run="default", folds=("fold0",))
    selection = Selection(groups=(group,), summary="2d is the only model.")
    material = replace(made_up(), trained=(trained,), selection=selection)
    page = read(material)
    assert "2d is the only model." in page.texts
    assert "No held-out case is scored yet" not in page.text
    assert "no held-out case is scored yet" not in page.text
    assert "No case has scores to show yet." in page.text
    assert "training has begun, no case has scores to show yet" in page.text
    assert "out of date" not in page.text
    stale = "the selection is out of date: 2 folds trained since (a, ...); run: autoseg select"
    texts = read(replace(material, outdated=stale)).texts
    assert texts.index(f"T{stale[1:]}.") < texts.index("2d is the only model.")


def test_a_model_of_all_cases_has_no_scores_and_cannot_have_any():
    fold = TrainedFold(fold="everything", history=history(3), is_finished=True)
    trained = Trained(configuration="2d", run="default", folds=(fold,), scores={}, pooled=None)
    page = read(replace(made_up(), trained=(trained,)))
    assert "A model of all cases has none left to be scored on." in page.text
    assert "validate" not in page.text


def test_of_many_structures_those_with_the_lowest_scores_are_drawn():
    names = tuple(f"organ {n}" for n in range(30))
    page = read(full(structures=names))
    assert "Dice of the cases, the 24 worst of 30 structures" in page.texts
    assert "Volume of the structures, the first 24 of 30" in page.texts
    lines = [text for text in page.texts if text.startswith("Mean Dice 0.")]
    assert len(lines) == 3
    assert all("lowest: " in line and line.count("organ") == 6 for line in lines)


def test_a_full_page_has_all_parts_and_the_menu_leads_to_them():
    page = read(full())
    parts = [attributes["id"] for attributes in page.all("section")]
    assert parts == ["scores", "pictures", "cases", "training", "data", "plan"]
    links = [attributes["href"] for attributes in page.all("a")]
    assert links[1:] == [f"#{part}" for part in parts]


def test_names_from_files_stay_text():
    material = full(structures=(EVIL, ATTRIBUTE), prefix=f"{EVIL}{ATTRIBUTE}")
    problem = Problem(kind="unreadable", finding=EVIL, case=ATTRIBUTE)
    decision = replace(material, problems=(problem,)).plan.decisions[0]
    plan = material.plan.model_copy(
        update={"decisions": (decision.model_copy(update={"reason": EVIL, "what": ATTRIBUTE}),)}
    )
    selection = Selection(
        groups=(Group(plan="default", configuration=EVIL, run=EVIL, folds=("fold0",)),),
        summary=f"{EVIL}\n{ATTRIBUTE}",
    )
    page = read(replace(material, plan=plan, problems=(problem,), selection=selection))
    assert len(page.all("script")) == 2
    assert all("onerror" not in attributes for _, attributes in page.tags)
    assert page.all("img") == []
    assert any(EVIL in text for text in page.texts)
    assert f"{EVIL}{ATTRIBUTE}0000" in page.texts


def test_no_attribute_acts_and_nothing_is_loaded():
    html = build_page(full())
    page = Page(html)
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")], tag
        assert "style" not in attributes, tag
        for name in ("href", "src"):
            address = attributes.get(name, "") or ""
            assert address.startswith(("#", "data:")) or not address, (tag, address)
    looks = re.search(r"<style>(.*)</style>", html, re.DOTALL)[1]
    assert "url(" not in looks
    assert "@import" not in looks


def test_the_policy_allows_the_page_s_own_code_alone():
    html = build_page(full())
    page = Page(html)
    policy = next(a["content"] for a in page.all("meta") if "http-equiv" in a)
    code = page.scripts[-1]
    looks = re.search(r"<style>(.*)</style>", html, re.DOTALL)[1]
    for text, directive in ((code, "script-src"), (looks, "style-src")):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy


def test_folders_of_this_machine_are_not_told():
    material = full()
    gone = Problem(
        kind="unreadable", finding="no image", file=Path("/secret/place/of/the/data/x.nii.gz")
    )
    html = build_page(replace(material, problems=(gone,)))
    assert "secret" not in html
    assert "x.nii.gz: no image" in html


@pytest.mark.parametrize("num_structures", [2, 61])
def test_a_page_of_a_thousand_cases_stays_small(num_structures):
    names = tuple(f"a structure with quite a long name {n}" for n in range(num_structures))
    noise = np.random.default_rng(0).integers(0, 256, 320 * 320, dtype=np.uint8).tobytes()
    material = with_pictures(
        with_scores(made_up(1000, names, "a case with a name of usual length "), ("dice", "nsd")),
        noise,
    )
    assert len(build_page(material).encode()) < 5_000_000


def test_where_there_are_too_many_cases_the_worst_stay():
    rng = np.random.default_rng(1)
    dice = rng.permutation(np.linspace(0.1, 0.9, 9000))
    cases = [case_scores(f"c{n:05d}", kidney=float(d)) for n, d in enumerate(dice)]
    material = made_up()
    report = report_of(cases, ("dice",))
    trained = Trained(
        configuration="3d_fullres", run="default", folds=(), scores={"fold0": report}, pooled=report
    )
    html = build_page(replace(material, trained=(trained,), chosen=trained))
    page = Page(html)
    assert re.search(r"\d+ cases with better scores are left out", page.text)
    assert f"c{int(dice.argmin()):05d}" in page.texts
    assert len(html) < 5_000_000


def test_every_case_has_its_scores_in_the_table_and_for_the_script():
    material = with_scores(made_up(structures=("kidney", "tumour")))
    page = read(material)
    values = json.loads(page.scripts[0])
    assert set(values) == {"iou", "precision", "recall", "volume_error_ml", "nsd", "hd95", "assd"}
    chosen = material.chosen
    ranked = sorted((c for r in chosen.scores.values() for c in r.cases), key=lambda c: c.mean_dice)
    assert len(values["hd95"]["rows"]) == len(ranked) == 6
    worst = ranked[0]
    hd95 = [worst.structures[name].hd95 for name in ("kidney", "tumour")]
    assert values["hd95"]["rows"][0] == pytest.approx([np.mean(hd95), *hd95], rel=1e-3)
    start = page.texts.index("Scores of 6 cases")
    assert f"{worst.mean_dice:.3f}" in page.texts[start : start + 30]


def test_volume_errors_of_two_structures_do_not_cancel_in_the_table_of_cases():
    material = with_scores(made_up(structures=("kidney", "tumour")))
    values = json.loads(read(material).scripts[0])
    volume = values["volume_error_ml"]
    assert any(kidney * tumour < 0 for _, kidney, tumour in volume["rows"])
    for mean, kidney, tumour in volume["rows"]:
        assert mean == pytest.approx((abs(kidney) + abs(tumour)) / 2, rel=1e-3)
    assert volume["mean"] == "mean of structures, absolute"
    assert values["hd95"]["mean"] == "mean of structures"


def test_means_come_with_their_intervals_and_failures_are_named():
    cases = [
        case_scores("fine", kidney=0.9, tumour=None),
        case_scores("worse", kidney=0.7, tumour=None),
    ]
    missed = (
        cases[1]
        .structures["kidney"]
        .model_copy(update={"true_positives": 0, "false_positives": 0, "dice": 0.0})
    )
    absent = missed.model_copy(update={"false_negatives": 0, "dice": None})
    cases = [
        cases[0].model_copy(update={"structures": cases[0].structures | {"tumour": absent}}),
        cases[1].model_copy(update={"structures": {"kidney": missed, "tumour": absent}}),
    ]
    report = report_of(cases, ("dice",))
    trained = Trained(
        configuration="2d", run="default", folds=(), scores={"fold0": report}, pooled=report
    )
    page = read(replace(made_up(), trained=(trained,), chosen=trained))
    assert "0.450" in page.texts
    assert "(0.000\u2009\u2013\u20090.900)" in page.texts
    assert "kidney: missed in 1 case (worse)" in page.texts
    assert any("tumour: in neither reference nor prediction" in text for text in page.texts)
    assert [a["class"] for a in page.all("td") if "bad" in (a.get("class") or "")] == ["bad"] * 2


def test_what_a_case_is_not_annotated_for_is_said():
    case = case_scores("one", kidney=0.9).model_copy(update={"not_annotated": ("tumour",)})
    other = case_scores("two", kidney=0.9, tumour=0.5)
    report = report_of([other, case], ("dice",))
    trained = Trained(
        configuration="2d", run="default", folds=(), scores={"fold0": report}, pooled=report
    )
    assert "n.a." in read(replace(made_up(), trained=(trained,), chosen=trained)).texts


def test_several_models_stand_side_by_side():
    material = with_scores(made_up())
    other = replace(material.trained[0], run="other")
    page = read(replace(material, trained=(material.trained[0], other)))
    assert "Models side by side" in page.texts
    assert "3d_fullres (other)" in page.texts
    assert "autoseg select" in page.texts


def test_the_selection_speaks_for_itself():
    group = Group(plan="default", configuration="3d_fullres", run="default", folds=("fold0",))
    selection = Selection(groups=(group,), summary="3d_fullres it is.\nBecause.")
    page = read(replace(with_scores(made_up()), selection=selection))
    assert {"3d_fullres it is.", "Because."} <= set(page.texts)


def test_problems_are_told_by_kind_with_what_mends_them():
    problems = tuple(
        Problem(kind="empty-label", finding="nothing but background", case=f"case{n}")
        for n in range(7)
    )
    page = read(replace(made_up(), problems=problems))
    assert "(7). What mends it" in page.text
    assert "and 2 more" in page.texts


def test_decisions_stand_with_their_reasons():
    page = read(made_up())
    assert {"target spacing", "4 x 0.75 x 0.75 mm", "median of the cases"} <= set(page.texts)


def test_many_folds_share_one_chart():
    folds = tuple(
        TrainedFold(fold=f"fold{n}", history=history(1000), is_finished=n < 2) for n in range(5)
    )
    trained = Trained(configuration="2d", run="default", folds=folds, scores={}, pooled=None)
    html = build_page(replace(made_up(), trained=(trained,)))
    assert {"fold4, train", "fold4", "not finished"} <= set(Page(html).texts)
    assert len(html) < 150_000


def test_a_case_without_a_picture_says_so():
    material = full()
    lost = tuple(replace(case, slices=(), problem="No picture: gone.") for case in material.shown)
    page = read(replace(material, shown=lost))
    assert page.texts.count("No picture: gone.") == 3
    assert page.all("input") == []


def test_pictures_have_the_proportions_of_the_patient():
    page = read(full())
    boxes = [a["viewbox"] for a in page.all("svg") if a.get("class") == "slice"]
    assert boxes == ["0 0 30 40"] * 9


def test_tables_and_pictures_are_described():
    page = read(full())
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(a.get("aria-label") for a in page.all("svg") if a.get("role") == "img")
    assert all(a.get("scope") in ("col", "row") for a in page.all("th"))
    ids = [a["id"] for _, a in page.tags if a.get("id")]
    assert len(ids) == len(set(ids))


def test_pictures_without_a_size_have_no_volumes():
    material = made_up()
    flat = tuple(
        case.model_copy(
            update={"original_shape": (1, 52, 64), "shape": (1, 50, 60), "spacing": (999.0, 1, 1)}
        )
        for case in material.fingerprint.cases
    )
    page = read(
        replace(material, fingerprint=material.fingerprint.model_copy(update={"cases": flat}))
    )
    assert "labelled, pixels" in page.texts
    assert "999" not in page.text
