"""Which trained models predict together, and what is cleaned up after them."""

from __future__ import annotations

from pydantic import Field

from autoseg.core.artifact import Artifact, Frozen


class CleanUp(Frozen):
    """What is removed of a structure after it was segmented.

    Attributes:
        structure: its name.
        largest_only: whether only the largest connected component stays.
        smallest_ml: components below this volume, in ml, are removed; None removes none.
    """

    structure: str
    largest_only: bool = False
    smallest_ml: float | None = Field(default=None, gt=0)


class Group(Frozen):
    """Folds of one configuration and run, whose logits are averaged.

    Attributes:
        plan: name of the plan.
        configuration: name of the configuration.
        run: name of the run.
        folds: names of the folds.
    """

    plan: str
    configuration: str
    run: str
    folds: tuple[str, ...] = Field(min_length=1)


class Selection(Artifact):
    """What ``autoseg select`` decided: the content of ``selection.json``.

    Attributes:
        groups: what predicts; of several the probabilities are averaged on the raw grid.
        clean_up: what is removed afterwards, at most one entry per structure.
        summary: the decision in plain words.
    """

    groups: tuple[Group, ...] = Field(min_length=1)
    clean_up: tuple[CleanUp, ...] = ()
    summary: str = ""
