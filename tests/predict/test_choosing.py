import logging
import shutil

import pytest
from random_models import finish_fold, score_fold, untrained_task

from autoseg.core.selection import CleanUp, Group, Selection
from autoseg.errors import ArtifactError, AutosegError, UnknownNameError, WorkspaceError
from autoseg.io import artifacts, bundle
from autoseg.predict.choosing import ModelChoice, choose_model

RULE = CleanUp(structure="core", largest_only=True)


@pytest.fixture
def task(toy, tmp_path):
    task = untrained_task(toy, tmp_path)
    for number, (configuration, fold) in enumerate(
        [("2d", "fold0"), ("2d", "fold1"), ("3d_fullres", "fold0")]
    ):
        finish_fold(task, configuration, fold, seed=number)
    score_fold(task, "2d", "fold0", 0.7)
    score_fold(task, "3d_fullres", "fold0", 0.8)
    return task


def select(task, *folds_of_3d):
    group = {"plan": "default", "run": "default"}
    selection = Selection(
        groups=(
            Group(configuration="2d", folds=("fold1",), **group),
            Group(configuration="3d_fullres", folds=folds_of_3d or ("fold0",), **group),
        ),
        clean_up=(RULE,),
        summary="Both together are best.",
    )
    artifacts.save(task.selection, selection)


def folds_of(chosen):
    return [[f"{p.parts[-4]}/{p.parts[-2]}" for p in group] for group in chosen.groups]


def test_without_a_selection_the_best_held_out_dice_wins(task):
    chosen = choose_model(task, ModelChoice())
    assert folds_of(chosen) == [["3d_fullres/fold0"]]
    assert chosen.why.startswith("3d_fullres fold0: best held-out Dice, 0.800")
    assert chosen.clean_up == ()
    assert chosen.cost is None


def test_what_was_selected_is_used_with_its_clean_up(task):
    select(task)
    chosen = choose_model(task, ModelChoice())
    assert folds_of(chosen) == [["2d/fold1"], ["3d_fullres/fold0"]]
    assert chosen.clean_up == (RULE,)
    assert chosen.why == "2d fold1 and 3d_fullres fold0: selected; Both together are best."


def test_what_a_user_names_counts_more_than_the_selection(task):
    select(task)
    chosen = choose_model(task, ModelChoice(configuration="2d"))
    assert folds_of(chosen) == [["2d/fold0", "2d/fold1"]]
    assert chosen.clean_up == ()


@pytest.fixture
def with_theirs(task):
    """Both folds of 2d a second time, of another plan."""
    for fold in ("fold0", "fold1"):
        ours = task.fold_folder("default", "2d", "default", fold)
        shutil.copytree(ours.root, task.fold_folder("theirs", "2d", "default", fold).root)
    return task


def plans_of(chosen):
    return [p.parts[-5] for group in chosen.groups for p in group]


def test_a_plan_that_a_user_names_is_used(with_theirs):
    select(with_theirs)
    chosen = choose_model(with_theirs, ModelChoice(plan="theirs"))
    assert folds_of(chosen) == [["2d/fold0", "2d/fold1"]]
    assert plans_of(chosen) == ["theirs", "theirs"]
    assert chosen.why == (
        "2d fold0, fold1 plan theirs: the only one to choose from; without held-out scores"
    )
    both = choose_model(with_theirs, ModelChoice(configuration="2d,2d", plan="theirs", fast=True))
    assert both.why == "2d fold0 plan theirs: --fast, a single fold of it"


def test_of_several_plans_it_is_said_which_was_taken(with_theirs):
    chosen = choose_model(with_theirs, ModelChoice(configuration="2d"))
    assert plans_of(chosen) == ["default", "default"]
    assert chosen.why == (
        "2d fold0, fold1 plan default: best held-out Dice, 0.700 "
        "(others: 2d fold0, fold1 plan theirs not scored)"
    )
    select(with_theirs)
    assert choose_model(with_theirs, ModelChoice()).why.startswith(
        "2d fold1 plan default and 3d_fullres fold0 plan default: selected"
    )


def test_a_folder_of_folds_is_a_model_of_all_of_them(task):
    folds = task.fold_folder("default", "2d", "default", "fold0").root.parent
    chosen = choose_model(None, ModelChoice(bundle=folds))
    assert folds_of(chosen) == [["2d/fold0", "2d/fold1"]]
    fast = choose_model(None, ModelChoice(bundle=folds, fast=True))
    assert folds_of(fast) == [["2d/fold0"]]


def test_where_there_is_no_model_it_is_said_how_to_name_one(task):
    place = task.root / "models" / "default"
    with pytest.raises(ArtifactError) as caught:
        choose_model(None, ModelChoice(bundle=place))
    assert str(caught.value) == (
        f"{place}: there is no model here; name a bundle.json, the folder of one or of several "
        "folds, or an exported file; --plan, -c and --run name a model of the workspace"
    )


@pytest.mark.parametrize(
    "named", [{"configuration": "2d"}, {"plan": "default"}, {"run": "default"}, {"folds": ("a",)}]
)
def test_of_a_model_at_a_place_nothing_is_chosen(task, named):
    folder = task.fold_folder("default", "2d", "default", "fold0").root
    with pytest.raises(AutosegError) as caught:
        choose_model(None, ModelChoice(bundle=folder, **named))
    assert str(caught.value) == (
        f"{folder}: is one model, of which nothing is chosen; leave out either -m or all of "
        "-c, -f, --plan and --run"
    )


def test_a_selection_of_what_is_gone_is_told_and_not_used(task, caplog):
    select(task, "fold0", "fold3")
    with caplog.at_level(logging.WARNING):
        chosen = choose_model(task, ModelChoice())
    assert folds_of(chosen) == [["3d_fullres/fold0"]]
    (line,) = caplog.messages
    assert line == (
        "selection.json names 3d_fullres fold3, which is not trained any more: the best single "
        "model is used; run: autoseg select"
    )


def test_configurations_with_commas_between_predict_together(task):
    chosen = choose_model(task, ModelChoice(configuration="2d, 3d_fullres"))
    assert folds_of(chosen) == [["2d/fold0", "2d/fold1"], ["3d_fullres/fold0"]]
    assert chosen.why == "2d fold0, fold1 and 3d_fullres fold0: together, as named"


def test_a_name_of_an_ensemble_that_is_not_trained_is_refused(task):
    with pytest.raises(UnknownNameError, match="no trained configuration named '3d_fulres'"):
        choose_model(task, ModelChoice(configuration="2d,3d_fulres"))


def test_without_any_model_an_ensemble_names_the_command_that_makes_one(toy):
    with pytest.raises(WorkspaceError, match="no model is trained yet; run: autoseg train"):
        choose_model(toy.task, ModelChoice(configuration="2d,3d_fullres"))


def test_fast_takes_one_fold_and_says_how_to_find_out_what_it_costs(task):
    chosen = choose_model(task, ModelChoice(configuration="2d", fast=True))
    assert folds_of(chosen) == [["2d/fold0"]]
    assert chosen.why == "2d fold0: --fast, a single fold of it"
    assert chosen.cost == (
        "--fast: what it costs is not measured yet; run: autoseg validate 2d fold0 --fast"
    )


def test_fast_says_what_it_costs_where_that_was_measured(task):
    select(task)
    where = ("default", "3d_fullres", "default", "fold0")
    score_fold(task, "3d_fullres", "fold0", 0.75)
    task.fast_report_file(*where).parent.mkdir(parents=True)
    task.report_file(*where).rename(task.fast_report_file(*where))
    fast = ModelChoice(fast=True)
    score_fold(task, "2d", "fold1", 0.1)
    score_fold(task, "3d_fullres", "fold0", 0.8)
    chosen = choose_model(task, fast)
    assert folds_of(chosen) == [["3d_fullres/fold0"]]
    assert chosen.clean_up == (RULE,)
    assert chosen.cost == "--fast: Dice 0.750 on the cases fold0 held out, 0.800 without --fast"
    task.report_file(*where).unlink()
    assert choose_model(task, ModelChoice(configuration="3d_fullres", fast=True)).cost == (
        "--fast: Dice 0.750 on the cases fold0 held out; without, they are not scored"
    )


def test_fast_with_a_model_on_all_cases_or_a_file_says_that_nothing_is_known(task):
    everything = finish_fold(task, "2d", "everything", run="all")
    chosen = choose_model(task, ModelChoice(run="all", fast=True))
    assert chosen.cost == "--fast: what it costs is not known: no cases were held out"
    alone = choose_model(None, ModelChoice(bundle=everything.root, fast=True))
    cost = "--fast, a single fold: what it costs is known in the model's own workspace only"
    assert alone.cost == cost


def test_fast_names_no_command_that_would_be_refused(task):
    fold = task.fold_folder("default", "2d", "default", "fold0")
    model = bundle.load_model(fold.bundle)
    bundle.save_model(fold.bundle, model.model_copy(update={"held_out": ()}))
    chosen = choose_model(task, ModelChoice(configuration="2d", fast=True))
    assert chosen.cost == "--fast: what it costs is not known, nor which cases were held out"


def test_the_command_to_measure_names_another_run(task):
    finish_fold(task, "2d", "fold0", run="long")
    chosen = choose_model(task, ModelChoice(run="long", fast=True))
    assert chosen.cost is not None
    assert chosen.cost.endswith("run: autoseg validate 2d fold0 --fast --run long")
