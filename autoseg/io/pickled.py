"""Pickles read as data: nothing they name is imported or called.

A pickle is a program for a small machine. This one has a stack, a memo and plain containers;
where a pickle names something to be called, a table of stand-ins is asked, and whatever is not
in that table is refused. Objects get no state, attributes are not set, classes are not made.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Builder = Callable[..., Any]

_MARK = object()
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_VALUES = frozenset(
    [
        "BININT",
        "BININT1",
        "BININT2",
        "LONG1",
        "LONG4",
        "BINFLOAT",
        "BINUNICODE",
        "SHORT_BINUNICODE",
        "BINUNICODE8",
        "SHORT_BINBYTES",
        "BINBYTES",
        "BINBYTES8",
    ]
)
_EMPTY: Mapping[str, Builder] = {
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_SET": set,
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_WITHOUT_EFFECT = ("PROTO", "FRAME")


class HostileError(ValueError):
    """A pickle that is broken, or asks for more than values and tensors; says what for."""


class _Named:
    """What a pickle names, to be called; opaque to all it does otherwise."""

    __slots__ = ("builder",)

    def __init__(self, builder: Builder) -> None:
        self.builder = builder


def read_values(
    data: bytes, builders: Mapping[str, Builder], persistent: Callable[[Any], Any]
) -> Any:  # noqa: ANN401 - a pickle holds anything
    """Read a pickle.

    Args:
        data: the pickle, protocol 2 to 5.
        builders: by dotted name what stands in for it; called with the pickle's arguments, which
            may be of any kind and number.
        persistent: what stands for a persistent identifier, such as a tensor's storage.

    Returns:
        Numbers, strings, bytes, None, containers of them, and what the stand-ins return.

    Raises:
        HostileError: if it names anything else, or is broken.
    """
    machine = _Machine(builders, persistent)
    try:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name == "STOP":
                return machine.stack.pop()
            machine.step(opcode.name, argument)
    except HostileError:
        raise
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError) as error:
        raise HostileError(f"its pickle is broken ({error})") from error
    raise HostileError("its pickle has no end")


class _Machine:
    """Stack and memo."""

    def __init__(self, builders: Mapping[str, Builder], persistent: Callable[[Any], Any]) -> None:
        self.stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._builders = builders
        self._persistent = persistent

    def step(self, name: str, argument: Any) -> None:  # noqa: ANN401 - depends on the opcode
        """Do what an opcode says."""
        if name in _VALUES:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            self.stack.append(_EMPTY[name]())
        elif name in _TUPLES:
            self.stack.append(tuple(self._last(_TUPLES[name])))
        elif name in ("BINPUT", "LONG_BINPUT", "PUT", "MEMOIZE"):
            self._memo[len(self._memo) if argument is None else argument] = self.stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            self.stack.append(self._memo[argument])
        elif name not in _WITHOUT_EFFECT:
            self._compound(name, argument)

    def _compound(self, name: str, argument: Any) -> None:  # noqa: ANN401 - depends on the opcode
        stack = self.stack
        if name == "MARK":
            stack.append(_MARK)
        elif name == "TUPLE":
            stack.append(tuple(self._since_mark()))
        elif name in ("APPEND", "SETITEM"):
            self._fill(name, self._last(1 if name == "APPEND" else 2))
        elif name in ("APPENDS", "SETITEMS", "ADDITEMS"):
            self._fill(name, self._since_mark())
        elif name == "BINPERSID":
            stack.append(self._persistent(stack.pop()))
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            stack.append(self._named(argument.split(" ", 1) if argument else self._last(2)))
        elif name == "REDUCE":
            called, arguments = self._last(2)
            stack.append(_call(called, arguments))
        elif name == "BUILD":
            stack.pop()  # what an object remembers beside its values has no meaning here
        else:
            raise HostileError(f"its pickle does what no tensor or plain value needs ({name})")

    def _named(self, parts: list[Any]) -> _Named:
        if not all(isinstance(part, str) for part in parts):
            raise HostileError("its pickle is broken (a name that is no text)")
        name = ".".join(parts)
        if name not in self._builders:
            raise HostileError(f"it asks for {name!r}, which is no tensor or plain value")
        return _Named(self._builders[name])

    def _last(self, number: int) -> list[Any]:
        if len(self.stack) < number:
            raise HostileError("its pickle is broken (nothing left to take)")
        taken = self.stack[-number:]
        del self.stack[-number:]
        return taken

    def _since_mark(self) -> list[Any]:
        for position in range(len(self.stack) - 1, -1, -1):
            if self.stack[position] is _MARK:
                taken = self.stack[position + 1 :]
                del self.stack[position:]
                return taken
        raise HostileError("its pickle is broken (no mark)")

    def _fill(self, name: str, values: list[Any]) -> None:
        container = self.stack[-1]
        if name in ("APPEND", "APPENDS") and isinstance(container, list):
            container.extend(values)
        elif name == "ADDITEMS" and isinstance(container, set):
            container.update(checked_keys(values))
        elif name in ("SETITEM", "SETITEMS") and isinstance(container, dict):
            container.update(zip(checked_keys(values[::2]), values[1::2], strict=True))
        else:
            raise HostileError("its pickle is broken (fills what is no container)")


def checked_keys(keys: Sequence[Any]) -> Sequence[Any]:
    """Keys of a dictionary, or members of a set, as long as they are plain.

    Tuples within tuples may take forever to hash.

    Raises:
        HostileError: if one is not.
    """
    if not all(isinstance(key, (str, bytes, int, float, type(None))) for key in keys):
        raise HostileError("its pickle has keys that are no plain values")
    return keys


def _call(called: object, arguments: object) -> Any:  # noqa: ANN401 - what the stand-in returns
    if not isinstance(called, _Named) or not isinstance(arguments, tuple):
        raise HostileError("its pickle calls what is no function")
    return called.builder(*arguments)
