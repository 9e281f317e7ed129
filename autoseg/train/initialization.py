"""Training that begins with the weights of another model: what of them will do, and what to say."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autoseg.core.dataset import Dataset, Split
from autoseg.core.ends import BACKGROUND, EndsMatch, Match
from autoseg.core.model import Model
from autoseg.core.plan import NetworkSpec, Recipe
from autoseg.core.words import counted
from autoseg.errors import AutosegError
from autoseg.networks.transfer import Transfer

LEAST_SHARE = 0.5
"""Share of a network's weights that has to be taken for a beginning to be worth its name."""

RATE_DIVISOR = 10
"""What fine-tuning divides the learning rate by: the network still learns, and what it knows is not
spoilt (Girshick et al. 2014, Rich feature hierarchies, section 2.3)."""

WARMUP = 0.05
"""Share of a fine-tuning in which the learning rate rises: what is new would otherwise disturb what
was learnt. Of nnU-Net's thousand epochs these are fifty, after which Ulrich et al. 2025 (Large
scale supervised pretraining for traumatic brain injury segmentation) reach a tenth of its rate."""

_SAME_SPACING = 1.1
_SAME_INTENSITY = 0.1
_MOST_NAMES = 4


def refuse_strange_channels(channels: Match, named: str) -> None:
    """Refuse a model that knows none of the channels.

    Args:
        channels: how they correspond.
        named: what the user calls the model.

    Raises:
        AutosegError: if none corresponds.
    """
    if channels.pairs:
        return
    raise AutosegError(
        f"none of the channels {', '.join(channels.wanted)} is one of the model's "
        f"({', '.join(channels.known)})",
        place=f"--init-from {named}",
        remedy="name the channels in dataset.json as the model does, or choose another model",
    )


def refuse_too_little(
    transfer: Transfer, named: str, wanted: NetworkSpec, known: NetworkSpec
) -> None:
    """Refuse a model whose network is too different.

    Args:
        transfer: what fits.
        named: what the user calls the model.
        wanted: the network to be filled.
        known: the model's.

    Raises:
        AutosegError: if less than ``LEAST_SHARE`` of the weights can be taken.
    """
    if transfer.share >= LEAST_SHARE:
        return
    raise AutosegError(
        f"only {transfer.share:.0%} of the network's weights can be taken: "
        f"{', '.join(_differences(wanted, known)) or 'the tensors have other shapes'}",
        place=f"--init-from {named}",
        remedy=_remedy(named, wanted, known),
    )


def _remedy(named: str, wanted: NetworkSpec, known: NetworkSpec) -> str:
    if wanted.dimensions != known.dimensions:
        return f"train a {known.dimensions}D configuration, or begin with another model"
    plan = f"autoseg plan TASK --plan NAME --from-model {named}"
    return f"plan for it: {plan}, then train with that --plan"


def _differences(wanted: NetworkSpec, known: NetworkSpec) -> list[str]:
    """What two networks do not have in common, in words."""
    if wanted.dimensions != known.dimensions:
        return [f"the network is {wanted.dimensions}D, the model's {known.dimensions}D"]
    facts = {
        "architecture": (wanted.architecture, known.architecture),
        "stages": (wanted.num_stages, known.num_stages),
        "features": (wanted.features_per_stage, known.features_per_stage),
        "kernels": (wanted.kernel_sizes, known.kernel_sizes),
        "blocks": (wanted.blocks_per_stage, known.blocks_per_stage),
    }
    told = {
        what: pair if what in ("architecture", "stages") else tuple(map(_brief, pair))
        for what, pair in facts.items()
        if pair[0] != pair[1]
    }
    return [f"{what} {one} here, {other} there" for what, (one, other) in told.items()]


def _brief(values: Sequence[object]) -> str:
    """Numbers per stage, rows as ``1x3x3``."""
    rows = ("x".join(map(str, v)) if isinstance(v, tuple) else str(v) for v in values)
    return " ".join(rows)


def tell(transfer: Transfer, match: EndsMatch, label: str) -> list[str]:
    """What was taken and what not, in a few lines.

    Args:
        transfer: what fits.
        match: how inputs and outputs correspond.
        label: what the model is called.
    """
    share = 100 * transfer.share
    tensors = f"{len(transfer.moves)} of {counted(transfer.num_tensors, 'tensor')}"
    weights = f"{share:.{0 if share in (0, 100) else 1}f}% of the weights"
    lines = [f"from {label}: {tensors} taken ({weights})"]
    ends = (
        ("channels", match.channels),
        ("predictions of the stage before", match.predicted),
        ("structures", match.outputs),
    )
    lines += [_tell_ends(what, names) for what, names in ends if names.wanted or names.known]
    if not match.is_same_kind:
        lines[-1] += " (structures overlap on one side only: their outputs mean something else)"
    if transfer.left:
        reasons = [f"{name} ({reason})" for name, reason in transfer.left.items()]
        more = len(reasons) - _MOST_NAMES
        end = f" and {more} more" if more > 0 else ""
        lines.append(f"not taken: {', '.join(reasons[:_MOST_NAMES])}{end}")
    return lines


def _tell_ends(what: str, match: Match) -> str:
    renamed = dict(match.renamed)
    found, new, unused = (
        ", ".join(name for name in names if name != BACKGROUND and name not in renamed)
        for names in (match.found, match.new, match.unused)
    )
    parts = [f"{found} taken by name"] if found else []
    parts += [f"{one} takes the place of {other}" for one, other in renamed.items()]
    parts += [f"{new} new, as initialised"] if new else []
    parts += [f"{unused} of the model not used"] if unused else []
    return f"{what}: {'; '.join(parts)}"


def prepared_otherwise(named: str, model: Model, recipe: Recipe, channels: Match) -> str:
    """That the network will see images it is not used to; empty if it will not.

    Args:
        named: what the user calls the model.
        model: the model.
        recipe: how the cases are prepared.
        channels: how theirs correspond to the model's.
    """
    known = model.recipe
    differences: list[str] = []
    if _ratio(recipe.spacing, known.spacing) > _SAME_SPACING:
        differences.append(f"{_mm(recipe.spacing)} (there {_mm(known.spacing)})")
    if recipe.transpose != known.transpose:
        differences.append("another order of the axes")
    differences += [
        f"{recipe.channels[i]} normalized otherwise"
        for i, j in channels.pairs
        if _looks_other(recipe, i, known, j)
    ]
    if not differences:
        return ""
    return (
        f"images are prepared otherwise than for the model: {', '.join(differences)}; as for the "
        f"model: autoseg plan TASK --plan NAME --from-model {named}"
    )


def _looks_other(recipe: Recipe, channel: int, known: Recipe, other: int) -> bool:
    """Whether a channel is brought to another scale than the model's."""
    ours, theirs = recipe.intensities[channel], known.intensities[other]
    if recipe.normalization[channel] != known.normalization[other]:
        return True
    if recipe.use_mask_for_norm[channel] != known.use_mask_for_norm[other]:
        return True
    if ours is None or theirs is None:
        return False
    differences = (
        ours.mean - theirs.mean,
        ours.std - theirs.std,
        ours.percentile_00_5 - theirs.percentile_00_5,
        ours.percentile_99_5 - theirs.percentile_99_5,
    )
    return max(map(abs, differences)) > _SAME_INTENSITY * max(theirs.std, 1e-8)


def seen_before(model: Model, dataset: Dataset, split: Split) -> str:
    """That a model may know the cases that a fold holds out; empty if it cannot.

    Args:
        model: the model to begin with.
        dataset: what is trained on.
        split: who trains and who is held out.
    """
    if model.task != dataset.name or split.train == split.validation:
        return ""
    seen = sorted(set(split.validation) - set(model.held_out))
    if not seen:
        return ""
    return (
        f"{counted(len(seen), 'case')} that this fold holds out (the first is '{seen[0]}') may "
        f"have been trained on by {model.label}, which is of the same task: their scores "
        "will be too good; begin each fold with the model of the same fold"
    )


def _ratio(one: Sequence[float], other: Sequence[float]) -> float:
    if len(one) != len(other):
        return float("inf")
    ratios = np.array(one) / np.array(other)
    return float(np.maximum(ratios, 1 / ratios).max())


def _mm(spacing: Sequence[float]) -> str:
    return " x ".join(f"{value:.4g}" for value in spacing) + " mm"
