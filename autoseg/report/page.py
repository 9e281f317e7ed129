"""The whole page: one file that needs no other."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib import resources

from autoseg.core.words import counted
from autoseg.report.cases import cases_section
from autoseg.report.data import data_section
from autoseg.report.elements import Content, Element, element, render, script, style
from autoseg.report.material import Material
from autoseg.report.pictures import pictures_section
from autoseg.report.planned import plan_section
from autoseg.report.quantities import score
from autoseg.report.scores import scores_section
from autoseg.report.section import facts, paragraph
from autoseg.report.training import training_section

_PARTS = (
    ("scores", "Scores"),
    ("pictures", "Pictures"),
    ("cases", "Cases"),
    ("training", "Training"),
    ("data", "Data"),
    ("plan", "Plan"),
)


def build_page(material: Material) -> str:
    """Write a report as HTML.

    Args:
        material: what is known.

    Returns:
        The page. It loads nothing, and its security policy lets it load nothing.
    """
    built = (
        scores_section(material),
        pictures_section(material),
        cases_section(material),
        training_section(material),
        data_section(material),
        plan_section(material),
    )
    sections = [part for part in built if part is not None]
    body = element(
        "body",
        element("a", "To the content", href="#content", class_="skip"),
        _header(material),
        _menu([dict(part.attributes)["id"] for part in sections]),
        element("main", _summary(material), sections, id="content"),
        _footer(material),
        script(_file("page.js")),
    )
    page = element("html", _head(material), body, lang="en")
    return f"<!DOCTYPE html>\n{render(page)}\n"


def _head(material: Material) -> Element:
    looks, behaviour = _file("page.css"), _file("page.js")
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_hash(looks)}'; "
        f"script-src '{_hash(behaviour)}'; base-uri 'none'; form-action 'none'"
    )
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="generator", content=f"autoseg {material.version}"),
        element("link", rel="icon", href="data:,"),
        element("title", f"{material.dataset.name}: autoseg report"),
        style(looks),
    )


def _hash(code: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}"


def _file(name: str) -> str:
    return resources.files("autoseg.report").joinpath(name).read_text(encoding="utf-8")


def _header(material: Material) -> Element:
    buttons = [
        element("button", title, type="button", data_theme=theme, aria_pressed=pressed)
        for theme, title, pressed in (
            ("auto", "Auto", "true"),
            ("light", "Light", "false"),
            ("dark", "Dark", "false"),
        )
    ]
    return element(
        "header",
        element(
            "div", element("h1", material.dataset.name), paragraph("autoseg report", kind="kind")
        ),
        element("div", buttons, class_="themes needs-script", role="group", aria_label="Colours"),
    )


def _menu(names: Sequence[str]) -> Element:
    links = [
        element("li", element("a", title, href=f"#{name}"))
        for name, title in _PARTS
        if name in names
    ]
    return element("nav", element("ul", links), aria_label="Parts of the report")


def _summary(material: Material) -> list[Content]:
    dataset, chosen = material.dataset, material.chosen
    structures = counted(len(dataset.labels.structures), "structure")
    pairs = [("cases", str(len(dataset.cases))), ("structures", str(len(dataset.labels.names)))]
    if chosen is None or chosen.pooled is None:
        text = f"{counted(len(dataset.cases), 'case')} with {structures}; {_state(material)}."
        return [paragraph(text, kind="lead")]
    report = chosen.pooled
    mean = report.mean_foreground_dice
    ends = (
        ""
        if report.interval is None
        else " (95% interval {} to {})".format(*map(score, report.interval))
    )
    text = (
        f"{chosen.label} segments {_named(dataset.labels.names)} with a mean Dice of {score(mean)}"
        f"{ends} in {counted(len(report.cases), 'case')} that were held out of training."
    )
    pairs.append(("held out and scored", str(len(report.cases))))
    pairs.append(("mean Dice", score(mean)))
    failed = sum(len(s.missed) + len(s.invented) for s in report.summary.values())
    pairs.append(("missed or invented", str(failed)))
    return [paragraph(text, kind="lead"), facts(pairs)]


def _state(material: Material) -> str:
    if not material.trained:
        return "planned, not trained yet"
    lack = "held-out case is scored" if material.selection is None else "case has scores to show"
    return f"training has begun, no {lack} yet"


def _named(names: Sequence[str]) -> str:
    if len(names) > 4:
        return counted(len(names), "structure")
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _footer(material: Material) -> Element:
    return element(
        "footer",
        paragraph(
            f"Made by autoseg {material.version} on {material.made_on}. This file names the cases "
            "of the data set and shows slices of some: pass it on as you would those. autoseg "
            "is research software and no medical device."
        ),
    )
