import pytest

from autoseg.report.quantities import plain, score, sizes, spread


@pytest.mark.parametrize(
    ("value", "metric", "text"),
    [
        (0.8765, "dice", "0.876"),
        (None, "dice", "\u2013"),
        (12.345, "hd95", "12.35"),
        (-1.5, "volume_error_ml", "\u22121.50"),
        (-0.001, "volume_error_ml", "0.00"),
        (2.0, "false_lesions", "2"),
        (0.25, "false_lesions", "0.25"),
    ],
)
def test_scores_have_the_digits_their_unit_deserves(value, metric, text):
    assert score(value, metric) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.1 + 0.2, "0.3"), (1234.5, "1234"), (0.00123456, "0.00123"), (-2.5, "\u22122.5"),
     (65115.84, "65116"), (1e-9, "1e\u221209")],
)  # fmt: skip
def test_numbers_are_short(value, text):
    assert plain(value) == text


def test_a_spread_of_equal_numbers_is_the_number():
    assert spread([2.0, 2.0]) == "2"
    assert spread([1.0, 2.0, 4.0]) == "2 (1\u2009\u2013\u20094)"


def test_sizes_stand_between_crosses():
    assert sizes([40, 0.78125]) == "40\u2009\u00d7\u20090.7812"
