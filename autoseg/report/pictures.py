"""The part with pictures: image, reference, prediction and errors, each to be switched."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence

from autoseg.figures.colours import structure_colours
from autoseg.figures.layers import ERROR_COLOURS, Outline, SliceLayers
from autoseg.figures.slices import INVENTED, MISSED, SWAPPED
from autoseg.report.elements import Content, Element, element
from autoseg.report.material import Material, ShownCase
from autoseg.report.quantities import score
from autoseg.report.section import paragraph, section

ERROR_NAMES = {
    MISSED: "missed",
    INVENTED: "invented",
    SWAPPED: "taken for another structure",
}
MOST_NAMED = 6
LAYERS = (
    ("reference", "Reference", "r"),
    ("prediction", "Prediction", "p"),
    ("errors", "Errors", "e"),
)


def pictures_section(material: Material) -> Element | None:
    """Slices of the best, the median and the worst case."""
    if not material.shown:
        return None
    names = material.dataset.labels.index_names
    drawn = [layers for case in material.shown for layers in case.slices]
    present = sorted({o.index for layers in drawn for o in layers.outlines})
    colours = {index: _hex(index) for index in present}
    body: list[Content] = []
    if drawn:
        body += [_switches(), _legend(names, colours)]
    body += [_case(case, names, colours) for case in material.shown]
    return section("pictures", "Best, median and worst case", body)


def _switches() -> Element:
    boxes = [
        element(
            "label",
            element("input", type="checkbox", checked=True, data_layer=name),
            f" {title} ",
            element("kbd", key),
        )
        for name, title, key in LAYERS
    ]
    return element(
        "fieldset",
        element("legend", "Show over the image"),
        boxes,
        element("button", "Image only ", element("kbd", "i"), type="button", data_only="image"),
        class_="switches needs-script",
    )


def _legend(names: Sequence[str], colours: Mapping[int, str]) -> Element:
    structures = [
        element("li", _swatch(colour), names[index - 1]) for index, colour in colours.items()
    ]
    kinds = [
        element("li", _line(dashed=False), "reference"),
        element("li", _line(dashed=True), "prediction"),
    ]
    errors = [
        element("li", _swatch(ERROR_COLOURS[kind]), name) for kind, name in ERROR_NAMES.items()
    ]
    return element(
        "div",
        element("ul", structures, class_="legend", aria_label="Structures"),
        element("ul", kinds, class_="legend", aria_label="Lines"),
        element("ul", errors, class_="legend", aria_label="Errors"),
        class_="legends",
    )


def _swatch(colour: str) -> Element:
    square = element("rect", x=1, y=1, width=12, height=12, rx=2, fill=colour)
    return element("svg", square, viewBox="0 0 14 14", class_="swatch", aria_hidden="true")


def _line(*, dashed: bool) -> Element:
    line = element("path", d="M0 6H22", class_="line ink dashed" if dashed else "line ink")
    return element("svg", line, viewBox="0 0 22 12", class_="key", aria_hidden="true")


def _case(case: ShownCase, names: Sequence[str], colours: Mapping[int, str]) -> Element:
    role = " and ".join(case.roles)
    figures = [_slice(case, layers, names, colours) for layers in case.slices]
    return element(
        "article",
        element("h3", f"{role[0].upper()}{role[1:]}: {case.name}"),
        paragraph(f"Mean Dice {score(case.mean_dice)}; {_dice(case)}; {case.fold}."),
        element("div", figures, class_="slices") if figures else None,
        paragraph(case.problem, kind="note") if case.problem else None,
        class_="case",
    )


def _dice(case: ShownCase) -> str:
    """Dice of all structures, or of the lowest where they are many."""
    shown = list(case.dice.items())
    if len(shown) > MOST_NAMED:
        defined = [(name, value) for name, value in shown if value is not None]
        shown = sorted(defined, key=lambda entry: entry[1])[:MOST_NAMED]
    words = ", ".join(f"{name} {score(value)}" for name, value in shown)
    return words if len(shown) == len(case.dice) else f"lowest: {words}"


def _slice(
    case: ShownCase, layers: SliceLayers, names: Sequence[str], colours: Mapping[int, str]
) -> Element:
    wrong = [
        f"{count} {ERROR_NAMES[kind]}"
        for kind, count in zip(ERROR_NAMES, layers.num_errors, strict=True)
        if count
    ]
    reasons = ", ".join(layers.reasons)
    caption = f"{layers.caption}: {reasons}"
    told = f"Voxels: {', '.join(wrong)}." if wrong else "Every voxel is right."
    shown = ", ".join(names[outline.index - 1] for outline in layers.outlines) or "no structure"
    label = f"{case.name}, {caption}. It shows {shown}. {told}"
    return element(
        "figure",
        _picture(layers, colours, label),
        element("figcaption", f"{caption[0].upper()}{caption[1:]}. ", element("small", told)),
    )


def _picture(layers: SliceLayers, colours: Mapping[int, str], label: str) -> Element:
    rows, columns = layers.shape
    row_mm, column_mm = layers.spacing
    width, height = columns * column_mm, rows * row_mm
    # Outlines count half voxels, the picture millimetres.
    half = f"scale({column_mm / 2:g} {row_mm / 2:g})"
    return element(
        "svg",
        _image(layers.image, width, height, "image"),
        # Errors lie over the structures' tint, which would change their colour, under the lines.
        _outlines(layers.outlines, colours, "reference", half, kind="tint"),
        None if layers.errors is None else _image(layers.errors, width, height, "errors"),
        _outlines(layers.outlines, colours, "reference", half),
        _outlines(layers.outlines, colours, "prediction", half),
        _sides(layers.sides, width, height),
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
        aria_label=label,
        tabindex="0",
        class_="slice",
    )


def _image(png: bytes, width: float, height: float, layer: str) -> Element:
    return element(
        "image",
        href=f"data:image/png;base64,{base64.b64encode(png).decode()}",
        width=width,
        height=height,
        preserveAspectRatio="none",
        data_layer=layer,
    )


def _outlines(
    outlines: Sequence[Outline],
    colours: Mapping[int, str],
    layer: str,
    transform: str,
    kind: str = "line",
) -> Element:
    painted = "stroke" if kind == "line" else "fill"
    paths = [
        element("path", d=d, **{painted: colours[outline.index]})
        for outline in outlines
        if (d := outline.reference if layer == "reference" else outline.prediction)
    ]
    return element("g", paths, transform=transform, data_layer=layer, data_kind=kind)


def _sides(sides: Sequence[str], width: float, height: float) -> list[Element]:
    """Where the edges point in the patient."""
    size = 0.055 * min(width, height)
    middle = (width / 2, height / 2)
    places = (
        (middle[0], 1.1 * size),
        (width - 0.8 * size, middle[1]),
        (middle[0], height - 0.4 * size),
        (0.8 * size, middle[1]),
    )
    return [
        element("text", side, x=x, y=y, font_size=size, text_anchor="middle", class_="side")
        for side, (x, y) in zip(sides, places, strict=False)
    ]


def _hex(index: int) -> str:
    red, green, blue = (round(255 * part) for part in structure_colours(index)[-1])
    return f"#{red:02x}{green:02x}{blue:02x}"
