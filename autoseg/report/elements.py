"""HTML and SVG as values: text is escaped where it is written out, and nowhere else."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable
from dataclasses import dataclass
from unicodedata import category

_VOID = frozenset({"br", "hr", "img", "input", "link", "meta"})
_UNKNOWN = "\N{REPLACEMENT CHARACTER}"
_ENDS_SCRIPT = ("</", "<!--", "<script")


@dataclass(frozen=True, slots=True)
class Element:
    """A tag with attributes and content.

    Attributes:
        tag: its name.
        attributes: names and values, as they are before escaping.
        children: elements and texts.
    """

    tag: str
    attributes: tuple[tuple[str, str], ...]
    children: tuple[Element | str, ...]


@dataclass(frozen=True, slots=True)
class Code(Element):
    """A tag whose content is not escaped, as browsers read scripts and styles as they are."""


Content = Element | str


def element(
    tag: str, *children: Content | Iterable[Content] | None, **attributes: str | float | bool | None
) -> Element:
    """Make an element.

    Args:
        tag: its name.
        children: texts, elements, or several of them; None is left out.
        attributes: an underscore in a name is a hyphen, one at its end is dropped (``class_``).
            True writes the name alone; False and None leave the attribute out.
    """
    named = ((_name(key), _value(value)) for key, value in attributes.items())
    kept = tuple((key, value) for key, value in named if value is not None)
    return Element(tag, kept, tuple(_flat(children)))


def script(code: str) -> Element:
    """A script of ours, as it is.

    Raises:
        ValueError: if it holds what ends a script.
    """
    return _code("script", code)


def style(code: str) -> Element:
    """A style sheet of ours, as it is.

    Raises:
        ValueError: if it holds what ends a style sheet.
    """
    return _code("style", code)


def data(name: str, value: object) -> Element:
    """Values for the script, which finds them by a name.

    Args:
        name: the element's id.
        value: what JSON can hold.
    """
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    # JSON knows "<" as an escape too, so that no text in it can end the script.
    escaped = text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return Code("script", (("type", "application/json"), ("id", name)), (escaped,))


def render(content: Content) -> str:
    """Write content as HTML; texts and attributes are escaped."""
    parts: list[str] = []
    _write(content, parts)
    return "".join(parts)


def _write(content: Content, parts: list[str]) -> None:
    if isinstance(content, str):
        parts.append(_escape(content))
        return
    parts.append(f"<{content.tag}")
    for name, value in content.attributes:
        parts.append(f' {name}="{_escape(value)}"' if value else f" {name}")
    parts.append(">")
    if content.tag in _VOID:
        return
    if isinstance(content, Code):
        parts.extend(str(child) for child in content.children)
    else:
        for child in content.children:
            _write(child, parts)
    parts.append(f"</{content.tag}>")


def _escape(text: str) -> str:
    if text.isprintable():
        return html.escape(text)
    # A file name may hold control characters, characters that turn the order of letters round,
    # and bytes that are no text; a page may not.
    kept = "".join(c if c in "\n\t" or category(c)[0] != "C" else _UNKNOWN for c in text)
    return html.escape(kept)


def _code(tag: str, code: str) -> Element:
    for end in _ENDS_SCRIPT:
        if end in code:
            raise ValueError(f"a {tag} must not hold '{end}'")
    return Code(tag, (), (code,))


def _flat(children: Iterable[Content | Iterable[Content] | None]) -> Iterable[Content]:
    for child in children:
        if child is None:
            continue
        if isinstance(child, str | Element):
            yield child
        else:
            yield from child


def _name(key: str) -> str:
    return key.rstrip("_").replace("_", "-")


def _value(value: str | float | bool | None) -> str | None:
    if value is None or value is False:
        return None
    if value is True:
        return ""
    return value if isinstance(value, str) else f"{value:g}"
