"""What the parts of the page are put together from."""

from __future__ import annotations

from collections.abc import Sequence

from autoseg.report.elements import Content, Element, element


def section(name: str, title: str, *content: Content | Sequence[Content] | None) -> Element:
    """A part of the page that the menu leads to.

    Args:
        name: its id.
        title: its heading.
        content: what is in it.
    """
    heading = element("h2", title, id=f"{name}-title")
    return element("section", heading, *content, id=name, aria_labelledby=f"{name}-title")


def paragraph(*content: Content | Sequence[Content] | None, kind: str | None = None) -> Element:
    """A paragraph."""
    return element("p", *content, class_=kind)


def command(text: str) -> Element:
    """What to type."""
    return element("code", text)


def facts(pairs: Sequence[tuple[str, str]]) -> Element:
    """A few numbers that say it all: name and value of each."""
    entries = [element("div", element("dt", name), element("dd", value)) for name, value in pairs]
    return element("dl", entries, class_="facts")


def side_by_side(*figures: Element) -> Element:
    """Figures in as many columns as there is room for."""
    return element("div", figures, class_="figures")


def folded(
    summary: str, *content: Content | None, is_open: bool = False, is_long: bool = False
) -> Element:
    """Content that shows when its heading is pressed, and on paper unless it is long."""
    heading = element("summary", summary)
    return element("details", heading, *content, open=is_open, data_long=is_long)
