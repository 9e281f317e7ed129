import pytest

from autoseg.core.measures import (
    MEASURES,
    USUAL,
    are_named,
    groups_of,
    of_structures,
    parse_metrics,
)
from autoseg.core.metrics import CaseScores, Scores
from autoseg.errors import UnknownNameError


def test_every_metric_is_a_field_of_the_scores():
    for name, measure in MEASURES.items():
        holder = CaseScores if measure.group == "pixels" else Scores
        assert name == measure.name
        assert name in holder.model_fields


def test_metrics_are_read_in_any_order_and_told_in_that_of_tables():
    assert parse_metrics(" hd95, Dice,hd95 ") == ("dice", "hd95")
    assert parse_metrics("all") == tuple(MEASURES)
    assert parse_metrics(None) == USUAL
    assert "pixel_accuracy" not in USUAL


@pytest.mark.parametrize("text", ["hd59", "dice,hd59", "all,hd59"])
def test_an_unknown_metric_lists_the_right_ones(text):
    with pytest.raises(UnknownNameError) as caught:
        parse_metrics(text)
    message = str(caught.value)
    assert message.startswith("--metrics: no metric named 'hd59'; did you mean 'hd95'?")
    assert all(name in message for name in MEASURES)


def test_metrics_are_named_one_by_one_or_not():
    assert are_named("dice, hd95")
    assert not any(map(are_named, (None, "all", "dice, All")))


def test_no_metric_at_all_is_refused():
    with pytest.raises(UnknownNameError, match="no metric named ','"):
        parse_metrics(",")


def test_more_merit_is_better():
    assert MEASURES["dice"].merit(0.8) > MEASURES["dice"].merit(0.7)
    assert MEASURES["hd95"].merit(2.0) > MEASURES["hd95"].merit(3.0)
    assert MEASURES["volume_error_ml"].merit(-1.0) > MEASURES["volume_error_ml"].merit(2.0)


def test_groups_say_what_has_to_be_measured():
    assert groups_of(["dice", "hd95", "nsd"]) == {"overlap", "surface"}
    assert of_structures(["dice", "pixel_error", "assd"]) == ("dice", "assd")
