"""The part about the plan: what was decided, and why."""

from __future__ import annotations

from collections.abc import Sequence

from autoseg.core.plan import Configuration, Decision
from autoseg.core.words import size_in_words
from autoseg.report.elements import Element, element
from autoseg.report.material import Material
from autoseg.report.quantities import sizes
from autoseg.report.section import command, folded, paragraph, section
from autoseg.report.tables import Column, Entry, table


def plan_section(material: Material) -> Element:
    """Every configuration with the decisions that made it."""
    plan = material.plan
    chosen = None if material.chosen is None else material.chosen.configuration
    usual = chosen or ("3d_fullres" if "3d_fullres" in plan.configurations else "2d")
    general = [decision for decision in plan.decisions if decision.configuration is None]
    edited = "" if plan.made_as is not None else " It was written by hand."
    return section(
        "plan",
        "Plan",
        paragraph(
            f"Plan \u201c{plan.name}\u201d, preset {plan.preset}, made for "
            f"{size_in_words(plan.budget_bytes)} of GPU memory.{edited} Every decision follows "
            "from the data and says why."
        ),
        _overview(material),
        element("h3", "For all configurations"),
        _decisions(general, "Decisions for all configurations"),
        [
            folded(
                f"{name}: its decisions and its network",
                _decisions(
                    [d for d in plan.decisions if d.configuration == name], f"Decisions for {name}"
                ),
                _network(name, configuration),
                is_open=name == usual,
            )
            for name, configuration in plan.configurations.items()
        ],
        _folds(material),
    )


def _overview(material: Material) -> Element:
    columns = [
        Column(title="configuration", kind="text"),
        Column(title="spacing, mm"),
        Column(title="median case, voxels"),
        Column(title="patch, voxels"),
        Column(title="batch"),
        Column(title="network", kind="text"),
        Column(title="normalization", kind="text"),
        Column(title="builds on", kind="text"),
    ]
    rows = [_row(name, c) for name, c in material.plan.configurations.items()]
    return table(columns, rows, caption="Planned configurations")


def _row(name: str, planned: Configuration) -> list[Entry]:
    return [
        name,
        sizes(planned.spacing),
        sizes(planned.median_shape),
        sizes(planned.patch_size),
        str(planned.batch_size),
        f"{planned.network.architecture}, {planned.network.num_stages} stages",
        ", ".join(dict.fromkeys(planned.normalization)),
        planned.previous or "",
    ]


def _decisions(decisions: Sequence[Decision], caption: str) -> Element:
    if not decisions:
        return paragraph("The plan gives no reasons.")
    columns = [Column(title=title, kind="text") for title in ("what", "decided", "because")]
    rows = [[d.what, d.value, d.reason] for d in decisions]
    return table(columns, rows, caption=caption)


def _network(name: str, planned: Configuration) -> Element:
    network = planned.network
    columns = [
        Column(title="stage"),
        Column(title="patch there, voxels"),
        Column(title="features"),
        Column(title="kernel"),
        Column(title="stride"),
        Column(title="blocks"),
    ]
    rows: list[list[Entry]] = []
    patch = planned.patch_size
    for stage in range(network.num_stages):
        patch = tuple(p // s for p, s in zip(patch, network.strides[stage], strict=True))
        rows.append(
            [
                str(stage + 1),
                sizes(patch),
                str(network.features_per_stage[stage]),
                sizes(network.kernel_sizes[stage]),
                sizes(network.strides[stage]),
                str(network.blocks_per_stage[stage]),
            ]
        )
    return table(columns, rows, caption=f"Encoder of {name}, full resolution first")


def _folds(material: Material) -> Element:
    splits = material.splits
    if splits is None or not splits.folds:
        reason = "" if splits is None else f": {splits.reason}"
        return paragraph("There are no folds", reason, ".")
    sizes_ = ", ".join(
        f"{name} {len(fold.train)} + {len(fold.validation)}"
        for name, fold in zip(splits.names, splits.folds, strict=True)
    )
    return paragraph(
        element("strong", "Folds"),
        f" (cases to train on + held out): {sizes_}. {splits.reason}. The list is ",
        command("splits.json"),
        ".",
    )
