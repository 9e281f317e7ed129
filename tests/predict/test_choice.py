import pytest

from autoseg.errors import UnknownNameError, WorkspaceError
from autoseg.predict.choice import Candidate, choose
from autoseg.predict.stage import narrow


def candidate(configuration="3d_fullres", run="default", folds=("fold0",), dice=(), plan="default"):
    return Candidate(plan=plan, configuration=configuration, run=run, folds=folds, dice=dice)


def test_the_best_held_out_dice_wins_and_is_said():
    flat = candidate("2d", dice=(0.7, 0.72), folds=("fold0", "fold1"))
    full = candidate(dice=(0.81,))
    chosen, reason = choose([flat, full])
    assert chosen is full
    assert reason == "best held-out Dice, 0.810 (others: 2d fold0, fold1 0.710)"


def test_a_model_without_scores_is_chosen_only_if_there_is_no_other():
    unscored = candidate(folds=("fold0", "fold1"))
    assert choose([unscored, candidate("2d", dice=(0.2,))])[0].configuration == "2d"
    chosen, reason = choose([candidate("2d"), unscored])
    assert chosen is unscored
    assert "most finished folds" in reason


def test_the_only_model_is_said_to_be_the_only_one():
    assert choose([candidate(dice=(0.9,))])[1] == "the only one to choose from; held-out Dice 0.900"


def test_no_model_names_the_command_that_makes_one():
    with pytest.raises(WorkspaceError, match="no model is trained yet; run: autoseg train"):
        choose([])


def test_a_user_may_name_configuration_run_and_folds():
    found = [
        candidate("2d", folds=("fold0", "fold1")),
        candidate(folds=("fold0",)),
        candidate(run="long"),
    ]
    assert narrow(found, "2d", None, ["fold1"]) == [candidate("2d", folds=("fold1",))]
    assert [c.run for c in narrow(found, "3d_fullres", "long", [])] == ["long"]


def test_a_user_may_name_the_plan():
    found = [candidate("2d"), candidate("2d", plan="theirs"), candidate(plan="theirs")]
    assert narrow(found, None, None, [], plan="theirs") == found[1:]
    assert narrow(found, "2d", None, [], plan="theirs") == [found[1]]
    with pytest.raises(UnknownNameError) as caught:
        narrow(found, None, None, [], plan="thiers")
    assert str(caught.value) == (
        "no plan with a trained model named 'thiers'; did you mean 'theirs'? "
        "(available: default, theirs)"
    )
    with pytest.raises(WorkspaceError) as caught:
        narrow(found, "3d_fullres", None, [], plan="default")
    assert str(caught.value) == (
        "no model has all of what was asked for; trained are: 2d fold0 plan default; "
        "2d fold0 plan theirs; 3d_fullres fold0 plan theirs"
    )


def test_plans_and_runs_are_named_where_there_are_several():
    ours, theirs = candidate("2d"), candidate("2d", plan="theirs")
    assert ours.label_among([ours, candidate()]) == "2d fold0"
    assert ours.label_among([ours, theirs]) == "2d fold0 plan default"
    assert ours.label_among([ours, candidate(run="long")]) == "2d fold0 run default"
    assert theirs.label_among([theirs]) == "2d fold0 plan theirs"


def test_without_any_score_the_others_are_told_with_their_plans():
    two = candidate("2d", folds=("fold0", "fold1"))
    theirs = candidate("2d", plan="theirs")
    assert choose([theirs, two]) == (
        two,
        "it has the most finished folds; none has held-out scores (others: 2d fold0 plan theirs)",
    )
    one = candidate("2d")
    assert choose([one, theirs]) == (
        one,
        "no other has more finished folds; none has held-out scores (others: 2d fold0 plan theirs)",
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("4d", None, []), "no trained configuration named '4d'"),
        ((None, "lang", []), "did you mean 'long'"),
        ((None, None, ["fold7"]), "no trained fold named 'fold7'"),
    ],
)
def test_names_that_are_not_trained_list_those_that_are(arguments, message):
    found = [candidate("2d"), candidate(run="long")]
    with pytest.raises(UnknownNameError, match=message):
        narrow(found, *arguments)


def test_names_that_exist_but_not_together_list_what_is_trained():
    found = [candidate("2d", run="long"), candidate()]
    with pytest.raises(WorkspaceError, match=r"trained are: 2d fold0 run long"):
        narrow(found, "3d_fullres", "long", [])


def test_the_only_model_may_be_without_scores():
    chosen, reason = choose([candidate()])
    assert chosen == candidate()
    assert reason == "the only one to choose from; without held-out scores"
