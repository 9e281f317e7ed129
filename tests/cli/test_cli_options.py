import pytest

from autoseg.cli.options import parse_numbers
from autoseg.errors import AutosegError


def test_numbers_are_read_with_or_without_spaces():
    assert parse_numbers("3, 0.8,0.75", "--spacing", float) == (3.0, 0.8, 0.75)
    assert parse_numbers("0,2", "--mirror-axes", int) == (0, 2)


@pytest.mark.parametrize("text", ["a,b", "3;4", "0.5,1", "3 4", "1,,2", ",", ""])
def test_what_is_no_list_of_numbers_is_refused_with_an_example(text):
    with pytest.raises(AutosegError, match=r"^--mirror-axes: .* no list of numbers; .* 0,2$"):
        parse_numbers(text, "--mirror-axes", int)
