"""Whether a TIFF is all there."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import IO, NamedTuple

from autoseg.errors import DataError
from autoseg.io.readers.itk import NO_IMAGE

_BYTES_OF_TYPE = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
_BYTES_OF_TYPE |= {13: 4, 16: 8, 17: 8, 18: 8}
_FIRST_PRIVATE_TAG = 32768


class _Form(NamedTuple):
    """How numbers are stored in one of the two kinds of TIFF."""

    first: int
    """Where the position of the first page stands."""
    count: str
    entry: str
    """Tag, type, number of values, and the values themselves or their position."""
    position: str

    def ordered(self, order: str) -> _Form:
        """The same with a byte order, ``"<"`` or ``">"``."""
        return _Form(self.first, order + self.count, order + self.entry, order + self.position)


_CLASSIC = _Form(4, "H", "HHII", "I")
_BIG = _Form(8, "Q", "HHQQ", "Q")


def refuse_incomplete(path: Path) -> None:
    """Refuse a file whose pages or tags lie beyond its end.

    tifffile returns the pages there are, the first of a hundred, say, as the image.

    Raises:
        DataError: if it is incomplete, or no TIFF.
    """
    if not path.is_file():
        raise DataError("no such file", place=path)
    size = path.stat().st_size
    with path.open("rb") as file:
        form = _form(file, path)
        file.seek(form.first)
        position, seen = _number(file, form.position), set[int]()
        while position and position not in seen:
            seen.add(position)
            needed, position = _page(file, form, position)
            if position is None or max(needed, position) > size:
                raise DataError(
                    f"incomplete or damaged (its parts lie beyond its end at {size} bytes)",
                    place=path,
                    remedy="copy it again",
                )


def _form(file: IO[bytes], path: Path) -> _Form:
    start = file.read(4)
    order = {b"II": "<", b"MM": ">"}.get(start[:2])
    if order is not None and len(start) == 4:
        forms = {42: _CLASSIC, 43: _BIG}
        version = struct.unpack(f"{order}H", start[2:])[0]
        if version in forms:
            return forms[version].ordered(order)
    raise DataError(f"cannot be read ({NO_IMAGE})", place=path)


def _page(file: IO[bytes], form: _Form, position: int) -> tuple[int, int | None]:
    """Where the tags of a page end, and where the next page is; None if that is cut off."""
    file.seek(position)
    num_tags = _number(file, form.count)
    length = (num_tags or 0) * struct.calcsize(form.entry)
    needed = position + length
    tags = file.read(length) if num_tags is not None and num_tags <= 65535 else b""
    if num_tags is None or len(tags) < length:
        return needed, None
    for tag, kind, count, place in struct.iter_unpack(form.entry, tags):
        values = _BYTES_OF_TYPE.get(kind, 0) * count
        if tag < _FIRST_PRIVATE_TAG and values > struct.calcsize(form.position):
            needed = max(needed, place + values)
    return needed, _number(file, form.position)


def _number(file: IO[bytes], form: str) -> int | None:
    content = file.read(struct.calcsize(form))
    return struct.unpack(form, content)[0] if len(content) == struct.calcsize(form) else None
