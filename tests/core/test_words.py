import pytest

from autoseg.core.words import counted, duration, flags, size_in_words


def test_commands_name_the_plan_and_the_run_that_are_not_the_default():
    assert flags() == flags(plan="default", run="default") == ""
    assert flags(plan="small", run="default") == " --plan small"
    assert flags(plan="small", run="two words") == " --plan small --run 'two words'"


def test_one_thing_is_singular_and_none_or_more_are_plural():
    assert [counted(n, "case") for n in (0, 1, 208)] == ["0 cases", "1 case", "208 cases"]


@pytest.mark.parametrize(
    ("num_bytes", "words"),
    [
        (999, "999 bytes"),
        (35_400, "35 kB"),
        (999_600, "1.0 MB"),
        (1_240_000_000, "1.2 GB"),
        (3_000_000_000_000, "3.0 TB"),
    ],
)
def test_sizes_have_the_unit_that_fits(num_bytes, words):
    assert size_in_words(num_bytes) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(42, "42 s"), (119, "119 s"), (2100, "35 min"), (9000, "2 h"), (6 * 86400, "6 days")],
)
def test_durations_read_like_speech(seconds, words):
    assert duration(seconds) == words
