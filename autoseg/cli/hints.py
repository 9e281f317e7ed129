"""What ``predict`` prints about the cases it has segmented."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from autoseg.cli.console import number, print_table
from autoseg.core.words import counted

if TYPE_CHECKING:
    from autoseg.predict.record import CaseHints, StructureHints

MOST_CASES = 12
"""With more cases only those are listed that are worth a look."""

MOST_STRUCTURES = 6
MOST_NAMED = 4

Named = tuple[str, "CaseHints"]


def print_hints(cases: Sequence[Named]) -> None:
    """Print what can be said of cases without a reference.

    Args:
        cases: name and hints of each.
    """
    if not cases:
        return
    if len(cases) <= MOST_CASES:
        _print_cases(cases)
    else:
        _print_summary(cases)
    if any(hints.predicted_dice is not None for _, hints in cases):
        typer.echo("(predicted Dice: a guess without a reference; see predictions.json)")


def _print_cases(cases: Sequence[Named]) -> None:
    structures = list(cases[0][1].structures)
    shown = structures if len(structures) <= MOST_STRUCTURES else []
    units = {_unit(h) for _, h in cases}
    unit = f" {units.pop()}" if len(units) == 1 else ""  # else every size tells its own
    header = ["case", *(f"{name}{unit}" for name in shown), *([] if shown else ["structures"])]
    rows: list[list[str]] = []
    for name, hints in cases:
        own = "" if unit else f" {_unit(hints)}"
        sizes = [_size(hints.structures[structure], own) for structure in shown]
        if not shown:
            present = sum(one.num_voxels > 0 for one in hints.structures.values())
            sizes = [f"{present} of {len(structures)}"]
        rows.append([name, *sizes, number(hints.predicted_dice)])
    print_table([*header, "predicted Dice"], rows)
    if any("(" in cell for row in rows for cell in row[1:-1]):
        typer.echo("(in brackets: connected parts, where there are several)")
    for name, hints in cases:
        for line in _remarks(hints, tells_parts=not shown):
            typer.echo(f"{name}: {line}")


def _print_summary(cases: Sequence[Named]) -> None:
    scored = sorted((h.predicted_dice, name) for name, h in cases if h.predicted_dice is not None)
    if scored:
        lowest = ", ".join(f"{name} {dice:.3f}" for dice, name in scored[:MOST_NAMED])
        median = scored[len(scored) // 2][0]
        typer.echo(f"predicted Dice: median {median:.3f}, lowest {lowest}")
    for what, names in (
        ("with warnings", [n for n, h in cases if h.warnings]),
        ("with a structure at the image's border", [n for n, h in cases if _any_touches(h)]),
        ("without one of the structures", [n for n, h in cases if _any_absent(h)]),
    ):
        if names:
            typer.echo(f"{counted(len(names), 'case')} {what}: {_named(names)}")
    typer.echo("(volumes, components and borders of every case: predictions.json)")


def _remarks(hints: CaseHints, *, tells_parts: bool) -> list[str]:
    """What of a case is worth a line."""
    lines = list(hints.warnings)
    touching = [
        f"{name} ({', '.join(one.touches)})"
        for name, one in hints.structures.items()
        if one.touches
    ]
    if touching:
        lines.append(f"at the image's border, perhaps cut off: {_named(touching)}")
    absent = [name for name, one in hints.structures.items() if one.num_voxels == 0]
    if absent and len(hints.structures) <= MOST_STRUCTURES:
        lines.append(f"not found: {_named(absent)}")
    parts = [
        f"{name} ({one.num_components})"
        for name, one in hints.structures.items()
        if one.num_components > 1
    ]
    if parts and tells_parts:
        lines.append(f"in several parts: {_named(parts)}")
    return lines


def _unit(hints: CaseHints) -> str:
    first = next(iter(hints.structures.values()))
    if first.volume_ml is not None:
        return "ml"
    return "pixels" if first.area_mm2 is None else "mm2"


def _size(hints: StructureHints, unit: str) -> str:
    size = hints.area_mm2 if hints.volume_ml is None else hints.volume_ml
    told = str(hints.num_voxels) if size is None else f"{size:.4g}"
    return told + unit + (f" ({hints.num_components})" if hints.num_components > 1 else "")


def _any_touches(hints: CaseHints) -> bool:
    return any(one.touches for one in hints.structures.values())


def _any_absent(hints: CaseHints) -> bool:
    return any(one.num_voxels == 0 for one in hints.structures.values())


def _named(names: Sequence[str]) -> str:
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
