import pytest

from autoseg.errors import UnknownNameError, WorkspaceError
from autoseg.predict.choice import Candidate, choose
from autoseg.predict.stage import narrow


def candidate(configuration="3d_fullres", run="default", folds=("fold0",), dice=()):
    return Candidate(plan="default", configuration=configuration, run=run, folds=folds, dice=dice)


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
