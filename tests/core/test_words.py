from autoseg.core.words import counted


def test_one_thing_is_singular_and_none_or_more_are_plural():
    assert [counted(n, "case") for n in (0, 1, 208)] == ["0 cases", "1 case", "208 cases"]
