import os
import pickle
from collections import OrderedDict

import pytest

from autoseg.io.pickled import HostileError, read_values

VALUES = {
    "numbers": [0, 1, 255, 65536, -3, 2**70, 1.5, True, False, None],
    "texts": ("a", "ä", b"\x00\xff", ""),
    "nested": [{"a": (1, (2, [3]))}, {1: {2.5: []}}],
    "set": {1, 2},
    5: (),
}


def read(data, builders=None):
    return read_values(data, builders or {}, lambda identifier: ("kept", identifier))


@pytest.mark.parametrize("protocol", [4, 5])
def test_plain_values_come_back_as_they_were(protocol):
    assert read(pickle.dumps(VALUES, protocol)) == VALUES


def test_a_value_that_is_named_twice_is_one():
    shared = [1]

    first, second = read(pickle.dumps([shared, shared], 2))

    assert first is second


def test_what_is_named_is_replaced_by_its_stand_in():
    data = pickle.dumps(OrderedDict(a=1, b=2), 2)

    assert read(data, {"collections.OrderedDict": dict}) == {"a": 1, "b": 2}


class _Command:
    def __reduce__(self):
        return os.system, ("exit 7",)


class _Attribute:
    def __init__(self):
        self.colour = "red"


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (_Command(), "system"),
        (eval, "eval"),
        (_Attribute, "_Attribute"),
        (OrderedDict(a=1), "collections.OrderedDict"),
    ],
)
@pytest.mark.parametrize("protocol", [2, 4])
def test_what_names_anything_else_is_refused_by_name(value, name, protocol):
    with pytest.raises(HostileError, match=rf"it asks for '.*{name}'.*, which is no tensor"):
        read(pickle.dumps(value, protocol))


def test_nothing_is_run_while_it_is_read(tmp_path):
    class Touch:
        def __reduce__(self):
            return (tmp_path / "touched").touch, ()

    with pytest.raises(HostileError):
        read(pickle.dumps([Touch()], 4))
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize(
    ("data", "finding"),
    [
        (b"\x80\x02]", "is broken .*STOP"),
        (b"", "is broken"),
        (b"no pickle", "is broken|asks for|does what"),
        (b"\x80\x02K\x01.rest", None),
        (b"\x80\x02.", "is broken"),
        (b"\x80\x02h\x07.", "is broken"),
        (b"\x80\x02K\x01K\x02s.", "is broken"),
        (b"\x80\x02K\x01K\x02K\x03s.", "no container"),
        (b"\x80\x02t.", "no mark"),
        (b"\x80\x02K\x01)R.", "calls what is no function"),
        (b"\x80\x02}]K\x01s.", "no plain values"),
        (b"\x80\x02(K\x01i__main__\nx\n.", r"does what .* \(INST\)"),
    ],
)
def test_a_broken_pickle_is_refused(data, finding):
    if finding is None:
        assert read(data) == 1
        return
    with pytest.raises(HostileError, match=finding):
        read(data)


def test_a_pickle_that_would_fill_the_memory_with_its_memo_is_read_as_it_is():
    assert read(b"\x80\x02K\x01r\xff\xff\xff\x7f.") == 1


def test_a_key_that_takes_forever_to_hash_is_refused():
    nested = b"\x80\x02)" + b"2\x86" * 60 + b"}K\x00r\x00\x00\x00\x00s."

    with pytest.raises(HostileError):
        read(nested)
    with pytest.raises(HostileError, match="no plain values"):
        read(b"\x80\x02})" + b"q\x00h\x00\x86" * 60 + b"K\x01s.")
