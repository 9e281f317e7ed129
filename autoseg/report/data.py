"""The part about the data: cases, grids, intensities, structures, problems."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from autoseg.core.annotation import is_annotated
from autoseg.core.fingerprint import CaseFingerprint
from autoseg.core.problem import KINDS, Problem, Severity, by_kind
from autoseg.core.words import counted
from autoseg.report.charts import Strip, strips
from autoseg.report.elements import Content, Element, element
from autoseg.report.material import Material
from autoseg.report.quantities import NOTHING, plain, sizes, spread
from autoseg.report.section import command, facts, folded, paragraph, section, side_by_side
from autoseg.report.tables import Cell, Column, Entry, table

MOST_EXAMPLES = 5
MOST_STRIPS = 24
MOST_CASES = 1500

_PICTURE_SPACING_MM = 999.0
_AXES = "zyx"


def data_section(material: Material) -> Element:
    """What was measured about the data."""
    return section(
        "data",
        "Data",
        facts(_facts(material)),
        element("h3", "Problems found"),
        _problems(material),
        element("h3", "Structures"),
        _structures(material),
        element("h3", "Grids and intensities"),
        _grids(material),
        _intensities(material),
        _charts(material),
        _cases(material),
    )


def _facts(material: Material) -> list[tuple[str, str]]:
    dataset, splits = material.dataset, material.splits
    groups = {case.group for case in dataset.cases if case.group is not None}
    pairs = [("cases", str(len(dataset.cases)))]
    if groups:
        alone = sum(case.group is None for case in dataset.cases)
        pairs.append(("patients", str(len(groups) + alone)))
    pairs.append(("channels", ", ".join(dataset.channels)))
    pairs.append(("structures", str(len(dataset.labels.structures))))
    pairs.append(("layout", dataset.layout))
    if splits is not None:
        pairs.append(("folds", str(len(splits.folds) or "none")))
    return pairs


# Problems


def _problems(material: Material) -> Content:
    if not material.problems:
        return paragraph("None: files, grids, labels and intensities agree with each other.")
    return element(
        "ul", [_kind(k, p) for k, p in by_kind(material.problems).items()], class_="problems"
    )


def _kind(kind: str, problems: Sequence[Problem]) -> Element:
    known = KINDS[kind]
    word = "error" if known.severity is Severity.ERROR else "note"
    examples = [element("li", _in_words(problem)) for problem in problems[:MOST_EXAMPLES]]
    if len(problems) > MOST_EXAMPLES:
        examples.append(element("li", f"and {len(problems) - MOST_EXAMPLES} more"))
    return element(
        "li",
        element("strong", word, class_=f"mark {word}"),
        f" {known.title} ({len(problems)}). What mends it: {known.remedy}.",
        element("ul", examples),
    )


def _in_words(problem: Problem) -> str:
    # Only names: folders of a machine are nobody's business where a report is passed on.
    place = problem.case or (problem.file.name if problem.file is not None else "")
    return f"{place}: {problem.finding}" if place else problem.finding


# Structures


def _structures(material: Material) -> Element:
    labels = material.dataset.labels
    columns = [
        Column(title="structure", kind="text"),
        Column(title="label values", kind="text"),
        Column(title="in cases"),
        Column(title="share"),
        Column(title="volume: median (range), ml"),
        Column(title="components: median (range)"),
        *(Column(title=f"mean {channel}: median (range)") for channel in material.dataset.channels),
    ]
    rows = [_structure(material, number) for number in range(len(labels.structures))]
    note = paragraph(
        "Volumes, components and intensities are those of the cases that have the structure.",
        kind="note",
    )
    caption = "Structures, how often they occur and how large they are"
    return element("div", table(columns, rows, caption=caption, sortable=True), note)


def _structure(material: Material, number: int) -> list[Entry]:
    labels, fingerprint = material.dataset.labels, material.fingerprint
    structure = labels.structures[number]
    indices = [index - 1 for index in labels.indices_of(structure)]
    asked = _annotated(material, structure.name)
    having = [case for case in asked if _voxels(case, indices)]
    share = len(having) / len(asked) if asked else 0.0
    volumes = [_volume(case, indices) for case in having]
    pieces = [sum(c.num_components[i] for i in indices) for c in having if c.num_components]
    of_channels = [
        _mean_intensities(having, indices, c) for c in range(len(fingerprint.intensities))
    ]
    of_channels += [[]] * (len(material.dataset.channels) - len(of_channels))
    return [
        structure.name,
        ", ".join(map(str, structure.values)),
        Cell(content=f"{len(having)} of {len(asked)}", order=len(having)),
        Cell(content=f"{100 * share:.0f}%", order=share, mark=None if share == 1 else "less"),
        _spread(volumes if all(map(_has_volume, having)) else []),
        _spread(pieces),
        *(_spread(values) for values in of_channels),
    ]


def _annotated(material: Material, structure: str) -> list[CaseFingerprint]:
    """Cases in which somebody looked for a structure, and whose label map could be used."""
    annotated = {c.name for c in material.dataset.cases if is_annotated(c, structure)}
    cases = material.fingerprint.cases
    return [case for case in cases if case.name in annotated and case.label_voxels]


def _voxels(case: CaseFingerprint, indices: Sequence[int]) -> int:
    return sum(case.label_voxels[index] for index in indices)


def _volume(case: CaseFingerprint, indices: Sequence[int]) -> float:
    return _voxels(case, indices) * prod(case.spacing) / 1000


def _has_volume(case: CaseFingerprint) -> bool:
    return not (case.original_shape[0] == 1 and case.spacing[0] == _PICTURE_SPACING_MM)


def _mean_intensities(
    cases: Sequence[CaseFingerprint], indices: Sequence[int], channel: int
) -> list[float]:
    """Mean intensity of a structure in each case, over all its label values."""
    means: list[float] = []
    for case in cases:
        parts = [
            (case.label_voxels[i], measured.means[channel])
            for i in indices
            if (measured := case.structures[i]) is not None
        ]
        total = sum(count for count, _ in parts)
        if total:
            means.append(sum(count * mean for count, mean in parts) / total)
    return means


def _spread(values: Sequence[float]) -> Cell:
    if not values:
        return Cell(content=NOTHING)
    return Cell(content=spread(values), order=float(np.median(values)))


# Grids and intensities


def _grids(material: Material) -> Element:
    cases = material.fingerprint.cases
    is_flat = not any(map(_has_volume, cases))
    axes = range(1, 3) if is_flat else range(3)
    rows: list[list[Entry]] = [
        ["spacing, mm", *(spread([c.spacing[axis] for c in cases]) for axis in axes)],
        ["size of the file, voxels", *(spread([c.original_shape[a] for c in cases]) for a in axes)],
        [
            "size without empty margins, voxels",
            *(spread([c.shape[a] for c in cases]) for a in axes),
        ],
    ]
    if not is_flat:
        rows.append(
            [
                "extent, mm",
                *(spread([c.original_shape[a] * c.spacing[a] for c in cases]) for a in axes),
            ]
        )
    columns = [Column(title="median (range)", kind="text"), *(Column(title=_AXES[a]) for a in axes)]
    return table(columns, rows, caption="Grids of the images along their axes")


def _intensities(material: Material) -> Element | None:
    columns = [
        Column(title="channel", kind="text"),
        *(Column(title=t) for t in ("mean", "SD", "median", "0.5%", "99.5%", "lowest", "highest")),
    ]
    channels = zip(material.dataset.channels, material.fingerprint.intensities, strict=False)
    rows = [
        [
            name,
            *map(
                plain,
                (s.mean, s.std, s.median, s.percentile_00_5, s.percentile_99_5, s.min, s.max),
            ),
        ]
        for name, s in channels
    ]
    if not rows:
        return None
    return table(
        columns, rows, caption="Intensities inside the structures, every case weighing the same"
    )


def _charts(material: Material) -> Element | None:
    cases = material.fingerprint.cases
    names = [case.name for case in cases]
    axes = [axis for axis in range(3) if len({case.spacing[axis] for case in cases}) > 1]
    charts: list[Element] = []
    rows = [
        Strip(name=_AXES[axis], values=[c.spacing[axis] for c in cases], names=names, colour=axis)
        for axis in axes
    ]
    if rows:
        charts.append(strips(rows, title="Spacing of the cases", x_title="mm"))
    labels = material.dataset.labels
    volumes: list[Strip] = []
    for number, structure in enumerate(labels.structures[:MOST_STRIPS]):
        indices = [index - 1 for index in labels.indices_of(structure)]
        having = [c for c in _annotated(material, structure.name) if _voxels(c, indices)]
        if having and all(map(_has_volume, having)):
            values = [_volume(case, indices) for case in having]
            of_cases = [case.name for case in having]
            volumes.append(Strip(name=structure.name, values=values, names=of_cases, colour=number))
    if volumes:
        count = len(labels.structures)
        left = f", the first {MOST_STRIPS} of {count}" if count > MOST_STRIPS else ""
        charts.append(strips(volumes, title=f"Volume of the structures{left}", x_title="ml"))
    return side_by_side(*charts) if charts else None


# Cases


def _cases(material: Material) -> Element:
    columns = [
        Column(title="case", kind="text"),
        Column(title="size, voxels"),
        Column(title="spacing, mm"),
        Column(title="axes", kind="text"),
        Column(title="labelled, ml" if _is_solid(material) else "labelled, pixels"),
        Column(title="remarks", kind="text"),
    ]
    cases = material.fingerprint.cases[:MOST_CASES]
    rows = [_case(case, is_solid=_is_solid(material)) for case in cases]
    left = len(material.fingerprint.cases) - len(cases)
    more = f", the first {len(cases)}" if left else ""
    caption = f"All {counted(len(material.fingerprint.cases), 'case')} as measured{more}"
    return folded(
        caption,
        table(columns, rows, caption=caption, sortable=True),
        paragraph("The others are in ", command("fingerprint.json"), ".") if left else None,
        is_long=True,
    )


def _is_solid(material: Material) -> bool:
    return all(map(_has_volume, material.fingerprint.cases))


def _case(case: CaseFingerprint, *, is_solid: bool) -> list[Entry]:
    voxels = sum(case.label_voxels)
    labelled = voxels * prod(case.spacing) / 1000 if is_solid else float(voxels)
    shown = slice(0, 3) if is_solid else slice(1, 3)
    return [
        case.name,
        Cell(content=sizes(case.original_shape[shown]), order=prod(case.original_shape)),
        Cell(content=sizes(case.spacing[shown]), order=prod(case.spacing)),
        case.orientation,
        Cell(content=plain(labelled), order=labelled),
        "; ".join(remark.finding for remark in case.remarks),
    ]
